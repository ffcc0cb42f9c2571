"""Evaluation suites: prompts by the name of a suite or from a file of your own, with the protocol of what was published.

Never bundled: a suite is read from the hub at one commit, or from a copy on this machine.
"""

from aifeedback_dpo.compare.suites.protocols import protocol
from aifeedback_dpo.compare.suites.published import published
from aifeedback_dpo.compare.suites.reading import limited, load
from aifeedback_dpo.compare.suites.suite import Item, Suite

__all__ = ["Item", "Suite", "limited", "load", "protocol", "published"]
