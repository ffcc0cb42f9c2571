"""GenEval on pictures of a run: looked at once, kept by what looked and what was asked, and refused in one line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from aifeedback_dpo import config, engine
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.compare import detecting, detectors
from aifeedback_dpo.compare.geneval import Detection, Rules
from aifeedback_dpo.compare.suites import Item
from aifeedback_dpo.errors import DataError, ModelMissing, UserError
from aifeedback_dpo.shapes import oracle
from aifeedback_dpo.store import Run
from tests.detected import asked, mask2former, opened, owlv2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {"mask2former": mask2former(root / "mask2former"), "owlv2": owlv2(root / "owlv2")}


@pytest.mark.parametrize("kind", ["mask2former", "owlv2"])
def test_a_picture_is_looked_at_once_ever(tmp_path, tiny, kind, monkeypatch):
    run = opened(tmp_path / "run", tiny[kind])
    # every random network finds a person somewhere, and is sure of nothing
    monkeypatch.setitem(detectors.RULES, kind, Rules(score=0, overlap=0.3))
    wanted = asked(run, color="red")
    first = detecting.measure(run, wanted, engine.Silent())
    assert first.keys() == wanted.keys()
    assert set(first.values()) <= {0.0, 1.0}
    monkeypatch.setattr(detectors, "load", refuse)
    assert detecting.measure(run, wanted, engine.Silent()) == first


def refuse(*_: object) -> None:
    raise AssertionError("nothing needs a network")


class Sees:
    """A detector that reads the embedded world by its oracle, a shape being the class; it counts what it looked at."""

    kind = "mask2former"

    def __init__(self) -> None:
        self.looked = 0

    def detect(self, picture: Image.Image, classes: Sequence[str]) -> list[Detection]:
        self.looked += 1
        return [
            Detection(
                one.kind.shape, (one.x - one.radius, one.y - one.radius, one.x + one.radius, one.y + one.radius), 1.0
            )
            for one in oracle.read(picture.resize((48, 48))).objects
        ]


@pytest.fixture
def sees(monkeypatch) -> Sees:
    found = Sees()
    monkeypatch.setattr(detectors, "load", lambda _: found)
    return found


def test_a_verdict_is_of_the_picture_and_of_what_was_asked(tmp_path, tiny, sees):
    run = opened(tmp_path / "run", tiny["mask2former"])
    circles = {
        image_id: float(
            any(one.kind.shape == "circle" for one in oracle.read(decode_image(data).resize((48, 48))).objects)
        )
        for image_id, data in run.images(asked(run))
    }
    assert set(circles.values()) == {0.0, 1.0}
    some = dict(list(asked(run, **{"class": "circle"}).items())[:5])
    assert detecting.measure(run, some, engine.Silent()) == {image_id: circles[image_id] for image_id in some}
    assert sees.looked == 5
    assert detecting.measure(run, asked(run, **{"class": "circle"}), engine.Silent()) == circles
    assert sees.looked == 12  # those that had been looked at before were not
    many = detecting.measure(run, asked(run, **{"class": "circle", "count": 9}), engine.Silent())
    assert (set(many.values()), sees.looked) == ({0.0}, 24)  # another question


def test_another_detector_or_clip_is_another_cache(tmp_path, tiny, sees):
    run = opened(tmp_path / "run", tiny["mask2former"])
    detecting.measure(run, asked(run), engine.Silent())
    detecting.measure(opened(tmp_path / "run", tiny["owlv2"]), asked(run), engine.Silent())
    assert sees.looked == 24
    assert len(list(run.cache.glob("geneval-*/part-*.jsonl"))) == 2


def test_what_cannot_be_looked_at_is_one_line(tmp_path, tiny, sees):
    run = opened(tmp_path / "run", tiny["mask2former"])
    plain = {image_id: Item("a cat") for image_id in asked(run)}
    with pytest.raises(UserError, match=r"cannot check the prompt 'a cat': its row has no `include`"):
        detecting.measure(run, plain, engine.Silent())
    with pytest.raises(DataError, match="1 images of the pairs are not in the run"):
        detecting.measure(run, {"absent": next(iter(asked(run).values()))}, engine.Silent())
    detecting.measure(run, asked(run), engine.Silent())
    next(run.cache.glob("geneval-*/part-*.jsonl")).write_text("{")
    with pytest.raises(DataError, match=r"is corrupted .* delete it and run `ddpo compare` again"):
        detecting.measure(run, asked(run), engine.Silent())


def test_a_detector_that_is_not_here_is_one_line_with_the_command(tmp_path, cache):
    run = opened(tmp_path / "run", "team/absent")
    with pytest.raises(ModelMissing, match="`hf download team/absent"):
        detecting.measure(run, asked(run), engine.Silent())


def test_what_is_told_names_the_detector_and_how_it_differs(tmp_path, tiny):
    told = {kind: detecting.about(opened(tmp_path / kind, tiny[kind])) for kind in tiny}
    assert all(str(tiny[kind]) in told[kind] and "the original has mmdetection's" in told[kind] for kind in tiny)
    assert "boxes without masks" in told["owlv2"]
    assert "boxes without masks" not in told["mask2former"]
    bare = Run(tmp_path / "bare", config.load("shapes"))
    assert detecting.DETECTOR in detecting.about(bare)
