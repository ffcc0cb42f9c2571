"""What is exported and imported again is the same preferences; and an imported set is trained on as a drawn one is."""

import json
from pathlib import Path

import pytest

from aifeedback_dpo import seeds
from aifeedback_dpo.importing.known import bare
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.records import prompt_id
from aifeedback_dpo.store import Run
from tests import published
from tests.conftest import TINY, ddpo
from tests.published import Said, picture

LOOP = tuple(setting for setting in TINY if not setting.startswith("prompts."))
READERS = {
    "pickapic": ("pickapic", ""),
    "webdataset": ("pickapic", ""),
    "chosen-rejected": ("pairs", ""),
    "unpaired": ("unpaired", ""),
    "folders": ("folders", ""),
    "label-studio": ("label-studio", "tasks.json"),
}
TELLS_TIES = ("pickapic", "webdataset", "label-studio")


def spoken(run: Run) -> dict[tuple[str, frozenset[bytes]], tuple[dict[bytes, float], int]]:
    """The preferences of judge human by prompt and pictures: how each picture fares, and how many votes there are."""
    images = dict(run.images(run.done("images")))
    text = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    pairs = {row["pair_id"]: row for row in run.rows("pairs")}
    found = {}
    for row in run.rows("preferences", name="human"):
        pair = pairs[row["pair_id"]]
        a, b = images[pair["image_a"]], images[pair["image_b"]]
        sides = {a: pytest.approx(row["p_a"], abs=1e-6), b: pytest.approx(1 - row["p_a"], abs=1e-6)}
        found[text[pair["prompt_id"]], frozenset(sides)] = (sides, row["votes"])
    return found


@pytest.fixture
def voted(tmp_path: Path) -> Run:
    """p_a of 1, 0, 1/2 and 2/3, of one vote and of three, on pictures of two sizes."""
    sizes = [(24, 16), (16, 24)]
    rows = [
        {
            "prompt": f'prompt {at % 3}, with "quotes", ümlauts\u2028and 雪',
            "image_1": published.hub_image(picture(at, sizes[at % 2])),
            "image_2": published.hub_image(picture(at + 50, sizes[at % 2])),
            "preference.responses": [["image_1"], ["image_2"], ["ties"], ["image_1", "image_2", "image_1"]][at % 4],
        }
        for at in range(12)
    ]
    published.write_parquet(tmp_path / "votes.parquet", rows, images=("image_1", "image_2"))
    names = {bare(row["prompt"]) for row in rows}
    seed = next(seed for seed in range(999) if sum(seeds.uniform(seed, "held out", name) < 0.1 for name in names) == 1)
    result = ddpo("import", "argilla", str(tmp_path / "votes.parquet"), f"seed={seed}", run=tmp_path / "run")
    assert result.exit_code == 0, result.output
    return open_run(tmp_path / "run", None)


@pytest.mark.parametrize("name", READERS)
def test_an_export_imported_again_gives_the_same_preferences(name: str, voted: Run, tmp_path: Path) -> None:
    reader, inside = READERS[name]
    said = spoken(voted)
    assert {len(said), sum(votes for _, votes in said.values())} == {12, 18}
    result = ddpo("export", name, str(tmp_path / "out"), run=voted.root)
    assert result.exit_code == 0, result.output

    for split in ("train", "test") if name not in ("folders", "label-studio") else ("",):
        which = ("--split", split) if split else ()
        result = ddpo("import", reader, str(tmp_path / "out" / inside), *which, run=tmp_path / "back")
        assert result.exit_code == 0, result.output

    held_out = {row["prompt"] for row in voted.rows("prompts") if row["split"] == "eval"}
    assert len(held_out) == 1
    lost = {key for key, (sides, _) in said.items() if 0.5 in sides.values()} if name not in TELLS_TIES else set()
    lost |= {key for key in said if key[0] in held_out} if name == "folders" else set()
    assert spoken(open_run(tmp_path / "back", None)) == {key: told for key, told in said.items() if key not in lost}
    assert len(lost) == {"folders": 6, "chosen-rejected": 3, "unpaired": 3}.get(name, 0)


@pytest.mark.slow
def test_imported_pairs_are_relabelled_trained_on_and_compared_as_drawn_ones(finished: Path, tmp_path: Path) -> None:
    """The paper's experiment on the embedded world: a scorer's view of a pair is the one it had where the pair was drawn."""
    drawn = open_run(finished, None)
    assert ddpo("export", "pickapic", str(tmp_path / "set"), run=finished).exit_code == 0
    known = {row["prompt_id"]: bare(row["prompt"]) for row in drawn.rows("prompts") if row["split"] == "train"}
    drawn_out = {
        seed: {key for key, one in known.items() if seeds.uniform(seed, "held out", one) < 0.1} for seed in range(99)
    }
    seed = next(seed for seed, keys in drawn_out.items() if len(keys) == 2)
    settings = (*LOOP, "prompts.eval=4", "label.raters=null", f"seed={seed}")
    run = tmp_path / "run"

    for command in (
        ("import", "pickapic", str(tmp_path / "set"), "--recipe", "shapes", *settings),
        ("label", "--scorer", "pickscore"),
        ("train",),
        ("compare", "human", "vs", "ai"),
    ):
        result = ddpo(*command, run=run)
        assert result.exit_code == 0, result.output

    opened = open_run(run, None)
    held_out = {row["prompt_id"] for row in opened.rows("prompts") if row["split"] == "eval"}
    assert held_out == drawn_out[seed]
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["sets"][0]["prompts"] == 2
    assert report["simulated"] == []  # nobody in this run is called so: whoever brings votes answers for them
    assert told(opened, "pickscore") == told(drawn, "pickscore")
    assert told(opened, "human") == told(drawn, "human")


def told(run: Run, judge: str) -> dict[frozenset[str], dict[str, float]]:
    """p by picture's pixels, whichever of the two is called `a`."""
    pixels = {row["image_id"]: row["pixel_sha256"] for row in run.rows("images", ["image_id", "pixel_sha256"])}
    pairs = {row["pair_id"]: (pixels[row["image_a"]], pixels[row["image_b"]]) for row in run.rows("pairs")}
    found = {}
    for row in run.rows("preferences", name=judge):
        a, b = pairs[row["pair_id"]]
        if a != b:
            found[frozenset((a, b))] = {
                a: pytest.approx(row["p_a"], abs=1e-5),
                b: pytest.approx(1 - row["p_a"], abs=1e-5),
            }
    return found


def test_votes_are_never_mixed_with_simulated_ones(tmp_path: Path) -> None:
    said = Said("a cat", 1, 2, 1.0)
    rows = [{"prompt": said.prompt, "chosen": picture(said.first), "rejected": picture(said.second)}]
    published.write_parquet(tmp_path / "set.parquet", rows)
    assert ddpo("import", "pairs", str(tmp_path / "set.parquet"), run=tmp_path / "run").exit_code == 0

    result = ddpo("label", "--scorer", "random", "label.raters=simulated", run=tmp_path / "run")

    assert result.exit_code == 2
    assert "label.raters: None in the run, 'simulated' asked for" in result.stderr
    assert prompt_id(said.prompt) in open_run(tmp_path / "run", None).done("prompts")
