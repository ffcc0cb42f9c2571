"""The report's first sentences: what was seen, and not a word more than the intervals allow."""

from collections.abc import Iterator
from typing import Any

from aifeedback_dpo.compare.bootstrap import clear_of
from aifeedback_dpo.compare.named import control
from aifeedback_dpo.compare.standings import verdict
from aifeedback_dpo.compare.winrate import best
from aifeedback_dpo.records import BASE, CONTROL

SEVERAL = 3  # policies of which each two have a sentence; of more, the first two


def sentences(result: dict[str, Any]) -> list[str]:
    """Those compared against each other, against the base and their controls, on each prompt set; then what judges share."""
    said: list[str] = []
    for at, found in enumerate(result["sets"]):
        tell = Telling(result, found)
        said += tell.first() if at == 0 else tell.further()
    return said + list(_judges(result))


class Telling:
    """The sentences of one prompt set."""

    def __init__(self, result: dict[str, Any], found: dict[str, Any]) -> None:
        self.result, self.found = result, found
        self.compared = [name for name in result["compared"] if name != BASE]
        self.duels = {
            (row["policy"], row["against"]): row
            for row in found["duels"]
            if row["metric"] == found["primary"] and row["category"] is None
        }

    def first(self) -> list[str]:
        """Everything there is to say of the set that decides."""
        if not self.compared or not self.duels:
            return []
        said = [text for text in (self._grid(), *self._each_other()) if text]
        said += [self._duel(name, BASE) for name in self.compared]
        said += self._controls()
        said += [text for text in (self._alone(),) if text]
        about = next(metric for metric in self.found["metrics"] if metric["metric"] == self.found["primary"])
        return [*said, f"{self.found['primary'].capitalize()}: {about['about']}."]

    def further(self) -> list[str]:
        """Another prompt set, in a sentence for each policy compared."""
        against_base = [self._duel(name, BASE) for name in self.compared if (name, BASE) in self.duels]
        return [f"On {self.found['set']}: {text}" for text in (*self._each_other(), *against_base)]

    def _each_other(self) -> Iterator[str]:
        told = pairs(self.compared)
        for ours, theirs in self.duels:
            if (ours, theirs) in told:
                yield self._duel(ours, theirs)
                differ = next(
                    (row for row in self.result["differ_in"] if {row["policy"], row["against"]} == {ours, theirs}), None
                )
                if differ and differ["same_judge"]:
                    both = f"{self._title(theirs)} and {self._title(ours)}"
                    found = settings_told(differ["settings"])
                    if found:
                        yield f"{both} differ in {found}."
                    elif not differ["other_pictures"]:
                        yield f"{both} differ in no setting of training."

    def _controls(self) -> list[str]:
        """What random labels did under the same settings, and what the others did beyond that."""
        told = [name for name in self.compared if self._judge(name) and control(name) != name]
        said: list[str] = []
        missing: list[str] = []
        for name in dict.fromkeys(map(control, told)):
            if (name, BASE) in self.duels:
                said += [self._duel(name, BASE)] if name not in self.compared else []
            else:
                missing.append(name)
        if missing:
            alike = " and ".join(self._title(policy) for policy in told if control(policy) in missing)
            how = "" if missing == [CONTROL] else f" with the settings of {alike}"
            said.append(
                f"No policy was trained on random labels{how}, so nothing tells what any labels would have done."
            )
        beyond = [(policy, control(policy)) for policy in told if control(policy) not in self.compared]
        said += [
            f"{self._title(policy)} and its control have no training seed in common, so nothing tells what its labels did "
            "beyond any."
            for policy, random in beyond
            if (random, BASE) in self.duels and (policy, random) not in self.duels
        ]
        return said + [self._duel(*side) for side in beyond if side in self.duels]

    def _duel(self, ours: str, theirs: str) -> str:
        row = self.duels[ours, theirs]
        side, rate, mean = verdict(row), best(row, "win_rate"), best(row, "difference")
        words = {1: "better than", -1: "worse than", 0: "no difference seen from"}[side]
        if side * mean["value"] < 0:  # won often by a little, lost seldom by a lot, or the other way round
            words = (
                "more often preferred to, but lower on average than,"
                if side > 0
                else "less often preferred to, but higher on average than,"
            )
        beyond = self.duels.get((ours, control(ours)))
        doubt = ""
        if theirs == BASE and side and beyond is not None and verdict(beyond) != side:
            doubt = " (but not told apart from random labels)"
        caution = " (this scorer labelled the training data)" if row["in_loop"] else ""
        seeds = f", {len(row['seeds'])} training seeds" if len(row["seeds"]) > 1 else ""
        seeds = seeds or (", one training seed" if self._judge(ours) else "")
        return (
            f"{self._subject(ours, several=len(row['seeds']) > 1)}: {words} {self._against(ours, theirs)}{doubt} by "
            f"{row['metric']}{caution}, preferred on {interval(rate, self.result)} of "
            f"{rate['prompts']} prompts{seeds}; {_signed(mean)} on average."
        )

    def _grid(self) -> str | None:
        """Whether it is the labels or the pictures."""
        grid = self.found["factors"]
        if grid is None:
            return None
        told = []
        for effect in grid["effects"]:
            if not _is_interaction(effect):
                seen = effect["over_seeds"] or effect["difference"]
                kind = "labels" if effect["effect"] == "labels" else "pictures"
                words = {1: "raise", -1: "lower", 0: "are not seen to change"}[clear_of(seen, 0)]
                first, _, second = effect["of"].partition(" - ")
                one, other = (self.result["titles"].get(name, name) for name in (second, first))
                told.append(f"{other} {kind} in place of {one}'s {words} {grid['metric']} ({_signed(seen)})")
        if any(
            clear_of(effect["over_seeds"] or effect["difference"], 0)
            for effect in grid["effects"]
            if _is_interaction(effect)
        ):
            told.append("and how much labels do depends on the pictures")
        if grid["differs"]:
            told.append(f"but the policies differ in {', '.join(grid['differs'])} as well")
        return f"Labels or pictures: {'; '.join(told)}." if told else None

    def _alone(self) -> str | None:
        alone = self.found["scorers_alone"]
        if not alone or not alone["verdicts"]:
            return None
        return (
            f"Without the truth, the scorers with no hand in the labels would have said the same in {alone['alike']} of "
            f"{alone['verdicts']} verdicts, and the opposite in {alone['opposite']}."
        )

    def _judge(self, name: str) -> str | None:
        policy = next(row for row in self.result["policies"] if row["policy"] == name)
        return None if policy["judge"] is None else str(policy["judge"])

    def _title(self, name: str) -> str:
        return str(self.result["titles"][name])

    def _plain(self, name: str) -> bool:
        """Whether a policy is told by its labels alone: of this run, and of no settings of its own."""
        return self._judge(name) is not None and "+" not in name and "/" not in name

    def _subject(self, policy: str, *, several: bool) -> str:
        if self._judge(policy) is None:
            return self._title(policy)
        how = f"on {self._title(policy)} labels" if self._plain(policy) else f"as {self._title(policy)}"
        return f"Trained {how}" if several else f"The one policy trained {how}"

    def _against(self, ours: str, theirs: str) -> str:
        if theirs == BASE:
            return "the base model"
        by_labels = self._plain(ours) and self._plain(theirs)
        return f"{self._title(theirs)} labels" if by_labels else f"the policy {self._title(theirs)}"


def _is_interaction(effect: dict[str, Any]) -> bool:
    return bool(effect["effect"] == "interaction")


def pairs(compared: list[str]) -> list[tuple[str, str]]:
    """Those that are told against each other, the later against the earlier: each two of a few, the first two of many."""
    named = [name for name in compared if name != BASE]
    named = named if len(named) <= SEVERAL else named[:2]
    return [(later, earlier) for at, earlier in enumerate(named) for later in named[at + 1 :]]


def interval(estimate: dict[str, float | None], result: dict[str, Any]) -> str:
    """A share with its interval, in words."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "an undefined share"
    return f"{100 * value:.0f} % ({100 * result['confidence']:.0f} % interval {100 * low:.0f} to {100 * high:.0f})"


def _judges(result: dict[str, Any]) -> Iterator[str]:
    """What the labels of those compared share: each pair of their judges, once."""
    judges = [row["judge"] for name in result["compared"] for row in result["policies"] if row["policy"] == name]
    if not result["compared"] and result["judges"]:
        judges = result["judges"]["names"]
    mine = list(dict.fromkeys(judge for judge in judges if judge and judge != CONTROL))
    mine = mine if len(mine) <= SEVERAL else mine[:2]
    if len(judges) > 1 and len(mine) == 1 and None not in judges:
        alike = titled(result, mine[0])
        yield f"All were trained on {alike} labels, so there are no two judges whose agreement could be told."
    for row in (result["judges"] or {}).get("matrix", ()):
        if row["first"] in mine and row["second"] in mine:
            one, other = titled(result, row["first"]), titled(result, row["second"])
            yield (
                f"On the {row['decided']} training pairs that both decided, {one} and {other} agree on "
                f"{interval(row['rules']['decided'], result)}."
            )


def titled(result: dict[str, Any], name: str) -> str:
    """A name as it is shown."""
    return str(result["titles"].get(name, name))


def settings_told(found: dict[str, list[Any]]) -> str:
    """Settings in which two differ, with both values."""
    return ", ".join(f"{key} ({_value(one)}, {_value(other)})" for key, (one, other) in found.items())


def _signed(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None or estimate["low"] is None:
        return "an undefined difference"
    return f"{estimate['value']:+.2g} ({estimate['low']:+.2g} to {estimate['high']:+.2g})"


def _value(setting: Any) -> str:
    if isinstance(setting, float):
        return f"{setting:g}"
    return "none" if setting is None else str(setting)
