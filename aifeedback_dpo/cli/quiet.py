"""Keeps the libraries' own progress bars and notices out of ours. Errors still come through."""

import logging
import os
import warnings


def hush() -> None:
    """Call before torch, diffusers or transformers are imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    for name in ("diffusers", "transformers", "accelerate", "peft", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"PIL(\.|$)")  # of damaged pictures it is told otherwise
    warnings.filterwarnings("ignore", module=r"(diffusers|transformers|peft|torch|accelerate)(\.|$)")
