"""ddpo verify: whatever is broken is told, with its file, and nothing hides anything else."""

import hashlib

import pyarrow.parquet as pq
import pytest
from PIL import Image

from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.records import KEYS, MARK, TABLES, pair_id
from tests.conftest import ddpo
from tests.verified import copy, edited, faults, first, inside, opened, part_of, the_fault

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("table", ["prompts", "images", "pairs", "scores", "preferences", "votes"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_part_is_told_with_what_makes_it_anew(copied, imported, table, damage, tmp_path):
    run = copy(imported[0], tmp_path) if table == "votes" else copied
    path = part_of(run, table)
    good = path.read_bytes()
    at = inside(path, "image.bytes" if table == "images" else KEYS[table])
    flipped = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    path.write_bytes(good[: len(good) // 2] if damage == "truncated" else flipped)

    told = the_fault(run, path, "--quick")

    assert "is corrupted" in told["what"]
    assert told["then"].startswith("Delete it and")


def test_a_part_of_another_schema_or_a_newer_version_is_told(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    older, newer, strange = (part_of(run, table) for table in ("scores", "pairs", "preferences"))
    table = pq.read_table(older, partitioning=None)
    pq.write_table(table.drop_columns(["score"]), older)
    table = pq.read_table(newer, partitioning=None)
    told = {**table.schema.metadata, MARK: b'{"schema_version": 2, "table": "pairs"}'}
    pq.write_table(table.replace_schema_metadata(told), newer)
    strange.write_bytes(part_of(run, "prompts").read_bytes())

    found = {fault["path"]: fault for fault in faults(run)}

    assert "is of another schema (no column score: float)" in found[str(older)]["what"]
    assert "was written by a newer aifeedback_dpo (schema 2, this one reads 1)" in found[str(newer)]["what"]
    assert found[str(newer)]["then"].startswith("Update")
    assert "is a part of prompts, and lies among preferences" in found[str(strange)]["what"]


BROKEN_PICTURE = {"bytes": b"no picture", "path": "x.webp"}
BLACK = {"bytes": encode_image(Image.new("RGB", (48, 48))), "path": "x.webp"}
SMALL = {"bytes": encode_image(Image.new("RGB", (8, 8))), "path": "x.webp"}
NOBODY = "0" * 32


@pytest.mark.parametrize(
    ("table", "edit", "says"),
    [
        ("prompts", first(prompt="a green dog"), "1 prompts whose id is not that of their text"),
        ("prompts", first(split="test"), "1 prompts of neither train nor eval"),
        ("images", first(image=BROKEN_PICTURE), "1 pictures that do not open"),
        ("images", first(image=BLACK), "1 pictures with other pixels than their row says"),
        ("images", first(image=SMALL), "1 pictures of another size than their row says"),
        ("images", first(image={"bytes": None, "path": "x"}), "1 pictures without bytes"),
        ("images", first(image_id=None), "1 rows without image_id"),
        ("pairs", first(pair_id=NOBODY), "1 pairs whose id is not that of their images"),
        ("pairs", lambda rows: rows[0].update(image_a=rows[0]["image_b"]), "1 pairs of a picture with itself"),
        ("pairs", first(image_a=NOBODY), f"names 1 images that are not in the run (first: {NOBODY})"),
        ("pairs", first(prompt_id=NOBODY), f"names 1 prompts that are not in the run (first: {NOBODY})"),
        ("scores", first(score=float("nan")), "1 scores that are not finite"),
        ("scores", first(score=float("inf")), "1 scores that are not finite"),
        ("scores", first(scorer="clip"), "rows of scorer clip, and lies among those of"),
        ("scores", first(image_id=NOBODY), "names 1 images that are not in the run"),
        ("preferences", first(p_a=1.5), "1 rows whose p_a is no number from 0 to 1"),
        ("preferences", first(p_a=float("nan")), "1 rows whose p_a is no number from 0 to 1"),
        ("preferences", first(p_a=None), "1 rows whose p_a is no number from 0 to 1"),
        ("preferences", first(judge="clip"), "rows of judge clip, and lies among those of"),
        ("preferences", first(pair_id=NOBODY), "names 1 pairs that are not in the run"),
    ],
)
def test_a_row_that_is_not_what_it_must_be_is_told(labelled, tmp_path, table, edit, says):
    run = copy(labelled, tmp_path)
    path = part_of(run, table)
    edited(path, edit)
    found = [fault for fault in faults(run) if fault["path"] == str(path) and says in fault["what"]]
    assert len(found) == 1, faults(run)
    assert "run `ddpo " in found[0]["then"].lower()


def test_a_picture_of_a_prompt_that_is_not_in_the_run_is_a_fault_unless_a_comparison_drew_it(
    labelled, finished, tmp_path
):
    for made, expected in ((labelled, 1), (finished, 0)):
        run = copy(made, tmp_path / made.name / str(expected))
        row = opened(run).rows("images", ["image_id", "pixel_sha256"])[0]
        blank = dict.fromkeys(TABLES["images"].names)
        whole = {
            "image": BLACK,
            "width": 48,
            "height": 48,
            "pixel_sha256": hashlib.sha256(bytes(3 * 48 * 48)).hexdigest(),
        }
        opened(run).commit("images", [blank | row | whole | {"image_id": "f" * 32, "prompt_id": NOBODY}], "x", "base")
        told = [fault for fault in faults(run) if "prompts that are not in the run" in fault["what"]]
        assert len(told) == expected


def test_a_pair_across_prompts_and_a_held_out_picture_that_is_trained_on_are_told(finished, tmp_path):
    run = copy(finished, tmp_path)
    path = part_of(run, "pairs")
    held_out = {row["prompt_id"] for row in opened(run).rows("prompts") if row["split"] == "eval"}
    foreign = next(row for row in opened(run).rows("images") if row["prompt_id"] in held_out)["image_id"]
    edited(path, lambda rows: rows[0].update(image_a=foreign, pair_id=pair_id(foreign, rows[0]["image_b"])))

    whats = [fault["what"] for fault in faults(run, "--quick") if fault["path"] == str(path)]

    assert whats == [
        f"has 1 pictures of another prompt than their pair's (first: {foreign})",
        f"has 1 pictures of held-out prompts in pairs that are trained on (first: {foreign})",
    ]


def test_an_imported_picture_is_held_to_its_bytes(imported, tmp_path):
    run = copy(imported[0], tmp_path)
    path = part_of(run, "images")
    edited(path, lambda rows: rows[0].update(image=rows[1]["image"]))
    assert "imported pictures whose id is not that of their bytes" in the_fault(run, path, "--quick")["what"]


def test_policies_without_whole_weights_or_description_are_told(copied):
    human, other, third = (copied / "policies" / judge / "seed-0" for judge in ("human", "pickscore", "random"))
    (weights,) = human.rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-5])
    (gone,) = other.rglob("*.safetensors")
    gone.unlink()
    (third / "policy.json").write_text('{"judge": ')

    found = {fault["path"]: fault for fault in faults(copied, "--quick")}

    assert "is corrupted" in found[str(weights)]["what"]
    assert f"Delete {human} and run `ddpo train --run {copied}` again" in found[str(weights)]["then"]
    assert "lacks its weights" in found[str(other)]["what"]
    assert "is corrupted" in found[str(third / "policy.json")]["what"]


def test_weights_that_changed_after_training_are_told_and_not_compared(copied):
    folder = copied / "policies" / "human" / "seed-0"
    (weights,) = folder.rglob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1  # one bit of one number
    weights.write_bytes(data)
    (fault,) = faults(copied, "--quick")
    assert (fault["path"], fault["what"]) == (str(folder), "has other weights than those that were trained")
    result = ddpo("compare", "human", "vs", "ai", run=copied)
    assert result.exit_code == 3
    assert "has other weights" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("manifest.json", "garbage", "is no manifest"),
        ("manifest.json", '{"schema_version": 9, "made_by": {}}', "newer aifeedback_dpo (schema 9"),
        ("manifest.json", '{"schema_version": 1, "made_by": {"generate": 3}}', "is no manifest"),
        ("recipe.yaml", "a: [", "cannot be read"),
    ],
)
def test_a_manifest_or_a_recipe_that_cannot_be_read_hides_no_other_fault(labelled, tmp_path, name, content, says):
    run = copy(labelled, tmp_path)
    broken = part_of(run, "scores")
    broken.write_bytes(b"")
    (run / name).write_text(content)
    found = {fault["path"]: fault["what"] for fault in faults(run)}
    assert says in found[str(run / name)]
    assert str(broken) in found


def test_what_training_keeps_is_looked_at(copied):
    shelf = next(copied.glob("cache/latents-*/part-*.safetensors"))
    shelf.write_bytes(shelf.read_bytes()[:-1])
    reference = next(copied.glob("cache/reference-*/part-*.parquet"))
    data = bytearray(reference.read_bytes())
    data[60] ^= 1
    reference.write_bytes(data)
    checkpoint = copied / "policies" / "human" / "seed-0" / "checkpoints" / "step-000001.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(bytes(100))
    for path in (shelf, reference, checkpoint):
        assert the_fault(copied, path, "--quick")["then"] == f"Delete it and run `ddpo train --run {copied}` again"


def test_ledgers_of_an_import_are_looked_at(imported, tmp_path):
    run = copy(imported[0], tmp_path)
    ledger = next(run.glob("imports/*/rows-*.json"))
    ledger.write_text("{}")
    assert f"Delete {ledger.parent}" in the_fault(run, ledger)["then"]
