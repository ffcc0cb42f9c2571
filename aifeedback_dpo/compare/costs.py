"""What policies and labels have cost: pairs, hours, votes and, where the recipe has prices, money. Only what was recorded.

A price is of the machine, however many devices it has (`compare.prices.gpu_hour`), or of one vote (`compare.prices.vote`).
What nobody recorded is None, and `about` says why.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from aifeedback_dpo.errors import DataError
from aifeedback_dpo.records import CONSENSUS, HUMAN, packed_ids
from aifeedback_dpo.store import Run, read_policy

HOUR = 3600.0
NOT_TIMED = "preparing latents, looks at held-out pairs, pictures and checkpoints are not in it"


def costs(run: Run, policies: Sequence[Mapping[str, Any]], judges: Sequence[str]) -> dict[str, Any]:
    """Of policies (`policy`, `judge`, and `folders`, one for each training seed), and of the labels of judges.

    Raises DataError for a log of times that cannot be read.
    """
    prices = run.recipe.compare.prices
    return {
        "currency": prices.currency,
        "policies": [_policy(row["policy"], row["folders"], prices.gpu_hour) for row in policies],
        "labels": [_labels(run, judge) for judge in judges],
    }


def _policy(name: str, folders: Sequence[Path], price: float | None) -> dict[str, Any]:
    """A step in which several policies trained has one time, of which each of them bears an equal share."""
    pairs = {read_policy(folder)["pairs"] for folder in folders}
    lacking = [folder.name for folder in folders if not (folder / "speed.jsonl").exists()]
    steps = [step for folder in folders for step in _steps(folder / "speed.jsonl")] if not lacking else []
    hours = sum(step["seconds"] / step["policies"] for step in steps) / HOUR if steps else None
    together = max((step["policies"] for step in steps), default=1)
    if hours is None:
        about = f"{', '.join(lacking) or 'it'} has no speed.jsonl, so nobody knows how long its training took"
    else:
        shared = f", each an equal share of a step in which up to {together} policies trained" if together > 1 else ""
        seeds = f"{len(folders)} training seed{'s' * (len(folders) > 1)}"
        about = f"the {len(steps)} steps of {seeds}{shared}; {NOT_TIMED}"
    return {
        "policy": name,
        "pairs": max(pairs) if pairs else None,
        "hours": hours,
        "money": _money(hours, price),
        "about": about,
    }


def _steps(path: Path) -> list[dict[str, Any]]:
    try:
        return [
            {"seconds": float(row["seconds"]), "policies": int(row["policies"])}
            for row in map(json.loads, path.read_text().splitlines())
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is corrupted ({error}); delete it, and the report will say that its hours are unknown"
        ) from error


def _labels(run: Run, judge: str) -> dict[str, Any]:
    pairs = run.read("preferences", ["pair_id"], judge).num_rows
    told = {"pictures": None, "seconds": None, "votes": None, "seconds_a_vote": None, "money": None}
    if judge == HUMAN:
        cost = _simulated(pairs) if run.recipe.label.raters == "simulated" else _people(run)
    elif judge == CONSENSUS:
        cost = _consensus(run)
    else:
        cost = _scorer(run, judge)
    return {"judge": judge, "pairs": pairs, **told, **cost}


def _simulated(pairs: int) -> dict[str, Any]:
    return {
        "votes": pairs,
        "money": 0.0,
        "about": "simulated votes, one a pair: they cost nothing and took nobody's time",
    }


def _people(run: Run) -> dict[str, Any]:
    """Votes one by one where there are some, or else as their sums a pair, as some public sets have them."""
    one_by_one = bool(run.parts("votes"))
    cast = (
        run.read("votes", ["votes", "seconds"]) if one_by_one else run.read("preferences", ["votes", "seconds"], HUMAN)
    )
    votes = int(pc.sum(pc.fill_null(cast.column("votes"), 1)).as_py() or 0)
    timed = cast.column("seconds").drop_null()
    median = float(np.median(timed.to_numpy())) if len(timed) else None
    how = (
        f"people took {median:.3g} s (the median) over {'a vote' if one_by_one else 'a pair'}, recorded {len(timed)} of "
        f"{len(cast)} times"
        if median is not None
        else "how long people took is not recorded"
    )
    money = _money(votes, run.recipe.compare.prices.vote)
    return {"votes": votes, "seconds_a_vote": median, "money": money, "about": f"{votes} votes of people; {how}"}


def _scorer(run: Run, judge: str) -> dict[str, Any]:
    """The time is the sum over all its calls of `ddpo label`, and is told only where it is the whole of it."""
    entry = run.manifest()["made_by"].get(f"label/{judge}", {})
    seconds, timed = entry.get("seconds"), entry.get("pictures", 0)
    seen = _seen(run, judge, entry.get("scorer"))
    if not timed or seconds is None:
        return {"pictures": seen, "about": f"how long {judge} took is not recorded"}
    if seen is not None and timed < seen:
        return {
            "pictures": seen,
            "about": f"{timed} of its {seen} pictures were timed ({seconds:.3g} s), so the whole is not known",
        }
    looks = f"two pictures of each of {timed // 2} pairs" if seen is None else f"{seen} pictures"
    return {
        "pictures": timed if seen is None else seen,
        "seconds": seconds,
        "money": _money(seconds / HOUR, run.recipe.compare.prices.gpu_hour),
        "about": f"{looks} in {seconds:.3g} s, without loading weights; of scorers that share a network the first pays",
    }


def _seen(run: Run, judge: str, recipe: str | None) -> int | None:
    """How many pictures of the pairs it has scored; None for a judge that compares two, and where nobody noted which it was."""
    if recipe is None or run.parts("answers", judge):
        return None
    scores = run.read("scores", ["image_id", "recipe"], judge)
    own = scores.filter(pc.equal(scores.column("recipe"), recipe))
    pairs = run.read("pairs", ["image_a", "image_b"])
    asked = np.concatenate([packed_ids(pairs.column(side)) for side in ("image_a", "image_b")])
    return len(np.intersect1d(asked, packed_ids(own.column("image_id"))))


def _consensus(run: Run) -> dict[str, Any]:
    """What its members cost together; unknown where one of them is."""
    entry = run.manifest()["made_by"].get(f"label/{CONSENSUS}", {})
    members = entry.get("members") or run.recipe.label.consensus.of
    if not members:
        return {"about": "whose votes these are is not recorded"}
    parts = [_labels(run, name) for name in members]
    found: dict[str, Any] = {}
    for key in ("pictures", "seconds", "votes", "money"):
        # people have no pictures and scorers no votes: those add nothing, and what is not known makes the sum unknown
        relevant = [part[key] for part in parts if key == "money" or (part["judge"] == HUMAN) == (key == "votes")]
        found[key] = sum(relevant) if relevant and None not in relevant else None
    return found | {"about": f"the sum of its members: {', '.join(run.recipe.title(name) for name in members)}"}


def _money(amount: float | None, price: float | None) -> float | None:
    return None if amount is None or price is None else amount * price
