"""Guards in the space of a CLIP: spread and CLIP-I against numbers made by hand, and the embeddings that they are made of."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from aifeedback_dpo import config
from aifeedback_dpo.compare import embedding, guards
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run
from tests import labelled
from tests.guarded import BLUE, GREEN, PROMPTS, RED, drawn, firsts, found, scorers_of

# -- spread and CLIP-I -----------------------------------------------------------------------------------------------


def test_the_spread_of_pictures_that_are_alike_is_0_and_of_orthogonal_ones_1():
    assert guards.spread_of(np.float32([[3, 4], [3, 4], [6, 8]])) == pytest.approx(0, abs=1e-12)
    assert guards.spread_of(np.eye(4, dtype=np.float32)) == pytest.approx(1)


def test_the_spread_by_hand():
    # cosines of (1, 0), (0, 1) and (3, 4) / 5: 0, 0.6 and 0.8, on average 1.4 / 3
    assert guards.spread_of(np.float32([[1, 0], [0, 1], [3, 4]])) == pytest.approx(1 - 1.4 / 3)


def test_a_policy_that_collapses_is_told_to_have(run, colours):
    base = drawn(run, "base", [[RED, GREEN]] * PROMPTS)
    own = drawn(run, "ai", [[RED, RED]] * PROMPTS)
    rows = guards.measure(run, {"base": firsts(base), "ai": firsts(own)}, {"base": base, "ai": own}, Silent())
    assert found(rows, "spread", None, "base")["value"]["value"] == pytest.approx(1)
    assert found(rows, "spread", None)["value"]["value"] == pytest.approx(0, abs=1e-7)
    fell = found(rows, "spread", "base")
    assert fell["value"] == pytest.approx({"value": -1, "low": -1, "high": -1, "prompts": PROMPTS})
    assert fell["caution"].startswith(
        "its pictures of one prompt are more alike than the base model's (spread -1, -1 to -1"
    )
    assert found(rows, "spread", None)["caution"] is None


@pytest.mark.parametrize("prompts, told", [(5, False), (6, True)])
def test_a_few_prompts_on_which_spread_falls_by_chance_are_no_collapse(run, colours, prompts, told):
    base, own = drawn(run, "base", [[RED, GREEN]] * prompts), drawn(run, "ai", [[RED, RED]] * prompts)
    rows = guards.measure(run, {"base": firsts(base), "ai": firsts(own)}, {"base": base, "ai": own}, Silent())
    assert (found(rows, "spread", "base")["caution"] is not None) is told


def test_a_spread_that_rises_or_may_have_is_no_reason_for_caution(run, colours):
    base = drawn(run, "base", [[RED, RED], [RED, GREEN]] * 4)
    wider, other = drawn(run, "wider", [[RED, GREEN]] * 8), drawn(run, "other", [[RED, GREEN], [RED, RED]] * 4)
    several = {"base": base, "wider": wider, "other": other}
    rows = guards.measure(run, {name: firsts(ids) for name, ids in several.items()}, several, Silent())
    assert found(rows, "spread", "base", "wider")["value"]["value"] == pytest.approx(0.5)
    assert found(rows, "spread", "base", "other")["value"]["value"] == pytest.approx(0)
    assert {row["caution"] for row in rows if row["guard"] == "spread"} == {None}


def test_how_far_pictures_moved_is_a_mean_over_prompts_of_cosines(run, colours):
    base = drawn(run, "base", [[RED], [RED], [RED], [RED]])
    own = drawn(run, "ai", [[RED], [GREEN], [BLUE], [(3, 4, 0)]])
    rows = guards.measure(run, {"base": firsts(base), "ai": firsts(own)}, {}, Silent())
    moved = found(rows, "clip-i", "base")["value"]
    assert (moved["value"], moved["prompts"]) == (pytest.approx((1 + 0 + 0 + 0.6) / 4), 4)
    assert 0 <= moved["low"] < moved["value"] < moved["high"] <= 1
    assert not [row for row in rows if row["guard"] == "spread"]
    assert not [row for row in rows if row["policy"] == "base"]


def test_one_prompt_has_no_interval(run, colours):
    base, own = drawn(run, "base", [[RED]]), drawn(run, "ai", [[GREEN]])
    rows = guards.measure(run, {"base": firsts(base), "ai": firsts(own)}, {}, Silent())
    assert found(rows, "clip-i", "base")["value"] == {"value": 0.0, "low": None, "high": None, "prompts": 1}


def test_the_order_of_pictures_changes_nothing(run, colours):
    rng = np.random.default_rng(0)
    several = {
        name: drawn(run, name, [[tuple(map(int, colour)) for colour in rng.integers(0, 255, (3, 3))] for _ in range(6)])
        for name in ("base", "ai")
    }
    pictures = {name: list(itertools.chain(*ids)) for name, ids in several.items()}
    order, within = rng.permutation(18), rng.permutation(6)
    shuffled = {name: [ids[at] for at in order] for name, ids in pictures.items()}
    turned = {name: [ids[at][::-1] for at in within] for name, ids in several.items()}
    one, other = (
        guards.measure(run, asked, spread, Silent()) for asked, spread in ((pictures, several), (shuffled, turned))
    )
    for row, its in zip(one, other, strict=True):
        assert its | {"value": None} == row | {"value": None}
        numbers, others = (
            {key: math.nan if x is None else x for key, x in told["value"].items()} for told in (row, its)
        )
        assert others == pytest.approx(numbers, rel=1e-9, nan_ok=True)


# -- embeddings ------------------------------------------------------------------------------------------------------


def test_a_picture_is_embedded_once_ever(run, colours):
    base, own = drawn(run, "base", [[RED, GREEN]] * 4), drawn(run, "ai", [[RED, BLUE]] * 4)
    guards.measure(run, {"base": firsts(base)}, {}, Silent())
    assert sum(colours) == 4
    asked = {"base": firsts(base), "ai": firsts(own)}, {"base": base, "ai": own}
    guards.measure(run, *asked, Silent())
    assert sum(colours) == 16
    guards.measure(run, *asked, Silent())
    assert sum(colours) == 16


def test_a_part_that_is_damaged_is_named(run, colours):
    asked = {"base": firsts(drawn(run, "base", [[RED]] * 4)), "ai": firsts(drawn(run, "ai", [[GREEN]] * 4))}
    guards.measure(run, asked, {}, Silent())
    (part,) = (run.cache / "embeddings" / "colours").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"part-.*\.npz is corrupted.*delete it"):
        guards.measure(run, asked, {}, Silent())


def test_which_clip_is_taken_is_stated_and_one_that_learned_preferences_comes_last(run):
    space = embedding.clip(run)
    assert (space.about, space.caution) == ("the image tower of clip (shapes)", None)
    assert embedding.clip(scorers_of(run, "pickscore", "aesthetic")).about == "the image tower of aesthetic (shapes)"
    tuned = embedding.clip(scorers_of(run, "random", "pickscore"))
    assert tuned.caution == "pickscore was fine-tuned on preferences, and so is what it sees"
    assert embedding.clip(scorers_of(run, "random")) is None


def test_without_a_clip_the_rows_say_what_to_do(run):
    run = scorers_of(run, "random")
    base, own = drawn(run, "base", [[RED, GREEN]] * 4), drawn(run, "ai", [[RED, RED]] * 4)
    rows = guards.measure(run, {"base": firsts(base), "ai": firsts(own)}, {"base": base, "ai": own}, Silent())
    for guard, against in (("spread", None), ("spread", "base"), ("clip-i", "base"), ("fd-clip", "base")):
        row = found(rows, guard, against)
        assert row["value"]["value"] is None
        assert "`ddpo compare --scorer clip`" in row["caution"]


def test_the_second_time_nothing_is_loaded_not_even_torch(tmp_path):
    """The embedded world's own CLIP, and then the same question to a process that has not loaded it."""
    root = labelled.write(tmp_path / "run")
    recipe = config.load(root / "recipe.yaml")
    images = [row["image_id"] for row in Run(root, recipe).rows("images")]
    asked = {"base": images[0::3], "ai": images[1::3]}, {"base": [images[:2]], "ai": [images[1:3]]}
    rows = guards.measure(Run(root, recipe), *asked, Silent())
    assert 0 < found(rows, "spread", None)["value"]["value"] < 1
    assert found(rows, "kid-clip", "base")["value"]["value"] is not None
    code = (
        "import sys; from pathlib import Path; from aifeedback_dpo import config, engine, store; "
        "from aifeedback_dpo.compare import guards; root = Path(sys.argv[1]); "
        "run = store.Run(root, config.load(root / 'recipe.yaml')); asked = eval(sys.argv[2]); "
        "print(guards.measure(run, *asked, engine.Silent())); sys.exit('torch' in sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", code, str(root), repr(asked)], capture_output=True, text=True)
    assert (again.returncode, again.stdout.strip()) == (0, repr(rows)), again.stderr
