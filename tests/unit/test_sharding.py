"""What each process holds of a network that is sharded, and what does not go with that."""

from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.distributed.fsdp import FSDPModule
from torch.testing._internal.distributed.fake_pg import FakeStore

from aifeedback_dpo.dpo import sharding
from tests import tiny

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture
def one_of_four() -> Iterator[None]:
    """A process that believes to be the second of four; what it sends goes nowhere."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=4)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("place", "reshards"),
    [
        ({}, None),
        ({"ACCELERATE_USE_FSDP": "false"}, None),
        (FSDP, True),
        ({**FSDP, "FSDP_RESHARD_AFTER_FORWARD": "true"}, True),
        ({**FSDP, "FSDP_RESHARD_AFTER_FORWARD": "False"}, False),
    ],
)
def test_the_environment_of_accelerate_says_how(place, reshards):
    assert sharding.reshards(place) is reshards


def test_each_of_four_processes_holds_a_quarter_in_blocks_that_come_one_by_one(tmp_path, one_of_four):
    tiny.write("sd", tmp_path)
    network = UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    whole = sum(each.numel() for each in network.parameters())
    sharding.shard(network, torch.device("cpu"), reshard=True)
    held = sum(each.to_local().numel() for each in network.parameters())
    assert held == pytest.approx(whole / 4, rel=0.02)  # a first dimension that four does not divide is rounded up
    blocks = [name for name, module in network.named_modules() if isinstance(module, FSDPModule)]
    assert "" in blocks
    assert any("resnets" in name for name in blocks)
    assert any("transformer_blocks" in name for name in blocks)
    sharding.shard(network, torch.device("cpu"), reshard=True)  # a second group of policies finds it done
    assert sum(each.to_local().numel() for each in network.parameters()) == held


def test_a_share_is_this_process_s_part_of_what_belongs_to_a_spread_tensor_and_all_else_is_left(one_of_four):
    layer = torch.nn.Linear(2, 8)
    sharding.shard(layer, torch.device("cpu"), reshard=True)
    whole = torch.arange(16.0).view(8, 2)
    assert sharding.share(whole, layer.weight).to_local().tolist() == [[4, 5], [6, 7]]
    assert sharding.share(torch.tensor(3.0), layer.weight) == 3  # an optimizer's count of steps
    assert sharding.share(whole, torch.zeros(8, 2)) is whole
    assert sharding.whole(whole) is whole
