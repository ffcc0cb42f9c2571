"""What every public set is read into: two pictures of one prompt, and what people said of them. Nothing here is guessed."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aifeedback_dpo.votes import EVEN

Row = Mapping[str, Any]
State = dict[str, Any]
Rows = Generator[tuple[Row, Callable[[], State | None]]]

OPTIONS = {
    "split": "--split",
    "config": "--config",
    "images": "--images",
    "dreamlike_only": "--dreamlike-only",
    "dimension": "--dimension",
    "meanings": "--label",
}


@dataclass(frozen=True)
class Picture:
    """An encoded picture as the set has it, and the model that drew it; or why it is not there."""

    data: bytes | None
    model: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Vote:
    """What one person said, or `count` people together (None where a set does not tell how many).

    `p_first` is P(first picture preferred) in [0, 1], 1/2 a tie; `seconds` is how long it took.
    """

    p_first: float
    annotator: str = ""
    count: int | None = 1
    seconds: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two pictures of one prompt and the votes on them; without any it is unlabelled.

    `prompt` is as the set has it, which need not be text; `label` is what the set said, in words.
    """

    prompt: object
    first: Picture
    second: Picture
    votes: tuple[Vote, ...]
    label: str

    @property
    def p_first(self) -> float | None:
        """The mean of the votes, each weighing as many as it stands for; None without any."""
        weights = [vote.count or 1 for vote in self.votes]
        said = sum(vote.p_first * weight for vote, weight in zip(self.votes, weights, strict=True))
        mean = said / sum(weights) if weights else None
        return 0.5 if mean is not None and abs(mean - 0.5) <= EVEN else mean


@dataclass(frozen=True)
class Unusable:
    """A comparison that cannot be used: the kind of reason, by which it is counted, and the detail."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Unwanted:
    """A comparison that was asked to be left out."""

    reason: str


Item = Comparison | Unusable | Unwanted


@dataclass(frozen=True)
class Asked:
    """What the user said about the set, beside where it lies.

    `meanings` says of each label value whether it means the first picture, the second or a tie.
    """

    path: str
    split: str | None = None
    config: str | None = None
    images: Path | None = None
    dreamlike_only: bool = False
    dimension: str | None = None
    meanings: Mapping[str, float] = field(default_factory=dict)

    def split_of(self, found: Sequence[str]) -> str:
        """The split that is meant: the one asked for, or train, or the only one. It need not be there."""
        return self.split or (found[0] if len(found) == 1 else "train")


@dataclass(frozen=True)
class Opened:
    """A set, ready to be read.

    `identity` stands for its content: it differs once files are added or changed, or the hub has another commit. `rows` gives
    each row from a number on, with a state from which a later reading may go on faster than by counting.
    """

    name: str
    split: str
    identity: str
    columns: Mapping[str, str]
    total: int | None
    licence: str | None
    rows: Callable[[int, State | None], Rows]
    read: Callable[[Row], Iterable[Item]]
    splits: tuple[str, ...] = ()


class Source(Protocol):
    """A module that reads one public format.

    `WANTS` names its columns or keys, as told to who brings others; `TAKES` the options, of OPTIONS, that mean something to it.
    """

    WANTS: str
    TAKES: tuple[str, ...]

    def opened(self, asked: Asked) -> Opened:
        """Raises UserError for what is not of this format, naming what was found and what is wanted."""
        ...
