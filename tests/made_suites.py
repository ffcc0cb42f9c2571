"""Suites made of so many prompts as asked, and the prompts of any."""

from aifeedback_dpo.compare.suites import Item, Suite
from aifeedback_dpo.compare.suites.known import KNOWN


def prompts(suite: Suite) -> list[str]:
    return [item.prompt for item in suite.items]


def suite_of(sizes: dict[str, int], name: str = "mine") -> Suite:
    items = [Item(f"{category} {at}", category) for category, size in sizes.items() for at in range(size)]
    return Suite(name, "", "mine.txt", tuple(items), len(items), len(items))


def whole(name: str) -> Suite:
    """A suite of that name with as many prompts as were published."""
    count = KNOWN[name].prompts
    return Suite(name, "", f"{name}.txt", tuple(Item(str(at)) for at in range(count)), count, count)
