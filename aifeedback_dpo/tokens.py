"""Tokens and passwords, which are in no line that is printed and in no file of a run."""

import os
import re

NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "TRACKIO_TOKEN")
SHORTEST = 8  # of what is taken for a secret: a shorter value would be found in ordinary words
LOOKS_LIKE_ONE = re.compile(r"\bhf_[A-Za-z0-9]{20,}|(?<=://)[^/\s:@]*:?[^/\s:@]+(?=@)")


def masked(text: str) -> str:
    """The text without the tokens of this environment, others of the hub, and the user and password of an address."""
    for value in map(os.environ.get, NAMES):
        if value and len(value) >= SHORTEST:
            text = text.replace(value, "***")
    return LOOKS_LIKE_ONE.sub("***", text)
