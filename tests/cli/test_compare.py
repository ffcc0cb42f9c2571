"""`ddpo compare` through the command line: whom it takes, what it draws, and what must come out the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aifeedback_dpo import config, shapes
from aifeedback_dpo.models import LORA_FILE
from aifeedback_dpo.store import Run
from tests.conftest import TINY, ddpo, ddpo_process

pytestmark = pytest.mark.slow


def compared(run: Path, *arguments: str) -> dict[str, Any]:
    result = ddpo("compare", *arguments, "--json", run=run)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def refused(run: Path, *arguments: str, code: int = 2) -> str:
    """The one line that says why."""
    result = ddpo("compare", *arguments, run=run)
    assert result.exit_code == code, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    return line


def duel(report: dict[str, Any], policy: str, against: str, metric: str = "utility") -> dict[str, Any]:
    rows = report["sets"][0]["duels"]
    (row,) = [
        row
        for row in rows
        if (row["policy"], row["against"], row["metric"], row["category"]) == (policy, against, metric, None)
    ]
    return dict(row)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run, of other pictures from other training prompts, with policies of its own."""
    run = tmp_path_factory.mktemp("other") / "other"
    drawn = [setting for setting in TINY if not setting.startswith("generate.steps")]
    for command in (("generate", *drawn, "generate.steps=3"), ("label", "--scorer", "pickscore"), ("train",)):
        result = ddpo(*command, run=run)
        assert result.exit_code == 0, result.output
    return run


def test_the_two_sides_of_a_comparison_mirror_each_other(copied):
    one, two = compared(copied, "human", "vs", "ai"), compared(copied, "ai", "vs", "human")
    forth, back = duel(one, "pickscore", "human"), duel(two, "human", "pickscore")
    assert (forth["wins"], forth["ties"], forth["losses"]) == (back["losses"], back["ties"], back["wins"])
    assert forth["win_rate"]["value"] == pytest.approx(1 - back["win_rate"]["value"])
    assert forth["win_rate"]["low"] == pytest.approx(1 - back["win_rate"]["high"])
    assert forth["difference"]["value"] == pytest.approx(-back["difference"]["value"])
    assert forth["sign_test"] == back["sign_test"]


def test_named_policies_are_drawn_with_their_control_and_nobody_else(copied):
    report = compared(copied, "base", "human", "random")
    assert [row["policy"] for row in report["policies"]] == ["base", "human", "random"]
    assert report["compared"] == ["base", "human", "random"]
    assert {row["policy"] for row in compared(copied)["policies"]} == {"base", "human", "pickscore", "random"}


def test_a_policy_by_its_path_is_the_policy(copied):
    report = compared(copied, "human", f"{copied}/policies/pickscore")
    assert report["compared"] == ["human", "pickscore"]


def test_policies_of_another_run_stand_beside_its_pictures_and_its_control(copied, other):
    report = compared(copied, "human", "ai", f"{other}/policies/human", f"{other}/policies/pickscore")
    told = {row["policy"]: (row["kind"], row["judge"], row["images_of"]) for row in report["policies"]}
    assert told["other/human"] == ("other run", "human", "other")
    assert told["other/random"] == ("other run", "random", "other")
    grid = report["sets"][0]["factors"]
    assert (grid["labels"], grid["images"]) == (["human", "pickscore"], ["run", "other"])
    cells = {(cell["labels"], cell["images"]) for cell in grid["cells"]}
    assert cells == {(label, image) for label in ("human", "pickscore", "random") for image in ("run", "other")}
    assert {effect["effect"] for effect in grid["effects"]} == {"labels", "images", "interaction"}
    assert report["titles"]["other/human"] == "other/human (simulated)"


def test_the_effects_are_sums_of_the_means(copied, other):
    report = compared(copied, "human", "ai", f"{other}/policies/human", f"{other}/policies/pickscore")
    means = {
        row["policy"]: row["mean"]["value"]
        for row in report["sets"][0]["means"]
        if row["metric"] == "utility" and row["category"] is None
    }
    found = {row["effect"]: row["difference"]["value"] for row in report["sets"][0]["factors"]["effects"]}
    own, theirs = means["pickscore"] - means["human"], means["other/pickscore"] - means["other/human"]
    assert found["labels"] == pytest.approx((own + theirs) / 2)
    assert found["interaction"] == pytest.approx(theirs - own)


def test_a_run_that_has_met_the_held_out_prompts_is_refused(copied, other, tmp_path):
    run = Path(shutil.copytree(other, tmp_path / "leaky"))
    table = Run(run, config.load(run / "recipe.yaml"))
    mine = Run(copied, config.load(copied / "recipe.yaml"))
    held_out = [row for row in mine.rows("prompts") if row["split"] == "eval"]
    table.commit("prompts", [row | {"split": "train"} for row in held_out[:2]], "more")
    assert "trained on 2 of the 4 held-out prompts" in refused(copied, "human", f"{run}/policies/human")


def test_a_lora_file_draws_what_its_policy_draws(copied, tmp_path):
    lora = Path(shutil.copy(copied / "policies" / "human" / "seed-0" / LORA_FILE, tmp_path / "mine.safetensors"))
    report = compared(copied, "human", str(lora))
    (row,) = [row for row in report["policies"] if row["kind"] == "lora"]
    found = duel(report, row["policy"], "human")
    assert (found["wins"], found["ties"], found["losses"]) == (0, 4, 0)
    assert found["sign_test"] == 1.0
    assert row["labellers"] is None
    assert any("Whose labels" in text for text in report["cautions"])


def test_a_pipeline_that_is_the_base_ties_with_it(copied, tmp_path):
    same = Path(shutil.copytree(shapes.weights("pipeline"), tmp_path / "models" / "same"))
    found = duel(compared(copied, "base", str(same)), "models/same", "base")
    assert (found["ties"], found["win_rate"]["value"]) == (4, 0.5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere/at/all", "there is no file or folder nowhere/at/all"),
        ("./nowhere.safetensors", "there is no file or folder ./nowhere.safetensors"),
        ("humn", "no judge 'humn', did you mean 'human'?"),
        ("human+sft", "no finished policy 'human+sft'"),
    ],
)
def test_a_name_that_stands_for_nothing_is_one_line(copied, name, said):
    assert said in refused(copied, "human", name)


def test_a_folder_and_a_file_that_are_no_policy_are_one_line(copied, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("no policy")
    assert "holds no finished policy" in refused(copied, "human", str(tmp_path / "empty"))
    assert "is no policy" in refused(copied, "human", str(tmp_path / "notes.md"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    assert "is no LoRA for this model" in refused(copied, "human", str(broken), code=3)


def test_a_file_in_the_place_of_the_report_and_a_limit_of_nothing_are_told_at_once(copied, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file; name a folder" in refused(copied, "human", "vs", "ai", "--out", str(tmp_path / "file"))
    assert "--limit 4 takes prompts of a suite" in refused(copied, "human", "vs", "ai", "--limit", "4")


def test_prompts_that_the_oracle_cannot_read_are_said_to_be(copied, tmp_path):
    prompts = tmp_path / "mine.txt"
    prompts.write_text("a red circle\nan astronaut on a horse\n")
    report = compared(copied, "human", "vs", "ai", "--suite", str(prompts))
    assert report["sets"][0]["primary"] != "utility"
    assert any("1 of 2 prompts are not of the shapes grammar" in text for text in report["cautions"])


def test_the_base_alone_is_no_comparison(copied):
    assert "name a policy as well" in refused(copied, "base")


def test_a_hub_id_that_cannot_be_had_is_missing_and_not_wrong(copied):
    line = refused(copied, "human", "nobody/no-such-model", code=4)
    assert "nobody/no-such-model" in line


def test_judges_alone_need_no_policy(tmp_path):
    run = tmp_path / "labelled"
    for command in (("generate", *TINY), ("label", "--scorer", "pickscore", "--scorer", "clip")):
        assert ddpo(*command, run=run).exit_code == 0
    report = compared(run)
    assert (report["policies"], report["sets"]) == ([], [])
    assert report["judges"]["names"] == ["human", "pickscore", "clip", "random"]
    assert compared(run, "--judge", "human", "--judge", "clip")["judges"]["names"] == ["human", "clip"]
    assert "no preferences of judge 'aesthetic'" in refused(run, "--judge", "aesthetic")
    assert "no finished policy 'human'" in refused(run, "human", "vs", "ai")
    assert (run / "report" / "index.html").exists()


def test_prompts_of_a_file_take_the_place_of_those_held_out(copied, tmp_path):
    prompts = tmp_path / "mine.txt"
    prompts.write_text("a red circle\na green cross and a blue circle\na red circle\n")
    report = compared(copied, "human", "vs", "ai", "--suite", str(prompts))
    (found,) = report["sets"]
    assert (found["set"], found["prompts"]) == ("mine.txt", 2)
    assert found["primary"] == "utility"
    both = compared(copied, "human", "vs", "ai", "--suite", "held-out", "--suite", str(prompts), "--limit", "1")
    assert [(found["set"], found["prompts"]) for found in both["sets"]] == [("held-out", 4), ("mine.txt", 1)]


def test_a_scorer_may_measure_that_labelled_nothing(copied):
    before = compared(copied, "human", "vs", "ai")
    report = compared(copied, "human", "vs", "ai", "--scorer", "jpeg")
    names = [metric["metric"] for metric in report["sets"][0]["metrics"]]
    assert names == [*(metric["metric"] for metric in before["sets"][0]["metrics"]), "jpeg"]
    assert not duel(report, "pickscore", "base", "jpeg")["in_loop"]
    assert duel(report, "pickscore", "base", "pickscore")["in_loop"]
    after = compared(copied, "human", "vs", "ai")
    assert after["sets"][0]["metrics"] == before["sets"][0]["metrics"]  # it was asked for once


def test_several_pictures_a_prompt_are_paired_by_their_seeds(copied):
    report = compared(copied, "human", "vs", "ai", "compare.images=3", "compare.spread_prompts=0")
    assert report["sets"][0]["images_per_prompt"] == 3
    found = duel(report, "human", "base")
    assert found["wins"] + found["ties"] + found["losses"] == 12
    assert found["prompts_won"] + found["prompts_tied"] + found["prompts_lost"] == 4


def test_a_second_comparison_draws_nothing_loads_nothing_and_says_the_same(copied):
    first = compared(copied, "human", "vs", "ai")
    before = {path: path.read_bytes() for path in copied.rglob("part-*.parquet")}
    shown = ddpo_process(
        "compare",
        "human",
        "vs",
        "ai",
        "--json",
        "--run",
        str(copied),
        cwd=copied,
        before="import atexit, sys\n"
        "heavy = ('torch', 'diffusers', 'transformers')\n"
        "atexit.register(lambda: print('LOADED', [m for m in heavy if m in sys.modules], file=sys.stderr))",
    )
    assert shown.returncode == 0, shown.stderr
    assert "LOADED []" in shown.stderr
    told = {"made": "", "commit": ""}  # when it was made, and from which commit of a checkout that may move on
    assert json.loads(shown.stdout) | told == first | told
    assert {path: path.read_bytes() for path in copied.rglob("part-*.parquet")} == before


def test_everything_said_is_in_the_json(copied):
    said = ddpo("compare", "human", "vs", "ai", run=copied)
    report = json.loads((copied / "report" / "report.json").read_text())
    for sentence in (*report["headline"], *report["cautions"]):
        assert sentence in said.stdout
    assert compared(copied, "human", "vs", "ai", "--out", str(copied / "elsewhere"))["headline"] == report["headline"]
    assert (copied / "elsewhere" / "index.html").exists()
