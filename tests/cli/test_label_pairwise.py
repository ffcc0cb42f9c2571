"""`ddpo label` with a judge that looks at both pictures of a pair: asked once, in parts, and its answers kept."""

import math

import pytest

from aifeedback_dpo import label, scorers
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers import Answer, presence
from aifeedback_dpo.store import Run
from tests import labelling
from tests.conftest import ddpo
from tests.labelling import PROMPTS, own, said, taken, views


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return labelling.write(tmp_path, monkeypatch)


class Opinionated:
    """Takes the redder, says nothing sensible of the third prompt, and always likes the first shown in the second."""

    recipe = "judge-recipe"
    asked: list[str]

    def __init__(self):
        self.asked = []

    def ask(self, images_a, images_b, prompts):
        self.asked += prompts
        return [
            self.answer(a.getpixel((0, 0))[0], b.getpixel((0, 0))[0], prompt)
            for a, b, prompt in zip(images_a, images_b, prompts, strict=True)
        ]

    def answer(self, a, b, prompt):
        if prompt == PROMPTS[2]:
            return Answer("1 and 2", "hm", None, None)
        if prompt == PROMPTS[1]:
            return Answer("1", "1", 1.0, 0.0)
        return Answer("x", "x", *([0.5 if a == b else float(a > b)] * 2))


@pytest.mark.slow
def test_a_judge_of_pairs_is_asked_once_and_its_answers_are_kept(run, monkeypatch):
    judge = Opinionated()
    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: judge)
    assert "vlm: 1 prefer a, 2 prefer b, 5 ties, 4 missing" in said("-s", "vlm", run=run)
    assert views(run, "vlm")[:8] == [0, 0.5, 1, 0, 0.5, 0.5, 0.5, 0.5]
    assert len(judge.asked) == 12
    said("-s", "vlm", run=run)
    assert len(judge.asked) == 12
    kept = {row["pair_id"]: row for row in run.rows("answers", name="vlm")}
    last = kept[run.rows("pairs")[-1]["pair_id"]]
    assert (last["a_first"], last["choice_a_first"], last["recipe"]) == ("1 and 2", None, "judge-recipe")
    assert not run.parts("scores", "vlm")
    said("-s", "vlm", "-s", own("Warmth"), "-j", "consensus", run=run)
    assert views(run, "consensus")[:4] == [0, 0.5, 1, 0]
    assert math.isnan(views(run, "consensus")[-1])


def test_a_judge_of_pairs_that_was_stopped_goes_on_where_it_was(run, monkeypatch):
    class Tired(Opinionated):
        def ask(self, images_a, images_b, prompts):
            if len(self.asked) >= 6:
                raise KeyboardInterrupt
            return super().ask(images_a, images_b, prompts)

    tired, judge = Tired(), Opinionated()
    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: tired)
    assert ddpo("label", "-s", "vlm", run=run.root).exit_code == 130
    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: judge)
    said("-s", "vlm", run=run)
    assert len(judge.asked) == 12 - 5  # the first part of five pairs was committed
    assert taken(run, "vlm")[1] == 2 * 12  # two pictures a pair, those asked before the stop included
    assert len(run.rows("answers", name="vlm")) == 12


def test_a_judge_of_pairs_answers_every_pair_or_is_refused(run, monkeypatch):
    class Lazy(Opinionated):
        def ask(self, images_a, images_b, prompts):
            return super().ask(images_a, images_b, prompts)[:1]

    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: Lazy())
    with pytest.raises(UserError, match="judge vlm gave 1 answers about 2 pairs"):
        label.label(run, ["vlm"], Silent())
