"""The report's first sentences: what was seen, and not a word more than the intervals allow."""

from typing import Any

from aifeedback_dpo.records import BASE, CONTROL


def sentences(result: dict[str, Any]) -> list[str]:
    """One about the judges' policies against each other, one each against the base, one about the control and the labels."""
    first, second = result["judges"]
    metric = primary(result)
    said = [_duel(result, second, first, metric)]
    said += [_duel(result, judge, BASE, metric) for judge in (first, second)]
    if any(row["policy"] == CONTROL for row in result["duels"]):
        said.append(_duel(result, CONTROL, BASE, metric))
    accuracy = result["labels"]["accuracy"]
    said.append(
        f"On the {result['labels']['decided']} training pairs that both decided, {title(result, first)} and "
        f"{title(result, second)} agree on {_interval(accuracy, result)}."
    )
    return said


def primary(result: dict[str, Any]) -> str:
    """The metric that decides: the truth where it is known, else the first scorer that labelled neither policy."""
    truths = [metric["name"] for metric in result["metrics"] if metric["truth"]]
    held_out = [metric["name"] for metric in result["metrics"] if metric["name"] not in result["judges"]]
    return str([*truths, *held_out, *(metric["name"] for metric in result["metrics"])][0])


def title(result: dict[str, Any], judge: str) -> str:
    """A judge's name as it is shown: simulated people are always called so."""
    return f"{judge} (simulated)" if judge in result["simulated"] else judge


def _duel(result: dict[str, Any], ours: str, theirs: str, metric: str) -> str:
    row = next(
        row for row in result["duels"] if (row["policy"], row["against"], row["metric"]) == (ours, theirs, metric)
    )
    rate = row["win_rate"]
    seeds = len(row["seeds"])
    against = "the base model" if theirs == BASE else f"{title(result, theirs)} labels"
    verdict = (
        "no difference seen from"
        if rate["low"] <= 0.5 <= rate["high"]
        else "better than"
        if rate["low"] > 0.5
        else "worse than"
    )
    caution = " (this scorer labelled the training data)" if row["in_loop"] else ""
    return (
        f"Trained on {title(result, ours)} labels: {verdict} {against} by {metric}{caution}, "
        f"preferred on {_interval(rate, result)} of {result['prompts']} held-out prompts."
    )


def _interval(estimate: dict[str, float], result: dict[str, Any]) -> str:
    return (
        f"{100 * estimate['value']:.0f} % ({100 * result['confidence']:.0f} % interval "
        f"{100 * estimate['low']:.0f} to {100 * estimate['high']:.0f})"
    )
