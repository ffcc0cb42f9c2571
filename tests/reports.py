"""A whole result of `ddpo compare`, for tests of what is written from it: three training seeds, a grid of labels by images, a
suite with categories and published rows, judges, costs. Its names are awkward on purpose; its numbers follow no real run."""

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


def example() -> dict[str, Any]:
    """A fresh one with each call, so that a test may change it."""
    versions = {"aifeedback_dpo": "0.1.0", "torch": "2.15.0", "diffusers": "0.42.1"}
    return {
        "schema_version": 2,
        "run": "r_1 & <co>",
        "recipe": "shapes",
        "made": "2026-11-26T12:51:18+00:00",
        "versions": versions,
        "commit": None,
        "confidence": 0.95,
        "resamples": 2000,
        "titles": {name: name for name in NAMES}
        | {
            "base": "base model",
            "human": "human (simulated)",
            "other/human": "other/human (simulated)",
            "clip": "clip",
        },
        "simulated": ["human"],
        "compared": ["human", ODD],
        "policies": _policies(),
        "sets": [_set("held-out", None), _set("parti", CATEGORIES)],
        "differ_in": [
            {"policy": ODD, "against": "human", "same_judge": False, "settings": {"train.beta": [2000.0, 5000.0]}}
        ],
        "judges": _judges(),
        "costs": _costs(),
        "headline": ["Trained on <b>AI</b> labels: preferred, 57 % (95 % interval 52 to 61).", "A second sentence."],
        "cautions": [f"{ODD}: its pictures are more alike than the base model's", "Few prompts & few seeds."],
        "method": "We fine-tuned shapes on pairwise preferences, with 95 % intervals & 2000 resamples.",
    }


def _policies() -> list[dict[str, Any]]:
    told = {
        "objective": "dpo",
        "method": "lora",
        "pairs": 68,
        "ties_left_out": 4,
        "learning_rate": 0.001,
        "batch_size": 8,
        "beta": 2000.0,
        "beta_means": "half of it multiplies the difference of mean squared errors",
        "beta_of_equation_14": 1.7361111111111112,
        "steps_asked": 150,
        "steps": {"0": 150, "1": 150, "2": 90},
        "ended_early": {"2": "the loss rose to 4 times its mean | at step 90"},
        "warnings": {"1": "accuracy by depth <0.5"},
    }
    rows = []
    for name in NAMES:
        kind = {"base": "base", "other/human": "other run", "org/model": "model"}.get(name, "run")
        trained = kind in ("run", "other run")
        judge = name.rpartition("/")[2] if trained else None
        rows.append(
            {
                "policy": name,
                "kind": kind,
                "judge": judge,
                "labellers": [judge] if trained else ([] if name == "base" else None),
                "images_of": ("other" if kind == "other run" else "r_1 & <co>") if trained else None,
                "variant": "",
                "seeds": [0, 1, 2] if trained else [0],
                "where": {"other run": "runs/other/policies/human", "model": "org/model"}.get(kind),
                "training": told if trained else None,
            }
        )
    return rows


def _set(name: str, categories: tuple[str, ...] | None) -> dict[str, Any]:
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


def _judges() -> dict[str, Any]:
    names = ["human", ODD, "clip"]
    pairs = [("human", ODD), ("human", "clip"), (ODD, "clip")]
    rules = {rule: f"how {rule} counts ties" for rule in ("decided", "half credit", "ties wrong", "inversions")}
    bins = [{"low": 0.5, "high": 0.6, "mean_p": 0.55, "share": est(0.6), "pairs": 14}]
    bins += [{"low": 0.6, "high": 0.7, "mean_p": 0.65, "share": UNDEFINED, "pairs": 0}]
    no = {
        "ece": None,
        "bins": [],
        "slope": None,
        "set_it": None,
        "why_not": "it gives no probability",
        "no_slope": "ties",
    }
    yes = {"ece": est(0.08), "bins": bins, "slope": est(0.7), "set_it": "label.scorers.x.slope=0.7", "why_not": None}
    said = {"pairs": 72, "a": 36, "b": 32, "ties": 4, "missing": 0, "rule": "one vote"}
    dispute = {"first": "human", "second": ODD, "p_first": 1.0, "p_second": 0.066}
    return {
        "names": names,
        "pairs": 72,
        "said": [{"judge": name, **said, "votes": 72 if name == "human" else None} for name in names],
        "rules": rules,
        "matrix": [
            {
                "first": one,
                "second": other,
                "pairs": 72,
                "decided": 68,
                "rules": {rule: est(0.7) for rule in rules},
                "kappa": est(0.36) if other != "clip" else UNDEFINED,
                "weighted_by_votes": False,
            }
            for one, other in pairs
        ],
        "tau": [{"first": one, "second": other, "prompts": 23, "tau": est(0.4)} for one, other in pairs],
        "calibration": [
            {"judge": ODD, "against": "human", "pairs": 72, **yes, "no_slope": None},
            {"judge": "clip", "against": "human", "pairs": 72, **no},
        ],
        "slices": [
            {"judge": ODD, "against": "human", "by": by, "slice": part, "pairs": 17, "accuracy": est(0.6)}
            for by, part in (("margin", "0.0253 to 0.642"), ("length", "3 to 7 words"), ("category", CATEGORIES[0]))
        ],
        "bias": [
            {"judge": name, "feature": feature, "about": f"the {feature} one", "pairs": 68, "share": est(0.53)}
            for name, feature in product(names, ("position", "brightness"))
        ],
        "people": {"why_not": "the votes are simulated, one a pair, so no two of them can be compared"},
        "ranking": [
            {"judge": "human", "of": "models", "items": [{"item": "m_1", "score": est(0.4), "pairs": 30}]},
            {"judge": "clip", "of": "models", "items": []},
        ],
        "disputed": [
            {
                "prompt": ODD_PROMPT,
                "image_a": image("dispute", at, "a"),
                "image_b": image("dispute", at, "b"),
                **dispute,
            }
            for at in range(2)
        ],
    }


def _costs() -> dict[str, Any]:
    about = "450 steps of 3 training seeds"
    unknown = {
        "pictures": 91,
        "seconds": None,
        "votes": None,
        "seconds_a_vote": None,
        "money": None,
        "about": "not recorded",
    }
    labels = [
        {"judge": "human", "pairs": 72, **unknown, "votes": 72, "seconds": 630.5, "seconds_a_vote": 8.76, "money": 12.5}
    ]
    return {
        "currency": "USD",
        "policies": [{"policy": ODD, "pairs": 68, "hours": 0.5, "money": None, "about": about}],
        "labels": [*labels, {"judge": ODD, "pairs": 72, **unknown}],
    }
