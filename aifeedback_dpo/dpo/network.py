"""The denoiser in training: several adapters on one frozen base, or one copy with all its weights; and the frozen reference."""

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from aifeedback_dpo.dpo import sharding
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.settings.training import Train

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Network:
    """`policies` of them share what is frozen; each starts as if it were alone, from the same random numbers.

    A LoRA's reference is the base with its adapters off. When all weights are trained it is another copy, and only there
    where `asked`: with the reference's errors in the cache nobody needs one. Where `reshard` is not None both are spread over
    the processes, which must then all call `predict`, `reference` and `weights` equally often.
    """

    def __init__(
        self,
        model: Diffuser,
        settings: Train,
        accelerator: Accelerator,
        *,
        policies: int,
        seed: int,
        asked: bool,
        reshard: bool | None = None,
    ) -> None:
        self.model, self.settings, self.accelerator = model, settings, accelerator
        self.original = model.denoiser
        self.names = [f"judge_{at}" for at in range(policies)]
        self.frozen: Any = None
        self.current: str | None = None
        self.sharded = reshard is not None
        if settings.method == "lora":
            self._shard(self.original, reshard)
            self.trained = []
            for name in self.names:
                set_seed(seed % 2**32)
                self.trained.append(model.add_lora(name, settings.rank, settings.modules))
            self.dtype = model.dtype
        else:
            assert policies == 1, "all weights are trained for one judge at a time"
            network = copy.deepcopy(self.original).float().requires_grad_(True)
            if asked:
                self.frozen = _lowered(copy.deepcopy(network).requires_grad_(False), PRECISIONS[settings.precision])
                self._shard(self.frozen, reshard and True)
            self._shard(network, reshard)
            self.trained = [dict(network.named_parameters())]
            self.dtype = torch.float32
            model.denoiser = network
        for network in filter(None, (model.denoiser, self.frozen)):
            if not self.sharded:
                network.to(model.device)
        self.bare = model.denoiser
        self.adapters = [module for module in self.bare.modules() if isinstance(module, BaseTunerLayer)]
        if settings.gradient_checkpointing:
            self.bare.enable_gradient_checkpointing()
        if (
            settings.channels_last and not self.sharded
        ):  # gathered weights are contiguous; images are turned all the same
            for network in filter(None, (self.bare, self.frozen)):
                network.to(memory_format=torch.channels_last)
        if settings.compile:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * (policies + 1))
        self.called, self.held = (self._compiled(network) for network in (self.bare, self.frozen))

    def predict(self, policy: int, noisy: Tensor, times: Tensor, conditions: Rows) -> Tensor:
        """The output of one of the policies."""
        if self.settings.method == "lora":
            self._activate(self.names[policy])
        return self._call(self.called, noisy, times, conditions)

    def reference(self, noisy: Tensor, times: Tensor, conditions: Rows) -> Tensor:
        """The frozen model's output, without a gradient."""
        if self.settings.method == "lora":
            self._activate(None)
        held = self.called if self.settings.method == "lora" else self.held
        assert held is not None, "nobody was to ask the reference"
        with torch.no_grad():
            return self._call(held, noisy, times, conditions)

    def save(self, policy: int, folder: Path, *, writes: bool = True) -> None:
        """LoRA as `pipeline.load_lora_weights` reads it, or the whole network under `unet/` or `transformer/`.

        Of a network that is sharded the one process that `writes` gathers a copy in main memory, and the others give to it.
        """
        for block in sharding.sharded(self.bare):
            block.reshard()
        whole = self.bare
        if self.settings.method == "full" and self.sharded:
            state = {}
            for name, value in self.bare.state_dict().items():
                gathered = sharding.whole(value)
                if writes:
                    state[name] = gathered.cpu()
            if writes:
                whole = copy.deepcopy(self.original).to("cpu", torch.float32)
                whole.load_state_dict(state)
        if not writes:
            return
        if self.settings.method == "lora":
            self.model.save_lora(self.names[policy], folder)
        else:
            whole.save_pretrained(folder / self.model.family.DENOISER)

    def show(self, policy: int | None) -> None:
        """Makes this policy, or the frozen base (None), what the pipeline draws with."""
        if self.settings.method == "lora":
            self._activate(None if policy is None else self.names[policy])
        else:
            self.original.to(self.model.device if policy is None else "cpu")
            self.model.denoiser = self.original if policy is None else self.bare

    def close(self) -> None:
        """Leaves the model as it was before."""
        if self.settings.gradient_checkpointing:
            self.bare.disable_gradient_checkpointing()
        if self.settings.method == "lora":
            self.model.drop_lora()
        self.model.denoiser = self.original
        if self.settings.channels_last and not self.sharded:
            self.original.to(memory_format=torch.contiguous_format)
        if not sharding.sharded(self.original):
            self.original.to("cpu")

    def _shard(self, network: nn.Module, reshard: bool | None) -> None:
        if reshard is not None:
            sharding.shard(network, self.model.device, reshard=reshard)

    def _activate(self, name: str | None) -> None:
        if name == self.current and self.current is not None:
            return
        for layer in self.adapters:
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter(name)
        for trained in self.trained:  # peft freezes what is not active, and a running mean skips what is frozen
            for parameter in trained.values():
                parameter.requires_grad_(True)
        self.current = name

    def _compiled(self, network: Any) -> Any:
        return torch.compile(network, dynamic=False) if network is not None and self.settings.compile else network

    def _call(self, network: Any, noisy: Tensor, times: Tensor, conditions: Rows) -> Tensor:
        told = {name: rows.to(self.dtype) if rows.is_floating_point() else rows for name, rows in conditions.items()}
        noisy = noisy.to(self.dtype)
        if self.settings.channels_last:
            noisy = noisy.to(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            return self.model.family.predict(network, noisy, times, told, guidance=self.settings.guidance)


def _lowered(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy to be asked only: the weights that autocast would round at each call are rounded once, the rest stay float32."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(dtype)
    return network
