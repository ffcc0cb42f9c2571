"""What the reference makes of each draw of each pair, asked once: whatever the epoch, the judge, the objective or the beta.

The errors are unweighted means over c, h, w, two for each (pair, draw). They are kept in Parquet parts, named after
everything that made them, that are committed as training goes; so a second training asks the reference nothing.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aifeedback_dpo.dpo.batches import Visit
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.store import Run

Errors = npt.NDArray[np.float32]
SCHEMA = pa.schema(
    [("pair_id", pa.string()), ("draw", pa.int32()), ("error_a", pa.float32()), ("error_b", pa.float32())]
)


class References:
    """Errors by (a pair's row, draw); `made_by` is what they follow from besides pair and draw. One process `writes` them."""

    def __init__(
        self, run: Run, pair_ids: pa.ChunkedArray, draws: int, *, made_by: tuple[str, ...], writes: bool = True
    ) -> None:
        self.run, self.pair_ids, self.writes = run, pair_ids, writes
        self.folder = run.cache / f"reference-{content_id(*made_by)}"
        self.errors: Errors = np.full((len(pair_ids), draws, 2), np.nan, np.float32)
        self.fresh: list[Visit] = []
        for path in sorted(self.folder.glob("part-*.parquet")):
            try:
                part = pq.read_table(path, schema=SCHEMA, partitioning=None, page_checksum_verification=True)
            except (OSError, pa.ArrowException) as error:
                reason = str(error).splitlines()[0][:120]
                raise DataError(f"{path} is corrupted ({reason}); delete it and run `ddpo train` again") from error
            rows = pc.fill_null(pc.index_in(part.column("pair_id"), value_set=pair_ids), -1).to_numpy()
            numbers = part.column("draw").to_numpy()
            here = (rows >= 0) & (numbers < draws)
            for side, column in enumerate(("error_a", "error_b")):
                self.errors[rows[here], numbers[here], side] = part.column(column).to_numpy()[here]

    def complete(self, visits: list[Visit]) -> bool:
        """Whether nothing is left to ask for these."""
        return not np.isnan(self.known(visits)).any()

    def known(self, visits: list[Visit]) -> Errors:
        """(2, visits): the errors on a and on b; NaN where they are not known yet."""
        rows, draws = np.array(visits, np.int64).reshape(-1, 2).T
        return np.ascontiguousarray(self.errors[rows, draws].T)

    def learn(self, visits: list[Visit], errors: Errors) -> None:
        """Takes up errors (2, visits) that were just computed."""
        rows, draws = np.array(visits, np.int64).reshape(-1, 2).T
        self.errors[rows, draws] = errors.T
        if self.writes:
            self.fresh += visits

    def commit(self) -> None:
        """Puts what is new on the disk, as one part."""
        if not self.fresh:
            return
        rows, draws = np.array(self.fresh, np.int64).T
        a, b = self.errors[rows, draws].T
        ids = pc.take(self.pair_ids, pa.array(rows)).combine_chunks()
        part = pa.table([ids, draws.astype(np.int32), a, b], schema=SCHEMA)
        name = content_id(*(f"{row}-{draw}" for row, draw in self.fresh))[:24]
        self.run.write(
            self.folder / f"part-{name}.parquet",
            lambda file: pq.write_table(part, file, compression="zstd", write_page_checksum=True),
        )
        self.fresh = []
