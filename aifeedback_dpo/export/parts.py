"""Files of bounded size: a new one begins where the last has enough rows or bytes."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aifeedback_dpo.export.pair import Pair

ROWS = 1000
BYTES = 200 * 2**20

Row = Mapping[str, Any]


def parquet(
    folder: Path, slices: Iterable[list[Pair]], rows: Callable[[Pair], Sequence[Row]], schema: pa.Schema
) -> None:
    """`data/<split>-00000.parquet` and so on; a slice of pairs is a row group, so that rows are read a few at a time."""

    @contextmanager
    def opened(path: Path) -> Iterator[Callable[[Sequence[Pair]], None]]:
        with (
            path.open("wb") as file,
            pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            yield lambda pairs: writer.write_table(
                pa.Table.from_pylist([dict(row) for pair in pairs for row in rows(pair)], schema)
            )

    for add, pairs in _rolled(folder, slices, opened, "parquet"):
        add(pairs)


def tars(folder: Path, slices: Iterable[list[Pair]], files: Callable[[Pair], Mapping[str, bytes]]) -> None:
    """`data/<split>-00000.tar` and so on, the same bytes whenever the pairs are the same: no times, no owners."""

    @contextmanager
    def opened(path: Path) -> Iterator[tarfile.TarFile]:
        with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            yield tar

    for tar, pairs in _rolled(folder, slices, opened, "tar"):
        for pair in pairs:
            for name, content in files(pair).items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _rolled(
    folder: Path, slices: Iterable[list[Pair]], opened: Callable[[Path], Any], suffix: str
) -> Iterator[tuple[Any, list[Pair]]]:
    """Each slice with the file that it goes into."""
    (folder / "data").mkdir()
    numbers: dict[str, int] = {}
    with ExitStack() as stack:
        sink, split, count, size = None, "", 0, 0
        for pairs in slices:
            length = sum(len(picture.data) for pair in pairs for picture in (pair.a, pair.b))
            if sink is None or split != pairs[0].split or count + len(pairs) > ROWS or size + length > BYTES:
                stack.close()
                split, count, size = pairs[0].split, 0, 0
                number = numbers[split] = numbers.get(split, -1) + 1
                sink = stack.enter_context(opened(folder / "data" / f"{split}-{number:05d}.{suffix}"))
            count, size = count + len(pairs), size + length
            yield sink, pairs
