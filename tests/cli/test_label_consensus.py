"""The consensus of `ddpo label`: of which judges it is, by which rule, and what it is refused for."""

import json
import math

import pytest

from aifeedback_dpo.store import Run
from tests import labelling
from tests.conftest import ddpo
from tests.labelling import own, people, refused, rules, said, views


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return labelling.write(tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_consensus_is_of_the_scorers_of_the_command_and_keeps_its_meaning(run):
    ask = ("-s", own("Warmth"), "-s", own("Coolness"), "-s", own("Picky"), "--judge", "consensus")
    assert "consensus: 0 prefer a, 3 prefer b, 3 ties, 6 missing" in said(*ask, run=run)
    assert run.saved().label.consensus.of == ("warmth", "coolness", "picky")
    assert rules(run, "consensus") == {
        "majority of warmth, coolness, picky: more on one side than on the other, else a tie"
    }
    assert {row["votes"] for row in run.rows("preferences", name="consensus")} == {3}
    assert json.loads((run.root / "manifest.json").read_text())["made_by"]["label/consensus"]["members"]
    (run.root.parent / "other.py").write_text(
        "from own_scorers import Warmth\nclass Other(Warmth):\n    name = 'other'\n"
    )
    assert "consensus of this run is of warmth" in refused("-s", "other:Other", "-j", "consensus", run=run)
    fewer = refused("-s", "warmth", "-s", "coolness", "-j", "consensus", run=run)
    assert "name the same ones, or set label.consensus.of" in fewer
    said("--judge", "consensus", run=run)  # the same as before needs no names
    told = said("-j", "consensus", "label.consensus.rule=mean", "label.consensus.of=[warmth,coolness]", run=run)
    assert "mean of warmth, coolness" in told
    assert "missing" not in told.split("consensus: ")[1]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (("-s", "own_scorers:Warmth", "-j", "consensus"), "at least two judges"),
        (("-j", "consensus"), "at least two judges"),
        (("-j", "human"), "takes only --judge consensus"),
        (("-j", "consensus", "label.consensus.of=[random,warmth]"), "names random"),
        (("-j", "consensus", "label.consensus.of=[own,warmth]"), "no scorer 'own'"),
        (("-s", "consensus"), "no scorer 'consensus'"),
        (("-j", "consensus", "-s", "own_scorers:Warmth", "label.consensus.of=[human,warmth]"), "needs preferences of"),
    ],
)
def test_a_consensus_that_cannot_be_is_refused(run, ask, words):
    assert words in refused(*ask, run=run)


@pytest.mark.slow
def test_a_recipe_whose_ai_is_the_consensus_makes_it_without_being_asked(run):
    settings = ("label.ai=consensus", "label.consensus.rule=unanimous")
    said("-s", own("Warmth"), "-s", own("Picky"), *settings, run=run)
    assert views(run, "consensus")[:3] == pytest.approx([0, 0.5, math.nan], nan_ok=True)
    said(*settings, run=run)  # its members need no names
    assert "consensus:" not in said("-s", own("Coolness"), *settings, run=run)  # it is not one of the members
    assert run.saved().label.consensus.of == ("warmth", "picky")
    assert run.recipe.model_copy(update={"label": run.saved().label}).judge("ai") == "consensus"


def test_people_can_be_of_the_consensus(run):
    people(run, [1.0] * 12)
    said("-s", own("Warmth"), "-j", "consensus", "label.consensus.of=[human,warmth]", run=run)
    assert views(run, "consensus")[:4] == [0.5, 1.0, 1.0, 0.5]


@pytest.mark.slow
def test_a_policy_of_the_consensus_is_compared_with_its_members_marked(copied):
    for command in (("label", "-s", "pickscore", "-s", "clip", "-j", "consensus"), ("train", "-j", "consensus")):
        result = ddpo(*command, run=copied)
        assert result.exit_code == 0, result.output
    report = json.loads(ddpo("compare", "human", "vs", "consensus", "--json", run=copied).stdout)
    duels = report["sets"][0]["duels"]
    marked = {row["metric"] for row in duels if row["policy"] == "consensus" and row["in_loop"]}
    assert marked == {"pickscore", "clip"}
    assert not any(row["in_loop"] for row in duels if row["policy"] == "human" and row["against"] == "base")
