"""A loaded text-to-image model: what sampling and training need of it, the same for every family."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from jaxtyping import Float
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from aifeedback_dpo.errors import DataError, DdpoError, UserError
from aifeedback_dpo.models.family import Family, Rows
from aifeedback_dpo.models.schedules import Schedule
from aifeedback_dpo.weights import Identity

SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "flow_euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


@dataclass(frozen=True)
class Captions:
    """Embedded prompts: a row each, in which row each is, and the one row that guidance steers away from."""

    rows: Rows
    row_of: Mapping[str, int]
    negative: Rows


@dataclass
class Diffuser:
    """A pipeline and its family. Its components stay in main memory until they are used."""

    pipeline: Any
    family: Family
    identity: Identity
    device: torch.device
    dtype: torch.dtype
    offload: str = "none"
    schedule: Schedule = field(init=False)
    _own_scheduler: Any = field(init=False)
    _ready: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.pipeline.set_progress_bar_config(disable=True)
        for name in (self.family.DENOISER, "vae", *self.family.TEXT):
            if (module := getattr(self.pipeline, name)) is not None:
                module.eval().requires_grad_(False)
        self._own_scheduler = self.pipeline.scheduler
        if self.pipeline.vae.config.get("latents_mean") is not None:
            raise UserError(f"{self.identity.name}: its autoencoder shifts latents by channel, which is not supported")
        try:
            self.schedule = self.family.schedule(self.pipeline)
        except UserError as error:
            raise UserError(f"{self.identity.name}: {error}") from error

    @property
    def denoiser(self) -> Any:
        """The network that is trained."""
        return getattr(self.pipeline, self.family.DENOISER)

    @denoiser.setter
    def denoiser(self, module: Any) -> None:
        setattr(self.pipeline, self.family.DENOISER, module)

    # -- where components are ----------------------------------------------------------------------------------------

    @contextmanager
    def placed(self, *names: str) -> Iterator[None]:
        """These components on the device while the context lasts, and in main memory after it: training needs them in turn."""
        modules = [module for name in names if (module := getattr(self.pipeline, name)) is not None]
        self._leave()
        for module in modules:
            module.to(self.device)
        try:
            yield
        finally:
            for module in modules:
                module.to("cpu")

    def _leave(self) -> None:
        """Undoes `_get_ready`: the pipeline is placed anew before the next picture."""
        if self._ready and self.offload != "none":
            self.pipeline.remove_all_hooks()
        self._ready = False

    def _get_ready(self) -> None:
        """The whole pipeline where it samples."""
        if self._ready:
            return
        if self.offload == "model":
            self.pipeline.enable_model_cpu_offload()
        elif self.offload == "sequential":
            self.pipeline.enable_sequential_cpu_offload()
        else:
            self.pipeline.to(self.device)
        self._ready = True

    # -- sampling ----------------------------------------------------------------------------------------------------

    @property
    def scheduler_name(self) -> str:
        return type(self.pipeline.scheduler).__name__

    @contextmanager
    def scheduler(self, name: str | None) -> Iterator[None]:
        """Samples with this scheduler while the context lasts; None is the one in the model's folder.

        Raises UserError for one that does not go with what the model predicts.
        """
        if name is not None:
            cls, arguments = SCHEDULERS[name]
            flows = hasattr(self._own_scheduler, "scale_noise")
            if flows != (name == "flow_euler"):
                own = type(self._own_scheduler).__name__
                raise UserError(
                    f"generate.scheduler={name} does not go with {self.identity.name} ({own}); leave it out"
                )
            chosen = getattr(diffusers, cls).from_config(self._own_scheduler.config, **arguments)
            kept, new = (getattr(each, "alphas_cumprod", None) for each in (self._own_scheduler, chosen))
            if kept is not None and (new is None or not torch.allclose(kept, new, atol=1e-4)):
                raise UserError(
                    f"generate.scheduler={name} cannot follow the noise schedule of {self.identity.name}; leave it out, or "
                    "take ddim or unipc"
                )
            self.pipeline.scheduler = chosen
        try:
            yield
        finally:
            self.pipeline.scheduler = self._own_scheduler

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Rows:
        """One row a prompt, padded or cut to the length that the text encoders read."""
        return self.family.encode_prompts(self.pipeline, prompts, self.device)

    @torch.inference_mode()
    def encode_negative(self, prompt: str = "") -> Rows:
        """The row that guidance steers away from; that of no prompt is also what a dropped caption is trained as."""
        return self.family.encode_negative(self.pipeline, prompt, self.device)

    def read(self, prompts: Sequence[str], negative_prompt: str, *, at_once: int) -> Captions:
        """The embeddings of different prompts, `at_once` at a time, and of what guidance steers away from."""
        self._get_ready()  # outside inference mode, in which weights that move could not be trained any more
        unique = list(dict.fromkeys(prompts))
        found = [self.encode_prompts(unique[at : at + at_once]) for at in range(0, len(unique), at_once)]
        rows = {name: torch.cat([some[name] for some in found]) for name in found[0]}
        row_of = {prompt: row for row, prompt in enumerate(unique)}
        return Captions(rows, row_of, self.encode_negative(negative_prompt))

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        negative_prompt: str = "",
        captions: Captions | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> list[Image.Image]:
        """One picture a prompt; its seed alone decides its noise, drawn on the CPU so that every device starts alike.

        What has been read is in `captions`, with the negative prompt; else all of it is read now.
        """
        captions = captions or self.read(prompts, negative_prompt, at_once=len(prompts))
        self._get_ready()
        rows = [captions.row_of[prompt] for prompt in prompts]
        encoded = {name: value[rows] for name, value in captions.rows.items()}
        negative = {name: value.expand(len(rows), *value.shape[1:]) for name, value in captions.negative.items()}
        with torch.no_grad():  # inference mode would leave a network that is sharded unable to train on
            pictures: list[Image.Image] = self.pipeline(
                **self.family.arguments(encoded, negative, guidance=guidance),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                num_inference_steps=steps,
                width=width,
                height=height,
            ).images
        return pictures

    # -- training ----------------------------------------------------------------------------------------------------

    def encode_images(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Scaled latents of pictures in [-1, 1], float32: the mean where the autoencoder gives a distribution.

        It runs in float32 whatever the model does, since latents are made once and trained on often, and SDXL's own overflows
        in float16. Raises DdpoError for latents that are not finite.
        """
        vae = self.pipeline.vae
        kept = vae.dtype
        vae.to(torch.float32)
        with torch.inference_mode():
            encoded = vae.encode(pixels.to(self.device))
        vae.to(kept)
        latents = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
        if not latents.isfinite().all():
            raise DdpoError(f"the autoencoder of {self.identity.name} gives latents that are not finite; set model.vae")
        return (latents - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor

    def lora_modules(self, modules: Sequence[str] | None) -> list[str]:
        """The modules that a LoRA is put on: those named, or the family's that this denoiser has.

        Raises UserError for one that names no linear layer or convolution of it.
        """
        fitting = [
            name
            for name, module in self.denoiser.named_modules()
            if isinstance(getattr(module, "base_layer", module), nn.Linear | nn.Conv2d)  # under an adapter, or bare
        ]

        def fits(wanted: str) -> bool:
            return any(name == wanted or name.endswith(f".{wanted}") for name in fitting)

        if modules is None:
            return [module for module in self.family.LORA if fits(module)]
        if missing := [module for module in modules if not fits(module)]:
            raise UserError(f"train.modules: the {self.family.DENOISER} has no layer named {', '.join(missing)}")
        return list(modules)

    def add_lora(self, name: str, rank: int, modules: Sequence[str] | None) -> dict[str, nn.Parameter]:
        """Puts a trainable adapter on the denoiser, its weights in float32 whatever that runs in; it starts as the identity.

        Gives its weights by a name that does not tell the adapter's. Raises UserError for a module that the denoiser lacks.
        """
        wanted = self.lora_modules(modules)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=wanted, init_lora_weights="gaussian")
        self.denoiser.add_adapter(config, name)
        mark = f".{name}."
        added = {key.replace(mark, "."): value for key, value in self.denoiser.named_parameters() if mark in key}
        for parameter in added.values():
            parameter.data = parameter.data.float()
        return added

    def save_lora(self, name: str, folder: Path) -> None:
        """One adapter in the format of `pipeline.load_lora_weights(folder)`."""
        layers = get_peft_model_state_dict(self.denoiser, adapter_name=name)
        self.family.PIPELINE.save_lora_weights(
            folder, **{f"{self.family.DENOISER}_lora_layers": layers}, safe_serialization=True
        )

    def drop_lora(self) -> None:
        """Takes all adapters off again, their wrappers too."""
        self.pipeline.unload_lora_weights()

    @contextmanager
    def policy(self, weights: Path | None) -> Iterator[None]:
        """Samples from a policy (a LoRA's file or folder, a folder with a whole denoiser) while the context lasts.

        None is the base. Raises DataError for a policy that cannot be loaded.
        """
        base, whole = self.denoiser, self.family.DENOISER
        try:
            if weights and (weights / whole).is_dir():
                tuned = type(base).from_pretrained(weights / whole, dtype=self.dtype)
                self._swap(tuned.eval())
            elif weights and weights.is_file():
                self.pipeline.load_lora_weights(weights.parent, weight_name=weights.name)
            elif weights:
                self.pipeline.load_lora_weights(weights)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:160]
            what, way = "is corrupted", "delete it and run `ddpo train` again"
            if weights and weights.is_file():
                what, way = "is no LoRA for this model", "name one in the diffusers format"
            raise DataError(f"{weights} {what} ({reason}); {way}") from error
        try:
            yield
        finally:
            if self.denoiser is not base:
                self._swap(base)
            self.pipeline.unload_lora_weights()

    def _swap(self, denoiser: Any) -> None:
        self._leave()
        self.denoiser = denoiser
