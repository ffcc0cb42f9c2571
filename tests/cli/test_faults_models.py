"""A model, a scorer or a policy whose files are others than before: no stage mixes what the two have made."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from aifeedback_dpo import provenance, shapes
from aifeedback_dpo.opening import open_run
from tests import labelled as byhand
from tests.conftest import TINY, ddpo
from tests.labelling import files

pytestmark = pytest.mark.slow

FEW = (*TINY, "prompts.train=3", "generate.candidates=2", "generate.pairs=1", "generate.steps=1")
QUICK = ("train.steps=2", "train.batch_size=2", "train.rank=2")


def other(file: Path) -> None:
    """Changes one weight; as from one command to the next, nothing is remembered."""
    tensors = load_file(file)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name] = tensors[name] * 1.5
    save_file(tensors, file, {"format": "pt"})
    forget()


def forget() -> None:
    provenance.fingerprint.cache_clear()
    provenance.file_hash.cache_clear()


def refused(result, code: int, *words: str) -> None:
    lines = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


def good(*arguments: str, run: Path) -> None:
    result = ddpo(*arguments, run=run)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn and labelled by a pipeline and a scorer in folders of their own, and trained."""
    root = tmp_path_factory.mktemp("drawn")
    for part in ("pipeline", "clip"):
        shutil.copytree(shapes.weights(part), root / part)
    good("generate", *FEW, f"model.id={root / 'pipeline'}", run=root / "run")
    good("label", "-s", "clip", f"label.scorers.clip.id={root / 'clip'}", run=root / "run")
    return root


@pytest.fixture
def place(drawn, tmp_path) -> Path:
    """A copy, that knows its model and its scorer at their new place."""
    shutil.copytree(drawn, tmp_path / "all")
    for name in ("recipe.yaml", "manifest.json"):
        file = tmp_path / "all" / "run" / name
        file.write_text(file.read_text().replace(str(drawn), str(tmp_path / "all")))
    return tmp_path / "all"


@pytest.fixture
def changed(place) -> Callable[[], tuple[str, str]]:
    def change() -> tuple[str, str]:
        before = provenance.fingerprint(place / "pipeline")
        other(place / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
        return before[:12], provenance.fingerprint(place / "pipeline")[:12]

    return change


@pytest.mark.parametrize("stage", [("generate",), ("train", "--judge", "random", *QUICK)])
def test_a_model_that_is_another_one_now_is_refused_with_both_hashes(place, changed, stage):
    hashes, before = changed(), files(place / "run")
    refused(ddpo(*stage, run=place / "run"), 2, "is not the model that drew the pictures", *hashes)
    assert files(place / "run") == before


def test_labels_do_not_ask_for_the_model(place, changed):
    before = files(place / "run" / "scores" / "clip")
    changed()
    good("label", "-s", "clip", run=place / "run")
    assert files(place / "run" / "scores" / "clip") == before


def test_policies_of_another_base_are_not_compared(place, changed):
    good("train", "--judge", "random", "--judge", "clip", *QUICK, run=place / "run")
    hashes, before = changed(), files(place / "run")
    refused(ddpo("compare", "random", "vs", "clip", run=place / "run"), 2, "was trained on base model", *hashes)
    assert files(place / "run") == before


def test_another_model_of_the_pool_is_refused_as_well(place, changed):
    run, second = place / "pool", place / "second"
    shutil.copytree(shapes.weights("pipeline"), second)
    good("generate", *FEW, "-m", str(place / "pipeline"), "-m", str(second), run=run)
    other(second / "unet" / "diffusion_pytorch_model.safetensors")
    refused(ddpo("generate", run=run), 2, str(second), "is not the model")


def test_a_scorer_that_is_another_one_now_scores_anew_and_is_kept_apart(place):
    run, weights = open_run(place / "run", None), place / "clip"
    before, preferred = run.rows("scores", name="clip"), run.labels("clip")
    other(weights / "model.safetensors")
    good("label", "-s", "clip", run=run.root)
    rows = run.rows("scores", name="clip")
    assert [row for row in rows if row["recipe"] == before[0]["recipe"]] == before
    fresh = {row["image_id"]: row["score"] for row in rows if row["recipe"] != before[0]["recipe"]}
    assert fresh.keys() == {row["image_id"] for row in before}
    assert any(fresh[row["image_id"]] != row["score"] for row in before)
    margins = {row["pair_id"]: row["margin"] for row in run.rows("preferences", name="clip")}
    for pair in run.rows("pairs"):
        assert margins[pair["pair_id"]] == pytest.approx(fresh[pair["image_a"]] - fresh[pair["image_b"]], abs=1e-6)
    shutil.rmtree(weights)
    shutil.copytree(shapes.weights("clip"), weights)
    forget()
    good("label", "-s", "clip", run=run.root)  # as it was
    assert len(run.rows("scores", name="clip")) == 2 * len(before)
    assert run.labels("clip") == preferred


# -- policies --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    byhand.write(run, "train.steps=1", "generate.steps=1", "compare.resamples=20", eval_prompts=1)
    byhand.train(run, "--judge", "random", "--judge", "human")
    return run


def test_a_policy_that_is_another_one_now_is_refused_with_both_hashes(trained, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    file = byhand.folder(run, "random") / "pytorch_lora_weights.safetensors"
    before = provenance.weights_fingerprint(file.parent)
    other(file)
    kept = files(run)
    now = provenance.weights_fingerprint(file.parent)
    refused(ddpo("compare", "random", "vs", "human", run=run), 3, "random/seed-0", before[:12], now[:12])
    assert files(run) == kept


def test_a_lora_that_is_another_one_now_draws_anew(trained, tmp_path):
    lora, run = tmp_path / "mine.safetensors", tmp_path / "run"
    shutil.copy(byhand.folder(trained, "human") / "pytorch_lora_weights.safetensors", lora)
    shutil.copytree(trained, run)
    there = [open_run(run, None).done("images")]
    for change in (lambda: None, lambda: other(lora), lambda: None):
        change()
        good("compare", "base", "vs", str(lora), run=run)
        there.append(open_run(run, None).done("images"))
    first, second, third = (len(now - before) for before, now in pairwise(there))
    assert first and second and not third
