"""Shared fixtures. No test reaches a network: the hub is switched off before anything can import it."""

import atexit
import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from typer.testing import CliRunner, Result

gc.disable()  # until all is imported, which leaves nothing to collect
atexit.register(gc.unfreeze)

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.fsync = lambda descriptor: None  # milliseconds a file, for a power cut, which no test makes
os.environ["OMP_NUM_THREADS"] = "1"  # tiny models gain nothing from a second thread, and tests run beside each other

# Tensor shapes in the type hints of the numerics are checked at run time.
install_import_hook(
    ["aifeedback_dpo.dpo.losses", "aifeedback_dpo.dpo.noise", "aifeedback_dpo.dpo.step"], "beartype.beartype"
)

TINY = (
    "prompts.train=6",
    "prompts.eval=4",
    "generate.pairs=3",
    "generate.steps=2",
    "generate.batch_size=4",
    "generate.images_per_part=4",
    "label.images_per_part=8",
    "train.steps=3",
    "train.batch_size=4",
    "compare.resamples=50",
)


def ddpo(*arguments: str, run: Path) -> Result:
    """The command line in this process, so that torch is imported once for all tests."""
    from aifeedback_dpo.cli.app import app

    return CliRunner().invoke(app, [*arguments, "--run", str(run)])


def ddpo_process(*arguments: str, cwd: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; `before` is Python that runs first, to break something."""
    code = f"{before}\nfrom aifeedback_dpo.cli.app import app\napp()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests first, and of them those that fork: what is long is not left to the end, and one worker forks it all."""
    items.sort(key=lambda item: (not item.get_closest_marker("slow"), not hasattr(item.module, "Forked")))


def pytest_collection_finish() -> None:
    """What was imported stays; the collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


class Forked:
    """The command line in a process forked from one that has imported everything: for what ends a process, or joins others.

    `before` is Python that runs first, with `environment` in place.
    """

    def __init__(
        self, *arguments: str, run: Path, environment: Mapping[str, str] | None = None, before: str = ""
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        imports = ("tests.conftest", "aifeedback_dpo.cli.app", "aifeedback_dpo.dpo.train", "torch.distributed.fsdp")
        context.set_forkserver_preload([*imports])
        self._says = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self._says)
        told = [*arguments, "--run", str(run)]
        self._process = context.Process(target=_forked, args=(told, dict(environment or {}), before, self._says))
        self._process.start()

    @property
    def exit_code(self) -> int:
        self._process.join()
        return self._process.exitcode

    @property
    def said(self) -> str:
        """What it wrote to stderr."""
        self._process.join()
        return (self._says / "2").read_text()

    @property
    def printed(self) -> str:
        """What it wrote to stdout."""
        self._process.join()
        return (self._says / "1").read_text()


def _forked(told: list[str], environment: Mapping[str, str], before: str, says: Path) -> None:
    gc.freeze()
    gc.enable()
    for descriptor in (1, 2):
        with (says / str(descriptor)).open("w") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.update(environment)
    exec(before, {})
    from aifeedback_dpo.cli.app import app

    app(told)


@pytest.fixture(autouse=True)
def _no_accelerator_left() -> Iterator[None]:
    """accelerate keeps one precision a process; each test may choose its own, whatever its fixtures trained before it."""
    _forget_accelerator()
    yield
    _forget_accelerator()


def _forget_accelerator() -> None:
    if accelerate := sys.modules.get("accelerate"):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that went through all four stages. Tests copy it before they change anything."""
    run = tmp_path_factory.mktemp("finished") / "run"
    for command in (
        ("generate", *TINY),
        ("label", "--scorer", "pickscore"),
        ("train",),
        ("compare", "human", "vs", "ai"),
    ):
        result = ddpo(*command, run=run)
        assert result.exit_code == 0, result.output
    return run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished run, to break."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
