"""What a set holds, counted: before anything is written, slice by slice, and all together."""

from dataclasses import dataclass, field, fields

from aifeedback_dpo.sources import Comparison

KINDS = 24  # so many different labels are told apart; more are no convention


@dataclass
class Tally:
    """Counts of a stretch of a set. `examples` has the first comparison of each reason for which some cannot be used.

    `first` and `second` count decided comparisons by the place of the picture that won; `repeated` are pairs that were there.
    """

    rows: int = 0
    comparisons: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    first: int = 0
    second: int = 0
    ties: int = 0
    unlabelled: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    unusable: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    votes: int = 0
    pairs: int = 0
    repeated: int = 0
    images: int = 0
    prompts: int = 0

    @property
    def decided(self) -> int:
        return self.first + self.second

    @property
    def usable(self) -> int:
        """Comparisons that somebody has judged, and that can be used."""
        return self.decided + self.ties

    def refuse(self, where: str, reason: str, detail: str) -> None:
        """Counts one that cannot be used."""
        count(self.unusable, reason)
        self.examples.setdefault(reason, f"{where}: {detail}" if detail else where)

    def judge(self, comparison: Comparison) -> None:
        """Counts what people said of one that can be."""
        known = comparison.label in self.labels or len(self.labels) < KINDS
        count(self.labels, comparison.label if known else "others")
        said = comparison.p_first
        if said is None:
            self.unlabelled += 1
            return
        self.votes += sum(vote.count or 1 for vote in comparison.votes)
        self.first += said > 0.5
        self.second += said < 0.5
        self.ties += said == 0.5

    def add(self, other: "Tally") -> None:
        """Another stretch, after this one."""
        for one in fields(self):
            mine, more = getattr(self, one.name), getattr(other, one.name)
            if one.name == "examples":
                mine.update({key: value for key, value in more.items() if key not in mine})
            elif isinstance(mine, dict):
                for key, times in more.items():
                    count(mine, key, times)
            else:
                setattr(self, one.name, mine + more)


def count(counts: dict[str, int], key: str, times: int = 1) -> None:
    """So many more of this."""
    counts[key] = counts.get(key, 0) + times
