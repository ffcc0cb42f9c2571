"""The report's first sentences: what was seen, and not a word more than the intervals allow."""

from typing import Any

from aifeedback_dpo.compare.bootstrap import Estimate
from aifeedback_dpo.records import BASE, CONTROL

FEW = 30


def sentences(result: dict[str, Any]) -> list[str]:
    """The two policies against each other, against the base and their controls, and what their judges' labels share."""
    first, second = result["compared"]
    metric = primary(result)
    said = [_duel(result, second, first, metric), *_settings(result)]
    said += [_duel(result, policy, BASE, metric) for policy in (first, second)]
    said += _controls(result, metric)
    about = next(known for known in result["metrics"] if known["name"] == metric)
    said.append(f"{metric.capitalize()}: {about['about']}.")
    if any(len(row["seeds"]) == 1 for row in result["duels"]):
        said.append(
            "From one training seed nothing tells how another would come out: raise train.seeds before claiming it."
        )
    if result["prompts"] < FEW:
        said.append(f"With fewer than {FEW} held-out prompts these intervals are rough: raise prompts.eval.")
    one, other = (title(result, judge) for judge in result["judges"])
    if result["labels"] is None:
        said.append(
            f"Both policies were trained on {one} labels, so there are no two judges whose agreement could be told."
        )
    else:
        said.append(
            f"On the {result['labels']['decided']} training pairs that both decided, {one} and {other} agree on "
            f"{_interval(result['labels']['accuracy'], result)}."
        )
    return said


def primary(result: dict[str, Any]) -> str:
    """The metric that decides: the truth where it is known, else the first scorer with no hand in the labels of either."""
    truths = [metric["name"] for metric in result["metrics"] if metric["truth"]]
    held_out = [metric["name"] for metric in result["metrics"] if metric["name"] not in result["labellers"]]
    return str([*truths, *held_out, *(metric["name"] for metric in result["metrics"])][0])


def title(result: dict[str, Any], name: str) -> str:
    """A judge's name, or a policy's, as it is shown: simulated people are always called so."""
    judge, plus, variant = name.partition("+")
    return f"{judge} (simulated){plus}{variant}" if judge in result["simulated"] else name


def control(policy: str) -> str:
    """The policy that tells what any labels would have done: random labels, and the same train.name."""
    _, plus, variant = policy.partition("+")
    return f"{CONTROL}{plus}{variant}"


def _settings(result: dict[str, Any]) -> list[str]:
    """In which settings of training the two differ: the point of a comparison on one judge's labels, a caveat elsewhere."""
    first, second = result["compared"]
    both = f"{title(result, first)} and {title(result, second)}"
    found = ", ".join(f"{key} ({_value(one)}, {_value(other)})" for key, (one, other) in result["differ_in"].items())
    if result["labels"] is None:
        return [f"{both} differ in {found}." if found else f"{both} differ in no setting of training."]
    return (
        [f"{both} differ in more than their labels: in {found}. Nothing here tells what the labels did."]
        if found
        else []
    )


def _controls(result: dict[str, Any], metric: str) -> list[str]:
    """What random labels did under the same settings, and what the two policies did beyond that."""
    told = [policy for policy in result["compared"] if control(policy) != policy]
    said = []
    for name in dict.fromkeys(map(control, told)):
        if _row(result, name, BASE, metric):
            said += [_duel(result, name, BASE, metric)] if name not in result["compared"] else []
        else:
            alike = " and ".join(title(result, policy) for policy in told if control(policy) == name)
            how = "" if name == CONTROL else f" with the settings of {alike}"
            said.append(
                f"No policy was trained on random labels{how}, so nothing tells what any labels would have done."
            )
    beyond = [(policy, control(policy)) for policy in told]
    return said + [_duel(result, *side, metric) for side in beyond if _row(result, *side, metric)]


def _duel(result: dict[str, Any], ours: str, theirs: str, metric: str) -> str:
    row = _row(result, ours, theirs, metric)
    assert row is not None
    side, mean = _side(row), row["difference"]["value"]
    verdict = {1: "better than", -1: "worse than", 0: "no difference seen from"}[side]
    if side * mean < 0:  # won often by a little, lost seldom by a lot, or the other way round
        verdict = (
            "more often preferred to, but lower on average than,"
            if side > 0
            else "less often preferred to, but higher on average than,"
        )
    beyond = _row(result, ours, control(ours), metric)
    doubt = ""
    if theirs == BASE and _side(row) and beyond is not None and _side(beyond) != _side(row):
        doubt = " (but not told apart from random labels)"
    caution = " (this scorer labelled the training data)" if row["in_loop"] else ""
    several = len(row["seeds"]) > 1
    seeds = f", {len(row['seeds'])} training seeds" if several else ", one training seed"
    return (
        f"{_subject(result, ours, several=several)}: {verdict} {_against(result, ours, theirs)}{doubt} by {metric}{caution}, "
        f"preferred on {_interval(row['win_rate'], result)} of {result['prompts']} held-out prompts{seeds}; "
        f"{row['difference']['value']:+.2g} on average ({row['difference']['low']:+.2g} to {row['difference']['high']:+.2g})."
    )


def _subject(result: dict[str, Any], policy: str, *, several: bool) -> str:
    """Policies are told by their labels, or by the name that sets their settings apart."""
    how = f"as {title(result, policy)}" if "+" in policy else f"on {title(result, policy)} labels"
    return f"Trained {how}" if several else f"The one policy trained {how}"


def _against(result: dict[str, Any], ours: str, theirs: str) -> str:
    if theirs == BASE:
        return "the base model"
    if "+" in ours + theirs:
        return f"the policy {title(result, theirs)}"
    return f"{title(result, theirs)} labels"


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


def _value(setting: Any) -> str:
    if isinstance(setting, float):
        return f"{setting:g}"
    return "none" if setting is None else str(setting)
