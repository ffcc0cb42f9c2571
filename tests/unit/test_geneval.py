"""GenEval's rules on boxes made by hand, and on the true places of the embedded world, where its oracle must agree."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.compare.geneval import Box, Detection, Rules, kept, overlap, relations, understood, verdict
from aifeedback_dpo.shapes import grammar, renderer
from aifeedback_dpo.shapes.grammar import Scene
from aifeedback_dpo.shapes.oracle import Reading

BOX: Box = (0, 0, 10, 10)


def found(label: str, score: float = 1.0, box: Box = BOX) -> Detection:
    return Detection(label, box, score)


def never(label: str, objects: Sequence[Detection]) -> list[str]:
    raise AssertionError("nothing asks for a colour")


def reasons(
    objects: Sequence[Detection], include: list[dict], exclude: Sequence[dict] = (), colours=never, task: str = ""
) -> tuple[str, ...]:
    told = verdict(kept(objects, task, Rules()), {"include": include, "exclude": list(exclude)}, colours, Rules())
    assert told.correct == (not told.reasons)
    return told.reasons


# -- which objects count ---------------------------------------------------------------------------------------------


def test_an_object_counts_above_the_threshold_and_counting_needs_more():
    objects = [found("dog", score) for score in (0.3, 0.31, 0.9, 0.91)]
    assert [one.score for one in kept(objects, "colors", Rules())["dog"]] == [0.91, 0.9, 0.31]
    assert [one.score for one in kept(objects, "counting", Rules())["dog"]] == [0.91]
    assert kept(objects[:1], "colors", Rules()) == {}


def test_of_a_class_the_sixteen_surest_are_kept():
    objects = [found("dog", 0.5 + at / 100) for at in range(20)] + [found("cat", 0.4)]
    several = kept(objects, "", Rules())
    assert [one.score for one in several["dog"]] == pytest.approx([0.69 - at / 100 for at in range(16)])
    assert len(several["cat"]) == 1


def test_overlap_is_counted_in_whole_pixels():
    """0..9 by 0..9 is 100 pixels and 0..9 by 0..4 is 50, all of them inside: 50 of 100. Side by side share nothing."""
    assert overlap((0, 0, 9, 9), (0, 0, 9, 4)) == 0.5
    assert overlap((0, 0, 9, 9), (10, 0, 19, 9)) == 0
    assert overlap((0, 0, 9, 9), (9, 9, 18, 18)) == pytest.approx(1 / 199)


def test_two_on_one_place_are_two_by_default_and_one_where_overlap_is_limited():
    objects = [found("dog", 0.8, (0, 0, 9, 9)), found("dog", 0.9, (0, 0, 9, 8)), found("cat", 0.5, (0, 0, 9, 9))]
    assert len(kept(objects, "", Rules())["dog"]) == 2
    limited = kept(objects, "", Rules(overlap=0.5))
    assert [one.score for one in limited["dog"]] == [0.9]
    assert len(limited["cat"]) == 1  # another class


# -- where objects stand ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ((20, 0, 30, 10), {"left of"}),  # way -20, 2 off it: -18 / 20 = -0.9
        ((-20, 0, -10, 10), {"right of"}),
        ((0, 20, 10, 30), {"above"}),
        ((0, -20, 10, -10), {"below"}),
        ((20, 20, 30, 30), {"left of", "above"}),  # -18 / 28.3 = -0.64 both ways
        ((20, 12, 30, 22), {"left of"}),  # -18 / 23.3 = -0.77 and -10 / 23.3 = -0.43
        ((2, 0, 12, 10), set()),  # 2 apart, and 0.1 * (10 + 10) = 2 is no distance
        ((2.2, 0, 12.2, 10), set()),  # 0.2 / 2.2 = 0.09
        ((0, 0, 10, 10), set()),
        ((4, 0, 104, 10), {"left of"}),  # centres 49 apart, sizes 10 and 100: (49 - 11) / 49 = 0.78
    ],
)
def test_a_relation_is_more_than_half_of_the_way_without_a_tenth_of_the_sizes(other, told):
    assert relations(BOX, other, 0.1) == told


OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
boxes = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 20)] * 2).map(
    lambda at: (at[0], at[1], at[0] + at[2], at[1] + at[3])
)


@given(boxes, boxes)
def test_seen_from_the_other_side_each_relation_is_its_opposite(one, other):
    assert {OPPOSITE[name] for name in relations(one, other, 0.1)} == relations(other, one, 0.1)


# -- verdicts --------------------------------------------------------------------------------------------------------


def test_every_object_must_be_there():
    include = [{"class": "dog", "count": 1}, {"class": "cat", "count": 1}]
    assert reasons([found("dog"), found("cat"), found("cow")], include) == ()
    assert reasons([found("dog")], include) == ("expected 1 cat, found 0",)
    assert reasons([found("dog"), found("cat", 0.2)], include) == ("expected 1 cat, found 0",)


def test_a_count_is_that_many_and_no_more():
    include, exclude = [{"class": "clock", "count": 2}], [{"class": "clock", "count": 3}]
    clocks = [found("clock", 0.95, (at, 0, at + 5, 5)) for at in (0, 10, 20)]
    assert reasons(clocks[:1], include, exclude) == ("expected 2 clock, found 1",)
    assert reasons(clocks[:2], include, exclude) == ()
    assert reasons(clocks, include, exclude) == ("expected fewer than 3 clock, found 3",)
    unsure = [*clocks[:2], found("clock", 0.5)]
    assert reasons(unsure, include, exclude, task="counting") == ()
    assert reasons(unsure, include, exclude, task="colors") == ("expected fewer than 3 clock, found 3",)


def test_of_a_class_the_surest_must_have_the_colour():
    """Two dogs, the surer one at the left; a dog at x >= 10 is red."""
    dogs = [found("dog", 0.9), found("dog", 0.8, (10, 0, 20, 10))]

    def colours(label: str, objects: Sequence[Detection]) -> list[str]:
        assert label == "dog"
        return ["red" if one.box[0] >= 10 else "blue" for one in objects]

    one = [{"class": "dog", "count": 1, "color": "red"}]
    assert reasons(dogs, one, colours=colours) == ("expected 1 red dog, found blue",)
    assert reasons(dogs[1:], one, colours=colours) == ()
    assert reasons(dogs, [{**one[0], "count": 2}], colours=colours) == ("expected 2 red dog, found blue, red",)
    assert reasons([], one) == ("expected 1 dog, found 0",)  # and no colour is asked for


def test_a_position_is_to_all_of_an_earlier_entry():
    include = [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}]
    left, right = (0, 0, 10, 10), (30, 0, 40, 10)
    assert reasons([found("dog", box=left), found("cat", box=right)], include) == ()
    assert reasons([found("dog", box=right), found("cat", box=left)], include) == (
        "expected dog left of cat, found right of",
    )
    assert reasons([found("dog", box=left), found("cat", box=left)], include) == (
        "expected dog left of cat, found neither",
    )
    assert reasons([found("dog", box=left)], include) == (
        "expected 1 cat, found 0",
        "nothing is there for dog to be left of",
    )
    both = [found("cat", 0.9, right), found("cat", 0.8, (30, 40, 40, 50)), found("dog", box=left)]
    assert reasons(both, include) == ()
    wide = [{"class": "cat", "count": 2}, include[1]]
    assert len(reasons([both[0], found("cat", 0.8, (-30, 0, -20, 10)), both[2]], wide)) == 1


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({}, "no `include`"),
        ({"include": []}, "no `include`"),
        ({"include": [{"count": 1}]}, "an entry without `class`"),
        ({"include": [{"class": "dog", "count": 0}]}, "count 0 of dog"),
        ({"include": [{"class": "dog", "count": 1, "color": "cyan"}]}, "the colour 'cyan'"),
        ({"include": [{"class": "dog", "count": 1, "position": ["on", 0]}]}, "the position"),
        ({"include": [{"class": "dog", "count": 1, "position": ["left of", 0]}]}, "the position"),  # of itself
        ({"include": [{"class": "dog", "count": 1}], "exclude": [{"class": "dog"}]}, "count None of dog"),
    ],
)
def test_an_item_that_cannot_be_checked_is_told(asked, wrong):
    assert wrong in (understood(asked) or "")
    assert understood({"include": [{"class": "dog", "count": 1, "color": "red"}], "exclude": None}) is None


# -- the embedded world ----------------------------------------------------------------------------------------------

FEW = [kind for kind in grammar.KINDS if kind.colour in ("red", "blue") and kind.shape in ("circle", "square")]


def metadata(scene: Scene) -> dict:
    """A scene as GenEval would ask for it: the shape is the class, what stands is told after what it stands to."""
    first, *rest = ({"class": kind.shape, "count": 1, "color": kind.colour} for kind in scene.objects)
    if scene.category == "counting":
        count = len(scene.objects)
        return {
            "include": [{**first, "count": count}],
            "exclude": [{"class": first["class"], "count": count + 1}],
        }
    if scene.relation:
        return {"include": [*rest, {**first, "position": [scene.relation, 0]}]}
    return {"include": [first, *rest]}


@pytest.mark.parametrize("category", ["single", "counting", "colours", "position"])
def test_on_true_places_the_rules_say_what_the_oracle_says(category):
    """Whatever was drawn, and whatever was asked for: two kinds of one shape aside, of which GenEval looks at the surest."""
    scenes = [
        scene
        for scene in grammar.scenes().values()
        if scene.category == category
        and set(scene.objects) <= set(FEW)
        and (category == "counting" or len({kind.shape for kind in scene.objects}) == len(scene.objects))
    ]
    agreed = {True: 0, False: 0}
    for number, drawn in enumerate(scenes):
        placed = renderer.place(drawn, np.random.default_rng(number))
        objects = [
            Detection(
                one.kind.shape, (one.x - one.radius, one.y - one.radius, one.x + one.radius, one.y + one.radius), 1
            )
            for one in placed
        ]
        colour = {detection.box: one.kind.colour for detection, one in zip(objects, placed, strict=True)}
        for asked in scenes:
            told = verdict(
                kept(objects, category, Rules()),
                metadata(asked),
                lambda _, seen, colour=colour: [colour[one.box] for one in seen],
                Rules(),
            )
            right = Reading(tuple(placed), 0.0).correct(asked)
            assert told.correct == right, f"{drawn.prompt} for {asked.prompt}: {told.reasons}"
            agreed[right] += 1
    assert agreed[True] >= len(scenes)
    assert agreed[False] >= len(scenes)
