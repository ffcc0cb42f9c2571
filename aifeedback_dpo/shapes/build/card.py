"""Measures the finished world on held-out prompts and writes its model card."""

from typing import Any


def measure(*args: Any) -> dict[str, Any]:
    return {}


def write(*args: Any) -> str:
    return ""
