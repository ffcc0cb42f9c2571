"""Which policies there are to train, from where each goes on, and which are of something else: planned without a model."""

import dataclasses
import json
import subprocess
import sys

import pytest

from aifeedback_dpo import config, records
from aifeedback_dpo.dpo import jobs
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.store import Run

PROMPTS, PAIRS = 5, 2  # of each prompt
SAID = {
    "human": [1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, None],
    "pickscore": [0.9, 0.2, 0.6, 0.7, 0.4, 0.8, 0.1, 0.3, 0.5, 0.9],
    "random": [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
}
ALL = tuple(SAID)


@pytest.fixture
def run(tmp_path) -> Run:
    """Ten pairs of five prompts and what three judges say of them; no pictures, which nobody looks at."""
    run = Run(tmp_path, config.load("shapes"))
    ids = [(f"prompt-{at // PAIRS}", f"image-{at}", f"image-{at + 1}") for at in range(PROMPTS * PAIRS)]
    names = ("prompt_id", "image_a", "image_b")
    pairs = [
        dict(zip(names, row, strict=True)) | {"pair_id": records.pair_id(*row[1:]), "chosen_by": "t"} for row in ids
    ]
    run.commit("pairs", pairs, "000000")
    for judge, votes in SAID.items():
        say(run, judge, votes)
    return run


def say(run: Run, judge: str, votes: list[float | None]) -> None:
    blank = dict.fromkeys(records.PREFERENCES.names)
    ids = run.read("pairs").column("pair_id").to_pylist()
    told = [(pair, p_a) for pair, p_a in zip(ids, votes, strict=True) if p_a is not None]
    run.commit("preferences", [blank | {"pair_id": pair, "judge": judge, "p_a": p_a} for pair, p_a in told], "0", judge)


def told(run: Run, *settings: str) -> Run:
    """The run as it is asked for with these settings."""
    return Run(run.root, config.load("shapes", [f"train.{setting}" for setting in settings]))


def finish(job: jobs.Job) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "policy.json").write_text(json.dumps({"inputs": job.inputs}))


def save(job: jobs.Job, *steps: int) -> None:
    for step in steps:
        job.checkpoint(step).parent.mkdir(parents=True, exist_ok=True)
        job.checkpoint(step).touch()
    (job.folder / "inputs.json").write_text(json.dumps(job.inputs))


def groups(planned: jobs.Plan, **how) -> list[tuple[int, list[str]]]:
    """The judges of each group, and where it starts."""
    return [(start, [job.judge for job in members]) for start, members in jobs.groups(planned, **how)]


# -- what is planned ------------------------------------------------------------------------------------------------------


def test_every_judge_is_planned_once_for_every_seed_and_ai_is_whom_it_stands_for(run):
    planned = jobs.plan(told(run, "seeds=[0,3]"), ["ai", "human", "pickscore"])
    assert [(job.judge, job.seed) for job in planned.jobs] == [
        ("pickscore", 0),
        ("pickscore", 3),
        ("human", 0),
        ("human", 3),
    ]
    assert planned.jobs[2].name == "human (simulated), seed 0"
    assert len({job.made_from for job in planned.jobs}) == 4


def test_ties_and_what_a_judge_said_nothing_of_are_not_pairs_to_train_on(run):
    planned = {job.judge: job for job in jobs.plan(run).jobs}
    assert {judge: (job.pairs, job.ties) for judge, job in planned.items()} == {
        "human": (8, 1),  # and one it was never asked about
        "pickscore": (9, 1),
        "random": (10, 0),
    }


def test_held_out_prompts_are_whole_the_same_for_every_judge_and_never_trained_on(run):
    planned = jobs.plan(told(run, "held_out.pairs=3"))
    kept, held = (set(part.column("prompt_id").to_pylist()) for part in (planned.pairs, planned.held_out))
    assert (planned.pairs.num_rows, planned.held_out.num_rows) == (6, 4)
    assert not kept & held
    assert all((len(job.p_a), len(job.held_p_a)) == (6, 4) for job in planned.jobs)
    with pytest.raises(UserError, match=r"train.held_out.pairs=9 leaves none of the 10 pairs"):
        jobs.plan(told(run, "held_out.pairs=9"))


def test_planning_loads_no_torch():
    code = "import sys; from aifeedback_dpo.dpo import jobs; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- what a policy follows from -------------------------------------------------------------------------------------------

OTHERS = (
    "beta=10",
    "objective=ipo",
    "steps=7",
    "batch_size=8",
    "rank=4",
    "precision=bfloat16",
    "guard.spike=9",
    "draws=1",
)


@pytest.mark.parametrize("state", [finish, lambda job: save(job, 10)], ids=["finished", "begun"])
@pytest.mark.parametrize("setting", OTHERS)
def test_a_policy_of_other_settings_is_refused_with_the_key_both_values_and_the_ways_out(run, state, setting):
    (job,) = jobs.plan(run, ["human"]).jobs
    state(job)
    key, _, value = setting.partition("=")
    with pytest.raises(UserError) as refused:
        jobs.plan(told(run, setting), ["human"])
    said = str(refused.value)
    old = config.load("shapes").model_dump(mode="json")["train"]
    for part in key.split("."):
        old = old[part]
    assert f"train.{key}: {old!r} there, " in said and value in said
    assert said.startswith(str(job.folder)) and "\n" not in said
    assert all(way in said for way in ("Take these back", "train.name=NAME", "delete it to start over"))
    jobs.plan(told(run, setting, "name=other"), ["human"])  # beside it
    jobs.plan(told(run, "seeds=[7]"), ["human"])


PACE = {
    "micro_batch_size": "4",
    "gradient_checkpointing": "true",
    "compile": "true",
    "channels_last": "true",
    "checkpoint_steps": "7",
    "keep_checkpoints": "1",
    "validation": "{prompts: 2, every: 10}",
    "trackers": "[tensorboard]",
    "held_out": "{every: 7}",
}


def test_all_that_is_called_pacing_is_tried_below():
    assert set(PACE) == set(jobs.PACING)


@pytest.mark.parametrize("key", PACE)
def test_the_pace_may_change_at_any_time(run, key):
    planned = jobs.plan(run)
    finish(planned.jobs[0])
    save(planned.jobs[1], 10)
    again = jobs.plan(told(run, f"{key}={PACE[key]}"))
    assert [job.made_from for job in again.jobs] == [job.made_from for job in planned.jobs]


def test_labels_that_changed_are_named_where_they_were_learnt_from(run):
    (job,) = jobs.plan(run, ["pickscore"]).jobs
    finish(job)
    say(run, "pickscore", [0.8, *SAID["pickscore"][1:]])
    jobs.plan(run, ["pickscore"])  # still on a's side, and only sides are learnt from
    for votes in ([0.1, *SAID["pickscore"][1:]], [0.5, *SAID["pickscore"][1:]], [None, *SAID["pickscore"][1:]]):
        say(run, "pickscore", votes)
        with pytest.raises(UserError, match=r"\(the run's labels changed\)"):
            jobs.plan(run, ["pickscore"])
    jobs.plan(run, ["human", "random"])  # nobody else's


def test_soft_labels_are_learnt_from_to_the_digit(run):
    (job,) = jobs.plan(told(run, "labels=soft"), ["pickscore"]).jobs
    finish(job)
    say(run, "pickscore", [0.8, *SAID["pickscore"][1:]])
    with pytest.raises(UserError, match="the run's labels changed"):
        jobs.plan(told(run, "labels=soft"), ["pickscore"])


def test_pairs_that_changed_are_named(run):
    (job,) = jobs.plan(run, ["random"]).jobs
    finish(job)
    (path,) = run.parts("pairs")
    rows = run.rows("pairs")
    path.unlink()
    run.commit("pairs", rows[:-1], "000000")
    with pytest.raises(UserError, match="the run's pairs changed; the run's labels changed"):
        jobs.plan(run, ["random"])


def test_a_second_judge_trained_in_another_way_is_refused_unless_it_gets_a_name(run):
    finish(jobs.plan(run, ["human"]).jobs[0])
    with pytest.raises(UserError, match=r"policies/human/seed-0 was .*train.beta: 2000.0 there, 10.0 asked for"):
        jobs.plan(told(run, "beta=10"), ["random"])
    (named,) = jobs.plan(told(run, "beta=10", "name=weak"), ["random"]).jobs
    assert named.policy == "random+weak"
    finish(named)
    with pytest.raises(UserError, match=r"policies/random\+weak/seed-0 was .*train.beta: 10.0 there, 20.0 asked for"):
        jobs.plan(told(run, "beta=20", "name=weak"), ["human"])
    jobs.plan(run, ["random"])


# -- from where each goes on ----------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_trained_again(run):
    planned = jobs.plan(run)
    assert groups(planned) == [(0, [*ALL])]
    finish(planned.jobs[1])
    assert groups(planned) == [(0, ["human", "random"])]
    finish(planned.jobs[0])
    finish(planned.jobs[2])
    assert groups(planned) == []


def test_judges_go_on_together_from_the_last_step_that_all_of_them_have(run):
    planned = jobs.plan(run)
    for job, steps in zip(planned.jobs, ([10, 20], [20, 30], [10, 20, 30]), strict=True):
        save(job, *steps)
    assert groups(planned) == [(20, [*ALL])]
    assert groups(dataclasses.replace(planned, together=False)) == [
        (20, ["human"]),
        (20, ["pickscore"]),
        (20, ["random"]),
    ]


def test_judges_with_no_step_in_common_go_on_from_their_own_last(run):
    planned = jobs.plan(run)
    save(planned.jobs[0], 10, 20)
    save(planned.jobs[1], 30, 40)
    assert groups(planned) == [(40, ["pickscore"]), (20, ["human"]), (0, ["random"])]


def test_a_judge_that_is_added_starts_by_itself_and_the_others_stay_together(run):
    planned = jobs.plan(run)
    save(planned.jobs[0], 10)
    save(planned.jobs[2], 10)
    assert groups(planned) == [(10, ["human", "random"]), (0, ["pickscore"])]


def test_seeds_are_trained_apart(run):
    planned = jobs.plan(told(run, "seeds=[0,1]"), ["human", "random"])
    save(planned.jobs[0], 10)
    assert groups(planned) == [(10, ["human"]), (0, ["random"]), (0, ["human", "random"])]


def test_a_step_is_gone_on_from_where_all_have_it_and_refused_where_one_has_not(run):
    planned = jobs.plan(run)
    for job, steps in zip(planned.jobs, ([10, 20], [10, 30], [10, 20]), strict=True):
        save(job, *steps)
    assert groups(planned, from_step=10) == [(10, [*ALL])]
    with pytest.raises(UserError, match=r"pickscore/seed-0 has no checkpoint after step 20: there are 10, 30\. Leave"):
        groups(planned, from_step=20)
    finish(planned.jobs[1])  # which needs none
    assert groups(planned, from_step=20) == [(20, ["human", "random"])]
    finish(planned.jobs[0])
    finish(planned.jobs[2])
    with pytest.raises(UserError, match=r"--from-step 20, but human.* is finished and keeps no checkpoints; delete"):
        groups(planned, from_step=20)
    added = jobs.plan(told(run, "seeds=[5]"))
    with pytest.raises(UserError, match="no checkpoint after step 10: there is none"):
        groups(added, from_step=10)


def test_files_that_are_no_checkpoints_are_left_alone(run):
    (job,) = jobs.plan(run, ["human"]).jobs
    save(job, 10, 5)
    for name in (".step-000020.pt.77.tmp", "step-000030.pt.bak", "step-best.pt", "notes.txt"):
        (job.folder / "checkpoints" / name).touch()
    assert job.checkpoints() == [5, 10]
