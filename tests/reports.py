"""A whole result of `ddpo compare`, for tests of what is written from it: three training seeds, a grid of labels by images, a
suite with categories and published rows, judges, costs. Its names are awkward on purpose; its numbers follow no real run."""

from itertools import product
from typing import Any

from tests.report_sets import CATEGORIES, NAMES, ODD, ODD_PROMPT, SCORERS, UNDEFINED, est, image, prompt_set

__all__ = ["CATEGORIES", "NAMES", "ODD", "ODD_PROMPT", "SCORERS", "UNDEFINED", "est", "example", "image"]


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
        "sets": [prompt_set("held-out", None), prompt_set("parti", CATEGORIES)],
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


def _judges() -> dict[str, Any]:
    names = ["human", ODD, "clip"]
    pairs = [("human", ODD), ("human", "clip"), (ODD, "clip")]
    rules = {rule: f"how {rule} counts ties" for rule in ("decided", "half credit", "ties wrong", "inversions")}
    bins = [{"low": 0.5, "high": 0.6, "mean_p": 0.55, "share": est(0.6), "pairs": 14}]
    bins += [{"low": 0.6, "high": 0.7, "mean_p": 0.65, "share": UNDEFINED, "pairs": 0}]
    no = {
        "ece": None,
        "ece_by_chance": None,
        "bins": [],
        "logit_slope": None,
        "slope": None,
        "set_it": None,
        "why_not": "it gives no probability",
        "no_slope": "ties",
    }
    yes = {"ece": est(0.08), "ece_by_chance": 0.0773, "bins": bins, "logit_slope": est(0.6), "slope": est(0.7)}
    yes |= {"set_it": "label.scorers.x.slope=0.7", "why_not": None}
    said = {"pairs": 72, "a": 36, "b": 32, "ties": 4, "missing": 0, "rule": "one vote"}
    items = [{"item": "m_1", "score": est(0.4), "pairs": 30}]
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
            {"judge": "human", "of": "models", "items": items, "why_not": None, "no_interval": None},
            {"judge": "clip", "of": "models", "items": [], "why_not": "m_1 won every time", "no_interval": None},
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
