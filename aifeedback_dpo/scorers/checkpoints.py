"""State dicts from files that nobody has to trust: safetensors, or pickles of nothing but tensors."""

from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aifeedback_dpo.errors import ModelMissing
from aifeedback_dpo.weights import LocatedFile, loading


def state_dict(located: LocatedFile, what: str) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU wherever they were saved; those under `state_dict` where there is one.

    Raises ModelMissing, in one line, for a file that is something else than `what`.
    """
    with loading(located, what):
        try:
            if located.path.suffix == ".safetensors":
                found = load_file(located.path)
            else:
                found = torch.load(located.path, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(str(error)) from error
        found = found.get("state_dict", found) if isinstance(found, dict) else found
        if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
            raise ValueError("it is no state dict")
    return found


def fill(module: nn.Module, tensors: dict[str, Tensor], located: LocatedFile, what: str) -> None:
    """Loads every tensor, and none is left over. Raises ModelMissing with the first that do not fit."""
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelMissing(f"{located.path} does not hold {what}: {reason}") from error
