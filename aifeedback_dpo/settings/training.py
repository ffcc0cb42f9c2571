"""What `train` can be told."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aifeedback_dpo.settings.kinds import Count, Dtype, Name, Settings, Side


class HeldOut(Settings):
    """Pairs that are kept out of training, all of their prompts with them, and asked for at fixed times and noises."""

    pairs: Annotated[int, Field(ge=0)] = Field(0, description="at least so many, of whole prompts; 0 holds none out")
    every: Count = Field(50, description="steps from one look at them to the next; the last step is one too")


class Guard(Settings):
    """When a policy in training is stopped: at once for a spike (or what is not finite), over the last 50 steps for a drift."""

    spike: Annotated[float, Field(gt=1)] | None = Field(
        4.0,
        description="fail, and keep the last good checkpoint, when the winners' error exceeds the reference's so many times",
    )
    winner_drift: Annotated[float, Field(gt=0)] | None = Field(
        None, description="end early when the winners' error has risen above the reference's by this share"
    )


class Validation(Settings):
    """Pictures drawn while a policy trains: the first held-out prompts at fixed seeds, a strip over the steps."""

    prompts: Annotated[int, Field(ge=0)] = 0
    every: Count = Field(100, description="steps; the base and the finished policy are drawn as well")


ObjectiveName = Literal["dpo", "ipo", "hinge", "poly", "robust", "mapo", "kto", "sft"]
PAIRWISE = ("dpo", "ipo", "hinge", "poly")
"""The objectives that take soft labels and label smoothing."""
REFERENCE_FREE = ("mapo", "sft")


class Train(Settings):
    """Preference optimisation. beta is the authors': half of it multiplies the difference of mean squared errors."""

    judges: Annotated[tuple[Name, ...], Field(min_length=1)] = ("human", "ai", "random")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    name: Name | None = Field(
        None, description="keeps policies of other settings apart in one run: train.name=sft makes `human+sft`"
    )
    objective: ObjectiveName = Field("dpo", description="docs/objectives.md tells them apart")
    beta: Annotated[float, Field(gt=0)] = Field(
        5000.0, description="as the authors count it; for mapo the weight of its ratio term, 0.1 as published"
    )
    labels: Literal["hard", "soft"] = Field("hard", description="soft weighs both orders of a pair by p_a")
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0,
        description="the share of labels taken to be wrong: conservative for the pairwise objectives, unbiased for robust",
    )
    alpha: Annotated[float, Field(gt=-2)] = Field(
        1.0, description="the weight of poly's polynomial term; at -2 nothing pulls any more"
    )
    safeguard: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="mu of Diffusion-SDPO: scales the loser's gradient so that the winner's error falls"
    )
    method: Literal["lora", "full"] = "lora"
    rank: Count = 16
    modules: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="the modules that get a LoRA (default: the attention projections of the model's family)"
    )
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    scale_learning_rate: bool = Field(False, description="multiply the rate by batch_size, as the authors' --scale_lr")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="the learning rate after warm-up: held, or brought down to zero at the last step"
    )
    warmup: Annotated[int, Field(ge=0)] = 20
    steps: Count = 200
    batch_size: Count = Field(32, description="pairs per optimizer step, over all processes")
    micro_batch_size: Count | None = Field(
        None, description="pairs per forward pass of a process (default: its share of the batch)"
    )
    draws: Count | None = Field(
        None,
        description="times and noises a pair is met at in turn, asking the reference once (default: new ones each epoch)",
    )
    caption_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    flip: bool = Field(False, description="mirror half of the draws, both pictures of a pair alike")
    resolution: Side | None = Field(
        None, description="resize the shortest side to this and crop the centre (default: as drawn, all of one size)"
    )
    weighting: Literal["uniform", "eps_equivalent"] = Field(
        "uniform",
        description="of the squared error by timestep; eps_equivalent counts v and flow errors as noise errors",
    )
    timesteps: Literal["uniform", "logit_normal"] = Field("uniform", description="logit_normal is for flow models")
    shift: Annotated[float, Field(gt=0)] | Literal["model"] = Field(
        1.0, description="of a flow model's noise levels; `model` takes what its scheduler says for the resolution"
    )
    guidance: Annotated[float, Field(ge=0)] = Field(
        3.5, description="what a guidance-distilled model is told (FLUX.1-dev)"
    )
    optimizer: Literal["adamw", "adamw8bit", "adafactor"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of a running mean of the weights, which is then what is kept as the policy"
    )
    precision: Dtype = "float32"
    gradient_checkpointing: bool = False
    compile: bool = Field(False, description="torch.compile on the denoiser, with static shapes")
    channels_last: bool = Field(False, description="the memory layout that convolutions of a UNet are fastest in")
    checkpoint_steps: Count = Field(100, description="how often a policy in training is saved, to go on from")
    keep_checkpoints: Count = Field(2, description="how many of the last are kept while it trains")
    held_out: HeldOut = HeldOut()
    guard: Guard = Guard()
    validation: Validation = Validation()
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()

    @model_validator(mode="after")
    def _divides(self) -> "Train":
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"train.seeds names one twice: {', '.join(map(str, self.seeds))}")
        return self

    @model_validator(mode="after")
    def _objective_has_what_it_needs(self) -> "Train":
        pairwise = ", ".join(PAIRWISE)
        if self.objective == "mapo" and self.beta > 10:
            raise ValueError(f"train.beta={self.beta:g} is of DPO's scale; for mapo set train.beta=0.1 or so")
        if self.objective == "robust" and not self.smoothing:
            raise ValueError("train.objective=robust needs the share of wrong labels, as in train.smoothing=0.1")
        if self.smoothing and self.objective not in (*PAIRWISE, "robust"):
            raise ValueError(f"train.smoothing goes with {pairwise} and robust, not with {self.objective}")
        if self.labels == "soft" and self.objective not in PAIRWISE:
            raise ValueError(f"train.labels=soft goes with {pairwise}, not with {self.objective}")
        if self.safeguard and self.objective not in (*PAIRWISE, "robust"):
            raise ValueError(f"train.safeguard goes with {pairwise} and robust, not with {self.objective}")
        return self
