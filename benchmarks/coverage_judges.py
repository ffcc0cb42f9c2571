"""How often the intervals of judges against judges hold the truth, over simulated comparisons whose truth is known.

    python benchmarks/coverage_judges.py [--comparisons 2000]

Two judges see the same pictures of a prompt, in all pairs. What each makes of a picture is normal, with a correlation between
the two that is the prompt's own: half of the prompts are easy and half are hard, so that a prompt's pairs hang together twice.
A preference is the difference of two pictures, a tie one near zero. With votes, the first judge is people, one to five on a
pair and more on hard prompts, each of whom sees a little otherwise. The true cells of the confusion matrix are those of a
bivariate normal; the true tau is a mean over TRUTH prompts.
"""

import argparse
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.stats import multivariate_normal, norm

from aifeedback_dpo.compare.agreement import agreement, cohen_kappa
from aifeedback_dpo.compare.tau import tau, tau_b

VOTES = ((1, 2), (1, 5))  # at least and at most, on easy and on hard prompts
OWN = 0.6  # of what one person sees, the part that is that person's alone
TRUTH = 200_000
RESAMPLES = 500


@dataclass(frozen=True)
class World:
    """`band` is how near zero a difference is a tie, in its standard deviations; `alike` is on easy, hard prompts."""

    name: str
    prompts: int
    pictures: int = 3
    band: float = 0.0
    votes: bool = False
    alike: tuple[float, float] = (0.9, 0.2)


WORLDS = (
    World("12 prompts", 12),
    World("30 prompts", 30),
    World("100 prompts", 100),
    World("500 prompts", 500),
    World("12 prompts, one pair each", 12, pictures=2),
    World("30 prompts, one pair each", 30, pictures=2),
    World("100 prompts, one pair each", 100, pictures=2),
    World("30 prompts, ties", 30, band=0.4),
    World("100 prompts, ties", 100, band=0.4),
    World("30 prompts, ties, votes", 30, band=0.4, votes=True),
    World("100 prompts, ties, votes", 100, band=0.4, votes=True),
    World("500 prompts, ties, votes", 500, band=0.4, votes=True),
    World("30 prompts, judges nearly alike", 30, alike=(0.99, 0.9)),
    World("100 prompts, judges nearly alike", 100, alike=(0.99, 0.9)),
    World("100 prompts, judges that know nothing of each other", 100, alike=(0.5, -0.5)),
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--comparisons", type=int, default=2000)
    count = parser.parse_args().comparisons
    chance = 196 * (0.95 * 0.05 / count) ** 0.5
    print(
        f"{count} comparisons each, 95 % intervals of the agreement of two judges; +/- {chance:.1f} points by chance\n"
    )
    print("| | accuracy, decided | accuracy, half credit | kappa | tau |")
    print("|---|---|---|---|---|")
    for world in WORLDS:
        found = held(world, count, resamples=RESAMPLES, with_tau=world.pictures > 2 and not world.votes)
        shares = [f"{100 * share:.1f} %" for share in found.values()]
        print(f"| {world.name} | {' | '.join([*shares, *[''] * (4 - len(shares))])} |", flush=True)


def held(world: World, count: int, *, resamples: int, with_tau: bool = False) -> dict[str, float]:
    """The share of comparisons whose interval holds the truth, by statistic."""
    rng, wanted = np.random.default_rng(0), truth(world)
    if with_tau:
        wanted["tau"] = true_tau(world, np.random.default_rng(1))
    pairs = list(combinations(range(world.pictures), 2))
    prompts = np.repeat([f"p{at}" for at in range(world.prompts)], len(pairs))
    sides = [np.char.add(prompts, np.tile([str(pair[side]) for pair in pairs], world.prompts)) for side in (0, 1)]
    hits = dict.fromkeys(wanted, 0)
    for at in range(count):
        first, second, easy = drawn(world, world.prompts, rng)
        boot = {"resamples": resamples, "confidence": 0.95, "seed": at % 3}
        first, second = first.ravel(), tied(second.ravel(), world)
        votes = cast(first, np.repeat(easy, len(pairs)), world, rng) if world.votes else None
        one = (tied(first, world) + 1) / 2 if votes is None else votes @ [0.0, 0.5, 1.0] / votes.sum(axis=1)
        other = (second + 1) / 2
        found = agreement(one, other, prompts, votes=votes, **boot)
        told = {
            "accuracy": found.rules["decided"],
            "half credit": found.rules["half credit"],
            "kappa": found.kappa,
        }
        if with_tau:
            told["tau"] = tau(one, other, prompts, *sides, **boot)
        for name, interval in told.items():
            hits[name] += interval.low <= wanted[name] <= interval.high
    return {name: number / count for name, number in hits.items()}


def cast(seen: np.ndarray, easy: np.ndarray, world: World, rng: np.random.Generator) -> np.ndarray:
    """Votes for b, tie and a (n, 3)."""
    least, most = (np.where(easy, VOTES[0][end], VOTES[1][end]) for end in (0, 1))
    number = rng.integers(least, most + 1)
    own = (1 - OWN**2) ** 0.5 * seen[:, None] + OWN * rng.normal(size=(len(seen), max(VOTES[1])))
    side = np.where(np.arange(own.shape[1]) < number[:, None], tied(own, world), np.nan)
    return np.stack([(side == each).sum(axis=1) for each in (-1, 0, 1)], axis=1).astype(float)


def tied(seen: np.ndarray, world: World) -> np.ndarray:
    """-1, 0 or 1."""
    return np.where(np.abs(seen) <= world.band, 0.0, np.sign(seen))


def drawn(world: World, prompts: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What two judges make of each pair, (prompts, pairs); and which prompts are easy."""
    easy = rng.uniform(size=prompts) < 0.5
    alike = np.where(easy, *world.alike)[:, None]
    one, other = rng.normal(size=(2, prompts, world.pictures))
    other = alike * one + np.sqrt(1 - alike**2) * other
    left, right = np.array(list(combinations(range(world.pictures), 2))).T
    first, second = ((each[:, left] - each[:, right]) / 2**0.5 for each in (one, other))
    return first, second, easy


def truth(world: World) -> dict[str, float]:
    """Accuracy by two rules and kappa, of all votes on all pairs."""
    cells = np.zeros((3, 3))
    for alike, votes in zip(world.alike, VOTES, strict=True):
        shared = alike * (1 - OWN**2) ** 0.5 if world.votes else alike
        cells += (np.mean(votes) if world.votes else 1.0) * true_cells(shared, world.band)
    cells /= cells.sum()
    same, ties = cells[0, 0] + cells[2, 2], cells[1].sum() + cells[:, 1].sum()
    decided = same + cells[0, 2] + cells[2, 0]
    return {
        "accuracy": same / decided,
        "half credit": same + cells[1, 1] + 0.5 * (ties - 2 * cells[1, 1]),
        "kappa": float(cohen_kappa(cells.reshape(1, 9))[0]),
    }


def true_cells(alike: float, band: float) -> np.ndarray:
    """P(b, tie, a by the same) of two standard normals with this correlation."""
    edges = (-9.0, -band, band, 9.0)
    both = multivariate_normal([0, 0], [[1, alike], [alike, 1]])
    below = {(x, y): float(both.cdf([x, y])) for x, y in product(set(edges), repeat=2)}
    cells = np.zeros((3, 3))
    for row, column in product(range(3), repeat=2):
        (x, further_x), (y, further_y) = edges[row : row + 2], edges[column : column + 2]
        cells[row, column] = below[further_x, further_y] - below[x, further_y] - below[further_x, y] + below[x, y]
    assert np.allclose(cells.sum(axis=1), np.diff(norm.cdf(edges)), atol=1e-4)
    return cells


def true_tau(world: World, rng: np.random.Generator) -> float:
    """The mean tau-b of the prompts in which both judges have an order."""
    orders = []
    for each in drawn(world, TRUTH, rng)[:2]:
        won = np.zeros((TRUTH, world.pictures))
        for at, (left, right) in enumerate(combinations(range(world.pictures), 2)):
            won[:, left] += tied(each[:, at], world)
            won[:, right] -= tied(each[:, at], world)
        orders.append(won)
    return float(np.nanmean(tau_b(*orders)))


if __name__ == "__main__":
    main()
