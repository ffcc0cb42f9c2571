"""What each judge of a run said of its pairs, in columns: read once, aligned by pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aifeedback_dpo.compare.agreement import counted
from aifeedback_dpo.compare.intervals import numbered
from aifeedback_dpo.records import BASE, CONTROL, HUMAN, IMPORTED, packed_ids
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.store import Run

Array = NDArray[np.float64]
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Said:
    """One judge's view, NaN where it has none: p_a, the margin behind it, and on how many votes it stands."""

    p_a: Array
    margin: Array
    votes: Array
    rule: str | None

    @property
    def there(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.p_a)


@dataclass(frozen=True, eq=False)
class Views:
    """The pairs of a run and what its judges say of each."""

    run: Run
    pairs: pa.Table
    said: dict[str, Said]

    @cached_property
    def prompts(self) -> NDArray[np.str_]:
        """The prompt's id of each pair."""
        return np.array(self.pairs.column("prompt_id").to_pylist(), dtype=str)

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The prompt of each pair as a number."""
        return numbered(packed_ids(self.pairs.column("prompt_id")))

    @cached_property
    def pictures(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pictures of each pair as numbers."""
        one, other = (packed_ids(self.pairs.column(side)) for side in ("image_a", "image_b"))
        both = numbered(np.concatenate([one, other]))
        return both[: len(one)], both[len(one) :]

    @cached_property
    def votes(self) -> Array:
        """People's votes on each pair for b, tie and a (n, 3): as they were cast, or as their mean tells where that is all."""
        said = self.said[HUMAN]
        found = counted(said.p_a, np.where(said.there, said.votes, 0.0))
        cast = np.zeros_like(found)
        for part in self.run.scan("votes", ["pair_id", "p_a", "votes"]):
            rows, met = self.rows(part.column("pair_id"))
            p_a, number = (
                part.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in ("p_a", "votes")
            )
            np.add.at(cast, rows[met], counted(p_a, np.where(np.isnan(number), 1.0, number))[met])
        known: Array = np.where((cast.sum(axis=1) > 0)[:, None] & said.there[:, None], cast, found)
        return known

    def rows(self, ids: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """In which row of `pairs` each of these pairs is, and whether it is in one."""
        order, known, wanted = self._order, packed_ids(self.pairs.column("pair_id")), packed_ids(ids)
        if not len(known) or not len(wanted):
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
        rows = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
        return rows, known[rows] == wanted

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(packed_ids(self.pairs.column("pair_id")), kind="stable").astype(np.int64)

    @cached_property
    def texts(self) -> dict[str, str]:
        """Prompt id -> prompt."""
        table = self.run.read("prompts", ["prompt_id", "prompt"])
        return dict(zip(table.column("prompt_id").to_pylist(), table.column("prompt").to_pylist(), strict=True))

    def sides(self) -> tuple[list[str], list[str]]:
        """The image ids of each pair."""
        return self.pairs.column("image_a").to_pylist(), self.pairs.column("image_b").to_pylist()

    @cached_property
    def models(self) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """What drew each side: the model, the policy that it carried, its settings; "unknown" where nobody says."""
        table = self.run.read("images", ["image_id", "model", "policy", "steps", "guidance"])
        columns = [table.column(name).to_pylist() for name in table.column_names]
        drawn = {image: _model(*made) for image, *made in zip(*columns, strict=True)}
        one, other = (np.array([drawn.get(image, UNKNOWN) for image in side], dtype=str) for side in self.sides())
        return one, other

    def categories(self) -> NDArray[np.str_] | None:
        """The grammar's category of each pair's prompt; None where some prompt is not of the grammar."""
        scenes = {key: grammar.parse(text) for key, text in self.texts.items()}
        if any(scenes.get(prompt) is None for prompt in set(self.prompts.tolist())):
            return None
        return np.array([scene.category for prompt in self.prompts.tolist() if (scene := scenes[prompt])], dtype=str)

    def words(self) -> Array:
        """How many words each pair's prompt has."""
        lengths = {key: float(len(text.split())) for key, text in self.texts.items()}
        return np.array([lengths.get(prompt, np.nan) for prompt in self.prompts.tolist()])


def _model(name: str | None, policy: str | None, steps: int | None, guidance: float | None) -> str:
    """A model as it drew; one that was imported may have no settings, nor a name."""
    told = [name or UNKNOWN]
    told += [f"policy {policy}"] if policy not in (None, BASE, IMPORTED) else []
    told += [f"{steps} steps"] if steps is not None else []
    told += [f"guidance {guidance:g}"] if guidance is not None else []
    return ", ".join(told)


def known(run: Run) -> list[str]:
    """The judges that have preferences: people first, coin tosses last."""
    found = sorted({path.parent.name for path in run.parts("preferences")})
    found = [judge for judge in found if run.read("preferences", ["pair_id"], judge).num_rows]
    listed = [judge for judge in run.recipe.label.scorers if judge in found]
    others = [judge for judge in found if judge not in listed and judge != HUMAN]
    ordered = [
        HUMAN,
        *(judge for judge in listed if judge != CONTROL),
        *(judge for judge in others if judge != CONTROL),
    ]
    return [judge for judge in (*ordered, CONTROL) if judge in found]


def read(run: Run, judges: Sequence[str]) -> Views:
    """Everything that these judges said. Rows of pairs that are no longer in the run are left out."""
    views = Views(run, run.read("pairs", ["pair_id", "prompt_id", "image_a", "image_b"]), {})
    return replace(views, said={judge: _said(views, judge) for judge in judges})


def _said(views: Views, judge: str) -> Said:
    table = views.run.read("preferences", ["pair_id", "p_a", "margin", "votes", "rule"], judge)
    p_a, margin, votes = (np.full(views.pairs.num_rows, np.nan) for _ in range(3))
    rows, met = views.rows(table.column("pair_id"))
    for column, name in ((p_a, "p_a"), (margin, "margin"), (votes, "votes")):
        column[rows[met]] = table.column(name).to_numpy(zero_copy_only=False)[met]
    rule = table.column("rule")[0].as_py() if table.num_rows else None
    return Said(p_a, margin, np.where(np.isnan(votes), 1.0, votes), rule)
