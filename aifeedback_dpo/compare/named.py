"""What a name on the command line of `ddpo compare` stands for.

base                        the recipe's model as it is
human  ai  human+sft  sft   a policy of the run, by its judge and its train.name; a train.name alone where it is clear
runs/more/policies/human    a policy of another run, all its training seeds; runs/more are all policies of it
lora.safetensors  FOLDER    a LoRA in the diffusers format, or a whole pipeline
owner/name                  the same on the hub
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aifeedback_dpo import models, weights
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.models import LORA_FILE
from aifeedback_dpo.prompts import HUB_ID
from aifeedback_dpo.records import BASE, CONTROL
from aifeedback_dpo.settings import Adapter, Weights
from aifeedback_dpo.store import Run

Kind = Literal["base", "run", "other run", "lora", "model"]


@dataclass(frozen=True)
class Named:
    """One policy that is meant. `path` is the folder of a policy of another run, a LoRA's file, or a pipeline's id."""

    kind: Kind
    name: str
    path: str | None = None


def resolve(run: Run, names: list[str]) -> list[Named]:
    """The policies meant, in order, each once. Raises UserError for a name that stands for nothing, with what there is."""
    found: dict[str, Named] = {}
    for named in (named for name in names for named in _resolved(run, name)):
        known = found.setdefault(named.name, named)
        if known.kind != named.kind or _place(known) != _place(named):
            raise UserError(
                f"{known.path or known.name} and {named.path or named.name} would both be called '{named.name}'; rename one"
            )
    return list(found.values())


def control(policy: str) -> str:
    """The policy that tells what any labels would have done: random labels, of the same run and the same train.name."""
    run, slash, name = policy.rpartition("/")
    _, plus, variant = name.partition("+")
    return f"{run}{slash}{CONTROL}{plus}{variant}"


def _place(named: Named) -> str | None:
    """Where it lies, whichever way it was written."""
    return str(Path(named.path).expanduser().resolve()) if named.path else None


def trained_by(policy: str) -> str:
    """The command that makes a policy of the run."""
    judge, _, variant = policy.partition("+")
    return f"ddpo train --judge {judge}" + (f" train.name={variant}" if variant else "")


def known(run: Run) -> str:
    """The policies that are there, as the end of an error."""
    return f"Trained here: {', '.join(run.policies()) or 'none'}"


def _resolved(run: Run, name: str) -> list[Named]:
    trained = run.policies()
    if name == BASE:
        return [Named("base", BASE)]
    if name in trained:
        return [Named("run", name)]
    path = Path(name).expanduser()
    if path.is_file() or path.is_dir():
        return _at(run, name, path)
    if "/" in name or name.endswith(".safetensors"):
        return [_on_hub(name)]
    return [Named("run", _of_run(run, name))]


def _of_run(run: Run, name: str) -> str:
    """`ai+sft` is `pickscore+sft` where the recipe's `ai` is pickscore; what a known judge lacks is told where it is missed."""
    trained = run.policies()
    variants = [policy for policy in trained if policy.partition("+")[2] == name]
    if len(variants) == 1:
        return variants[0]
    if variants:
        raise UserError(f"'{name}' may be {' or '.join(variants)}; name one of them")
    judge, plus, variant = name.partition("+")
    try:
        policy = f"{run.recipe.judge(judge)}{plus}{variant}"
    except UserError as error:
        raise UserError(f"{error}. {known(run)}") from error
    if plus and policy not in trained:
        near = difflib.get_close_matches(policy, trained, n=1)
        hint = f", did you mean '{near[0]}'?" if near else "."
        raise UserError(f"no finished policy '{policy}'{hint} `{trained_by(policy)}` makes it. {known(run)}")
    return policy


def _at(run: Run, name: str, path: Path) -> list[Named]:
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UserError(
                f"{name} is no policy: give a run, a folder of its policies/, a LoRA's .safetensors, or a pipeline"
            )
        return [Named("lora", _short(path), str(path))]
    if any(path.glob("policies/*/seed-*/policy.json")):
        return [
            _of_other(run, folder)
            for folder in sorted(path.glob("policies/*"))
            if any(folder.glob("seed-*/policy.json"))
        ]
    if any(path.glob("seed-*/policy.json")):
        return [_of_other(run, path)]
    if (path / "model_index.json").is_file():
        return [Named("model", _short(path), str(path))]
    if (path / LORA_FILE).is_file():
        return [Named("lora", _short(path), str(path / LORA_FILE))]
    raise UserError(
        f"{name} holds no finished policy (policies/*/seed-*/policy.json), no {LORA_FILE} and no model_index.json; "
        "`ddpo train --run` makes policies"
    )


def _of_other(run: Run, folder: Path) -> Named:
    """A policy by its folder; one of this very run by its own name."""
    root = folder.resolve().parents[1]
    if root == run.root.resolve():
        return Named("run", folder.resolve().name)
    return Named("other run", f"{root.name}/{folder.resolve().name}", str(folder))


def _on_hub(name: str) -> Named:
    """A pipeline, or a LoRA where the repository has its file."""
    if not re.fullmatch(HUB_ID, name) or name.endswith(".safetensors") or name.startswith("."):
        raise UserError(f"there is no file or folder {name}; give a path that is there, or a hub id as owner/name")
    here = weights.here(Weights(id=name), "pipeline")
    if here is not None and (here.folder / "model_index.json").is_file():
        return Named("model", name, name)
    try:
        return Named("lora", name, str(models.adapter_file(Adapter(id=name)).path))
    except ModelMissing:
        weights.identify(Weights(id=name), "pipeline")  # raises with the command that fetches it
        return Named("model", name, name)


def _short(path: Path) -> str:
    """How a file or folder is called in the report: the last two parts of its path."""
    return "/".join(path.resolve().parts[-2:])
