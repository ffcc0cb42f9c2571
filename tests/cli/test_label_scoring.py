"""Scores of `ddpo label`: each picture once a scorer, over stops as well; what is missing, cut off, wrong or slow is told."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from aifeedback_dpo import judges, scorers
from aifeedback_dpo.compare import metrics
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers import scoring
from aifeedback_dpo.store import Run
from tests import labelling
from tests.conftest import ddpo
from tests.labelling import PROMPTS, calls, files, own, said, taken


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return labelling.write(tmp_path, monkeypatch)


def test_how_many_prompts_were_cut_is_told_after_a_stop_as_well(run):
    cut = "curt: 2 of 3 prompts are longer than it reads and were cut"
    assert cut in said("-s", own("Curt"), run=run)
    assert cut in said("-s", "curt", run=run)  # nothing is scored, and so nothing read, this time


def test_a_score_that_is_missing_is_stored_as_missing_and_not_asked_again(run):
    assert "picky: 0 prefer a, 3 prefer b, 3 ties, 6 missing" in said("--scorer", own("Picky"), run=run)
    stored = {row["image_id"]: row["score"] for row in run.rows("scores", name="picky")}
    assert [stored[f"image-0-{k}"] for k in range(4)] == [10, 60, 60, None]
    asked = len(calls())
    said("--scorer", "picky", run=run)
    assert len(calls()) == asked


@pytest.mark.parametrize(
    ("name", "words"),
    [("Endless", "gave an infinite score"), ("Short", "gave an array of shape (1,) for 2 pictures")],
)
def test_a_scorer_that_gives_something_else_is_named(run, name, words):
    result = ddpo("label", "--scorer", own(name), run=run.root)
    assert result.exit_code == 2
    assert f"scorer {own(name)} {words}" in result.stderr
    assert not run.parts("scores", name.lower())


def test_scores_are_float32_and_nothing_else():
    with pytest.raises(UserError, match="scorer clip gave an array of float64 for 1 pictures; it must give 1 float32"):
        scoring.checked("clip", np.zeros(1), 1)
    with pytest.raises(UserError, match="scorer clip gave list"):
        scoring.checked("clip", [1.0], 1)


def test_a_picture_is_decoded_once_for_all_scorers(run, monkeypatch):
    decoded = []
    real = scoring.decode_image
    monkeypatch.setattr(scoring, "decode_image", lambda data: decoded.append(data) or real(data))
    said("-s", own("Warmth"), "-s", own("Coolness"), run=run)
    assert len(decoded) == 12
    warm, cool = ([call[1:] for call in calls() if call[0] == name] for name in ("Warmth", "Coolness"))
    assert warm == cool  # the very same batches, so that what one memoises the other finds


@pytest.mark.slow
def test_stopped_at_any_commit_and_run_again_equals_straight(run, monkeypatch):
    """Parts of several scorers come in turn; whichever is the last one written, the rest is the same."""
    from shutil import copytree

    ask = ("-s", own("Warmth"), "-s", own("Coolness"), "--judge", "consensus")
    straight = Run(Path(copytree(run.root, run.root.parent / "straight")), run.recipe)
    said(*ask, run=straight)
    tables = ("scores", "preferences")
    wanted = {name: data for name, data in files(straight.root).items() if name.startswith(tables)}
    assert len(wanted) == 3 * 3 + 4
    real = Run.commit
    for commits in range(len(wanted)):
        stopped = Run(Path(copytree(run.root, run.root.parent / f"stopped-{commits}")), run.recipe)
        left = [None] * commits

        def commit(self, *arguments, left=left):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            real(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Run, "commit", commit)
            assert ddpo("label", *ask, run=stopped.root).exit_code == 130
        said(*ask, run=stopped)
        assert {name: data for name, data in files(stopped.root).items() if name.startswith(tables)} == wanted


def test_what_each_scorer_takes_adds_up_over_a_stop(run, monkeypatch):
    ask = ("-s", own("Warmth"), "-s", own("Coolness"))
    monkeypatch.setattr(scoring, "clock", itertools.count().__next__)  # a second from each look at it to the next
    real, left = Run.commit, [None] * 4

    def commit(self, *arguments):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "commit", commit)
        assert ddpo("label", *ask, run=run.root).exit_code == 130
    said(*ask, run=run)
    # Parts of 5, 5 and 2 pictures in batches of 2 are three, three and one, at a second each; pictures are opened meanwhile.
    # What was computed when the stop came, and not committed, is computed again and counted once.
    assert taken(run, "warmth") == (7, 12)
    assert taken(run, "coolness") == (7, 12)
    said(*ask, run=run)
    assert taken(run, "warmth") == (7, 12)


def test_the_time_of_other_weights_is_not_a_scorers_own(run):
    run.record("label/warmth", "done", scorer="of other weights", seconds=1e6, pictures=1000)
    said("-s", own("Warmth"), run=run)
    seconds, pictures = taken(run, "warmth")
    assert seconds < 1e6
    assert pictures == 12


def test_prompts_that_were_cut_are_counted_once_a_scorer(run, monkeypatch):
    class Short:
        preference, recipe = scorers.Preference(None, "a test"), "r"

        def __init__(self, weights):
            self.truncated = set()

        def score(self, images, prompts):
            self.truncated |= {prompt for prompt in prompts if "warm" in prompt} | {"of another scorer on this tower"}
            return np.zeros(len(images), dtype=np.float32)

    real = scorers.load
    monkeypatch.setattr(
        scorers, "load", lambda name, weights: Short(weights) if name == "clip" else real(name, weights)
    )
    assert said("-s", "clip", run=run).count("clip: 2 of 3 prompts are longer than it reads and were cut") == 1


def test_metrics_are_the_scorers_that_have_a_number_for_every_picture(run, monkeypatch):
    recipe, _ = judges.asked(run.recipe, [own("Warmth"), own("Picky"), "vlm"], [])
    names = ("warmth", "picky", "vlm", "random")
    label_settings = recipe.label.model_copy(update={"scorers": {name: recipe.label.scorers[name] for name in names}})
    measured = Run(run.root, recipe.model_copy(update={"label": label_settings}))
    notes: list[str] = []
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    prompts = {f"image-0-{k}": PROMPTS[0] for k in range(4)}
    found = metrics.measure(measured, prompts, Silent())
    assert [(metric.name, metric.values["image-0-3"]) for metric in found] == [("warmth", 200.0)]
    assert notes[-1] == "picky is left out: it has no score for 1 of 4 pictures"
