"""How a study goes through its stages: what stops it and what does not, and whose policies are compared."""

from pathlib import Path

import pytest

from aifeedback_dpo import engine, generate, label, prompts, study
from aifeedback_dpo.dpo import train
from aifeedback_dpo.errors import DdpoError, UserError
from aifeedback_dpo.store import Run

NAMES = ("human", "pickscore", "random", "human+sft", "random+sft")


@pytest.fixture
def opened(tmp_path: Path) -> study.Opened:
    return study.open_study(tmp_path / "study", "human-vs-ai", ["prompts.train=3", "prompts.eval=2"])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """Stages that do nothing; gives what is trained: the run, train.name, and the judges."""
    calls: list[tuple[str, str | None, tuple[str, ...]]] = []
    monkeypatch.setattr(generate, "generate", lambda run, progress: prompts.commit(run, prompts.read(run)))
    monkeypatch.setattr(label, "label", lambda *given: None)
    monkeypatch.setattr(
        train,
        "train",
        lambda run, judges, progress: calls.append((run.root.name, run.recipe.train.name, tuple(judges))),
    )
    return calls


def finish(root: Path, *names: str, seed: int = 0) -> None:
    for name in names:
        folder = root / "policies" / name / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "policy.json").write_text("{}")


def test_every_judge_is_trained_on_every_source_and_the_variants_beside_them(opened, trained):
    assert study.make(opened, engine.Silent()) == []
    every = ("human", "pickscore", "random")
    assert trained == [
        *(("own", None, every), ("own", "sft", ("human", "random"))),
        *(("other", None, every), ("other", "sft", ("human", "random"))),
    ]


def test_a_policy_that_was_stopped_keeps_no_other_from_being_trained(opened, trained, monkeypatch):
    before = train.train

    def spiking(run, judges, progress):
        before(run, judges, progress)
        if (run.root.name, run.recipe.train.name) == ("own", None):
            raise DdpoError("human, seed 1 was stopped at step 3")

    monkeypatch.setattr(train, "train", spiking)
    assert study.make(opened, engine.Silent()) == ["own: human, seed 1 was stopped at step 3"]
    assert len(trained) == 4


def test_what_the_user_has_to_mend_stops_the_study(opened, trained, monkeypatch):
    def refused(run, judges, progress):
        raise UserError("was trained otherwise")

    monkeypatch.setattr(train, "train", refused)
    with pytest.raises(UserError, match="trained otherwise"):
        study.make(opened, engine.Silent())


def test_a_second_study_at_work_in_the_same_folder_is_refused(opened, trained):
    with Run(opened.root, opened.recipe).alone("ddpo study"), pytest.raises(UserError, match="another `ddpo study`"):
        study.make(opened, engine.Silent())
    assert trained == []


def test_a_source_with_the_prompts_of_another_holds_out_the_same_ones(tmp_path, trained):
    asked = ["prompts.eval=2", "study.images.own.settings.prompts.train=3", "study.images.other.prompts_of=own"]
    opened = study.open_study(tmp_path / "study", "human-vs-ai", asked)
    assert {row["what"] for row in study.plan(opened) if (row["images"], row["stage"]) == ("other", "generate")} == {
        "the prompts of own, once they are there"
    }
    study.make(opened, engine.Silent())
    own, other = (arm.run for arm in opened.arms)
    assert own.rows("prompts") == other.rows("prompts")
    assert sorted(row["split"] for row in other.rows("prompts")) == ["eval"] * 2 + ["train"] * 3
    assert prompts.read(other).train == prompts.read(own).train


def test_what_is_compared_are_the_finished_policies_those_of_other_sources_by_path(opened):
    with pytest.raises(UserError, match="no finished policy"):
        study.compared(opened)
    finish(opened.root / "own", *NAMES)
    finish(opened.root / "other", "human", "random", seed=2)
    finish(opened.root / "other", "clip")  # of somebody else
    assert study.compared(opened) == [
        *("base", *NAMES),
        *(f"{opened.root}/other/policies/{name}" for name in ("human", "random")),
    ]


def test_a_study_with_its_report_is_done_until_more_policies_can_be_made(opened):
    study.finish(opened)
    assert study.plan(opened)[-1]["done"] == 1
    more = study.open_study(opened.root, None, ["study.variants.ipo={judges: [human], train: {objective: ipo}}"])
    assert study.plan(more)[-1]["done"] == 0
