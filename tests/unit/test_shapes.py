"""The embedded world: what is said, drawn and read back."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.seeds import derive
from aifeedback_dpo.shapes import grammar, oracle, raters
from aifeedback_dpo.shapes.grammar import Kind, Scene
from aifeedback_dpo.shapes.oracle import Reading
from aifeedback_dpo.shapes.renderer import Placed, draw, ground_colour, render

RED, BLUE = Kind("red", "circle"), Kind("blue", "square")


def reading(*placed: Placed) -> Reading:
    return Reading(placed, 0.5)


def test_every_prompt_parses_back_to_its_scene():
    for prompt, scene in grammar.scenes().items():
        assert grammar.parse(prompt) == scene
        assert scene.prompt == prompt
    assert grammar.parse("a photo of a cat") is None


def test_splits_are_disjoint_in_prompts_and_in_combinations():
    combinations = {}
    for split in ("train", "tune", "eval"):
        found = [grammar.scenes()[prompt] for prompt in grammar.prompts(split)]
        combinations[split] = {
            (frozenset(scene.objects), len(scene.objects) if len(set(scene.objects)) == 1 else 2) for scene in found
        }
    assert not combinations["train"] & combinations["eval"]
    assert not combinations["train"] & combinations["tune"]
    assert not combinations["tune"] & combinations["eval"]
    assert len(grammar.prompts("eval")) >= 500


@pytest.mark.slow
def test_the_oracle_agrees_with_the_renderer_on_99_of_100():
    prompts = list(grammar.scenes())
    rng = np.random.default_rng(0)
    wrong = Counter()
    for number in range(1000):
        scene = grammar.scenes()[prompts[rng.integers(len(prompts))]]
        wrong[oracle.read(render(scene, np.random.default_rng(derive("test", number)))).correct(scene)] += 1
    assert wrong[False] <= 10


@pytest.mark.parametrize(
    ("relation", "x", "y"), [("above", 0, 10), ("below", 0, -10), ("left of", 10, 0), ("right of", -10, 0)]
)
def test_relations_are_read_from_the_first_object(relation, x, y):
    seen = reading(Placed(RED, 20, 20, 5), Placed(BLUE, 20 + x, 20 + y, 5))
    assert seen.correct(Scene((RED, BLUE), relation))
    for other in set(grammar.RELATIONS) - {relation}:
        assert not seen.correct(Scene((RED, BLUE), other))


def test_checks_count_what_is_there_what_is_too_much_and_the_relation():
    scene = Scene((RED, BLUE), "above")
    both = (Placed(RED, 20, 10, 5), Placed(BLUE, 20, 30, 5))
    assert reading(*both).checks(scene) == (True, True, True, True)
    assert reading(both[0]).checks(scene) == (True, False, True, False)
    assert reading(*both, Placed(RED, 40, 40, 3)).checks(scene) == (True, True, False, False)
    assert reading().alignment(scene) == pytest.approx(1 / 4)


def test_appeal_grows_with_size_vividness_and_a_warm_bright_ground():
    def appeal(radius: float, vividness: float, tone: float, warmth: float) -> float:
        return oracle.read(draw([Placed(RED, 24, 24, radius)], ground_colour(tone, warmth), vividness)).appeal

    plain = appeal(8, 0.6, 0.5, 0.0)
    for better in (
        appeal(12, 0.6, 0.5, 0.0),
        appeal(8, 0.9, 0.5, 0.0),
        appeal(8, 0.6, 0.9, 0.0),
        appeal(8, 0.6, 0.5, 0.9),
    ):
        assert better > plain + 0.02


def test_an_empty_picture_pleases_little_and_follows_nothing():
    seen = oracle.read(draw([], ground_colour(1.0, 1.0), 1.0))
    assert seen.objects == ()
    assert seen.appeal <= 0.4
    assert not seen.correct(Scene((RED,)))


@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 50))
def test_a_vote_is_repeatable_and_one_of_three(a, b, seed):
    vote = raters.vote(a, b, seed)
    assert vote in (0.0, 0.5, 1.0)
    assert vote == raters.vote(a, b, seed)


def test_votes_follow_bradley_terry_with_ties_and_the_stated_error():
    votes = [raters.vote(0.25, 0.0, "test", n) for n in range(20_000)]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    felt = raters.STEEPNESS * 0.25
    kept = 1 - raters.ERROR_RATE
    assert np.mean([v == 1.0 for v in votes]) == pytest.approx(
        kept * sigmoid(felt - raters.TIE_BAND) + raters.ERROR_RATE / 2, abs=0.01
    )
    assert np.mean([v == 0.5 for v in votes]) == pytest.approx(
        kept * (sigmoid(felt + raters.TIE_BAND) - sigmoid(felt - raters.TIE_BAND)), abs=0.01
    )


def test_the_reader_of_a_pair_is_one_of_the_simulated_raters():
    assert {raters.rater("pair", n) for n in range(500)} == {f"simulated-{n:02d}" for n in range(1, raters.RATERS + 1)}
