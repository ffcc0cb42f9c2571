"""Pictures of the policy while it trains, on fixed prompts and seeds: a strip over the steps.

    policies/<policy>/seed-<n>/validation/step-000100.webp    what it made of the prompts after 100 steps, side by side
    policies/<policy>/seed-<n>/validation.png                 the strip: a column a step, a row a prompt

They are drawn as `ddpo generate` draws, of the weights that would be kept if training ended there. Nothing that is trained
is moved, and no random number is drawn but from generators of their own: training goes on as if nobody had looked.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from aifeedback_dpo.codec import decode_image, encode_image
from aifeedback_dpo.dpo import tracking
from aifeedback_dpo.dpo.policy import Policy
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from aifeedback_dpo.dpo.loop import Group, Member

WEBP_SIDE = 16383  # pixels, the most that a WebP has
SHOWN_SIDE = 256  # pixels of a picture's longer side in the strip
PROMPT_WIDTH, GAP, FONT_SIZE, LINE = 240, 8, 15, 20
PAPER, INK = (250, 250, 248), (30, 30, 30)


class Gallery:
    """Draws the first held-out prompts of a run, in one process; the others go on to where they need its gradients.

    Where the network is sharded all processes draw, and one keeps what it drew.
    """

    def __init__(self, run: Run, model: Diffuser, accelerator: Accelerator, *, together: bool) -> None:
        self.run, self.model, self.accelerator, self.together = run, model, accelerator, together
        self.prompts: list[str] = []
        if wanted := run.recipe.train.validation.prompts if accelerator.is_main_process or together else 0:
            rows = run.rows("prompts", ["prompt", "split"])
            self.prompts = [row["prompt"] for row in rows if row["split"] == "eval"][:wanted]
        self.begun = False

    def show(self, group: "Group", done: int) -> None:
        """Draws what the policies make of the prompts after `done` steps, where it is time to; and once what the base does.

        Called first where a training begins or goes on: pictures of later steps, which are done again, are dropped there.
        """
        if not self.prompts:
            return
        if not self.begun and self.accelerator.is_main_process:
            self.begun = True
            for path in (path for member in group.members for path in _rows(member)):
                if _step(path) > done:
                    path.unlink()
        new, due = self._missing(group, done)
        if not new and not due:
            return
        try:
            with self.model.placed("vae", *self.model.family.TEXT):
                if new:
                    group.network.show(None)
                    self._keep(new, 0, self._draw())
                for member in due:
                    group.network.show(member.policy.at)
                    with _kept(member.policy), _runs_in(self.model.denoiser, self.model.dtype):
                        self._keep([member], done, self._draw())
        finally:
            group.network.show(0)

    def _missing(self, group: "Group", done: int) -> tuple[list["Member"], list["Member"]]:
        """The policies that have no row of the base yet, and those that have none of themselves where one is due."""
        new = [at for at, member in enumerate(group.members) if not _row(member, 0).exists()]
        due = [
            at
            for at, member in enumerate(group.members)
            if self._is_due(member, done) and not _row(member, done).exists()
        ]
        if self.together:  # what the first process sees counts, for it is the one that adds files
            new, due = broadcast_object_list([new, due])
        return [group.members[at] for at in new], [group.members[at] for at in due]

    def _is_due(self, member: "Member", done: int) -> bool:
        settings = self.run.recipe.train
        if member.ended:
            return member.last is not None and member.last["step"] == done - 1
        return bool(done) and member.going and (done % settings.validation.every == 0 or done == settings.steps)

    def _draw(self) -> list[Image.Image]:
        """The prompts by what the pipeline holds now."""
        settings, seed = self.run.recipe.generate, self.run.recipe.seed
        pictures: list[Image.Image] = []
        with self.model.scheduler(settings.scheduler):
            for start in range(0, len(self.prompts), settings.batch_size):
                prompts = self.prompts[start : start + settings.batch_size]
                pictures += self.model.sample(
                    prompts,
                    [derive(seed, "validation", prompt) for prompt in prompts],
                    steps=settings.steps,
                    guidance=settings.guidance,
                    negative_prompt=settings.negative_prompt,
                    width=settings.width,
                    height=settings.height,
                )
        return pictures

    def _keep(self, members: Sequence["Member"], done: int, pictures: list[Image.Image]) -> None:
        """Commits a row of pictures to each of these policies, and their strips anew."""
        if not self.accelerator.is_main_process:
            return
        size, row = pictures[0].size, encode_image(_side_by_side(pictures))
        for member in members:
            self.run.write(_row(member, done), lambda file: file.write(row))
            columns = {_step(path): _cut(_read(path), size, len(self.prompts)) for path in _rows(member)}
            whole = strip(member.job.name, self.prompts, columns)
            self.run.write(member.job.folder / "validation.png", partial(whole.save, format="PNG"))
            if self.accelerator.trackers:
                column = strip(member.job.name, self.prompts, {done: pictures})
                tracking.picture(self.accelerator, f"{member.job.name}/validation", column, done)


def strip(title: str, prompts: Sequence[str], columns: Mapping[int, Sequence[Image.Image]]) -> Image.Image:
    """The pictures of the prompts by step: steps above, prompts to the left; small pictures enlarged without smoothing."""
    font, size = _font(), _shown(next(iter(columns.values()))[0].size)
    wide, high = size[0] + GAP, size[1] + GAP
    left, top = PROMPT_WIDTH + 2 * GAP, 2 * LINE + 2 * GAP
    sheet = Image.new("RGB", (left + wide * len(columns), top + high * len(prompts)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), title, INK, font)
    for row, prompt in enumerate(prompts):
        text = _wrapped(prompt, font, max(size[1] // LINE, 1))
        pen.multiline_text((GAP, top + row * high + size[1] / 2), text, INK, font, anchor="lm")
    for column, (step, pictures) in enumerate(sorted(columns.items())):
        x = left + column * wide
        pen.text((x, GAP + LINE), f"step {step}" if step else "base", INK, font)
        for row, picture in enumerate(pictures):
            how = Image.Resampling.NEAREST if size[0] >= picture.width else Image.Resampling.LANCZOS
            sheet.paste(picture.resize(size, how), (x, top + row * high))
    return sheet


def _row(member: "Member", done: int) -> Path:
    return member.job.folder / "validation" / f"step-{done:06d}.webp"


def _rows(member: "Member") -> list[Path]:
    return sorted(member.job.folder.glob("validation/step-*.webp"))


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _read(path: Path) -> Image.Image:
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} is corrupted ({error}); delete it and run `ddpo train` again") from error


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """One row, or as many as it takes where that would be too wide for a WebP."""
    width, height = pictures[0].size
    across = min(len(pictures), WEBP_SIDE // width)
    sheet = Image.new("RGB", (across * width, -(-len(pictures) // across) * height))
    for at, picture in enumerate(pictures):
        sheet.paste(picture, (at % across * width, at // across * height))
    return sheet


def _cut(sheet: Image.Image, size: tuple[int, int], count: int) -> list[Image.Image]:
    """The inverse: the first `count` pictures, or those that there are."""
    width, height = size
    across, down = sheet.width // width, sheet.height // height
    corners = [(at % across * width, at // across * height) for at in range(min(count, across * down))]
    return [sheet.crop((x, y, x + width, y + height)) for x, y in corners]


def _shown(size: tuple[int, int]) -> tuple[int, int]:
    """The size in the strip: made smaller, or a whole number of times larger."""
    longer = max(size)
    factor = SHOWN_SIDE / longer if longer > SHOWN_SIDE else SHOWN_SIDE // longer
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, as matplotlib brings it: Pillow's own has Latin letters only."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), FONT_SIZE)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, lines: int) -> str:
    """The text in at most so many lines that are as wide as the column of prompts; what is left over is cut off."""
    for characters in range(PROMPT_WIDTH // 4, 8, -1):
        broken = textwrap.wrap(text, characters, max_lines=lines, placeholder=" …")
        if max(map(font.getlength, broken)) <= PROMPT_WIDTH:
            break
    return "\n".join(broken)


@contextmanager
def _kept(policy: Policy) -> Iterator[None]:
    """The running mean of the weights in their place, where one is kept: that is what will be saved."""
    if policy.mean is None:
        yield
        return
    policy.mean.store(policy.parameters)
    policy.mean.copy_to(policy.parameters)
    try:
        yield
    finally:
        policy.mean.restore(policy.parameters)


@contextmanager
def _runs_in(denoiser: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """A denoiser that is trained in float32 runs, under autocast, in the dtype that the rest of the pipeline has.

    It alone: SDXL's autoencoder, which raises itself to float32, must not be lowered.
    """
    weight = next(denoiser.parameters())
    if weight.dtype == dtype:
        yield
        return
    forward = denoiser.forward

    def lowered(*seen: object, **told: object) -> tuple[torch.Tensor, ...]:
        with torch.autocast(weight.device.type, dtype):
            return tuple(part.to(dtype) for part in forward(*seen, **told))

    denoiser.forward = lowered
    try:
        yield
    finally:
        del denoiser.forward
