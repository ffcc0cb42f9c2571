"""Who is asked: names of the command line to the judges of a recipe, which keeps those that join it."""

from collections.abc import Sequence
from dataclasses import dataclass

from aifeedback_dpo import scorers
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import BASE, CONSENSUS, CONTROL, HUMAN
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.settings import Label, Recipe, ScorerWeights


@dataclass(frozen=True)
class Asked:
    """The judges of one command: those that score pictures, those that compare two, and the members of a consensus."""

    scorers: tuple[str, ...]
    pairwise: tuple[str, ...]
    consensus: tuple[str, ...]


def asked(recipe: Recipe, names: Sequence[str], judges: Sequence[str]) -> tuple[Recipe, Asked]:
    """The judges that `--scorer` and `--judge` mean, the random control included, and the recipe that has them all.

    Without either they are those of `train.judges`. A scorer that the recipe does not list joins it with its published
    weights, one's own (`module:Class`) under its short name; the members of a consensus are written down. Raises UserError
    for a judge nobody knows, and for a consensus of fewer than two or of others than the recipe's.
    """
    for name in judges:
        if name != CONSENSUS and not (name == "ai" and recipe.label.ai == CONSENSUS):
            raise UserError(f"--judge {name}: `ddpo label` takes only --judge {CONSENSUS}; a scorer goes by --scorer")
    for name, weights in recipe.label.scorers.items():
        scorers.check(weights.uses or name)
    chosen: list[str] = []
    for name in names or ([] if judges else _trained_on(recipe)):
        if name != "ai" or recipe.label.ai != CONSENSUS:
            recipe, short = _joined(recipe, recipe.label.ai if name == "ai" else name)
            chosen.append(short)
    members: tuple[str, ...] = ()
    if judges or _meant(recipe.label, names, chosen):
        members = _members(recipe.label, chosen)
        asked_for = {name for name in chosen if name != CONTROL}
        if judges and asked_for and asked_for != {*members} - {HUMAN}:
            raise UserError(
                f"the consensus of this run is of {', '.join(members)}, and it is asked for with "
                f"{', '.join(sorted(asked_for))}; name the same ones, or set label.consensus.of=[...]"
            )
        for name in members:
            recipe = recipe if name == HUMAN else _joined(recipe, name)[0]
        recipe = _with(recipe, consensus=recipe.label.consensus.model_copy(update={"of": members}))
    recipe, control = _joined(recipe, CONTROL)
    everyone = list(dict.fromkeys([*chosen, *(name for name in members if name != HUMAN), control]))
    pairwise = [name for name in everyone if scorers.is_pairwise(name, recipe.label.scorers[name])]
    return recipe, Asked(tuple(name for name in everyone if name not in pairwise), tuple(pairwise), members)


def _trained_on(recipe: Recipe) -> list[str]:
    """The scorers that `ddpo train` will want, and the recipe's `ai`."""
    wanted = [recipe.judge(name) for name in ("ai", *recipe.train.judges)]
    return [name for name in dict.fromkeys(wanted) if name not in (HUMAN, CONSENSUS, CONTROL)]


def _joined(recipe: Recipe, name: str) -> tuple[Recipe, str]:
    """The recipe with this scorer, and the name that it goes by there."""
    known = recipe.label.scorers
    if name in known:
        return recipe, name
    scorers.check(name)
    if name in CATALOGUE:
        return _with(recipe, scorers={**known, name: CATALOGUE[name].weights}), name
    from aifeedback_dpo.scorers import plugin

    short = plugin.short_name(name)
    if short == BASE or (short in known and known[short].uses != name):
        raise UserError(f"{name} goes by the name '{short}', which is taken; give its class another `name`")
    own = known.get(short) or ScorerWeights(id="none", uses=name)
    return _with(recipe, scorers={**known, short: own}), short


def _meant(label: Label, names: Sequence[str], chosen: Sequence[str]) -> bool:
    """Whether a recipe whose `ai` is the consensus wants it made now: when it is asked for, or all of its members are."""
    if label.ai != CONSENSUS:
        return False
    of = set(label.consensus.of)
    return not names or "ai" in names or (of <= set(chosen) if of else len(set(chosen)) > 1)


def _members(label: Label, chosen: Sequence[str]) -> tuple[str, ...]:
    of = tuple(dict.fromkeys(label.consensus.of or [name for name in chosen if name != CONTROL]))
    if len(of) < 2:
        raise UserError(
            "a consensus takes at least two judges: name them, as in --scorer pickscore --scorer clip, or set "
            f"label.consensus.of; got {', '.join(of) or 'none'}"
        )
    if unfit := [name for name in of if name in (CONTROL, CONSENSUS, BASE, "ai")]:
        raise UserError(f"label.consensus.of names {unfit[0]}, which can be no member; take scorers, or {HUMAN}")
    return of


def _with(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update={"label": recipe.label.model_copy(update=changes)})
