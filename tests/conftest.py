"""Shared fixtures. No test reaches a network: the hub is switched off before anything can import it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from typer.testing import CliRunner, Result

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
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


@pytest.fixture(autouse=True)
def _no_accelerator_left() -> Iterator[None]:
    """accelerate keeps one precision a process; each test may choose its own."""
    yield
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
