"""A hub's cache that is empty, and a hub on this machine."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
from huggingface_hub import close_session

from tests.fake_hub import Hub, serving


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
