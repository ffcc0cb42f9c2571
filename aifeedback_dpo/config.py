"""Recipes: YAML files plus key=value overrides, merged with OmegaConf and checked once, all errors at a time.

    recipe = load("shapes", ["train.beta=1000"])

A recipe may start from another (`extends: shapes`, or a path seen from its own folder). Nothing is rewritten after
loading: settings are frozen, and one setting never changes another.
"""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from aifeedback_dpo import tokens, yaml_size
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.settings import Recipe, ScorerWeights
from aifeedback_dpo.settings.kinds import Settings

REFERENCE = re.compile(r"(?<=\$\{)([^:}]*)(:?)")


def load(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, file or mapping, with `key=value` overrides on top.

    Raises UserError with every problem at once: the dotted path, what is wrong, and the nearest known key.
    """
    source = dict(recipe) if isinstance(recipe, Mapping) else _read(recipe)
    try:
        merged = _extended(source)
        if overrides:
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([_checked(item) for item in overrides]))
        _check_texts(OmegaConf.to_container(merged))
        values = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, TypeError, ValueError) as error:
        raise UserError(f"recipe: {' '.join(str(error).split())}") from error
    where = "recipe" if isinstance(recipe, Mapping) else f"recipe {recipe}"
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_problems(error))) from error


def names() -> list[str]:
    """The recipes that ship with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _shipped().iterdir() if entry.name.endswith(".yaml"))


def source(name: str) -> str:
    """The YAML of a recipe that ships, comments and all. Raises UserError, with the nearest name, for one that does not."""
    if name not in names():
        raise UserError(_unknown(name))
    return str((_shipped() / f"{name}.yaml").read_text(encoding="utf-8"))


def differences(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two recipes differ, with both values."""
    return different(one.model_dump(mode="json"), other.model_dump(mode="json"))


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The same for any nested mappings."""
    first, second = dict(_flat(one)), dict(_flat(other))
    keys = [*first, *(key for key in second if key not in first)]
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with nested settings on top. Raises UserError as `load` does."""
    return load(OmegaConf.to_container(OmegaConf.merge(recipe.model_dump(mode="json"), settings)))  # type: ignore[arg-type]


def with_judges_of(known: Recipe, wanted: Recipe) -> Recipe:
    """A recipe with the scorers, and the members of the consensus, that another one has and it lacks."""
    label, theirs = wanted.label, known.label
    added = {name: weights for name, weights in theirs.scorers.items() if name not in label.scorers}
    consensus = label.consensus.model_copy(update={"of": label.consensus.of or theirs.consensus.of})
    judges = {"scorers": {**label.scorers, **added}, "consensus": consensus}
    return wanted.model_copy(update={"label": label.model_copy(update=judges)})


def dump(recipe: Recipe) -> str:
    """The whole recipe as YAML, every default written out."""
    return OmegaConf.to_yaml(OmegaConf.create(recipe.model_dump(mode="json")))


def _shipped() -> Any:
    packaged = resources.files("aifeedback_dpo") / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "recipes"


def _read(recipe: str | Path) -> dict[str, Any]:
    text = str(recipe)
    is_path = _is_path(text)
    if not is_path and text not in names():
        raise UserError(f"{_unknown(text)}; or give the path of a YAML file")
    source = Path(text) if is_path else _shipped() / f"{text}.yaml"
    try:
        loaded = _parsed(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {text} cannot be read: {error.strerror}") from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UserError(f"recipe {text} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"recipe {text} must be a mapping of keys to values")
    values = {str(key): value for key, value in loaded.items()}
    parent = values.get("extends")
    if is_path and isinstance(parent, str) and _is_path(parent):
        values["extends"] = str(Path(text).parent / parent)
    return values


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """What a YAML says, not to be changed: a stage reads its run's recipe again and again, and parsing is most of that."""
    yaml_size.check(text)
    try:
        return OmegaConf.to_container(OmegaConf.create(text))
    except AssertionError as error:  # of OmegaConf, for a bare number
        raise ValueError("it is no mapping of keys to values") from error


def _check_texts(values: Any) -> None:
    """Raises UserError for a token, and for `${oc.env:NAME}`, which may be one: a recipe is published with its run."""
    if isinstance(values, Mapping | list):
        for value in values.values() if isinstance(values, Mapping) else values:
            _check_texts(value)
    elif isinstance(values, str):
        if values != tokens.masked(values):
            raise UserError(
                "recipe: a setting holds a token or a password, and would be published; HF_TOKEN is where one goes"
            )
        for name, colon in REFERENCE.findall(values):
            if "${" in name or (colon and name.strip() != "oc.select"):
                raise UserError(f"recipe: '{values}': a recipe refers to its own settings alone, as in ${{train.beta}}")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"no recipe '{name}'{hint} Known: {', '.join(names())}"


def _is_path(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text


def _extended(source: dict[str, Any], seen: tuple[str, ...] = ()) -> Any:
    parent = source.pop("extends", None)
    if parent is None:
        return OmegaConf.create(source)
    if parent in seen:
        raise UserError(f"recipe extends itself: {' -> '.join([*seen, parent])}")
    return OmegaConf.merge(_extended(_read(parent), (*seen, parent)), source)


def _checked(item: str) -> str:
    if not re.match(r"^[A-Za-z_][\w.\-\[\]]*=", item):
        raise UserError(f"'{item}' is not an override; write key=value, as in train.beta=2000")
    yaml_size.check(item.partition("=")[2])
    return item


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        path = ".".join(location)
        if problem["type"] == "extra_forbidden":
            near = _near(location)
            yield f"unknown key '{path}'" + (f", did you mean '{near}'?" if near else "")
        elif problem["type"] == "missing":
            yield f"'{path}' is missing"
        elif problem["type"] == "value_error":
            yield str(problem["ctx"]["error"])
        else:
            given = problem["input"]
            hint = f"; write a list, as in {path}=[{given}]" if problem["type"] == "tuple_type" else ""
            yield f"'{path}' is {given!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}{hint}"


def _near(location: Sequence[str]) -> str | None:
    """The key that was probably meant: of that place, by its initials (`lr`), or of a section (`beta` of `train`)."""
    *place, name = location
    known = _fields(place)
    initials = [field for field in known if "".join(word[0] for word in field.split("_")) == name]
    if found := initials or difflib.get_close_matches(name, known, n=1, cutoff=0.5):
        return ".".join([*place, found[0]])
    sections = [section for section in _fields([]) if name in _fields([section])] if not place else []
    return " or ".join(f"{section}.{name}" for section in sections) or None


def _fields(path: Sequence[str]) -> list[str]:
    """The keys known at this place of a recipe."""
    model: Any = Recipe
    for part in path:
        if not (isinstance(model, type) and issubclass(model, Settings)):
            return []
        field = model.model_fields.get(part)
        model = ScorerWeights if field is None else field.annotation
        if field is not None and part == "scorers":
            return []
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, Settings) else []
