"""Runs that several files look at. Tests copy them before they change anything."""

from pathlib import Path

import pytest

from tests import published
from tests.conftest import TINY, ddpo


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A run that was imported, and the arguments that it came by."""
    folder = tmp_path_factory.mktemp("imported")
    arguments = published.pickapic(folder / "set").arguments
    assert ddpo("import", *arguments, run=folder / "run").exit_code == 0
    return folder / "run", arguments


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run without policies."""
    run = tmp_path_factory.mktemp("labelled") / "run"
    for command in (("generate", *TINY), ("label", "--scorer", "pickscore")):
        assert ddpo(*command, run=run).exit_code == 0
    return run
