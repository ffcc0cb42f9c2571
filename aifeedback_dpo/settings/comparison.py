"""What `compare` and `study` can be told."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from aifeedback_dpo.settings.kinds import Count, Name, Settings


class Prices(Settings):
    """What feedback and training cost you, in one currency of your choice; nothing is assumed."""

    currency: str = "USD"
    gpu_hour: Annotated[float, Field(ge=0)] | None = Field(None, description="an hour of the machine that trains")
    vote: Annotated[float, Field(ge=0)] | None = Field(None, description="one vote of one person on one pair")


class Compare(Settings):
    """How judges and policies are compared."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Count = 2000
    images: Count = Field(1, description="pictures a prompt, each from a seed of its own that all policies share")
    gallery: Annotated[int, Field(ge=0)] = Field(12, description="prompts shown, and pairs in dispute")
    spread_prompts: Annotated[int, Field(ge=0)] = Field(
        16, description="prompts on which the spread within a prompt is measured; 0 measures none"
    )
    spread_images: Annotated[int, Field(ge=2)] = Field(4, description="pictures of each of them")
    pixel_pairs: Annotated[int, Field(ge=0)] = Field(
        1000, description="pairs of which brightness, sharpness and saturation are read"
    )
    reference: str | None = Field(None, description="a folder of real pictures, for FID and KID against it")
    inception: str | None = Field(
        None, description="torch-fidelity's Inception weights as a file (default: where it keeps them)"
    )
    detector: str | None = Field(None, description="the detector of `--suite geneval`, hub id or folder")
    colours: str | None = Field(None, description="the CLIP that names colours for it, hub id or folder")
    prices: Prices = Prices()


class ImportedSet(Settings):
    """A public set, as `ddpo import FORMAT PATH|HUB-ID` takes it."""

    format: str
    path: str
    split: str | None = None
    limit: Count | None = Field(None, description="rows to read")
    skip_ties: bool = False


class ImageSource(Settings):
    """Where a study's training pictures come from: drawn, by settings on top of the recipe, or imported.

    Sources that are drawn have the recipe's prompts, or those of another source, `prompts_of`, split as they are there.
    """

    about: str = ""
    prompts_of: Name | None = Field(
        None, description="an earlier image source whose prompts these pictures are drawn for"
    )
    settings: dict[str, Any] = Field({}, description="settings on top of the recipe, nested")
    imported: ImportedSet | None = None


class Variant(Settings):
    """Policies trained in another way, as a control: `sft` on the winners."""

    judges: Annotated[tuple[Name, ...], Field(min_length=1)]
    train: dict[str, Any] = Field({}, description="settings of training on top of the recipe")


RESERVED = (
    "prompts",
    "images",
    "pairs",
    "scores",
    "answers",
    "votes",
    "preferences",
    "policies",
    "imports",
    "cache",
    "report",
)
"""What a folder of a run, or of a study, is called already."""


class Study(Settings):
    """Label source by image source: a run for each image source, the recipe's judges on each, and one report."""

    images: Annotated[dict[Name, ImageSource], Field(min_length=1)]
    variants: dict[Name, Variant] = Field({}, description="by their train.name")

    @model_validator(mode="after")
    def _prompts_are_of_an_earlier_source(self) -> "Study":
        names = list(self.images)
        for at, (name, source) in enumerate(self.images.items()):
            if source.prompts_of and source.prompts_of not in names[:at]:
                earlier = ", ".join(names[:at]) or "none"
                raise ValueError(
                    f"study.images.{name}.prompts_of is '{source.prompts_of}', which is no source before it: {earlier}"
                )
            if source.prompts_of and source.imported:
                raise ValueError(f"study.images.{name} is imported and has its own prompts; leave prompts_of out")
            if source.prompts_of and "prompts" in source.settings:
                raise ValueError(
                    f"study.images.{name} has the prompts of {source.prompts_of}; leave its settings.prompts out"
                )
        return self

    @model_validator(mode="after")
    def _variants_have_names_of_their_own(self) -> "Study":
        if taken := [name for name in self.variants if name in self.images]:
            raise ValueError(f"study.variants.{taken[0]} is the name of an image source as well; take another")
        return self

    @model_validator(mode="after")
    def _folders_have_names_of_their_own(self) -> "Study":
        if taken := [name for name in self.images if name in RESERVED]:
            raise ValueError(f"study.images.{taken[0]} would be a folder that is something else; take another name")
        return self
