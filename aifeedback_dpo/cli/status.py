"""ddpo status"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import Json, RunNamed, RunOrShapes

if TYPE_CHECKING:
    from aifeedback_dpo.store import Run
    from aifeedback_dpo.workers import Worker

MEASURED = {"loss": "loss", "implicit_accuracy": "implicit accuracy", "held_out_accuracy": "on held-out pairs"}


@options.guarded
def status(folder: RunNamed = None, run: RunOrShapes = None, json: Json = False) -> None:
    """Say what is in a run: rows, judges, who is at work and how far, how far each policy has come, and what made them."""
    from aifeedback_dpo import workers
    from aifeedback_dpo.errors import UserError
    from aifeedback_dpo.records import KEYS, TABLES

    opened = options.open_run(options.named_run(folder, run), None, None)
    begun, working = opened.saved() is not None, workers.read(opened)
    if not (begun or working):
        raise UserError(f"{opened.root} is not a run; `ddpo generate` makes one")
    rows = {table: opened.read(table, [KEYS[table]]).num_rows for table in TABLES}
    policies, made_by = _policies(opened), opened.manifest()["made_by"]
    if json:
        told = [{name: _finite(value) for name, value in policy.items()} for policy in policies]
        options.emit(
            {
                "run": str(opened.root),
                "rows": rows,
                "policies": told,
                "made_by": made_by,
                "workers": [asdict(each) for each in working],
            }
        )
        return
    typer.echo(f"{opened.root} ({f'recipe {opened.recipe.name}' if begun else 'nothing made yet'})")
    for table, count in rows.items() if begun else ():
        typer.echo(f"  {table:12} {count} rows")
    for work, entry in made_by.items():
        if not work.startswith("train/"):  # policies are told below, as they lie on the disk
            typer.echo(f"  {work:24} {_stage(work, entry['status'], working)}")
    for worker in working:
        typer.echo(f"  {worker}: {_how(worker)}")
    for policy in policies:
        typer.echo(f"  {opened.recipe.title(policy['policy'])}, seed {policy['seed']}: {_told(policy)}")


def _stage(work: str, status: str, working: Sequence["Worker"]) -> str:
    """How a stage fares: one that was stopped by force left word that it was running, and nobody is at it."""
    from aifeedback_dpo.workers import AT_WORK

    command = work.partition("/")[0]
    is_at_work = any((worker.command, worker.status) == (command, AT_WORK) for worker in working)
    return "not finished" if status == "running" and not is_at_work else status


def _how(worker: "Worker") -> str:
    """How a process fares, in words."""
    of = f" of {worker.of}" if worker.of else ""
    told = f"{worker.status}, {worker.done}{of} done, last seen {worker.seen}"
    lost = f", {len(worker.told)} pictures cannot be read" if worker.told else ""
    again = "; run it again to go on" if worker.status in ("gone", "failed", "interrupted") else ""
    return told + lost + (f" ({worker.error})" if worker.error else "") + again


def _policies(run: "Run") -> list[dict[str, Any]]:
    """Every policy trained or in training, by name and seed."""
    found = []
    for folder in run.root.glob("policies/*/seed-*"):
        seed = re.fullmatch(r"seed-(-?\d+)", folder.name)
        if seed and any((folder / name).exists() for name in ("policy.json", "inputs.json")):
            found.append({"policy": folder.parent.name, "seed": int(seed[1]), **_progress(folder)})
    return sorted(found, key=lambda policy: (policy["policy"], policy["seed"]))


def _progress(folder: Path) -> dict[str, Any]:
    """How far a policy has come, from its description, or from its inputs and its log while it has none.

    Held-out pairs are asked at some steps only: the last answer is given with its step. Raises DataError for a description
    or inputs that cannot be read.
    """
    from aifeedback_dpo.store import read_inputs, read_policy

    finished = (folder / "policy.json").exists()
    described = read_policy(folder) if finished else {}
    inputs = described["inputs"] if finished else read_inputs(folder)
    last = described["last"] | {"step": described["steps"] - 1} if finished else _newest(folder)
    asked = last if "held_out_accuracy" in last else _newest(folder, "held_out_accuracy")
    saved = [int(path.stem.removeprefix("step-")) for path in folder.glob("checkpoints/step-*.pt")]
    ended = described.get("ended_early")
    stopped = folder / "stopped.txt"
    return {
        "judge": inputs["judge"],
        "objective": inputs["train"]["objective"],
        "status": "not finished" if not finished else "ended early" if ended else "finished",
        "ended_early": ended,
        "stopped": stopped.read_text().strip() if stopped.exists() else None,
        "steps": last["step"] + 1 if last else 0,
        "steps_asked": inputs["train"]["steps"],
        "checkpoint": max(saved, default=None),
        "loss": last.get("loss"),
        "implicit_accuracy": last.get("implicit_accuracy"),
        "held_out_accuracy": asked.get("held_out_accuracy"),
        "held_out_step": asked["step"] + 1 if asked else None,
    }


def _newest(folder: Path, column: str = "step") -> dict[str, Any]:
    """The last whole row of the log that has this column; empty where there is none."""
    import json

    path = folder / "metrics.jsonl"
    for line in reversed(path.read_text().splitlines() if path.exists() else []):
        if f'"{column}"' in line:
            try:
                return dict(json.loads(line))
            except ValueError:
                continue  # the line that is being written, or that a kill cut short
    return {}


def _told(policy: dict[str, Any]) -> str:
    """A policy in a line."""
    said = [f"{policy['objective']}, {policy['status']} after {policy['steps']} of {policy['steps_asked']} steps"]
    if policy["ended_early"]:
        said[0] += f" ({policy['ended_early']})"
    if policy["stopped"]:
        said[0] += f" (stopped at {policy['stopped']})"
    if policy["checkpoint"] is not None:
        said.append(f"checkpoint after {policy['checkpoint']}")
    for name, title in MEASURED.items():
        if policy[name] is not None:
            said.append(f"{title} {policy[name]:.3g}")
    if policy["held_out_step"] not in (None, policy["steps"]):
        said[-1] += f" (after {policy['held_out_step']})"
    return ", ".join(said)


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
