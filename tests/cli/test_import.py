"""`ddpo import`: what comes of every published schema, and what a stop, a swap or a second import must not change."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from aifeedback_dpo import seeds
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.records import prompt_id
from aifeedback_dpo.store import Run
from tests import published
from tests.conftest import ddpo
from tests.published import EVERY, Said, picture


def image_id(number: int) -> str:
    return hashlib.sha256(picture(number)).hexdigest()[:32]


def imported(arguments: tuple[str, ...], run: Path) -> Any:
    result = ddpo("import", *arguments, "--json", run=run)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def said(run: Run) -> dict[tuple[str, frozenset[str]], dict[str, tuple[float, int]]]:
    """By prompt and pictures: how each picture fares, and by how many votes."""
    text = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    pairs = {row["pair_id"]: row for row in run.rows("pairs")}
    found = {}
    for row in run.rows("preferences", name="human"):
        pair = pairs[row["pair_id"]]
        sides = {pair["image_a"]: (row["p_a"], row["votes"]), pair["image_b"]: (1 - row["p_a"], row["votes"])}
        found[text[pair["prompt_id"]], frozenset(sides)] = sides
    return found


def assert_said(run: Run, expected: list[Said]) -> None:
    found = said(run)
    for one in expected:
        sides = found.pop((one.prompt, frozenset((image_id(one.first), image_id(one.second)))))
        assert sides[image_id(one.first)] == (pytest.approx(one.p_first), one.votes), one
    assert not found


def files(run: Path) -> dict[str, bytes]:
    """What a run holds, but for the stamps of its manifest, and for how `datasets` notes where it is."""
    every = [path for path in run.rglob("*") if path.is_file() and path.name != "manifest.json"]
    held = {path.relative_to(run).as_posix(): path.read_bytes() for path in every}
    for path in every:
        if path.parent.parent.name == "imports" and path.name.startswith("rows-"):
            held[path.relative_to(run).as_posix()] = json.dumps(json.loads(path.read_text()) | {"state": None}).encode()
    return held


@pytest.mark.parametrize("name", EVERY)
def test_each_published_schema_gives_the_preferences_worked_out_by_hand(name: str, tmp_path: Path) -> None:
    made = EVERY[name](tmp_path / "set")

    told = imported(made.arguments, tmp_path / "run")

    run = open_run(tmp_path / "run", None)
    assert_said(run, made.said)
    assert told["imported"]["unusable"] == made.refused
    assert told["imported"]["unlabelled"] == made.unlabelled
    assert told["found"]["unusable"] == made.refused  # the survey looks at all of so small a set
    (path,) = (tmp_path / "run").glob("imports/*/refused.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == sum(made.refused.values())


def test_pictures_are_kept_byte_for_byte_and_once(tmp_path: Path) -> None:
    made = published.pickapic(tmp_path / "set")

    imported(made.arguments, tmp_path / "run")

    run = open_run(tmp_path / "run", None)
    images = [row for part in run.scan("images") for row in part.to_pylist()]
    stored = {row["image_id"]: row["image"]["bytes"] for row in images}
    assert stored == {image_id(number): picture(number) for number in (1, 2, 3, 4, 5)}
    assert len(images) == len(stored)
    assert {row["model"] for row in images if row["image_id"] == image_id(1)} == {"dreamlike-art/Dreamlike"}


def test_a_dry_run_says_what_it_found_and_writes_nothing(tmp_path: Path) -> None:
    made = published.pickapic(tmp_path / "set")

    result = ddpo("import", *made.arguments, "--dry-run", run=tmp_path / "run")

    assert result.exit_code == 0
    for told in (
        "split train (other splits, by --split: test_unique): 11 rows; licence mit",
        "label_0 (float64)",
        "label_0 = 1: 2",
        "label_0 = 0.5: 1",
        "no label: 1",
        "decided 3, ties 1, unlabelled 1",
        "the first picture won 66.7% of those decided",
        "cannot be used, picture broken: 1 (first: train/5: the first: cannot identify image file",
        "cannot be used, both pictures are the same: 1 (first: train/4)",
    ):
        assert told in result.stdout
    assert not (tmp_path / "run").exists()


def test_winners_that_are_always_first_end_on_both_sides(tmp_path: Path) -> None:
    """By the seeded draw of each pair, whichever way round a set has it."""
    rows = [{"prompt": f"p{at}", "chosen": picture(at), "rejected": picture(at + 100)} for at in range(40)]
    published.write_parquet(tmp_path / "set.parquet", rows)

    result = ddpo("import", "pairs", str(tmp_path / "set.parquet"), run=tmp_path / "run")

    run = open_run(tmp_path / "run", None)
    first_is_a = [row["p_a"] for row in run.rows("preferences", name="human")]
    assert "the winner is always first" in result.stdout
    assert 10 < sum(first_is_a) < 30
    for pair in run.rows("pairs"):
        low, high = sorted((pair["image_a"], pair["image_b"]))
        assert (pair["image_a"] == low) == (seeds.uniform(0, "side", low, high) < 0.5)


def test_a_set_turned_round_gives_the_same_run(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"p{at}", "image_a": picture(at), "image_b": picture(at + 100), "label": ("a", "b", "tie")[at % 3]}
        for at in range(12)
    ]
    turned = [
        {
            **row,
            "image_a": row["image_b"],
            "image_b": row["image_a"],
            "label": {"a": "b", "b": "a"}.get(row["label"], "tie"),
        }
        for row in rows
    ]
    runs = []
    for name, told in (("one", rows), ("other", turned)):
        published.write_parquet(tmp_path / name / "set.parquet", told)
        imported(("pairs", str(tmp_path / name / "set.parquet")), tmp_path / f"run-{name}")
        runs.append(open_run(tmp_path / f"run-{name}", None).rows("preferences", name="human"))
    assert runs[0] == runs[1]


def test_dreamlike_only_takes_pairs_of_two_dreamlike_pictures(tmp_path: Path) -> None:
    made = published.pickapic(tmp_path / "set")

    told = imported((*made.arguments, "--dreamlike-only"), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("a cat", 3, 1, 0.0)])
    assert told["imported"]["left_out"] == {"not a pair of Dreamlike pictures": 10}


def test_ties_can_be_left_out(tmp_path: Path) -> None:
    made = published.pickapic(tmp_path / "set")

    told = imported((*made.arguments, "--skip-ties"), tmp_path / "run")

    assert told["imported"]["left_out"] == {"a tie": 1}
    assert_said(open_run(tmp_path / "run", None), made.said[:2])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pickapik", "set"), "no source 'pickapik', did you mean 'pickapic'? Known: pickapic, hpdv2"),
        (("pickapic", "nowhere"), "nowhere is no file or folder here, and no owner/name of the hub"),
        (
            ("rapidata", "set"),
            "has no prompt, image1, image2; columns found: caption, jpg_0, jpg_1, label_0, label_1, are_different, has_label, "
            "model_0, user_id, model_1; wanted: prompt, image1, image2, weighted_results_image1_preference, "
            "weighted_results_image2_preference. These are the columns of `ddpo import pickapic`",
        ),
        (("hpdv2", "set"), "has no train.json; --split takes nothing, as no .json is there"),
        (("folders", "set"), "has no folders chosen and rejected; found: README.md, data; wanted: chosen/<id>.png"),
        (("pickapic", "set", "--split", "val"), "has no split 'val'; --split takes train, test_unique"),
        (("pairs", "set", "--label", "win=1"), "--label win=1: write first=VALUE, second=VALUE or tie=VALUE"),
        (("pickapic", "set", "label.raters=simulated"), "this recipe's people are simulated (label.raters=simulated)"),
        (
            ("pickapic", "set", "prompts.source=shapes"),
            "prompts.source is 'shapes'; an import takes prompts.source=imported",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    published.pickapic(tmp_path / "set")

    result = ddpo("import", *arguments, run=tmp_path / "run")

    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_set_of_which_nothing_can_be_used_leaves_no_run(tmp_path: Path) -> None:
    rows = [{"prompt": "a cat", "image_a": picture(1), "image_b": picture(2), "label": 1}]
    published.write_parquet(tmp_path / "set.parquet", rows)

    result = ddpo("import", "pairs", str(tmp_path / "set.parquet"), run=tmp_path / "run")

    assert result.exit_code == 2
    assert "1 may mean either picture; say which, as in --label first=1 --label second=0" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_set_that_changed_since_its_import_began_is_refused(tmp_path: Path) -> None:
    made = published.pickapic(tmp_path / "set")
    imported((*made.arguments, "--limit", "3"), tmp_path / "run")
    before = files(tmp_path / "run")
    published.write_parquet(tmp_path / "set" / "data" / "train-00001-of-00002.parquet", published.pickapic_rows()[:2])

    result = ddpo("import", *made.arguments, run=tmp_path / "run")

    assert result.exit_code == 2
    assert "began otherwise (its files changed)" in result.stderr
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize("damage", ["cut", "not parquet"])
def test_a_damaged_set_is_a_data_error(damage: str, tmp_path: Path) -> None:
    published.write_parquet(tmp_path / "set.parquet", published.pickapic_rows())
    content = (tmp_path / "set.parquet").read_bytes()
    (tmp_path / "set.parquet").write_bytes(content[:-40] if damage == "cut" else b"nothing of the kind" * 9)

    result = ddpo("import", "pickapic", str(tmp_path / "set.parquet"), run=tmp_path / "run")

    assert result.exit_code == 3
    assert "cannot be read as a dataset" in result.stderr
    assert not (tmp_path / "run").exists()


def test_held_out_prompts_never_move_and_are_never_trained_on(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{at % 100}", "chosen": picture(at), "rejected": picture(at + 300)} for at in range(200)]
    published.write_parquet(tmp_path / "set.parquet", rows)
    told = ("pairs", str(tmp_path / "set.parquet"), "prompts.eval=5", "train.validation.prompts=0")
    imported((*told, "--limit", "60"), tmp_path / "run")
    run = open_run(tmp_path / "run", None)
    before = {row["prompt_id"]: row["split"] for row in run.rows("prompts")}

    imported(told, tmp_path / "run")

    after = {row["prompt_id"]: row["split"] for row in run.rows("prompts")}
    assert before.items() <= after.items()
    drawn = [at for at in range(100) if seeds.uniform(0, "held out", f"p{at}") < 0.1]
    assert {key for key, split in after.items() if split == "eval"} == {prompt_id(f"p{at}") for at in drawn[:5]}
    told = ("train", "--judge", "human", "--dry-run", "--json", "model.id=shapes", "train.held_out.pairs=0")
    result = ddpo(*told, run=tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["policies"][0]["pairs"] == 200 - 2 * 5
