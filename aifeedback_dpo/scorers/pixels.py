"""Pictures to what a tower sees, exactly and explicitly, and once for all scorers that want the same.

Two ways of resizing are published, and they do not give the same pixels. `pil` resizes 8-bit pictures with PIL, which
always antialiases: OpenAI's CLIP, transformers, open_clip, PickScore, ImageReward. `tensor` resizes floats with torch, where
bicubic overshoots [0, 1] and antialiasing is a choice: HPSv2.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import content_id

VERSION = 1  # of this file's arithmetic, in every stamp
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]
FILTERS: dict[Interpolation, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class PixelRecipe:
    """From a picture of any size to a normalised square of `size` pixels.

    `shortest` brings the shortest side to `size` and crops the centre; `longest` the longest side, and puts black bars
    around; `square` ignores the aspect. `mean` and `std` are of values in [0, 1]. Where an odd number of rows is to be
    cropped, torchvision, and so open_clip, rounds the half to `even`, and transformers `down`.
    """

    size: int
    resize: Literal["shortest", "longest", "square"] = "shortest"
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    how: Literal["pil", "tensor"] = "pil"
    crop: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        if self.how == "pil":
            assert self.antialias, "PIL cannot resize without antialias"
        else:
            assert self.interpolation in ("bicubic", "bilinear"), f"torch antialiases no {self.interpolation}"

    def stamp(self) -> str:
        """A hash of the recipe and of the arithmetic that carries it out."""
        return content_id("pixels", VERSION, asdict(self))


class Pictures(Sequence[Image.Image]):
    """A batch of RGB pictures that several scorers look at.

    Each recipe is carried out once. `memo` is for whatever else the scorers of this batch can share: image embeddings
    under the stamp of their tower.
    """

    def __init__(self, images: Iterable[Image.Image]) -> None:
        self._images = list(images)
        self._tensors: dict[PixelRecipe, Tensor] = {}
        self.memo: dict[str, Tensor] = {}

    @classmethod
    def of(cls, images: "Sequence[Image.Image | NDArray[np.uint8]]") -> "Pictures":
        """PIL pictures of any mode, or uint8 arrays (h, w, 3); what is one of these already comes back as it is."""
        return images if isinstance(images, cls) else cls(map(rgb, images))

    def tensor(self, recipe: PixelRecipe) -> Float[Tensor, "b 3 h w"]:
        """Normalised, float32, on the CPU."""
        if recipe not in self._tensors:
            self._tensors[recipe] = _carry_out(recipe, self._images)
        return self._tensors[recipe]

    def part(self, start: int, end: int) -> "Pictures":
        """Some of them, with what has been carried out, as a batch of their own."""
        some = Pictures(self._images[start:end])
        some._tensors = {recipe: rows[start:end] for recipe, rows in self._tensors.items()}
        return some

    @property
    def carried_out(self) -> set[PixelRecipe]:
        """The recipes that somebody has asked for."""
        return set(self._tensors)

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...

    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        return self._images[index]


def rgb(image: "Image.Image | NDArray[np.uint8]") -> Image.Image:
    """What PIL's convert("RGB") gives: transparency is dropped, not blended, and 16 bits are clipped to 8.

    transformers 5 blends with white; the published scores of all scorers here come from before that.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"an array of {image.dtype} {image.shape} is no picture; give uint8 (h, w, 3), or a PIL image"
            )
        return Image.fromarray(image)
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # PIL warns when it drops such a table of transparencies at once
    return image if image.mode == "RGB" else image.convert("RGB")


def target_size(width: int, height: int, recipe: PixelRecipe) -> tuple[int, int]:
    """Width and height after resizing and before crop or bars, rounded as the published code does.

    torchvision, transformers and open_clip cut the longer side down; HPSv2 rounds the shorter one.
    """
    if recipe.resize == "square":
        return recipe.size, recipe.size
    if recipe.resize == "shortest":
        longer = int(recipe.size * max(width, height) / min(width, height))
        return (recipe.size, longer) if width <= height else (longer, recipe.size)
    scale = recipe.size / float(max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _carry_out(recipe: PixelRecipe, images: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    if not images:
        return torch.empty(0, 3, recipe.size, recipe.size)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (recipe.mean, recipe.std))
    if recipe.how == "tensor":
        squares = torch.stack([_square_tensor(recipe, image) for image in images])
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # PIL resizes without the interpreter's lock
            arrays = np.stack(list(threads.map(partial(_square_array, recipe), images)))
        squares = torch.from_numpy(arrays).permute(0, 3, 1, 2).float().contiguous().div_(255)
    return squares.sub_(mean).div_(std)


def _square_array(recipe: PixelRecipe, image: Image.Image) -> NDArray[np.uint8]:
    width, height = target_size(*image.size, recipe)
    if image.size != (width, height):
        image = image.resize((width, height), FILTERS[recipe.interpolation])
    if recipe.resize == "longest":
        canvas = Image.new("RGB", (recipe.size, recipe.size))
        canvas.paste(image, ((recipe.size - width) // 2, (recipe.size - height) // 2))
        image = canvas
    left, top = _corner(image.width, image.height, recipe)
    return np.asarray(image.crop((left, top, left + recipe.size, top + recipe.size)))


def _square_tensor(recipe: PixelRecipe, image: Image.Image) -> Float[Tensor, "3 h w"]:
    width, height = target_size(*image.size, recipe)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
    if image.size != (width, height):
        pixels = interpolate(
            pixels[None],
            size=(height, width),
            mode=recipe.interpolation,
            align_corners=False,
            antialias=recipe.antialias,
        )[0]
    if recipe.resize == "longest":
        left, top = (recipe.size - width) // 2, (recipe.size - height) // 2
        return pad(pixels, (left, recipe.size - width - left, top, recipe.size - height - top))
    left, top = _corner(width, height, recipe)
    return pixels[:, top : top + recipe.size, left : left + recipe.size]


def _corner(width: int, height: int, recipe: PixelRecipe) -> tuple[int, int]:
    """Left and top of the centre."""
    if recipe.crop == "down":
        return (width - recipe.size) // 2, (height - recipe.size) // 2
    return round((width - recipe.size) / 2), round((height - recipe.size) / 2)
