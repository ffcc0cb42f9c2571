"""A labelled run to train in many ways, and a look into the networks that do it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aifeedback_dpo.dpo import train
from aifeedback_dpo.dpo.network import Network
from tests import labelled, tiny
from tests.conftest import ddpo
from tests.labelled import JUDGES, fingerprint
from tests.stopped import INTERRUPTED, stopping


class Watched(Network):
    """Counts how often the reference is asked, and keeps the shapes of what the denoiser is given."""

    made: list["Watched"]

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.asked, self.shapes = 0, set()
        self.before = fingerprint(self.frozen or self.original)
        self.made.append(self)

    def reference(self, *seen):
        self.asked += 1
        return super().reference(*seen)

    def _call(self, called, noisy, times, conditions):
        self.shapes.add(tuple(noisy.shape))
        return super()._call(called, noisy, times, conditions)


@pytest.fixture
def networks(monkeypatch) -> list[Watched]:
    """The networks of the trainings that follow, one a group."""
    monkeypatch.setattr(Watched, "made", [], raising=False)
    monkeypatch.setattr(train, "Network", Watched)
    return Watched.made


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A labelled run of a tiny model, whose latents are in the cache. Tests train copies of it."""
    root = tmp_path_factory.mktemp("base")
    tiny.write("sd", root / "model")
    run = labelled.write(root / "run", f"model.id={root / 'model'}")
    labelled.train(
        run, "--judge", "ai", "train.steps=1", "train.name=first"
    )  # leaves the run's own settings as they are
    return untrained(run)


@pytest.fixture
def copy(base, tmp_path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(base, tmp_path / f"run-{len(list(tmp_path.iterdir()))}"))


@pytest.fixture(scope="session")
def trained(base, tmp_path_factory) -> Path:
    """LoRAs of three judges, trained at once and in one go."""
    run = Path(shutil.copytree(base, tmp_path_factory.mktemp("trained") / "run"))
    labelled.train(run)
    return run


@pytest.fixture(scope="session")
def begun(base, tmp_path_factory) -> Path:
    """Three judges, interrupted after the third of four steps, with all checkpoints kept. Tests copy it."""
    run = Path(shutil.copytree(base, tmp_path_factory.mktemp("begun") / "run"))
    with stopping({(JUDGES[-1], 3)}):
        assert ddpo("train", "train.keep_checkpoints=9", run=run).exit_code == INTERRUPTED
    return run


@pytest.fixture
def going_on(begun, tmp_path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "begun"))


def untrained(run: Path) -> Path:
    """The run without its policies and without what the reference said."""
    shutil.rmtree(run / "policies")
    for kept in run.glob("cache/reference-*"):
        shutil.rmtree(kept)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["made_by"] = {work: entry for work, entry in manifest["made_by"].items() if not work.startswith("train")}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run
