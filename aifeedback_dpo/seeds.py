"""Seeds derived from what they are for, so that order, batch size, device and process count never change a draw."""

import hashlib


def derive(*parts: str | int) -> int:
    """A 63-bit seed from any mix of names and numbers: `derive(run_seed, prompt_id, k)`.

    The parts are joined unambiguously (each with its type and length) and hashed with SHA-256, so that
    `derive(1, "2")` and `derive(12)` differ, and the value is the same on every machine.
    """
    digest = hashlib.sha256()
    for part in parts:
        kind = "i" if isinstance(part, int) else "s"
        text = str(part).encode()
        digest.update(f"{kind}{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def uniform(*parts: str | int) -> float:
    """A number in [0, 1) from the same hash, for splits and coin tosses."""
    return derive(*parts) / 2**63
