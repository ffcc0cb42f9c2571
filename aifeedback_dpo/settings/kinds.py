"""What settings are made of."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Dtype = Literal["float32", "float16", "bfloat16"]
Count = Annotated[int, Field(gt=0)]
Side = Annotated[int, Field(gt=0, multiple_of=8, description="pixels")]
Scheduler = Literal["ddim", "ddpm", "dpmsolver++", "euler", "euler_a", "flow_euler", "heun", "lms", "pndm", "unipc"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Settings(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
