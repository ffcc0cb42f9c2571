"""A tiny CLIP for all that reads one."""

from pathlib import Path

import pytest

from tests.parity.references import write_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny CLIP in transformers' format. Tests copy it before they change anything."""
    return write_clip(tmp_path_factory.mktemp("models") / "clip")
