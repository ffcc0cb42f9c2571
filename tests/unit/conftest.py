"""A hub's cache that is empty, and a hub on this machine; a run, and a space of colours in place of its CLIP."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import huggingface_hub.constants as constants
import numpy as np
import pytest
from huggingface_hub import close_session
from hypothesis import settings
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.compare import embedding
from aifeedback_dpo.compare.embedding import Loaded, Space
from aifeedback_dpo.store import Run
from tests.fake_hub import Hub, serving

settings.register_profile("shared", deadline=None)  # cores that others use as well are slow at times
settings.load_profile("shared")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def online(cache, monkeypatch) -> Iterator[Hub]:
    with serving() as served:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", served.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        close_session()
        yield served
        close_session()


@pytest.fixture
def run(tmp_path) -> Run:
    found = Run(tmp_path / "run", config.load("shapes", ["compare.resamples=200"]))
    found.record("generate", "done")
    return found


@pytest.fixture
def colours(monkeypatch) -> list[int]:
    """In place of a CLIP a space of three dimensions, the mean of each channel; gives how many pictures each look has seen."""
    looks: list[int] = []

    def embed(images: Sequence[Image.Image]) -> np.ndarray:
        looks.append(len(images))
        return np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images]).astype(np.float32)

    space = Space("colours", lambda: "made of colours", lambda: Loaded("colours", embed))
    monkeypatch.setattr(embedding, "clip", lambda run: space)
    return looks
