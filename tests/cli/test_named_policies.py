"""Policies of other settings, kept apart by train.name: compared, reported, and told by `ddpo status`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from aifeedback_dpo import config
from aifeedback_dpo.store import Run
from tests.conftest import ddpo, ddpo_process

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def named(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run with human+sft and pickscore+beta500 beside its policies. Tests copy it before they change anything."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("named") / "run"))
    for judge, *settings in (
        ("human", "train.objective=sft", "train.name=sft"),
        ("ai", "train.beta=500", "train.name=beta500", "train.held_out.pairs=3"),
    ):
        result = ddpo("train", "--judge", judge, *settings, run=run)
        assert result.exit_code == 0, result.output
    return run


def compared(run: Path, *names: str) -> dict[str, Any]:
    result = ddpo("compare", *names, "--json", run=run)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def refused(run: Path, *arguments: str) -> str:
    """The one line that is said."""
    result = ddpo("compare", *arguments, run=run)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    return line


def test_a_judges_policies_are_compared_by_their_settings(named):
    report = compared(named, "human", "vs", "human+sft")
    assert report == json.loads((named / "report" / "report.json").read_text())
    judges = {row["policy"]: row["judge"] for row in report["policies"]}
    assert report["compared"] == ["human", "human+sft"]
    assert (judges["human"], judges["human+sft"]) == ("human", "human")
    (differ,) = report["differ_in"]
    assert (differ["same_judge"], differ["settings"]) == (True, {"train.objective": ["dpo", "sft"]})
    assert "agree on" not in " ".join(report["headline"])
    against = {(row["policy"], row["against"]) for row in report["sets"][0]["duels"]}
    everyone = {"human", "human+sft", "random"}
    assert against == {(name, "base") for name in everyone} | {("human+sft", "human"), ("human", "random")}


def test_the_report_says_how_each_policy_was_trained_and_beta_where_it_has_one(named):
    report = compared(named)
    trained = {
        row["policy"]: row["training"] | {"judge": row["judge"]} for row in report["policies"] if row["training"]
    }
    told = {name: (row["judge"], row["objective"], row["beta"], row["steps"]) for name, row in trained.items()}
    assert told == {
        "human": ("human", "dpo", 2000, {"0": 3}),
        "human+sft": ("human", "sft", None, {"0": 3}),
        "pickscore": ("pickscore", "dpo", 2000, {"0": 3}),
        "pickscore+beta500": ("pickscore", "dpo", 500, {"0": 3}),
        "random": ("random", "dpo", 2000, {"0": 3}),
    }
    # as Eq. 14 counts it: beta / 2 over the elements of a latent, four times smaller for a beta four times smaller
    of_equation_14 = {name: row["beta_of_equation_14"] for name, row in trained.items()}
    assert of_equation_14["human+sft"] is None
    assert of_equation_14["pickscore+beta500"] == pytest.approx(of_equation_14["pickscore"] / 4)


def test_people_who_are_simulated_are_called_so_in_the_names_of_policies(named):
    report = compared(named, "human", "vs", "human+sft")
    page = (named / "report" / "index.html").read_text()
    shown = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", page, flags=re.S)
    for text in (shown, " ".join(report["headline"])):
        assert "human (simulated)+sft" in text
        assert not re.search(r"\bhuman\b(?! \(simulated\))", text)


def test_the_judge_behind_a_policy_is_what_labels_and_marks_go_by(named):
    plain = compared(named, "human", "vs", "ai")
    report = compared(named, "human", "vs", "ai+beta500")
    assert report["compared"] == ["human", "pickscore+beta500"]
    assert report["judges"] == plain["judges"]
    hands = {row["policy"]: row["labellers"] for row in report["policies"]}
    assert hands == {"base": [], "human": ["human"], "pickscore+beta500": ["pickscore"], "random": ["random"]}
    (differ,) = report["differ_in"]
    assert differ["settings"] == {"train.beta": [2000, 500], "train.held_out.pairs": [0, 3]}
    duels = report["sets"][0]["duels"]
    marked = {(row["policy"], row["against"]) for row in duels if row["in_loop"]}
    assert {row["metric"] for row in duels if row["in_loop"]} == {"pickscore"}
    assert marked == {("pickscore+beta500", "base"), ("pickscore+beta500", "human")}


def test_a_policy_is_out_of_date_with_the_labels_of_its_judge(named, tmp_path):
    copy = Path(shutil.copytree(named, tmp_path / "run"))
    run = Run(copy, config.load(copy / "recipe.yaml"))
    (part,) = run.parts("preferences", "human")
    turned = [row | {"p_a": 1 - row["p_a"]} for row in run.rows("preferences", name="human")]
    run.commit("preferences", turned, part.stem.removeprefix("part-"), "human")
    line = refused(copy, "pickscore", "vs", "human+sft", "--dry-run")
    assert "policies/human+sft/seed-0 was trained on other labels" in line
    every = ddpo("compare", "pickscore", "vs", "pickscore+beta500", "--dry-run", "--json", run=copy)
    left = json.loads(every.stdout)
    assert left["policies"] == ["base", "pickscore/seed-0", "pickscore+beta500/seed-0", "random/seed-0"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "human+sff",
            "no finished policy 'human+sff', did you mean 'human+sft'? `ddpo train --judge human train.name=sff`",
        ),
        ("humn+sft", "no judge 'humn', did you mean 'human'?"),
        ("ai+sft", "no finished policy 'pickscore+sft'"),
    ],
)
def test_an_unknown_policy_is_one_line_with_those_there_are(named, name, said):
    line = refused(named, "human", "vs", name)
    assert said in line
    assert line.endswith("Trained here: human, human+sft, pickscore, pickscore+beta500, random")


def test_a_policy_is_not_compared_with_itself(named):
    assert "are one policy" in refused(named, "ai+beta500", "vs", "pickscore+beta500")


def begun(run: Path, policy: str, rows: list[dict[str, Any]], tail: str = "") -> Path:
    """A policy as it lies on the disk while it trains."""
    folder = run / "policies" / policy / "seed-0"
    (folder / "checkpoints").mkdir(parents=True)
    inputs = {"judge": policy.partition("+")[0], "train": {"objective": "ipo", "steps": 150}}
    (folder / "inputs.json").write_text(json.dumps(inputs))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return folder


def told(run: Path, policy: str) -> dict[str, Any]:
    result = ddpo("status", "--json", run=run)
    assert result.exit_code == 0, result.output
    (row,) = [row for row in json.loads(result.stdout)["policies"] if row["policy"] == policy]
    return dict(row)


def test_status_tells_how_far_a_policy_in_training_has_come(copied):
    """Steps are counted from 0 in the log and from 1 for people; a line that a kill cut short does not count."""
    rows = [{"step": step, "loss": 0.7 - step / 1000, "implicit_accuracy": 0.5} for step in range(73)]
    rows[49]["held_out_accuracy"] = 0.58
    folder = begun(copied, "human+ipo", rows, tail='{"step": 73, "lo')
    for step in (25, 50):
        (folder / "checkpoints" / f"step-{step:06d}.pt").touch()
    assert told(copied, "human+ipo") == {
        "policy": "human+ipo",
        "seed": 0,
        "judge": "human",
        "objective": "ipo",
        "status": "not finished",
        "ended_early": None,
        "stopped": None,
        "steps": 73,
        "steps_asked": 150,
        "checkpoint": 50,
        "loss": pytest.approx(0.628),
        "implicit_accuracy": 0.5,
        "held_out_accuracy": 0.58,
        "held_out_step": 50,
    }
    assert (
        "human (simulated)+ipo, seed 0: ipo, not finished after 73 of 150 steps, checkpoint after 50, loss 0.628, "
        "implicit accuracy 0.5, on held-out pairs 0.58 (after 50)\n"
    ) in ddpo("status", run=copied).stdout


def test_status_tells_a_policy_before_its_first_step_and_one_whose_loss_is_no_number(copied):
    begun(copied, "human+new", [])
    begun(copied, "random+spike", [{"step": 4, "loss": float("nan")}])
    new, spike = told(copied, "human+new"), told(copied, "random+spike")
    assert (new["steps"], new["loss"], new["checkpoint"], new["held_out_step"]) == (0, None, None, None)
    assert (spike["steps"], spike["loss"]) == (5, None)
    assert "NaN" not in ddpo("status", "--json", run=copied).stdout
    assert "random+spike, seed 0: ipo, not finished after 5 of 150 steps, loss nan" in ddpo("status", run=copied).stdout


def test_status_tells_finished_policies_and_those_that_ended_early(named, tmp_path):
    copy = Path(shutil.copytree(named, tmp_path / "run"))
    sft, asked = told(copy, "human+sft"), told(copy, "pickscore+beta500")
    assert (sft["status"], sft["steps"], sft["steps_asked"], sft["implicit_accuracy"]) == ("finished", 3, 3, None)
    assert 0 <= asked["held_out_accuracy"] <= 1
    assert asked["held_out_step"] == 3
    path = copy / "policies" / "human" / "seed-0" / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": 2, "ended_early": "winners got worse"}))
    early = told(copy, "human")
    assert (early["status"], early["steps"], early["ended_early"]) == ("ended early", 2, "winners got worse")
    said = ddpo("status", run=copy).stdout
    assert "human (simulated), seed 0: dpo, ended early after 2 of 3 steps (winners got worse), loss" in said


def test_why_a_policy_ended_early_is_in_the_report(named, tmp_path):
    copy = Path(shutil.copytree(named, tmp_path / "run"))
    path = copy / "policies" / "human" / "seed-0" / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": 2, "ended_early": "winners got <worse>"}))
    (row,) = [row["training"] for row in compared(copy, "human", "vs", "ai")["policies"] if row["policy"] == "human"]
    assert (row["steps"], row["steps_asked"], row["ended_early"]) == ({"0": 2}, 3, {"0": "winners got <worse>"})
    page = (copy / "report" / "index.html").read_text()
    assert "</b>, training seed 0, ended early after 2 of 3 steps: winners got &lt;worse&gt;." in page


def test_status_loads_nothing_heavy(named):
    shown = ddpo_process(
        "status",
        "--run",
        str(named),
        cwd=named,
        before="import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', [m for m in ('torch', 'diffusers', 'matplotlib') if m in sys.modules]))",
    )
    assert shown.returncode == 0, shown.stderr
    assert "human+sft" not in shown.stdout  # simulated people are called so
    assert "LOADED []" in shown.stdout
