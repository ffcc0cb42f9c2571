"""How much memory an import takes, and how fast it is: `python benchmarks/import_sets.py [--pairs 2000 20000]`.

Each size is a synthetic Pick-a-Pic in Parquet, pictures of 512 x 512 as JPEG of 160 to 170 KB as in the real one, in its 500 MB
files, imported by `ddpo import` in a process of its own. Pictures differ in bytes; 200 different ones are decoded again and
again, since no picture is known by its pixels. Beside it, in the same process, reading the same files and nothing else.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.peak import peak

SIDE = 512
DIFFERENT = 200
ROWS_A_GROUP = 100
ROWS_A_FILE = 1500


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--folder", type=Path, help="where to write the sets [default: a temporary folder]")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        pictures = list(drawn())
        print("| pairs | set | peak memory | pairs a second | reading alone, pairs a second |")
        print("|---|---|---|---|---|")
        for count in asked.pairs:
            root = Path(folder) / str(count)
            size = write(root / "set", pictures, count)
            start = time.perf_counter()
            most = imported(root)
            spent = time.perf_counter() - start
            alone = count / reading(root / "set")
            print(f"| {count:,} | {size / 1e9:.2f} GB | {most:,} MiB | {count / spent:.0f} | {alone:.0f} |", flush=True)


def drawn() -> Iterator[bytes]:
    """Pictures as large, in bytes, as those of Pick-a-Pic: smooth colours with grain."""
    random = np.random.default_rng(0)
    for _ in range(DIFFERENT):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        grain = random.normal(0, 14, (SIDE, SIDE, 3))
        pixels = (np.asarray(coarse, dtype=np.float32) + grain).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=93)
        yield buffer.getvalue()


def write(root: Path, pictures: list[bytes], count: int) -> int:
    """The set; its size in bytes."""
    root.mkdir(parents=True)
    for start in range(0, count, ROWS_A_FILE):
        numbers = range(start, min(count, start + ROWS_A_FILE))
        writer = None
        for at in range(0, len(numbers), ROWS_A_GROUP):
            table = pa.Table.from_pylist([row(number, pictures) for number in numbers[at : at + ROWS_A_GROUP]])
            writer = writer or pq.ParquetWriter(root / f"train-{start:08d}.parquet", table.schema)
            writer.write_table(table)
        if writer:
            writer.close()
    return sum(path.stat().st_size for path in root.iterdir())


def row(number: int, pictures: list[bytes]) -> dict[str, object]:
    """A comparison in the columns of Pick-a-Pic; prompts have three each."""
    label = (1.0, 0.0, 0.5)[number % 3]
    return {
        "caption": f"prompt {number // 3}",
        "jpg_0": pictures[2 * number % DIFFERENT] + number.to_bytes(4, "big") + b"0",  # after the end of a JPEG
        "jpg_1": pictures[(2 * number + 1) % DIFFERENT] + number.to_bytes(4, "big") + b"1",
        "label_0": label,
        "label_1": 1 - label,
        "has_label": True,
        "user_id": number % 50,
    }


def imported(root: Path) -> int:
    """The peak, in MiB, of a process that imports the set."""
    told = ["import", "pickapic", str(root / "set"), "--run", str(root / "run"), "--json"]
    said, most = peak(told)
    assert json.loads(said)["imported"]["unusable"] == {}
    return most


def reading(root: Path) -> float:
    """Seconds to read the same files, a group of rows at a time."""
    start = time.perf_counter()
    for path in sorted(root.iterdir()):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_A_GROUP):
                batch.to_pylist()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
