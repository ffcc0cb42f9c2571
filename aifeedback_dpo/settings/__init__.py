"""What a recipe can say: frozen settings, each with its default, its range and its meaning. Checked once, when loaded."""

import difflib
from typing import Annotated, Literal

from pydantic import Field, model_validator

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import BASE, CONSENSUS, CONTROL, HUMAN
from aifeedback_dpo.settings.comparison import Compare, Study
from aifeedback_dpo.settings.kinds import Count, Dtype, Name, Scheduler, Settings, Side
from aifeedback_dpo.settings.training import Train


class Weights(Settings):
    """Where weights come from: a hub id, a local folder, or `shapes`, the embedded world."""

    id: str
    revision: str | None = None
    dtype: Dtype = "float32"


class Autoencoder(Settings):
    """Another autoencoder, hub id or folder. It runs in the model's dtype, and in float32 where latents are trained on."""

    id: str
    revision: str | None = None

    @property
    def weights(self) -> Weights:
        """As weights that can be found."""
        return Weights(id=self.id, revision=self.revision)


class Adapter(Settings):
    """A LoRA in the diffusers format that is merged into a model when it is loaded: hub id, folder or file."""

    id: str
    revision: str | None = None
    file: str | None = Field(None, description="the file, where a repository or folder has several")
    weight: float = 1.0


class Model(Weights):
    """A text-to-image pipeline in the diffusers format."""

    vae: Autoencoder | None = Field(None, description="another autoencoder, such as SDXL's that is safe in float16")
    adapters: tuple[Adapter, ...] = ()
    offload: Literal["none", "model", "sequential"] = Field(
        "none", description="while drawing, keep on the GPU the component at work (model) or the layer (sequential)"
    )


class Drawer(Model):
    """One model of a pool; what it does not say is as in `generate`."""

    steps: Count | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None
    scheduler: Scheduler | None = None
    width: Side | None = None
    height: Side | None = None


class ScorerWeights(Weights):
    """A scorer and its weights, and how two of its scores become a preference.

    `slope` goes before the scorer's own: P(a over b) = sigmoid(slope * difference of scores); `human` fits it on the run's
    human preferences. Without any slope the higher score wins, and a difference up to `margin` is a tie.
    """

    uses: str | None = Field(None, description="a scorer of `ddpo scorers`, or module:Class (default: the key)")
    file: str | None = Field(None, description="the file, where a repository or folder has several")
    base: Weights | None = Field(
        None, description="what it stands on: the CLIP under a head, the folder of a tokenizer"
    )
    slope: Annotated[float, Field(gt=0)] | Literal["human"] | None = None
    margin: Annotated[float, Field(ge=0)] = 0.0


class Prompts(Settings):
    """Where prompts come from; the last `eval` of a file or dataset are held out.

    `shapes` (the grammar), a text file with a prompt a line, a .tsv, .csv, .jsonl or .parquet file, or a dataset of the hub;
    `column` is read from all but the first two, from the split `split` of a dataset. `imported` are those of the pairs that
    `ddpo import` brings: of ten about one is held out, until `eval` are, and `train` is not asked.
    """

    source: str = "shapes"
    column: str = "prompt"
    split: str = "train"
    train: Count
    eval: Count
    held_out: Literal["eval", "tune"] = Field("eval", description="which split of the embedded world to compare on")


class Generate(Settings):
    """Candidates per prompt and how they are sampled; pairs are drawn without looking at any score.

    With a `pool`, candidate k of each prompt is drawn by model k modulo the size of the pool, and `model` draws only where
    it is in the pool.
    """

    candidates: Annotated[int, Field(ge=2)] = 4
    pairs: Count = Field(2, description="pairs per prompt, of all candidates taken two by two")
    steps: Count = 20
    guidance: Annotated[float, Field(ge=0)] = 7.5
    scheduler: Scheduler | None = Field(None, description="default: the one in the model's folder")
    negative_prompt: str = ""
    pool: tuple[Drawer, ...] = ()
    width: Side | None = None
    height: Side | None = None
    format: Literal["webp", "png", "jpeg"] = Field(
        "webp",
        description="how pictures are kept; webp and png lose nothing, jpeg (quality 95, 4:4:4) makes other pictures",
    )
    batch_size: Count = 8
    images_per_part: Count = 64


class Consensus(Settings):
    """The judge `consensus`: what several judges make of a pair together. A pair that one of them lacks is missing."""

    rule: Literal["unanimous", "majority", "mean"] = Field(
        "majority", description="all on one side; more on one side than on the other; the mean of their p_a"
    )
    of: tuple[Name, ...] = Field((), description="the judges (default: the scorers that were asked for with it)")


class Label(Settings):
    """Scorers by name, and the rules by which scores become preferences."""

    scorers: dict[Name, ScorerWeights]
    ai: Name = Field("pickscore", description="the judge that `ai` stands for: a scorer, or consensus")
    consensus: Consensus = Consensus()
    raters: Literal["simulated"] | None = None
    tie_band: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0, description="|p_a - 1/2| up to this is a tie, where a slope gives p_a; equal scores always are"
    )
    batch_size: Count = 64
    images_per_part: Count = 256


class Recipe(Settings):
    """One experiment, whole."""

    name: Name
    about: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    model: Model
    prompts: Prompts
    generate: Generate = Generate()
    label: Label
    train: Train = Train()
    compare: Compare = Compare()
    study: Study | None = None

    @model_validator(mode="after")
    def _nobody_poses_as_another(self) -> "Recipe":
        if taken := [name for name in self.label.scorers if name in (HUMAN, CONSENSUS, BASE, "ai")]:
            raise ValueError(f"label.scorers.{taken[0]}: that name is no scorer's; take another one")
        control = self.label.scorers.get(CONTROL)
        if control and control.uses not in (None, CONTROL):
            raise ValueError(f"label.scorers.{CONTROL} is the control, and {control.uses} is none; take another name")
        return self

    @model_validator(mode="after")
    def _ai_is_a_scorer(self) -> "Recipe":
        if self.label.ai not in (*self.label.scorers, CONSENSUS):
            raise ValueError(
                f"label.ai is '{self.label.ai}', which is not among label.scorers: {', '.join(self.label.scorers)}"
            )
        return self

    @model_validator(mode="after")
    def _lora_runs_in_the_models_dtype(self) -> "Recipe":
        if self.train.method == "lora" and self.model.dtype not in ("float32", self.train.precision):
            raise ValueError(
                f"train.precision is {self.train.precision}, but a LoRA runs on the model as it is, in model.dtype="
                f"{self.model.dtype}; make them the same, or take model.dtype=float32"
            )
        return self

    @model_validator(mode="after")
    def _validation_is_drawn_where_it_trains(self) -> "Recipe":
        if self.train.validation.prompts and self.model.offload != "none":
            raise ValueError(f"train.validation needs model.offload=none, and it is {self.model.offload}")
        if self.train.validation.prompts > self.prompts.eval:
            raise ValueError(
                f"train.validation.prompts={self.train.validation.prompts} draws held-out prompts, and prompts.eval is "
                f"{self.prompts.eval}; take at most that many"
            )
        return self

    def title(self, name: str) -> str:
        """A judge's name, or a policy's, as it is shown: simulated people are always called so."""
        judge, plus, variant = name.partition("+")
        return f"{judge} (simulated){plus}{variant}" if judge == HUMAN and self.label.raters else name

    def policy(self, judge: str) -> str:
        """What the policy trained on this judge is called: `human`, or `human+sft` where train.name is `sft`."""
        return f"{judge}+{self.train.name}" if self.train.name else judge

    def judge(self, name: str) -> str:
        """The judge a name stands for: `ai` is what the recipe says, anything else is itself.

        Raises UserError, with the nearest name, for one that nobody in this recipe bears.
        """
        known = list(dict.fromkeys([HUMAN, "ai", *self.label.scorers, CONSENSUS, CONTROL]))
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean '{near[0]}'?" if near else "."
            more = "a scorer becomes a judge by `ddpo label --scorer NAME`"
            raise UserError(f"no judge '{name}'{hint} Known: {', '.join(known)}; {more}")
        return self.label.ai if name == "ai" else name
