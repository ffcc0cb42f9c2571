"""What settings are made of."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SHORT = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
Dtype = Annotated[
    Literal["float32", "float16", "bfloat16"],
    BeforeValidator(lambda name: SHORT.get(name, name) if isinstance(name, str) else name),
]
"""By torch's names; accelerate's short ones are understood."""
Count = Annotated[int, Field(gt=0)]
Side = Annotated[int, Field(gt=0, multiple_of=8, description="pixels")]
Scheduler = Literal["ddim", "ddpm", "dpmsolver++", "euler", "euler_a", "flow_euler", "heun", "lms", "pndm", "unipc"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Settings(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
