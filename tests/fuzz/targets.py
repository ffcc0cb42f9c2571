"""What reads bytes that others made, each as a function of bytes alone: only a DdpoError, or a documented error, gets out.

A target's SEEDS are valid inputs, from which mutations are made. The pictures' documented error is OSError.
"""

import contextlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aifeedback_dpo import config, engine, importing, records
from aifeedback_dpo.codec import LARGEST, LONGEST, decode_image
from aifeedback_dpo.errors import DdpoError
from aifeedback_dpo.importing import commits
from aifeedback_dpo.parts import read_part
from aifeedback_dpo.sources import Asked, pictures
from aifeedback_dpo.sources.pictures import decoded
from aifeedback_dpo.store import Run, read_inputs, read_policy, saved_recipe
from tests import published

MEMORY = Path("/dev/shm")
TABLES = tuple(records.TABLES)
SPLIT = b"\0"  # between a recipe and its overrides
ENDINGS = (".json", ".jsonl", ".csv", ".parquet", ".tar", ".arrow")
SOURCES = {
    "hpdv2": ".json",
    "label-studio": ".json",
    "argilla": ".json",
    "hpdv3": ".json",
    "pairs": ".jsonl",
    "pickapic": ".parquet",
    "imagereward": ".parquet",
    "rapidata": ".parquet",
    "unpaired": ".parquet",
    "open-image-preferences": ".parquet",
    "folders": "",
}
"""Each source and the ending of what it is given; a first byte picks one."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that goes, in memory where there is such a place."""
    made = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None))
    try:
        yield made
    finally:
        shutil.rmtree(made)


# -- pictures ------------------------------------------------------------------------------------------------------------


def image(data: bytes) -> None:
    """A picture: whole, RGB and not enormous, or an OSError."""
    for read in (decode_image, decoded):
        with contextlib.suppress(OSError):
            picture = read(data)
            assert picture.mode == "RGB"
            assert 0 < picture.width * picture.height <= LARGEST
            assert max(picture.size) <= LONGEST * min(picture.size)


def image_seeds() -> list[bytes]:
    """A few pixels in every format that is read, with a palette, an orientation, grey with transparency, several frames."""
    colours = Image.new("RGB", (9, 6), (200, 30, 90))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        *((colours, kind, {}) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")),
        (colours, "JPEG", {"exif": turned}),
        (colours, "WEBP", {"lossless": True}),
        (colours, "TIFF", {"compression": "tiff_lzw"}),
        (colours, "TIFF", {"compression": "jpeg", "exif": turned}),
        (colours.convert("P"), "PNG", {"transparency": 3}),
        (colours.convert("LA"), "PNG", {}),
        (colours.convert("I;16"), "PNG", {}),
        (colours.convert("CMYK"), "JPEG", {}),
        (colours, "GIF", {"save_all": True, "append_images": [colours.rotate(90), colours]}),
        (colours, "MPO", {"save_all": True, "append_images": [colours]}),
    ]
    return [_encoded(picture, kind, how) for picture, kind, how in kinds]


def _encoded(picture: Image.Image, kind: str, how: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


# -- parts of a run ------------------------------------------------------------------------------------------------------


def part(data: bytes) -> None:
    """A part of the table that the first byte picks: all of it, and its key alone."""
    if not data:
        return
    table = TABLES[data[0] % len(TABLES)]
    with folder() as there:
        path = there / table / "part-0.parquet"
        path.parent.mkdir()
        path.write_bytes(data[1:])
        for columns in (None, [records.KEYS[table]]):
            with contextlib.suppress(DdpoError):
                read_part(path, table, columns).to_pylist()


def part_seeds() -> list[bytes]:
    """Every table with three rows, with checksums and compression as a run has it."""
    values = {pa.string(): "a\u00e9", pa.int64(): 3, pa.int32(): 3, pa.float32(): 0.5, pa.bool_(): True}
    seeds = []
    for number, (table, schema) in enumerate(records.TABLES.items()):
        row = {field.name: values.get(field.type, {"bytes": b"picture", "path": None}) for field in schema}
        buffer = io.BytesIO()
        content = pa.Table.from_pylist([row] * 3, records.hub_schema(schema, table))
        pq.write_table(content, buffer, compression="zstd", write_page_checksum=True)
        seeds.append(bytes([number]) + buffer.getvalue())
        bare = io.BytesIO()  # without checksums damage reaches what is inside
        pq.write_table(content, bare, compression="none", use_dictionary=number % 2 == 0)
        seeds.append(bytes([number]) + bare.getvalue())
    return seeds


# -- recipes -------------------------------------------------------------------------------------------------------------


def recipe(data: bytes) -> None:
    """A recipe's YAML, and overrides behind zero bytes."""
    text, *overrides = data.split(SPLIT)
    told = [item.decode(errors="replace") for item in overrides]
    with folder() as there:
        path = there / "recipe.yaml"
        path.write_bytes(text)
        for asked in (str(path), *(["shapes"] if told else [])):
            with contextlib.suppress(DdpoError):
                found = config.load(asked, told)
                assert config.load(_written(there, config.dump(found))) == found


def _written(there: Path, text: str) -> Path:
    path = there / "again.yaml"
    path.write_text(text)
    return path


def recipe_seeds() -> list[bytes]:
    """Those that ship, one that extends another, and overrides of every kind of value."""
    overrides = b"train.beta=1e-3\0label.scorers.pickscore.id=shapes\0prompts.train=6\0train.seeds=[1,2]"
    extended = b"extends: shapes\ntrain: {beta: 1e-5, seeds: [0, 1]}\nabout: 'beta ${train.beta}'\nx: &a [1]\ny: *a\n"
    shipped = [config.source(name).encode() for name in config.names()]
    return [*shipped, extended, extended + SPLIT + overrides, SPLIT + overrides]


# -- what a run says of itself -------------------------------------------------------------------------------------------


def description(data: bytes) -> None:
    """The same bytes as a manifest, a recipe, a policy's description and its inputs."""
    with folder() as there:
        run = Run(there, config.load("shapes"))
        for name in ("manifest.json", "policy.json", "inputs.json", "recipe.yaml"):
            (there / name).write_bytes(data)
        readers: list[Callable[[], object]] = [
            run.manifest,
            lambda: read_policy(there),
            lambda: read_inputs(there),
            lambda: saved_recipe(there),
        ]
        for read in readers:
            with contextlib.suppress(DdpoError):
                read()


def description_seeds() -> list[bytes]:
    """A manifest with two works, a policy's description, a recipe."""
    work = {"status": "done", "versions": {"torch": "2.11"}, "seconds": 1.5}
    manifest = {"schema_version": 1, "made_by": {"generate": work, "import/pickapic-a-train": work}}
    policy = {"base": {"model": "shapes", "revision": "0" * 32}, "settings": {"beta": 1e-3}, "steps": 3}
    return [
        json.dumps(manifest, indent=2).encode(),
        json.dumps(policy).encode(),
        config.dump(config.load("shapes")).encode(),
    ]


# -- imports -------------------------------------------------------------------------------------------------------------


def document(data: bytes) -> None:
    """A set that others publish: surveyed, and imported into a new run; the first byte picks the source."""
    if not data:
        return
    name = list(SOURCES)[data[0] % len(SOURCES)]
    with folder() as there:
        _import(name, _set(there, name, data[1:]), there / "run")


def _set(there: Path, name: str, content: bytes) -> Path:
    at = there / "set"
    for lying in ("", "images", "chosen", "rejected"):
        (at / lying).mkdir(parents=True, exist_ok=True)
    for number in (1, 2, 3):
        (at / "images" / f"{number}.png").write_bytes(published.picture(number))
    if name != "folders":
        (at / f"train{SOURCES[name]}").write_bytes(content)
        return at / f"train{SOURCES[name]}"
    for end, number in (("chosen", 1), ("rejected", 2)):
        (at / end / "a.png").write_bytes(published.picture(number))
    (at / "chosen" / "a.txt").write_bytes(content[:64])
    (at / "metadata.jsonl").write_bytes(content)
    return at


def _import(name: str, path: Path, root: Path) -> None:
    run = Run(root, config.load("sd15"))
    with contextlib.suppress(DdpoError):
        asked = importing.prepare(run, name, Asked(str(path)), unlabelled=True)
        importing.survey(asked, 8)
        importing.take(run, asked, engine.Silent())
        assert importing.so_far(run, asked).rows >= 0
        commits.take_back(run)


def document_seeds() -> list[bytes]:
    """One set of every source, in the schema that its publisher has."""
    made = {
        "hpdv2": (published.hpdv2_train, "train.json"),
        "label-studio": (published.label_studio, "export.json"),
        "argilla": (published.argilla_json, "records.json"),
        "hpdv3": (published.hpdv3, "train.json"),
        "pairs": (published.chosen_rejected_jsonl, "pairs.jsonl"),
        "pickapic": (published.pickapic_int, "train.parquet"),
        "imagereward": (published.imagereward_group, "train.parquet"),
        "rapidata": (published.rapidata, "train.parquet"),
        "unpaired": (published.unpaired, "train.parquet"),
        "open-image-preferences": (published.argilla_columns, "train.parquet"),
    }
    seeds = [bytes([10]) + b'{"id": "a", "prompt": "a cat", "p_chosen": 0.75, "votes": 4}\n']
    for number, (write, file) in enumerate(made.values()):
        with folder() as there:
            write(there / "set")
            seeds.append(bytes([number]) + (there / "set" / file).read_bytes())
    with folder() as there:
        published.hpdv2_test(there / "set")
        seeds.append(bytes([0]) + (there / "set" / "test.json").read_bytes())
    return seeds


def archive(data: bytes) -> None:
    """A tar of pictures beside a set: none of its members is looked for outside of it, or longer than it is."""
    with folder() as there:
        path = there / "pictures.tar"
        path.write_bytes(data)
        with contextlib.suppress(DdpoError):
            shelf = pictures.shelf(path, there)
            for name in [*shelf.members, "../pictures.tar", str(path), "a/../../pictures.tar"]:
                found = shelf.find(name)
                assert isinstance(found, str) or len(found) <= len(data)
            assert isinstance(shelf.find("../pictures.tar"), str)


def archive_seeds() -> list[bytes]:
    """A tar with a folder, a link out of it, an absolute name and one that climbs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("1.png", "a/2.png", "../3.png", "/4.png", "n" * 120 + ".png"):
            member = tarfile.TarInfo(name)
            member.size = 40
            tar.addfile(member, io.BytesIO(published.picture(1)[:40]))
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("folder", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            tar.addfile(member)
    return [buffer.getvalue()]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "image": (image, image_seeds),
    "part": (part, part_seeds),
    "recipe": (recipe, recipe_seeds),
    "description": (description, description_seeds),
    "document": (document, document_seeds),
    "archive": (archive, archive_seeds),
}
