"""What `ddpo label` takes from a recipe and leaves in it: which scorers join, what may still change, rules and slopes."""

import json
import math

import pytest

from aifeedback_dpo import label
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.store import Run
from tests import labelling
from tests.conftest import ddpo
from tests.labelling import calls, files, own, people, refused, rules, said, views

FITTED = tuple(f"label.scorers.warmth.{key}" for key in ("id=none", "uses=own_scorers:Warmth", "slope=human"))


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return labelling.write(tmp_path, monkeypatch)


def test_a_scorer_of_ones_own_joins_the_recipe_and_scores_once(run):
    assert "warmth: 3 prefer a, 6 prefer b, 3 ties" in said("--scorer", own("Warmth"), run=run)
    joined = run.saved().label.scorers["warmth"]
    assert joined.uses == own("Warmth")
    assert len(run.done("scores", "warmth")) == 12
    asked = len(calls())
    said("--scorer", "warmth", run=run)
    assert len(calls()) == asked > 0
    # sigmoid(0.1 * (10 - 60)) = 0.0067
    assert views(run, "warmth")[:4] == pytest.approx([1 / (1 + math.exp(5)), 0.5, 1, 0], abs=1e-5)
    assert rules(run, "warmth") == {
        "sigmoid(0.1 * (score_a - score_b)), the scorer's own slope; a tie if |p_a - 1/2| <= 0"
    }


def test_what_joined_stays_when_the_recipe_is_given_again_without_it(run):
    said("--scorer", own("Warmth"), "--scorer", own("Coolness"), "--judge", "consensus", run=run)
    again = open_run(run.root, "shapes", ["label.raters=null", "label.images_per_part=5"])
    assert set(again.recipe.label.scorers) >= {"warmth", "coolness"}
    assert again.recipe.label.consensus.of == ("warmth", "coolness")


def test_a_dry_run_counts_a_scorer_that_would_join_and_writes_nothing(run):
    before = files(run.root)
    plan = json.loads(
        ddpo("label", "-s", own("Warmth"), "-s", "hpsv2", "-s", "vlm", "--dry-run", "--json", run=run.root).stdout
    )
    assert plan["scored"] == {"warmth": 0, "hpsv2": 0, "random": 0}
    assert plan["answered"] == {"vlm": 0}
    assert files(run.root) == before


def test_published_weights_join_and_are_told_missing_before_anything_is_scored(run):
    recipe = label.joined(run, ["hpsv2.1"])[0].recipe
    assert recipe.label.scorers["hpsv2.1"].file == "HPS_v2.1_compressed.pt"
    assert "xswu/HPSv2" in refused("-s", own("Warmth"), "-s", "hpsv2.1", run=run, code=4)
    moved = label.joined(open_run(run.root, None, ["label.scorers[hpsv2.1].id=/models/hps"]), ["hpsv2.1"])[0]
    assert moved.recipe.label.scorers["hpsv2.1"].id == "/models/hps"


def test_settings_of_a_scorer_that_has_scored_nothing_may_still_change(run):
    said("--scorer", own("Warmth"), "label.scorers.hpsv2.id=/somewhere", run=run)
    moved = open_run(run.root, None, ["label.scorers.hpsv2.id=/elsewhere"])
    assert moved.recipe.label.scorers["hpsv2"].id == "/elsewhere"
    with pytest.raises(UserError, match=r"label\.scorers\.warmth\.dtype"):
        open_run(run.root, None, ["label.scorers.warmth.dtype=bfloat16"])


def test_a_rule_may_change_and_costs_no_scorer_call(run):
    """Reds of 10, 60, 60 and 200: with a margin of 100 only 200 against 60, and against 10, are decided."""
    said("--scorer", own("Coolness"), run=run)
    asked = len(calls())
    told = said("-s", "coolness", "label.scorers.coolness.margin=100", run=run)
    assert "coolness: 3 prefer a, 3 prefer b, 6 ties" in told
    assert len(calls()) == asked
    assert all("100" in rule for rule in rules(run, "coolness"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("label.scorers.human.id=none", "label.scorers.human.uses=jpeg"), "no scorer's"),
        (("label.scorers.random.uses=jpeg",), "is the control"),
    ],
)
def test_no_scorer_poses_as_people_or_as_the_control(run, settings, words):
    assert words in refused("-s", "jpeg", *settings, run=run)


def test_a_slope_fitted_on_people_says_so(run):
    def vote(*of_fifty: float) -> None:
        """At a difference of 50, in each prompt; elsewhere the warmer is chosen."""
        choices = {-50: of_fifty, 0: (0.5,) * 3, 140: (1,) * 3, -190: (0,) * 3}
        people(run, [choices[difference][at] for at in range(3) for difference in (-50, 0, 140, -190)])

    vote(0, 0, 0)
    assert "label.scorers.warmth.slope=human: people never disagree with it" in refused_after_scoring(*FITTED, run=run)
    vote(0, 0, 1)
    said("-s", "warmth", *FITTED, run=run)
    (told,) = rules(run, "warmth")
    assert "fitted on 12 human votes" in told
    slope = float(told.split("(")[1].split(" ")[0])
    # there the likelihood is flat: the differences, times sigmoid(slope * difference) less the share that chose it, cancel
    shares = {50: 2 / 3, 140: 1, 190: 1}
    assert sum(d * (1 / (1 + math.exp(-slope * d)) - share) for d, share in shares.items()) == pytest.approx(
        0, abs=1e-3
    )


def refused_after_scoring(*arguments: str, run: Run) -> str:
    result = ddpo("label", "-s", "warmth", *arguments, run=run.root)
    assert result.exit_code == 2, result.output
    return next(line for line in result.stderr.splitlines() if line.startswith("ddpo: "))


def test_a_slope_of_people_without_people_is_refused_before_anything_is_scored(run):
    line = refused("-s", "warmth", *FITTED, run=run)
    assert "label.scorers.warmth.slope=human needs preferences of judge 'human'" in line


def test_a_scorer_that_failed_does_not_join_the_recipe(run):
    before = run.saved().label
    result = ddpo("label", "-s", own("Endless"), "-s", own("Warmth"), "--judge", "consensus", run=run.root)
    assert result.exit_code == 2
    assert run.saved().label == before
    made_by = json.loads((run.root / "manifest.json").read_text())["made_by"]
    assert {made_by[f"label/{name}"]["status"] for name in ("endless", "warmth")} == {"failed"}
    said("-s", own("Coolness"), "-s", own("Warmth"), "--judge", "consensus", run=run)
    assert run.saved().label.consensus.of == ("coolness", "warmth")


def test_without_a_scorer_those_that_will_be_trained_on_are_asked(run):
    settings = ("label.scorers.warmth.id=none", "label.scorers.warmth.uses=own_scorers:Warmth", "label.ai=warmth")
    told = said(*settings, "label.scorers.jpeg.id=none", "train.judges=[ai,jpeg,random]", run=run)
    assert [line.split(":")[0] for line in told.splitlines() if " prefer a" in line] == ["warmth", "jpeg", "random"]
