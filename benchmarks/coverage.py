"""How often the intervals of `ddpo compare` hold the truth, over simulated comparisons whose truth is known.

    python benchmarks/coverage.py [--comparisons 2000]

A 95 % interval that covers 90 % claims more than it knows, one that covers 99 % tells less. A policy is simulated by a latent
margin for each training seed, prompt and picture: the prompt's own, the training seed's own, and noise; a win is a positive
margin, a tie one near zero. "these policies" is the cluster bootstrap over prompts, whose truth is the win rate of the very
seeds at hand on all prompts; "policies trained like them" is over seeds and prompts, whose truth is that of all seeds. The
pigeonhole bootstrap (Owen 2007, doi:10.1214/07-AOAS122), which resamples seeds and prompts both, is there to compare with.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from aifeedback_dpo.compare.winrate import duel


@dataclass(frozen=True)
class World:
    """`shift` is the mean margin, in units of its noise; `band` is how near zero a margin is a tie."""

    name: str
    prompts: int
    seeds: int = 1
    pictures: int = 1
    shift: float = 0.3
    band: float = 0.0
    of_prompt: float = 0.7
    of_seed: float = 0.0


WORLDS = (
    World("500 prompts", 500),
    World("100 prompts", 100),
    World("30 prompts", 30),
    World("100 prompts, ties 20 %", 100, band=0.35),
    World("100 prompts, four pictures each", 100, pictures=4),
    World("100 prompts, wins 95 %", 100, shift=2.0),
    World("500 prompts, 3 seeds alike", 500, 3),
    World("500 prompts, 3 seeds that differ a little", 500, 3, of_seed=0.1),
    World("500 prompts, 3 seeds that differ much", 500, 3, of_seed=0.4),
    World("100 prompts, 5 seeds that differ a little", 100, 5, of_seed=0.1),
    World("500 prompts, 5 seeds that differ much", 500, 5, of_seed=0.4),
    World("500 prompts, 2 seeds that differ much", 500, 2, of_seed=0.4),
)
RESAMPLES = 500


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--comparisons", type=int, default=2000)
    count = parser.parse_args().comparisons
    chance = 196 * (0.95 * 0.05 / count) ** 0.5
    print(f"{count} comparisons each, 95 % intervals of the win rate; +/- {chance:.1f} points by chance\n")
    print("| | these policies | policies trained like them | pigeonhole bootstrap |")
    print("|---|---|---|---|")
    for world in WORLDS:
        shares = [f"{100 * share:.1f} %" if share is not None else "" for share in covered(world, count)]
        print(f"| {world.name} | {' | '.join(shares)} |", flush=True)


def covered(world: World, count: int) -> Iterator[float | None]:
    """The share of comparisons whose interval holds the truth, by each of the three."""
    rng = np.random.default_rng(0)
    prompts = [f"p{n // world.pictures}" for n in range(world.prompts * world.pictures)]
    held: list[list[bool]] = [[], [], []]
    for at in range(count):
        seeds = world.of_seed * rng.normal(size=(world.seeds, 1))
        own = np.repeat(world.of_prompt * rng.normal(size=(1, world.prompts)), world.pictures, axis=1)
        margin = world.shift + seeds + own + rng.normal(size=(world.seeds, len(prompts)))
        decided = np.where(np.abs(margin) <= world.band, 0.0, margin)
        found = duel(
            np.sign(decided), np.zeros((1, len(prompts))), prompts, resamples=RESAMPLES, confidence=0.95, seed=at % 7
        )
        here = found.here.win_rate
        held[0].append(
            here.low <= float(np.mean(rate(world, world.shift + seeds, (1 + world.of_prompt**2) ** 0.5))) <= here.high
        )
        if world.seeds > 1:
            truth = float(rate(world, np.array(world.shift), (1 + world.of_prompt**2 + world.of_seed**2) ** 0.5))
            assert found.over_seeds is not None
            further = found.over_seeds.win_rate
            held[1].append(further.low <= truth <= further.high)
            low, high = pigeonhole((np.sign(decided) + 1) / 2, rng)
            held[2].append(low <= truth <= high)
    yield from (float(np.mean(each)) if each else None for each in held)


def rate(world: World, shift: np.ndarray, spread: float) -> np.ndarray:
    """The true win rate, ties one half, of a margin that is normal around `shift`."""
    return 0.5 * (norm.sf(world.band, shift, spread) + norm.sf(-world.band, shift, spread))


def pigeonhole(outcome: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Percentiles over resamples of seeds and of prompts, one picture a prompt."""
    seeds, prompts = outcome.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    of_prompts = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES) / prompts
    drawn = ((of_prompts @ outcome.T) * of_seeds).sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
