"""The embedded world: prompts from a grammar, pictures, an oracle that reads them back, and small real models of them."""

from pathlib import Path


def weights(part: str) -> Path:
    """The folder of a shipped model: `pipeline`, `clip`, `pickscore` or `aesthetic`."""
    return Path(__file__).parent / "weights" / part
