"""Chromium for tests of pages as people meet them, and what axe finds on one; who imports it is skipped where it cannot run."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
IN_CHROMIUM = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
"""The marks of a module whose tests need it."""

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESK = {"viewport": {"width": 1280, "height": 800}}


@contextmanager
def chromium() -> Iterator[Any]:
    with playwright_api.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def violations(page: Any, **where: Any) -> list[dict[str, Any]]:
    """The rules that axe finds broken on the page, or in a part of it, each with its elements."""
    from axe_playwright_python.sync_playwright import Axe

    return Axe().run(page, **where).response["violations"]
