"""Simulated raters: they want the prompt followed and a picture that pleases, and they make mistakes.

    utility = ALIGNMENT_WEIGHT * alignment + APPEAL_WEIGHT * appeal        alignment, appeal in [0, 1] (oracle.py)

A vote on a pair is Bradley-Terry with ties (Rao and Kupper 1967): with d = STEEPNESS * (utility_a - utility_b) and a
logistic noise e, a is preferred if d + e > TIE_BAND, b if d + e < -TIE_BAND, otherwise it is a tie. In ERROR_RATE of the
votes the rater was not looking, and the vote is a fair coin. They stand in for people and are called simulated wherever
they are shown.
"""

import math

from aifeedback_dpo.seeds import uniform
from aifeedback_dpo.shapes.grammar import Scene
from aifeedback_dpo.shapes.oracle import Reading

ALIGNMENT_WEIGHT = 1.5
APPEAL_WEIGHT = 3.0
STEEPNESS = 4.0
TIE_BAND = 0.25
ERROR_RATE = 0.05
RATERS = 20


def utility(reading: Reading, scene: Scene) -> float:
    """What the raters want of this picture for this prompt, before any noise."""
    return ALIGNMENT_WEIGHT * reading.alignment(scene) + APPEAL_WEIGHT * reading.appeal


def vote(utility_a: float, utility_b: float, *seed: str | int) -> float:
    """One vote: 1 prefers a, 0 prefers b, 0.5 is a tie. The same seed parts give the same vote."""
    if uniform(*seed, "attention") < ERROR_RATE:
        return float(uniform(*seed, "coin") < 0.5)
    draw = min(max(uniform(*seed, "taste"), 1e-12), 1 - 1e-12)
    felt = STEEPNESS * (utility_a - utility_b) + math.log(draw / (1 - draw))
    return 1.0 if felt > TIE_BAND else 0.0 if felt < -TIE_BAND else 0.5


def rater(*seed: str | int) -> str:
    """Which of the simulated raters gets this pair."""
    return f"simulated-{int(uniform(*seed, 'rater') * RATERS) + 1:02d}"


def rating(reading: Reading, *seed: str | int) -> float:
    """How one rater grades a picture without its prompt, 1 to 10: appeal on that scale, give or take one (logistic)."""
    draw = min(max(uniform(*seed, "grade"), 1e-12), 1 - 1e-12)
    return min(max(1 + 9 * reading.appeal + 0.5 * math.log(draw / (1 - draw)), 1.0), 10.0)
