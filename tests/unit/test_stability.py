"""When a policy in training is stopped, warned of or left alone: rows made by hand, numbers worked out beside them."""

import math
import re
from typing import Any

import pytest

from aifeedback_dpo.dpo.stability import WINDOW, Watch
from aifeedback_dpo.settings.training import Guard, Train


def row(error: float, drift: float | None = 0.0, **others: float) -> dict[str, Any]:
    """A step: the winners' error, and how far it lies above the reference's; None without a reference."""
    made = {"step": 0, "loss": 0.69, "gradient_norm": 1.0, "winner_error": error, "loser_error": error}
    return made | ({} if drift is None else {"winner_drift": drift}) | others


def watch(*seen: dict[str, Any], precision: str = "float32", **guard: float | None) -> Watch:
    return Watch(Train(guard=Guard(**guard), precision=precision), seen)


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_ends_it(name, value):
    assert watch().broken(row(0.1, **{name: value})) == f"the {name.replace('_', ' ')} is {value}"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_errors_that_are_no_numbers_end_it_whatever_the_loss_makes_of_them(value):
    """KTO's sigmoid gives 1/2 for an infinite error, and inf > 4 * (inf - inf) is false."""
    assert watch().broken(row(value, value)) == f"the winner error is {value}"
    assert watch().broken(row(0.1, loser_error=value)) == f"the loser error is {value}"


def test_in_float16_a_norm_that_overflows_is_the_scalers_business_and_a_loss_is_not():
    assert watch(precision="float16").broken(row(0.1, gradient_norm=math.inf)) is None
    assert watch(precision="float16").broken(row(0.1, loss=math.inf)) == "the loss is inf"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_in_float16_a_norm_that_never_fits_ends_it(value):
    over, fits = row(0.1, gradient_norm=value), row(0.1)
    assert watch(*[over] * 18, precision="float16").broken(over) is None
    assert watch(*[over] * 19, precision="float16").broken(fits) is None
    assert watch(*[over] * 10, fits, *[over] * 18, precision="float16").broken(over) is None
    said = watch(fits, *[over] * 19, precision="float16").broken(over)
    assert said == f"the gradient norm is {value}, as in the 20 steps up to here: nothing was learnt"


def test_a_spike_is_measured_against_the_reference_on_the_same_draws():
    # the reference makes 0.10 of them: 0.40 is 4.0 times that, 0.41 is 4.1 times
    assert watch(spike=4.0).broken(row(0.40, 0.30)) is None
    assert watch(spike=4.0).broken(row(0.41, 0.31)) == "the error on winners, 0.41, is 4.1 times the usual 0.1"
    assert watch(spike=8.0).broken(row(0.41, 0.31)) is None
    assert watch(spike=None).broken(row(0.41, 0.31)) is None


def test_hard_draws_are_no_spike():
    easy = [row(0.01, 0.0)] * WINDOW
    assert watch(*easy, spike=2.0).broken(row(0.9, 0.01)) is None


def test_without_a_reference_a_spike_is_measured_against_the_worst_of_a_full_window():
    rows = [row(0.1, None)] * (WINDOW - 1) + [row(0.2, None)]
    assert watch(*rows, spike=4.0).broken(row(0.8, None)) is None
    assert watch(*rows, spike=4.0).broken(row(0.9, None)) == "the error on winners, 0.9, is 4.5 times the usual 0.2"
    assert watch(*rows[1:], spike=4.0).broken(row(0.9, None)) is None  # one step short of the window
    # the window moves on: 49 steps later the 0.2 is its oldest, after 50 it is gone
    for later, worst in ((WINDOW - 1, 0.2), (WINDOW, 0.1)):
        moved = watch(*rows, *[row(0.1, None)] * later, spike=4.0)
        assert moved.broken(row(4.1 * worst, None)) is not None
        assert moved.broken(row(3.9 * worst, None)) is None


def test_the_drift_is_the_share_by_which_the_errors_of_the_window_rose_in_their_sum():
    # errors 0.30 + 0.11, of which 0.02 + 0.00 were gained: 0.02 / (0.41 - 0.02) = 0.0513, where a mean of shares gives 0.0357
    assert watch(row(0.30, 0.02), row(0.11, 0.0)).drift() == pytest.approx(0.02 / 0.39)
    assert watch(row(0.30, -0.02)).drift() == pytest.approx(-0.02 / 0.32)
    assert watch().drift() is None
    assert watch(row(0.3, None)).drift() is None


def test_a_drift_ends_training_early_once_the_window_is_full():
    # 0.102 where the reference makes 0.100: 2.0 % above it
    seeing = watch(*[row(0.102, 0.002)] * (WINDOW - 2), winner_drift=0.019)
    assert seeing.see(row(0.102, 0.002)) is None
    assert (
        seeing.see(row(0.102, 0.002)) == "the error on winners rose 2.0 % above the reference's over the last 50 steps"
    )
    assert watch(*[row(0.102, 0.002)] * WINDOW, winner_drift=0.021).see(row(0.102, 0.002)) is None
    assert watch(*[row(0.9, 0.8)] * WINDOW).see(row(0.9, 0.8)) is None  # nobody asked
    assert watch(*[row(0.9, None)] * WINDOW, winner_drift=0.1).see(row(0.9, None)) is None  # nothing to compare with


def test_what_lies_before_the_window_is_forgotten():
    seeing = watch(*[row(0.5, 0.4)] * 200, *[row(0.1, 0.0)] * WINDOW, winner_drift=0.01)
    assert seeing.drift() == 0.0
    assert len(seeing.rows) == WINDOW


def test_a_step_that_is_broken_is_not_part_of_the_window():
    seeing = watch(row(0.1, 0.0))
    assert seeing.broken(row(9.0, 8.9)) is not None
    assert list(seeing.rows) == [row(0.1, 0.0)]


def test_a_warning_is_due_above_two_percent():
    assert watch(row(0.1019, 0.0019)).warning() is None  # 1.9 %
    assert (
        watch(row(0.1021, 0.0021))
        .warning()
        .startswith("the error on winners rose 2.1 % above the reference's over the")
    )
    assert watch(row(0.05, -0.05)).warning() is None
    assert watch(row(0.9, None)).warning() is None
    assert watch().warning() is None


@pytest.mark.parametrize("start", [0, 1, 30, WINDOW, 70])
@pytest.mark.parametrize("reference", [True, False])
def test_a_resumed_watch_says_what_a_straight_one_says(start, reference):
    """Winners get worse step by step, up to a spike in the last one."""
    errors = [0.1 * 1.002**step for step in range(90)] + [0.9]
    rows = [row(error, error - 0.1 if reference else None) | {"step": at} for at, error in enumerate(errors)]
    settings = {"winner_drift": 0.12, "spike": 4.0}
    straight, resumed = watch(**settings), watch(*rows[:start], **settings)
    said = [(straight.broken(one), straight.see(one), straight.warning()) for one in rows]
    assert [(resumed.broken(one), resumed.see(one), resumed.warning()) for one in rows[start:]] == said[start:]
    assert any(ended for _, ended, _ in said) == reference
    assert said[-1][0] is not None


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({}, {"learning_rate", "beta", "name"}),
        ({"precision": "bfloat16"}, {"learning_rate", "beta", "precision", "name"}),
        ({"precision": "float16", "objective": "sft"}, {"learning_rate", "precision", "name"}),
    ],
)
def test_the_remedy_names_settings_that_there_are_and_would_change_something(told, named):
    settings = Train(**told)
    said = dict(re.findall(r"train\.(\w+)(?:=(\w+))?", Watch(settings).remedy()))
    assert said.keys() == named <= Train.model_fields.keys()
    assert said.get("precision") != settings.precision
