"""The report's first sentences: what was seen, and not a word more than the intervals allow."""

from typing import Any

from aifeedback_dpo.compare.bootstrap import Estimate
from aifeedback_dpo.records import BASE, CONTROL

FEW = 30


def sentences(result: dict[str, Any]) -> list[str]:
    """One about the judges' policies against each other, one each against the base, one about the control and the labels."""
    first, second = result["judges"]
    metric = primary(result)
    said = [_duel(result, second, first, metric)]
    said += [_duel(result, judge, BASE, metric) for judge in (first, second)]
    if CONTROL not in (first, second) and _row(result, CONTROL, BASE, metric):
        said.append(_duel(result, CONTROL, BASE, metric))
    elif CONTROL not in (first, second):
        said.append("No policy was trained on random labels, so nothing tells what any labels would have done.")
    said += [_duel(result, judge, CONTROL, metric) for judge in (first, second) if _row(result, judge, CONTROL, metric)]
    about = next(known for known in result["metrics"] if known["name"] == metric)
    said.append(f"{metric.capitalize()}: {about['about']}.")
    if any(len(row["seeds"]) == 1 for row in result["duels"]):
        said.append(
            "From one training seed nothing tells how another would come out: raise train.seeds before claiming it."
        )
    if result["prompts"] < FEW:
        said.append(f"With fewer than {FEW} held-out prompts these intervals are rough: raise prompts.eval.")
    accuracy = result["labels"]["accuracy"]
    said.append(
        f"On the {result['labels']['decided']} training pairs that both decided, {title(result, first)} and "
        f"{title(result, second)} agree on {_interval(accuracy, result)}."
    )
    return said


def primary(result: dict[str, Any]) -> str:
    """The metric that decides: the truth where it is known, else the first scorer with no hand in either judge's labels."""
    truths = [metric["name"] for metric in result["metrics"] if metric["truth"]]
    held_out = [metric["name"] for metric in result["metrics"] if metric["name"] not in result["labellers"]]
    return str([*truths, *held_out, *(metric["name"] for metric in result["metrics"])][0])


def title(result: dict[str, Any], judge: str) -> str:
    """A judge's name as it is shown: simulated people are always called so."""
    return f"{judge} (simulated)" if judge in result["simulated"] else judge


def _duel(result: dict[str, Any], ours: str, theirs: str, metric: str) -> str:
    row = _row(result, ours, theirs, metric)
    assert row is not None
    against = "the base model" if theirs == BASE else f"{title(result, theirs)} labels"
    side, mean = _side(row), row["difference"]["value"]
    verdict = {1: "better than", -1: "worse than", 0: "no difference seen from"}[side]
    if side * mean < 0:  # won often by a little, lost seldom by a lot, or the other way round
        verdict = (
            "more often preferred to, but lower on average than,"
            if side > 0
            else "less often preferred to, but higher on average than,"
        )
    control = _row(result, ours, CONTROL, metric)
    doubt = ""
    if theirs == BASE and _side(row) and control is not None and _side(control) != _side(row):
        doubt = " (but not told apart from random labels)"
    caution = " (this scorer labelled the training data)" if row["in_loop"] else ""
    several = len(row["seeds"]) > 1
    seeds = f", {len(row['seeds'])} training seeds" if several else ", one training seed"
    subject = "Trained on" if several else "The one policy trained on"
    return (
        f"{subject} {title(result, ours)} labels: {verdict} {against}{doubt} by {metric}{caution}, "
        f"preferred on {_interval(row['win_rate'], result)} of {result['prompts']} held-out prompts{seeds}; "
        f"{row['difference']['value']:+.2g} on average ({row['difference']['low']:+.2g} to {row['difference']['high']:+.2g})."
    )


def _row(result: dict[str, Any], ours: str, theirs: str, metric: str) -> dict[str, Any] | None:
    wanted = (ours, theirs, metric)
    return next((row for row in result["duels"] if (row["policy"], row["against"], row["metric"]) == wanted), None)


def _side(row: dict[str, Any]) -> int:
    return Estimate(**row["win_rate"]).clear_of(0.5)


def _interval(estimate: dict[str, float | None], result: dict[str, Any]) -> str:
    if estimate["value"] is None or estimate["low"] is None or estimate["high"] is None:
        return "an undefined share"
    return (
        f"{100 * estimate['value']:.0f} % ({100 * result['confidence']:.0f} % interval "
        f"{100 * estimate['low']:.0f} to {100 * estimate['high']:.0f})"
    )
