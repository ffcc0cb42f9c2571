"""What a suite is: prompts that many papers draw, with what is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Statistic = Literal["mean", "median"]


@dataclass(frozen=True)
class Item:
    """A prompt, the category it belongs to, and what else its row says: GenEval's `include`, Parti's `challenge`."""

    prompt: str
    category: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Suite:
    """Different prompts in their order, and how scores on them are published.

    `source` is a hub id with its commit, or a file's name; `read` counts the prompts as they were read, repetitions too, and
    `different` all of the different ones, of which `items` may be a share.
    `images` are the pictures of a prompt and `statistic` is what sums the scores up, both by the published protocol.
    `reference` is a folder of real pictures. Of a suite that `detects`, each item says what must be seen.
    """

    name: str
    about: str
    source: str
    items: tuple[Item, ...]
    read: int
    different: int
    images: int = 1
    statistic: Statistic = "mean"
    notes: tuple[str, ...] = ()
    reference: Path | None = None
    detects: bool = False
