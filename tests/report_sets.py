"""The prompt sets of a whole result, for `tests/reports.py`: held-out prompts, and a suite with published rows."""

import hashlib
from itertools import product
from typing import Any

ODD = "judge_<b>&$1'\"%#{~^\\}"  # a judge whose name no markup survives unescaped
NAMES = ("base", "human", ODD, "=cmd|x", "other/human", "random", "org/model")
SCORERS = ("utility", "correct", "clip", ODD)
CATEGORIES = ("Animals & plants", "50 %_of")
UNDEFINED = {"value": None, "low": None, "high": None, "prompts": 0}
ODD_PROMPT = "<script>alert('x')</script> a \"café\" & $5_$ | 猫"


def est(value: float, half: float = 0.05, prompts: int = 40) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "prompts": prompts}


def image(*what: object) -> str:
    """An id, as a run gives them."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


def prompt_set(name: str, categories: tuple[str, ...] | None) -> dict[str, Any]:
    groups: list[str | None] = [None, *(categories or ())]
    base = {"utility": 2.8, "correct": 0.4, "clip": 0.3, ODD: 20.0}
    means = [
        {
            "policy": policy,
            "metric": metric,
            "category": group,
            "mean": UNDEFINED if (policy, metric) == ("org/model", "correct") else est(base[metric] + 0.1 * at),
            "median": base[metric],
            "by_seed": [base[metric] + 0.01 * seed for seed in range(3)],
            "seed_sd": 0.01 if at else None,
        }
        for (at, policy), metric, group in product(enumerate(NAMES), SCORERS, groups)
    ]
    against = [(policy, "base") for policy in NAMES[1:]] + [(ODD, "human")]
    duels = [_duel(at, *row) for at, row in enumerate(product(against, SCORERS, groups))]
    alone = [
        {"policy": policy, "against": other, "truth": 1, "scorers": {"clip": verdict}}
        for (policy, other), verdict in zip(against[:3], (1, 0, -1), strict=True)
    ]
    return {
        "set": name,
        "about": "the run's held-out prompts" if categories is None else "PartiPrompts <P2>",
        "source": "shapes",
        "prompts": 40,
        "images_per_prompt": 1,
        "statistic": "mean",
        "categories": list(categories or ()),
        "notes": ["2 prompts are there twice & drawn once"] if categories else [],
        "trained_on": {ODD: 3} if categories else {},
        "primary": "utility",
        "metrics": [
            {
                "metric": metric,
                "about": f"what {metric} says",
                "kind": "truth" if metric in ("utility", "correct") else "scorer",
                "unit": "cosine, mostly 0.1 to 0.4" if metric == "clip" else "",
                "binary": metric == "correct",
            }
            for metric in SCORERS
        ],
        "means": means,
        "duels": duels,
        "factors": _factors() if categories is None else None,
        "scorers_alone": {"about": "+1 better", "rows": alone, "verdicts": 3, "alike": 1, "opposite": 1},
        "guards": _guards(),
        "protocol": _protocol() if categories else None,
        "published": _published() if categories else [],
        "gallery": [
            {
                "prompt": ODD_PROMPT if at == 0 else f"a red circle {at}",
                "category": categories[at % 2] if categories else None,
                "images": [
                    {"policy": policy, "image": image(name, at, policy), "scores": dict.fromkeys(SCORERS, 0.5)}
                    for policy in NAMES
                ],
            }
            for at in range(3)
        ],
    }


def _duel(at: int, sides: tuple[str, str], metric: str, group: str | None) -> dict[str, Any]:
    policy, against = sides
    seeds = [0] if policy == "org/model" else [0, 1, 2]
    rate, difference = est(0.57 + 0.001 * at, 0.045), est(0.02 * (at % 5 - 1), 0.01)
    undefined = metric == "correct" and policy == "org/model"  # a detector that saw nothing: no number at all
    return {
        "policy": policy,
        "against": against,
        "metric": metric,
        "category": group,
        "seeds": seeds,
        "in_loop": metric == policy,
        "win_rate": UNDEFINED if undefined else rate,
        "difference": UNDEFINED if undefined else difference,
        "over_seeds": {"win_rate": est(rate["value"], 0.1), "difference": est(difference["value"], 0.03)}
        if len(seeds) > 1
        else None,
        "wins": 60,
        "ties": 20,
        "losses": 40,
        "prompts_won": 20,
        "prompts_tied": 8,
        "prompts_lost": 12,
        "sign_test": None if undefined else 0.0569,
        "holm": None if undefined else 0.2276,
        "win_rate_by_seed": [rate["value"] + 0.01 * seed for seed in seeds],
        "seed_sd": 0.01 if len(seeds) > 1 else None,
    }


def _factors() -> dict[str, Any]:
    labels, images = ["human", ODD], ["r_1 & <co>", "other"]
    effects = [
        ("labels", f"{ODD} - human"),
        ("images", "other - r_1 & <co>"),
        ("interaction", f"({ODD} - human) on other"),
    ]
    return {
        "metric": "utility",
        "labels": labels,
        "images": images,
        "seeds": [0, 1, 2],
        "cells": [
            {"labels": label, "images": run, "policy": label, "win_rate": est(0.55), "difference": est(0.1)}
            for label, run in product(labels, images)
        ],
        "effects": [
            {"effect": effect, "of": of, "difference": est(0.04), "over_seeds": est(0.04, 0.2)}
            for effect, of in effects
        ],
    }


def _guards() -> list[dict[str, Any]]:
    why = "Inception's weights are not here: fetch https://x.org/a_b#c"
    return [
        {"policy": name, "guard": guard, "against": against, "value": value, "about": about, "caution": caution}
        for name in NAMES
        for guard, against, value, about, caution in [
            ("spread", None, est(0.17), "1 - the mean cosine of two pictures of one prompt", None),
            ("clip-i", "base", est(0.9), "the mean cosine of its picture and the base model's", None),
            ("fid", "base", UNDEFINED, "the squared Fréchet distance", why),
            ("kid", "reference", est(-0.001, 0.002), "the squared kernel distance", None),
        ]
        if name != "base" or against != "base"
    ]


def _protocol() -> dict[str, Any]:
    told = {
        "images_per_prompt": 1,
        "seeds": "any",
        "statistic": "median",
        "resolution": None,
        "steps": 50,
        "guidance": 7.5,
    }
    differs = ["steps 4, not 50"]
    return {"suite": "parti", **told, "note": None, "here": {**told, "steps": 4}, "followed": False, "differs": differs}


def _published() -> list[dict[str, Any]]:
    return [
        {
            "model": "SD1.5 & DPO_v1",
            "metric": "clip",
            "category": group,
            "value": 0.33,
            "source": "arXiv:2311.12908, Table 1",
            "protocol": "median over prompts",
            "comparable": False,
            "differs": ["steps 4, not 50"],
        }
        for group in (None, CATEGORIES[0])
    ]
