"""The numbers of one prompt set: each policy's means, who wins against whom, and the grid of labels by pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare import factors, winrate
from aifeedback_dpo.compare.bootstrap import Estimate, clear_of, cluster_sums, estimate, over_prompts
from aifeedback_dpo.compare.drawing import Series
from aifeedback_dpo.compare.metrics import Metric
from aifeedback_dpo.compare.named import control
from aifeedback_dpo.compare.policies import Policy, differing_settings
from aifeedback_dpo.compare.prompt_sets import PromptSet
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import BASE, CONTROL

Array = NDArray[np.float64]
Side = tuple[str, str]


@dataclass(frozen=True)
class Scored:
    """The series of one prompt set and what was measured on their pictures."""

    prompts: PromptSet
    series: Sequence[Series]
    metrics: Sequence[Metric]
    boot: Mapping[str, Any]  # resamples, confidence, seed

    @property
    def policies(self) -> dict[str, Policy]:
        return {one.policy.name: one.policy for one in self.series}

    @property
    def clusters(self) -> list[str]:
        """The prompt of each picture."""
        return [shot.prompt for shot in self.series[0].compared[self.prompts.name]]

    def columns(self, policy: str, metric: Metric, seeds: Sequence[int] | None = None) -> Array:
        """(training seeds, pictures); one that has no training seeds has one row, whatever is asked for."""
        chosen = [
            one
            for one in self.series
            if one.policy.name == policy and (seeds is None or one.policy.judge is None or one.entry.seed in seeds)
        ]
        return np.array([[metric.values[shot.image_id] for shot in one.compared[self.prompts.name]] for one in chosen])

    def within(self, category: str | None) -> NDArray[np.bool_]:
        """Which pictures belong to a category; all of them for None."""
        known = self.prompts.category or {}
        return np.array([category is None or known.get(prompt) == category for prompt in self.clusters])


def means(scored: Scored) -> list[dict[str, Any]]:
    """Every policy under every metric, on all prompts and by category."""
    rows = []
    for policy in scored.policies.values():
        for metric in scored.metrics:
            columns = scored.columns(policy.name, metric)
            for category in (None, *scored.prompts.categories):
                inside = scored.within(category)
                values, clusters = columns[:, inside], _some(scored.clusters, inside)
                by_seed = values.mean(axis=1)
                if metric.macro and category is None and scored.prompts.categories:
                    mean, by_seed = _macro(scored, columns)
                else:
                    mean = over_prompts(values, clusters, **scored.boot)
                row = {
                    "policy": policy.name,
                    "metric": metric.name,
                    "category": category,
                    "mean": mean.to_dict(),
                    "median": float(median(values.ravel())),
                    "by_seed": [float(value) for value in by_seed],
                    "seed_sd": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
                }
                rows.append(row)
    return rows


def _macro(scored: Scored, columns: Array) -> tuple[Estimate, Array]:
    """The mean of the categories' means, as GenEval's score is; and of each training seed."""
    kinds = scored.prompts.categories
    inside = np.stack([scored.within(kind) for kind in kinds], axis=1).astype(np.float64)  # (pictures, categories)

    def of(totals: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            made: Array = (totals[:, : len(kinds)] / totals[:, len(kinds) :]).mean(axis=1)
        return made

    rows = np.concatenate([columns.mean(axis=0)[:, None] * inside, inside], axis=1)
    by_seed = of(
        np.concatenate([columns @ inside, np.broadcast_to(inside.sum(axis=0), (len(columns), len(kinds)))], axis=1)
    )
    return estimate(cluster_sums(rows, scored.clusters), of, **scored.boot), by_seed


def sides(policies: Iterable[Policy], compared: Sequence[str]) -> dict[Side, list[int]]:
    """Who is held against whom, and at which training seeds: everyone against the base, those compared against each other,
    the later against the earlier, and each against its control, each two once.

    Raises UserError where two of those compared have no training seed in common.
    """
    there = {policy.name: policy for policy in policies}
    found: dict[Side, list[int]] = {}
    wanted = [(name, BASE) for name in there if name != BASE]
    wanted += [
        (later, earlier)
        for at, earlier in enumerate(compared)
        for later in compared[at + 1 :]
        if BASE not in (later, earlier)
    ]
    wanted += [(name, random) for name in there if (random := control(name)) in there and name != random]
    for ours, theirs in wanted:
        seeds = _seeds(there[ours], there[theirs])
        if seeds is None and ours in compared and theirs in compared:
            raise UserError(
                f"{ours} and {theirs} have no training seed in common; train both with the same train.seeds"
            )
        if seeds is not None and (theirs, ours) not in found:
            found[ours, theirs] = seeds
    return found


def _seeds(one: Policy, other: Policy) -> list[int] | None:
    """The training seeds that both have; one that was not trained here goes with any."""
    trained = [set(policy.seeds) for policy in (one, other) if policy.judge is not None]
    common = sorted(set.intersection(*trained)) if trained else [0]
    return common or None


def duels(scored: Scored, compared: Sequence[str], primary: str | None) -> list[dict[str, Any]]:
    """Each side under each metric; by category under the primary one. Holm's p is over the metrics of a side."""
    rows = []
    for (ours, theirs), seeds in sides(scored.policies.values(), compared).items():
        hands = {hand for name in (ours, theirs) for hand in scored.policies[name].labellers or ()}
        whole = [_duel(scored, ours, theirs, metric, seeds, hands, None) for metric in scored.metrics]
        for row, adjusted in zip(whole, winrate.holm([row["sign_test"] for row in whole]), strict=True):
            rows.append(row | {"holm": adjusted})
        for metric in scored.metrics:
            if metric.name == primary:
                parts = [_duel(scored, ours, theirs, metric, seeds, hands, kind) for kind in scored.prompts.categories]
                every = winrate.holm([row["sign_test"] for row in parts])
                rows += [row | {"holm": p} for row, p in zip(parts, every, strict=True)]
    return rows


def _duel(
    scored: Scored, ours: str, theirs: str, metric: Metric, seeds: list[int], hands: set[str], category: str | None
) -> dict[str, Any]:
    inside = scored.within(category)
    one, other = (scored.columns(name, metric, seeds)[:, inside] for name in (ours, theirs))
    fought = winrate.duel(one, other, _some(scored.clusters, inside), **scored.boot)
    side = {"policy": ours, "against": theirs, "metric": metric.name, "category": category, "seeds": seeds}
    unknown = any(scored.policies[name].labellers is None for name in (ours, theirs))
    in_loop = True if metric.name in hands else None if unknown and metric.kind == "scorer" else False
    return side | {"in_loop": in_loop} | fought.to_dict()


def primary_metric(scored: Scored, compared: Sequence[str]) -> str | None:
    """The metric that decides: the truth where it is known, else a detector's, else the first scorer with no hand in the
    labels of those compared."""
    hands = {hand for name in compared for hand in scored.policies[name].labellers or ()}
    order = {"truth": 0, "detector": 1, "scorer": 2}
    ranked = sorted(
        scored.metrics, key=lambda metric: (order[metric.kind], metric.kind == "scorer" and metric.name in hands)
    )
    return ranked[0].name if ranked else None


def grid(scored: Scored, primary: str | None) -> dict[str, Any] | None:
    """Label source by image source, where policies that differ in nothing else fill the grid."""
    cells: dict[factors.Cell, Policy] = {}
    for policy in scored.policies.values():
        if policy.judge and policy.images_of and not policy.variant:
            cells.setdefault((policy.judge, policy.images_of), policy)
    real = [cell for cell in cells if cell[0] != CONTROL]
    found = factors.grid(real)
    metric = next((metric for metric in scored.metrics if metric.name == primary), None)
    if found is None or metric is None:
        return None
    labels, images = found
    inside = {cell: cells[cell] for cell in cells if cell[0] in (*labels, CONTROL) and cell[1] in images}
    seeds = sorted(set.intersection(*(set(inside[cell].seeds) for cell in real if cell in inside)))
    if not seeds:
        return None
    base = scored.columns(BASE, metric)
    rows = []
    for (label, image), policy in inside.items():
        fought = winrate.duel(scored.columns(policy.name, metric, seeds), base, scored.clusters, **scored.boot)
        best = fought.over_seeds or fought.here
        rows.append({"labels": label, "images": image, "policy": policy.name, **best.to_dict()})
    scores = {cell: scored.columns(cells[cell].name, metric, seeds) for cell in real if cell in inside}
    made = factors.effects(scores, scored.clusters, **scored.boot)
    return {
        "metric": metric.name,
        "labels": labels,
        "images": images,
        "seeds": seeds,
        "differs": sorted(_differing([inside[cell] for cell in real if cell in inside])),
        "cells": rows,
        "effects": [
            {
                "effect": effect.effect,
                "of": effect.of,
                "difference": effect.difference.to_dict(),
                "over_seeds": effect.over_seeds.to_dict() if effect.over_seeds else None,
            }
            for effect in made
        ],
    }


def _differing(found: Sequence[Policy]) -> set[str]:
    """The settings of training in which policies of a grid differ: there should be none."""
    return {key for policy in found[1:] for key in differing_settings(found[0], policy)}


def scorers_alone(rows: Sequence[Mapping[str, Any]], scored: Scored, primary: str | None) -> dict[str, Any] | None:
    """Where the truth is known: what the scorers with no hand in the labels would have said without it."""
    truths = {metric.name for metric in scored.metrics if metric.kind == "truth"}
    if primary not in truths:
        return None
    told = []
    for row in rows:
        if row["metric"] == primary and row["category"] is None:
            same = [
                other
                for other in rows
                if (other["policy"], other["against"], other["category"]) == (row["policy"], row["against"], None)
                and other["metric"] not in truths
                and other["in_loop"] is False
            ]
            said = {other["metric"]: verdict(other) for other in same}
            told.append({"policy": row["policy"], "against": row["against"], "truth": verdict(row), "scorers": said})
    every = [(row["truth"], said) for row in told for said in row["scorers"].values()]
    return {
        "about": f"+1 better, -1 worse, 0 no difference seen; truth is {primary}",
        "rows": told,
        "verdicts": len(every),
        "alike": sum(one == other for one, other in every),
        "opposite": sum(one * other < 0 for one, other in every),
    }


def verdict(row: Mapping[str, Any]) -> int:
    """+1 where the whole interval of the win rate lies above one half, -1 below, 0 when it holds it.

    Over training seeds where there are several: what is said is about labels, and not about these very policies.
    """
    return clear_of(winrate.best(row, "win_rate"), 0.5)


def _some(clusters: Sequence[str], inside: NDArray[np.bool_]) -> list[str]:
    return [prompt for prompt, kept in zip(clusters, inside, strict=True) if kept]
