"""Which pictures to take: everything that decides one, and its id, before any is drawn."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.models import identify
from aifeedback_dpo.records import BASE, canonical, digest, prompt_id
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.settings import Drawer, Model, Recipe
from aifeedback_dpo.weights import Identity

T = TypeVar("T")
LOSSY = "jpeg"


@dataclass(frozen=True)
class Shot:
    """One picture to take: everything that decides its pixels."""

    prompt: str
    seed: int
    policy: str
    policy_revision: str
    model: str
    revision: str
    dtype: str
    steps: int
    guidance: float
    width: int | None
    height: int | None
    scheduler: str | None = None
    negative_prompt: str | None = None
    lossy: str | None = None

    @property
    def image_id(self) -> str:
        """Of all of the above but the names, which only say where a model was found; None is what the model's folder says."""
        return digest(canonical("image", self._made_by()))

    def _made_by(self) -> dict[str, Any]:
        made_by = asdict(self)
        del made_by["model"], made_by["policy"]
        for key in ("scheduler", "negative_prompt", "lossy"):
            if made_by[key] is None:
                del made_by[key]
        return made_by

    def around(self) -> tuple[str, str, str]:
        """What the id is the digest of, without prompt and seed: before, between and after the two."""
        marked = canonical("image", self._made_by() | {"prompt": 0, "seed": 0})
        before, prompt, rest = marked.partition(
            '"prompt":0'
        )  # a text has no quotation mark without a backslash before it
        between, seed, after = rest.partition('"seed":0')
        return before + prompt[:-1], between + seed[:-1], after


@dataclass(frozen=True)
class Source:
    """What draws: a model at a revision, the policy on top of it, and how it samples."""

    model: Model
    identity: Identity
    steps: int
    guidance: float
    width: int | None
    height: int | None
    scheduler: str | None
    negative_prompt: str
    policy: str = BASE
    policy_revision: str = ""
    lossy: str | None = None

    def shot(self, prompt: str, k: int, *, run_seed: int) -> Shot:
        """Candidate k of a prompt. Its seed comes from the run, the prompt and k: policies are compared on equal noise."""
        return Shot(
            prompt=prompt,
            seed=derive(run_seed, prompt_id(prompt), k),
            policy=self.policy,
            policy_revision=self.policy_revision,
            model=self.identity.name,
            revision=self.identity.revision,
            dtype=self.model.dtype,
            steps=self.steps,
            guidance=self.guidance,
            width=self.width,
            height=self.height,
            scheduler=self.scheduler,
            negative_prompt=self.negative_prompt or None,
            lossy=self.lossy,
        )


def source(recipe: Recipe, drawer: Model | None = None) -> Source:
    """The recipe's model, or one of its pool, with its settings. Raises ModelMissing where its revision cannot be told."""
    model, settings = drawer or recipe.model, recipe.generate
    own = drawer if isinstance(drawer, Drawer) else Drawer(id=model.id)
    return Source(
        model=model,
        identity=identify(model),
        steps=_first(own.steps, settings.steps),
        guidance=_first(own.guidance, settings.guidance),
        width=_first(own.width, settings.width),
        height=_first(own.height, settings.height),
        scheduler=_first(own.scheduler, settings.scheduler),
        negative_prompt=settings.negative_prompt,
        lossy=LOSSY if settings.format == LOSSY else None,
    )


def _first(own: T | None, shared: T) -> T:
    return shared if own is None else own


class Shots(Sequence[Shot]):
    """These candidates of every prompt, prompt by prompt; candidate k is of source k modulo their number.

    Each is made when it is asked for: of a million shots only the prompts and, once wanted, the ids are in memory.
    """

    def __init__(
        self, prompts: Sequence[str], sources: Sequence[Source], candidates: Sequence[int], *, run_seed: int
    ) -> None:
        self.prompts, self.sources, self.candidates, self.run_seed = prompts, sources, candidates, run_seed

    def __getstate__(self) -> dict[str, Any]:
        """Without the ids, which can be made again."""
        return {name: value for name, value in vars(self).items() if name != "ids"}

    def __len__(self) -> int:
        return len(self.prompts) * len(self.candidates)

    @overload
    def __getitem__(self, at: int) -> Shot: ...

    @overload
    def __getitem__(self, at: slice) -> list[Shot]: ...

    def __getitem__(self, at: int | slice) -> Shot | list[Shot]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        prompt, candidate = divmod(range(len(self))[at], len(self.candidates))
        k = self.candidates[candidate]
        return self.sources[k % len(self.sources)].shot(self.prompts[prompt], k, run_seed=self.run_seed)

    @cached_property
    def ids(self) -> NDArray[np.bytes_]:
        """The image ids, packed: those of the shots, made without the shots."""
        around = {k: self.sources[k % len(self.sources)].shot("", k, run_seed=0).around() for k in self.candidates}
        found = np.empty(len(self), "S32")
        at = 0
        for prompt in self.prompts:
            name, text = prompt_id(prompt), json.dumps(prompt, ensure_ascii=False)
            for k in self.candidates:
                before, between, after = around[k]
                found[at] = digest(f"{before}{text}{between}{derive(self.run_seed, name, k)}{after}").encode()
                at += 1
        return found

    def drawn_by(self, number: int) -> "Shots":
        """Those of one of the sources."""
        if len(self.sources) == 1:
            return self
        own = [k for k in self.candidates if k % len(self.sources) == number]
        return Shots(self.prompts, self.sources, own, run_seed=self.run_seed)


def plan(prompts: Sequence[str], sources: Sequence[Source], *, run_seed: int, candidates: int) -> Shots:
    """`candidates` shots a prompt."""
    return Shots(prompts, sources, range(candidates), run_seed=run_seed)
