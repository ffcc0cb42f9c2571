"""Weights spread over the processes by FSDP2: each holds a share, and a block is whole only while it works.

What is frozen under a LoRA is spread, and so are all weights that are trained, their gradients, their optimizer's state and
their running mean. A LoRA itself is whole in every process. Every process must call the network equally often.

https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def reshards(place: Mapping[str, str]) -> bool | None:
    """Whether a block's weights are given up after its forward pass (ZeRO 3) or only after its backward pass (ZeRO 2).

    None where nothing is sharded. `place` is the environment, as `accelerate launch` sets it.
    """
    if place.get("ACCELERATE_USE_FSDP", "").lower() != "true":
        return None
    return place.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false"


def shard(network: nn.Module, device: torch.device, *, reshard: bool) -> None:
    """Spreads its weights over all processes, block by block; those that are outside of its blocks are one more block.

    Gradients are added up over the processes and not averaged: a loss has been divided by all of a batch's pairs.
    """
    if isinstance(network, FSDPModule):
        return
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    names = set(getattr(network, "_no_split_modules", None) or ())
    blocks = [module for module in network.modules() if type(module).__name__ in names]
    for module in (*reversed(blocks), network):  # those inside others first
        fully_shard(module, mesh=mesh, reshard_after_forward=reshard)
    for block in sharded(network):
        block.set_gradient_divide_factor(1.0)
        block.set_force_sum_reduction_for_comms(True)  # gloo has no sum that multiplies


def sharded(network: nn.Module) -> list[FSDPModule]:
    """The blocks that it was sharded in."""
    return [module for module in network.modules() if isinstance(module, FSDPModule)]


def whole(value: Any) -> Any:
    """All of a tensor of which each process has a share; to be called by all of them. Anything else is given back."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def share(value: Any, spread: Tensor) -> Any:
    """The inverse: this process's share of what is as large as `spread` and belongs to it."""
    if isinstance(spread, DTensor) and isinstance(value, Tensor) and value.shape == spread.shape:
        return distribute_tensor(value.to(spread.device), spread.device_mesh, spread.placements, src_data_rank=None)
    return value
