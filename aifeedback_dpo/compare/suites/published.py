"""What others published on a suite, from published.yaml, beside what was measured here."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from aifeedback_dpo.compare.suites.suite import Suite

ALL = "all"  # the key of a number over all categories
LEGACY = "-legacy"  # HPS as its package resized up to torchvision 0.16


def published(suite: Suite, metrics: Sequence[str], differs: Sequence[str]) -> list[dict[str, Any]]:
    """The published rows of a suite for these metrics, by their names in the catalogue, in the units of our scores.

    A row is `comparable` only where nothing differs: neither the protocol (`differs`, as `protocol` tells) nor what is known
    of the row itself, such as settings that its source does not say. HPS v2.0 and v2.1 are two metrics and never meet.
    """
    found = []
    for group in _groups():
        if group["suite"] != suite.name:
            continue
        for model, values in group["values"].items():
            for metric in metrics:
                by_category = values.get(metric.removesuffix(LEGACY), {})
                reasons = [*differs, *_reasons(group, metric, suite)]
                for category, value in (by_category if isinstance(by_category, dict) else {ALL: by_category}).items():
                    found.append(
                        {
                            "model": model,
                            "metric": metric,
                            "category": None if category == ALL else category,
                            "value": value,
                            "source": group["source"],
                            "protocol": group["protocol"],
                            "comparable": not reasons,
                            "differs": reasons,
                        }
                    )
    return found


def _reasons(group: dict[str, Any], metric: str, suite: Suite) -> list[str]:
    reasons = list(group.get("differs", []))
    statistic = group.get("statistic", "mean")
    if statistic != suite.statistic:
        reasons.append(f"a {statistic} over prompts, and here it is a {suite.statistic}")
    resize = group.get("resize")  # how its scores were computed, for HPS
    if resize == "legacy" and metric.startswith("hpsv2") and not metric.endswith(LEGACY):
        reasons.append(f"scored by the authors' package of 2023, which most likely resized as `{metric}{LEGACY}` does")
    return reasons


@cache
def _groups() -> list[dict[str, Any]]:
    text = resources.files(__package__).joinpath("published.yaml").read_text(encoding="utf-8")
    groups: list[dict[str, Any]] = yaml.safe_load(text)
    return groups
