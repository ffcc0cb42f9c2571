"""A run on disk: whole parts or none, whatever happens."""

import errno
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from datasets import Image, load_dataset
from PIL import Image as Pillow

from aifeedback_dpo import config, opening, records, store
from aifeedback_dpo.codec import decode_image, encode_image
from aifeedback_dpo.errors import DataError, DdpoError, UserError
from aifeedback_dpo.store import Run

NAMES = ("clip", "aesthetic")
PROMPTS = [{"prompt_id": records.prompt_id(text), "prompt": text, "split": "train", "source": "t"} for text in "abc"]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run", config.load("shapes"))


def image_row(image_id: str) -> dict:
    picture = Pillow.new("RGB", (4, 4), (int(image_id), 0, 0))
    row = dict.fromkeys(records.IMAGES.names)
    return row | {"image_id": image_id, "image": {"bytes": encode_image(picture), "path": f"{image_id}.webp"}}


def test_what_is_committed_is_read_back(run):
    run.commit("prompts", PROMPTS[:2], "a")
    run.commit("prompts", PROMPTS[2:], "b")
    assert run.rows("prompts") == PROMPTS
    assert run.done("prompts") == {row["prompt_id"] for row in PROMPTS}


def test_an_empty_run_reads_as_empty_tables(run):
    for table, schema in records.TABLES.items():
        assert run.read(table).num_rows == 0
        assert set(run.read(table).column_names) == set(schema.names) - {"image"}


def test_the_same_rows_give_the_same_bytes(run):
    run.commit("prompts", PROMPTS, "a")
    (part,) = run.parts("prompts")
    before = part.read_bytes()
    part.unlink()
    run.commit("prompts", PROMPTS, "a")
    assert part.read_bytes() == before


def test_a_file_that_was_not_finished_is_ignored(run):
    run.commit("prompts", PROMPTS, "a")
    (part,) = run.parts("prompts")
    part.with_name(".part-b.parquet.1.tmp").write_bytes(b"half a part")
    assert run.rows("prompts") == PROMPTS


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied"])
def test_a_corrupted_part_is_named_and_the_next_step_told(run, damage):
    run.commit("prompts", PROMPTS, "a")
    (part,) = run.parts("prompts")
    data = bytearray(part.read_bytes())
    if damage == "flipped":
        data[40] ^= 0xFF
    part.write_bytes({"truncated": data[: len(data) // 2], "flipped": data, "emptied": b""}[damage])
    with pytest.raises(DataError, match=r"part-a\.parquet is corrupted .* run `ddpo generate --run .*run` again"):
        run.rows("prompts")


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(run, monkeypatch):
    run.commit("prompts", PROMPTS[:1], "a")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(DdpoError, match=r"the disk is full\. What was committed is safe") as caught:
        run.commit("prompts", PROMPTS[1:], "b")
    assert caught.value.exit_code == 1
    assert [path.name for path in (run.root / "prompts").iterdir()] == ["part-a.parquet"]
    assert run.rows("prompts") == PROMPTS[:1]


def test_images_come_by_id_across_parts_and_once_each(run):
    run.commit("images", [image_row("1"), image_row("2")], "a", "base")
    run.commit("images", [image_row("2"), image_row("3")], "b", "base")
    assert [image_id for image_id, _ in run.images(["3", "2", "nobody"])] == ["2", "3"]


def test_hugging_face_datasets_reads_the_tables_with_their_pictures(run, tmp_path):
    run.commit("images", [image_row("7")], "a", "base")
    files = [str(path) for path in run.parts("images")]
    loaded = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features["image"], Image)
    assert loaded[0]["image"].convert("RGB").getpixel((0, 0)) == (7, 0, 0)


def test_a_run_made_by_another_recipe_is_refused_with_the_keys(run):
    made = Run(run.root, config.load("shapes", ["generate.steps=14"]))
    made.record("generate", "done")
    made.commit("prompts", PROMPTS, "train")
    with pytest.raises(UserError, match=r"seed: 0 in the run, 3 asked for; generate.steps: 14 in the run, 5 asked for"):
        opening.open_run(run.root, None, ["seed=3", "generate.steps=5"])


def test_what_nothing_was_made_with_may_still_change(run):
    run.record("generate", "done")
    assert opening.open_run(run.root, None, ["train.beta=7"]).recipe.train.beta == 7
    run.record("train/human/seed-0", "running")
    assert (
        opening.open_run(run.root, None, ["train.beta=7"]).recipe.train.beta == 7
    )  # begun and failed: nothing is made
    run.commit("prompts", PROMPTS, "train")
    with pytest.raises(UserError, match=r"seed"):
        opening.open_run(run.root, None, ["seed=7"])
    assert opening.open_run(run.root, None, ["train.seeds=[0,1]"]).recipe.train.seeds == (0, 1)


def test_a_new_scorer_may_join_and_a_known_one_may_not_change(run):
    run.record("label/pickscore", "done")
    run.commit("scores", [{"image_id": "i", "scorer": "pickscore", "recipe": "r", "score": 0.5}], "a", "pickscore")
    joined = opening.open_run(run.root, None, ["label.scorers.mine.id=/models/mine", "label.batch_size=3"])
    assert joined.recipe.label.scorers["mine"].id == "/models/mine"
    with pytest.raises(UserError, match=r"label\.scorers\.pickscore\.revision"):
        opening.open_run(run.root, None, ["label.scorers.pickscore.revision=main"])
    assert (
        opening.open_run(run.root, None, ["label.scorers.pickscore.slope=2"]).recipe.label.scorers["pickscore"].slope
        == 2
    )


@pytest.mark.parametrize("text", ['{"judge": ', "6", "[" * 100_000])
def test_a_damaged_policy_is_named(tmp_path, text):
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(DataError, match=r"policy\.json is corrupted .* run `ddpo train` again"):
        store.read_policy(tmp_path)


def test_folders_beside_the_policies_and_a_damaged_manifest_are_told_apart(run):
    run.write_text(run.policy_folder("human", 0) / "policy.json", "{}")
    run.write_text(run.root / "policies" / "human" / "seed-0.old" / "policy.json", "{}")
    assert run.policies() == {"human": [0]}
    for text in ("{}", "[" * 100_000, '{"schema_version": 1e999, "made_by": {}}'):
        run.write_text(run.root / "manifest.json", text)
        with pytest.raises(DataError, match="no manifest"):
            run.manifest()
    run.write_text(run.root / "manifest.json", '{"schema_version": 2, "made_by": {}}')
    with pytest.raises(DataError, match=r"newer aifeedback_dpo \(schema 2, this one reads 1\)\. Update"):
        run.manifest()


def test_a_run_remembers_its_recipe(run):
    changed = Run(run.root, config.load("shapes", ["seed=9"]))
    changed.record("generate", "done")
    assert opening.open_run(run.root, None).recipe == changed.recipe


def test_what_processes_write_down_at_once_is_all_kept(run):
    clip, aesthetic = (Run(run.root, config.load("shapes", [f"label.scorers.{name}={{id: shapes}}"])) for name in NAMES)
    for one, name in ((clip, "clip"), (aesthetic, "aesthetic")):  # both were opened before either wrote
        one.record(f"label/{name}", "running")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: run.add("label/clip", seconds=1), range(40)))
    assert run.manifest()["made_by"]["label/clip"]["seconds"] == 40
    assert {"clip", "aesthetic"} <= run.saved().label.scorers.keys()


def test_the_card_of_a_run_shows_what_a_recipe_says_and_is_no_markup_of_it(run):
    odd = Run(run.root, config.load("shapes", ["about='<img src=x> [here](http://evil)'"]))
    odd.record("generate", "done")
    assert "\\<img src=x\\> \\[here\\](http://evil)" in (run.root / "README.md").read_text()


def test_opening_writes_nothing(tmp_path):
    opening.open_run(tmp_path / "new", "shapes")
    assert not (tmp_path / "new").exists()


def test_pictures_are_the_right_way_up() -> None:
    turned, exif = io.BytesIO(), Pillow.Exif()
    exif[0x0112] = 6
    Pillow.new("RGB", (16, 8)).save(turned, "JPEG", exif=exif)

    assert decode_image(turned.getvalue()).size == (8, 16)
