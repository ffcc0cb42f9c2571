"""What keeps the numbers of a comparison from being more than they are: said beside the headline, before anybody cites it."""

from collections.abc import Iterator
from typing import Any

from aifeedback_dpo.compare.headline import pairs, settings_told, titled
from aifeedback_dpo.records import BASE

FEW = 30


def told(result: dict[str, Any]) -> list[str]:
    """What keeps these numbers from being more than they are."""
    said = [
        text
        for found in result["sets"]
        for text in (*_of_seeds_and_prompts(result, found), *_of_measures(result, found))
    ]
    together = pairs(result["compared"])
    for row in result["differ_in"]:
        if row["same_judge"] is False and row["settings"] and (row["policy"], row["against"]) in together:
            both = f"{result['titles'][row['policy']]} and {result['titles'][row['against']]}"
            said.append(
                f"{both} differ in more than their labels: in {settings_told(row['settings'])}. Nothing here tells what the "
                "labels did."
            )
    said += [
        f"Whose labels {result['titles'][policy['policy']]} learned from, and on which prompts, is not known here: a "
        "scorer may judge its own work."
        for policy in result["policies"]
        if policy["labellers"] is None
    ]
    return list(dict.fromkeys(said))


def _of_seeds_and_prompts(result: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    where = "" if len(result["sets"]) == 1 else f"On {found['set']}: "
    compared = [row for row in result["policies"] if row["policy"] in result["compared"] and row["judge"]]
    if any(len(row["seeds"]) == 1 for row in compared):
        yield "From one training seed nothing tells how another would come out: raise train.seeds before claiming it."
    elif any(len(row["seeds"]) == 2 for row in compared):
        yield "Two training seeds say little about a third: from three on the intervals over seeds cover what they say."
    if found["prompts"] < FEW:
        yield f"{where}With fewer than {FEW} prompts these intervals are rough: raise prompts.eval, or take a suite."
    if found["primary"] is None:
        yield f"{where}No scorer measured these pictures, so nothing tells who wins: add one with --scorer."
    elif found["primary"] in _hands(compared, found):
        yield (
            f"{where}Every scorer here labelled the training data of a policy that is compared, {found['primary']} too, which "
            "decides. Add one that did not: `ddpo compare --scorer NAME` (`ddpo scorers` lists them)."
        )


def _of_measures(result: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """What is to be known of what measured a set, and of its prompts."""
    where = "" if len(result["sets"]) == 1 else f"On {found['set']}: "
    compared = [row for row in result["policies"] if row["policy"] in result["compared"]]
    if found["primary"] == "utility" and any(row["judge"] in result["simulated"] for row in compared):
        yield "Utility is what the simulated raters vote by, so it is on the side of their labels by design."
    for name, count in found["left_out"].items():
        yield f"{where}{name} is left out: it has no score for {count} pictures."
    if count := found["outside_the_grammar"]:
        yield (
            f"{where}{count} of {found['prompts']} prompts are not of the shapes grammar, which is all that the embedded model "
            f"knows: the oracle cannot tell what is true of their pictures, and {found['primary']} decides."
        )
    for name, count in found["trained_on"].items():
        yield f"{titled(result, name)} was trained on {count} of the {found['prompts']} prompts of {found['set']}."
    for row in found["guards"]:
        if row["guard"] == "spread" and row["against"] == BASE and row["value"]["value"] is not None and row["caution"]:
            yield f"{where}{titled(result, row['policy'])}: {row['caution']}"


def _hands(compared: list[dict[str, Any]], found: dict[str, Any]) -> set[str]:
    """The scorers of a set that had a hand in the labels of those compared."""
    scorers = {metric["metric"] for metric in found["metrics"] if metric["kind"] == "scorer"}
    return scorers & {hand for row in compared for hand in row["labellers"] or ()}
