"""Guards beside preference: what a policy may lose while its judge is pleased. They warn; none of them says who is better.

    spread                how unlike each other the pictures of one prompt are, and how much more so than the base model's
    clip-i                how like the base's picture, or a real one, of the same prompt a picture is
    fid, kid              how far all pictures together are from the base's, or from real ones, as Inception sees them
    fd-clip, kid-clip     the same as the CLIP of the recipe sees them

What cannot be measured is a row without a value, whose `caution` says what to do. `docs/guards.md` says when each one lies.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aifeedback_dpo import engine
from aifeedback_dpo.compare import distances, embedding, inception
from aifeedback_dpo.compare.bootstrap import Estimate, over_prompts
from aifeedback_dpo.compare.embedding import Blind, Embedder, Eye, Rows, Shelf
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.records import BASE, prompt_id
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.settings.comparison import Compare
from aifeedback_dpo.store import Run

Values = dict[str, list[float]]  # by prompt
Told = dict[str, Any]  # a row of the report

REFERENCE = "reference"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
NO_CLIP = "no scorer of the recipe stands on a CLIP: `ddpo compare --scorer clip` adds one that does"
MANY = 10_000
"""Pictures below which nobody publishes FID."""
TELLING = 6
"""Prompts from which on it is rarer than one time in twenty that a spread falls on all of them, or rises, by chance."""
FRECHET = (
    "the squared Fréchet distance of {sizes}, in the features of {space}; without an interval, as sets that are drawn "
    "again from these are further apart"
)
KERNEL = (
    "the squared kernel distance of {sizes}, in the features of {space}; 0, or below, where they cannot be told apart"
)


@dataclass(frozen=True)
class Asked:
    """Image ids by policy; several a prompt by policy; the prompt of each id; real pictures by id, and ids by prompt."""

    pictures: Mapping[str, Sequence[str]]
    spread: Mapping[str, Sequence[Sequence[str]]]
    prompts: Mapping[str, str]
    real: Mapping[str, Path]
    real_of: Mapping[str, str]


def check(settings: Compare, reference: Path | None = None) -> None:
    """Raises UserError, before anything is drawn, for a reference or a file of weights that is named and not there."""
    inception.file(settings)
    for folder in (settings.reference, reference):
        if folder is not None:
            pictures_of(Path(folder))


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, by name; not those of folders in it. Raises UserError where there are none."""
    found = sorted(path for path in folder.expanduser().glob("*") if path.suffix.lower() in PICTURES)
    if not found:
        raise UserError(f"{folder} holds no pictures ({', '.join(PICTURES)}); name a folder that does")
    return found


def measure(
    run: Run,
    pictures: Mapping[str, Sequence[str]],
    spread: Mapping[str, Sequence[Sequence[str]]],
    progress: engine.Progress,
    *,
    reference: Path | None = None,
    paired: Mapping[str, Path] | None = None,
) -> list[Told]:
    """A row for each policy and guard. Nothing is loaded where everything has been seen before.

    `pictures` are image ids by policy, in the order of prompts and seeds that all of them share, the base's among them;
    `spread` has several pictures of each of some prompts. `reference` is a folder of real pictures; `paired` has the real
    picture of each prompt, by its text, and then those are the reference. Raises UserError for a folder without pictures,
    DataError for a picture that cannot be read.
    """
    files = list((paired or {}).values()) or (pictures_of(reference) if reference else [])
    asked = Asked(
        pictures=pictures,
        spread=spread,
        prompts=_prompts(run, pictures, spread),
        real={embedding.file_id(path): path for path in files},
        real_of={prompt_id(prompt): embedding.file_id(path) for prompt, path in (paired or {}).items()},
    )
    clip, (by_inception, by_clip) = _eyes(run, progress)
    shelf = embedding.shelf(run, asked.real)
    found = [
        *_alike(run, asked, clip, shelf),
        *_apart(run, asked, by_inception, shelf, progress, ("fid", "kid")),
        *_apart(run, asked, by_clip, shelf, progress, ("fd-clip", "kid-clip"), gamma=1.0),
    ]
    return sorted(found, key=lambda row: list(pictures).index(row["policy"]))


def _prompts(
    run: Run, pictures: Mapping[str, Sequence[str]], spread: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, str]:
    """The id of the prompt of each of these."""
    wanted = {image for ids in pictures.values() for image in ids}
    wanted |= {image for prompts in spread.values() for images in prompts for image in images}
    parts = run.scan("images", ["image_id", "prompt_id"])
    rows = (zip(*(column.to_pylist() for column in part.columns), strict=True) for part in parts)
    return {image: prompt for part in rows for image, prompt in part if image in wanted}


def _eyes(run: Run, progress: engine.Progress) -> tuple[Eye, tuple[Eye, Eye]]:
    """The CLIP for single pictures; Inception and the same CLIP for distances, which take torch-fidelity as well."""
    settings, space = run.recipe.compare, embedding.clip(run)
    clip: Eye = Embedder(run, space, progress) if space else Blind(NO_CLIP, "a CLIP")
    if step := inception.missing(settings):
        by_inception: Eye = Blind(step, "Inception v3")
    else:
        by_inception = Embedder(run, inception.space(settings), progress)
    step = inception.package_missing()
    return clip, (by_inception, Blind(step, clip.about) if step else clip)


def spread_of(rows: Rows) -> float:
    """1 - the mean cosine of two different ones of n rows (n, width): 0 where all point one way.

    The cosines of all n (n - 1) ordered pairs of unit vectors that add up to s are s.s - n together.
    """
    exact = rows.astype(np.float64)
    units = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    count, total = len(units), units.sum(axis=0)
    return float(1 - (total @ total - count) / (count * (count - 1)))


def _alike(run: Run, asked: Asked, clip: Eye, shelf: Shelf) -> Iterator[Told]:
    """Spread and CLIP-I: means over prompts."""
    rows: dict[str, Rows] = {}
    why = None
    try:
        rows = clip.rows({*asked.prompts, *asked.real_of.values()}, shelf)
    except ModelMissing as error:
        why = str(error)
    seen = f"in the embeddings of {clip.about}" + (f"; {clip.caution}" if clip.caution else "")
    for policy in asked.pictures:
        for guard, against, about, values in _kinds(asked, policy, rows):
            value = _nothing() if why else _mean(run, values())
            fell = guard == "spread" and against == BASE and value.prompts >= TELLING and value.high < 0
            caution = why or (_fell(value) if fell else None)
            yield _row(policy, guard, against, value, f"{about}, {seen}", caution)


def _kinds(
    asked: Asked, policy: str, rows: Mapping[str, Rows]
) -> Iterator[tuple[str, str | None, str, Callable[[], Values]]]:
    """Guard, against whom, what it is, and its values."""
    ids, is_base = asked.pictures[policy], policy == BASE
    if several := asked.spread.get(policy):
        about = "1 - the mean cosine of two pictures of one prompt: 0 where all are alike"
        yield "spread", None, about, partial(_spreads, asked, several, rows)
        about = "its spread minus the base model's on the same prompts: below 0 its pictures are more alike"
        if not is_base:
            yield "spread", BASE, about, partial(_narrower, asked, policy, rows)
    about = "the mean cosine of its picture and the base model's of the same prompt and seed: 1 where nothing has moved"
    if not is_base:
        yield "clip-i", BASE, about, partial(_cosines, asked, list(zip(ids, asked.pictures[BASE], strict=True)), rows)
    if asked.real_of:
        both = [(image, asked.real_of[of]) for image in ids if (of := asked.prompts[image]) in asked.real_of]
        about = "the mean cosine of its picture and the real one of the same prompt"
        yield "clip-i", REFERENCE, about, partial(_cosines, asked, both, rows)


def _spreads(asked: Asked, several: Sequence[Sequence[str]], rows: Mapping[str, Rows]) -> Values:
    return {asked.prompts[ids[0]]: [spread_of(np.stack([rows[image] for image in ids]))] for ids in several}


def _narrower(asked: Asked, policy: str, rows: Mapping[str, Rows]) -> Values:
    own, base = (_spreads(asked, asked.spread[name], rows) for name in (policy, BASE))
    return {prompt: [own[prompt][0] - base[prompt][0]] for prompt in own}


def _cosines(asked: Asked, pairs: Sequence[tuple[str, str]], rows: Mapping[str, Rows]) -> Values:
    found: Values = {}
    for image, other in pairs:
        one, two = rows[image].astype(np.float64), rows[other].astype(np.float64)
        cosine = float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))
        found.setdefault(asked.prompts[image], []).append(cosine)
    return found


def _mean(run: Run, values: Values) -> Estimate:
    """With its interval over prompts, whatever their order."""
    settings = run.recipe.compare
    flat = [(prompt, value) for prompt in sorted(values) for value in values[prompt]]
    if not flat:
        return _nothing()
    return over_prompts(
        np.array([[value for _, value in flat]]),
        [prompt for prompt, _ in flat],
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=derive(run.recipe.seed, "bootstrap"),
    )


def _fell(value: Estimate) -> str:
    return (
        f"its pictures of one prompt are more alike than the base model's (spread {value.value:+.2g}, {value.low:+.2g} to "
        f"{value.high:+.2g}, on {value.prompts} prompts): it may draw for its judge what always pleases"
    )


def _apart(
    run: Run,
    asked: Asked,
    eye: Eye,
    shelf: Shelf,
    progress: engine.Progress,
    names: tuple[str, str],
    gamma: float | None = None,
) -> Iterator[Told]:
    """Fréchet and kernel distances of sets: each policy's pictures from the base's, and everybody's from real ones."""
    real = list(asked.real)
    wanted = [
        (policy, against, guard, guard == names[1])
        for policy in asked.pictures
        for against in (BASE, *([REFERENCE] if real else []))
        for guard in names
        if policy != against
    ]
    shown = engine.Silent() if isinstance(eye, Blind) else progress
    with shown.task(f"Distances of sets of pictures by {eye.about}", len(wanted)) as bar:
        for policy, against, guard, kernels in wanted:
            pairs = sorted(zip(asked.pictures[policy], asked.pictures[BASE], strict=True))
            ids = [image for image, _ in pairs]
            theirs = [image for _, image in pairs] if against == BASE else real
            prompts = len({asked.prompts[image] for image in ids})
            try:
                told = distances.measure(
                    run, eye, ids, theirs, shelf, kernels=kernels, gamma=gamma, paired=against == BASE
                )
                value, caution = Estimate(*told, prompts), _distrust(eye, ids, theirs, prompts, kernels=kernels)
            except ModelMissing as error:
                value, caution = _nothing(), str(error)
            whose = "of the base model's of the same prompts and seeds" if against == BASE else "real ones"
            about = (KERNEL if kernels else FRECHET).format(
                sizes=f"{len(ids)} of its pictures and {len(theirs)} {whose}", space=eye.about
            )
            yield _row(policy, guard, against, value, about, caution)
            bar.advance(1)


def _distrust(eye: Eye, ids: Sequence[str], others: Sequence[str], prompts: int, *, kernels: bool) -> str | None:
    fewest = min(len(ids), len(others))
    told = [eye.caution] if eye.caution else []
    if fewest < distances.FEWEST:
        return f"it takes {distances.FEWEST} pictures on either side, and there are {fewest}"
    if kernels and len(ids) > prompts:
        told.append("pictures of one prompt count as independent here, so its interval is too narrow")
    if not kernels and fewest < MANY:
        told.append(
            f"{fewest} pictures bias it: it compares with values of as many, {len(ids)} and {len(others)}, and with none "
            "that is published"
        )
    return "; ".join(told) or None


def _nothing() -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, 0)


def _row(policy: str, guard: str, against: str | None, value: Estimate, about: str, caution: str | None) -> Told:
    told = {"policy": policy, "guard": guard, "against": against, "value": value.to_dict()}
    return told | {"about": about, "caution": caution}
