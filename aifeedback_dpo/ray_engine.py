"""Slices on Ray: a pool of actors, one a device, each with its model loaded; on the cluster of RAY_ADDRESS, or on this machine.

Ray Data (`map_batches` over a pool of actors) hands out the slices, starts those actors again that die, and hands their slices
to others. What goes to an actor is the job (prompts, ids and settings) and places in the plan, and counts come back: actors
read the run and commit their parts themselves, so all machines need its folder at the same path.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aifeedback_dpo import engine, workers
from aifeedback_dpo.engine import Asked, Job, Progress, Slice
from aifeedback_dpo.errors import DdpoError, UserError

PATIENCE = 1800.0  # seconds in which no slice is done anywhere, before it is called a standstill
SPARE_CPUS = 3  # logical ones that Ray Data needs beside its actors; without them it waits for ever
QUIETLY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
OBJECTS = 256 * 2**20  # bytes for what passes between processes: numbers


def run(asked: Asked[Any], progress: Progress, pool: int | None) -> None:
    """Has a pool of actors do the slices that are left. Raises DdpoError where some could not be done; the others are."""
    job = asked.job.elsewhere(replace(asked.job.run, root=asked.job.run.root.absolute()))
    failed, done = list[Mapping[str, Any]](), 0
    with (
        workers.pool(job.run, job.command),
        _session(pool) as (number, has_gpus),
        progress.task(asked.job.title, asked.total, asked.done) as bar,
    ):
        asked.begun()
        for row in _done(job, asked.parts, number, has_gpus):
            if row["error"]:
                failed.append(row)
                continue
            done += row["work"]
            bar.advance(row["work"])
    left = sum(part.work for part in asked.parts) - done
    if failed:
        error = DdpoError(f"{left} of {asked.total} are not done: {failed[0]['error']}")
        error.exit_code = failed[0]["code"]
        raise error
    if left:
        raise DdpoError(
            f"{left} of {asked.total} are not done, and Ray does not say why; what was committed is kept. Run the same command "
            "again to go on"
        )


class Actor:
    """One worker: loads what the job needs once, and does slices."""

    def __init__(self, job: Job[Any], folder: str) -> None:
        self.job, self.failed = job, dict[str, Any]()
        self._open = ExitStack()
        try:
            if not Path(folder).is_dir():
                raise UserError(f"{folder} is not on {socket.gethostname()}; all machines need the same folders")
            os.chdir(folder)
            sys.path.insert(0, folder)
            self.work = self._open.enter_context(job.begin(engine.Silent()))
        except Exception as error:  # Ray would start it again and again; the driver tells of it
            self.failed = _told(error)
        else:
            self.said = workers.in_pool(job.run, job.command)

    def __call__(self, batch: "dict[str, np.ndarray[Any, Any]]") -> "dict[str, np.ndarray[Any, Any]]":
        rows = [self._do(json.loads(told)) for told in batch["slice"].tolist()]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def _do(self, told: Mapping[str, Any]) -> dict[str, Any]:
        part = Slice(told["name"], told["at"], tuple(told["asked"]))
        row = {"work": part.work, "error": "", "code": 0}
        if self.failed or self.job.committed(part):
            return row | self.failed
        try:
            found = self.work(part, None)
            self.work.settle()
        except Exception as error:  # one slice that fails keeps no other from being done; the driver tells of it
            return row | _told(error)
        self.said.worker.told += [one.image_id for one in found]
        self.said.advance(part.work)
        return row


def _told(error: Exception) -> dict[str, Any]:
    """What went wrong, and the exit code of it."""
    text = str(error) if isinstance(error, DdpoError) else f"{type(error).__name__}: {error}"
    return {"error": text, "code": getattr(error, "exit_code", 1)}


def _done(job: Job[Any], parts: Sequence[Slice], number: int, has_gpus: bool) -> Iterator[Mapping[str, Any]]:
    """What became of each slice, as they get done."""
    import ray.data
    from ray.data.exceptions import ExecutionTimeoutError

    told = [json.dumps({"name": part.name, "at": list(map(int, part.at)), "asked": part.asked}) for part in parts]
    rows = ray.data.from_items([{"slice": one} for one in told], override_num_blocks=len(told))
    settings = rows.context
    settings.execution_no_progress_timeout_s = PATIENCE
    settings.max_errored_blocks = -1  # told of at the end
    settings.enable_progress_bars = settings.print_on_execution_start = False
    done = rows.map_batches(
        Actor,
        fn_constructor_kwargs={"job": job, "folder": str(Path.cwd())},
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=number, initial_size=number),
        num_cpus=0.5 if has_gpus else 1,
        num_gpus=1 if has_gpus else 0,
    )
    try:
        yield from done.iter_rows()
    except ExecutionTimeoutError as error:
        raise DdpoError(
            f"no worker on Ray has done anything for {PATIENCE / 60:.0f} minutes: a machine may be missing, or its memory too "
            "small for the model. What was committed is kept; look at `ray status`, and run the same command again"
        ) from error


@contextmanager
def _session(pool: int | None) -> Iterator[tuple[int, bool]]:
    """Ray, joined or started here and ended again; how many actors there are to be, and whether each has a GPU.

    Raises UserError where Ray is not installed, and for a cluster that cannot be joined.
    """
    for name, value in QUIETLY.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError("--engine ray needs Ray; `pip install 'aifeedback_dpo[ray]'`") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    joined = ray.is_initialized()
    if not joined and (address := os.environ.get("RAY_ADDRESS")):
        try:
            with _hushed():
                ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"RAY_ADDRESS={address} cannot be joined ({reason}); start Ray there, or unset it"
            ) from error
    elif not joined:
        logical = max(os.cpu_count() or 1, (pool or 1)) + SPARE_CPUS
        with _hushed():
            ray.init(address="local", num_cpus=logical, object_store_memory=OBJECTS, **quiet)
    try:
        with redirect_stdout(sys.stderr):  # what Ray has to say of workers that died
            gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
            yield pool or max(1, gpus), gpus > 0
    finally:
        if not joined:
            ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the line that Ray writes to stderr, past Python, when it is asked to be quiet."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
