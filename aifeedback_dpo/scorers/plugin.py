"""A user's own scorer, `my_module:MyScorer`: as little as a class with `score`, made to look like ours, and checked.

    class Warmth:
        name = "warmth"

        def score(self, images, prompts):  # RGB pictures of PIL; one prompt each
            ...                            # one number a picture, higher is better, NaN for none

It may have `__init__(self, weights)`, and say `slope` or `preference`, and `recipe` where more than its own file and its
weights decide a number.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from aifeedback_dpo.errors import DdpoError, UserError
from aifeedback_dpo.provenance import file_hash, fingerprint
from aifeedback_dpo.records import BASE, CONSENSUS, CONTROL, HUMAN, content_id
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.scorers.scoring import checked
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.settings.kinds import Name

NO_PREFERENCE = Preference(None, "the scorer does not say")


class Plugin:
    """A scorer around a user's class. Raises UserError, with the class named, for anything that does not fit."""

    uses: ClassVar[str]
    code: ClassVar[type]

    def __init__(self, weights: ScorerWeights) -> None:
        self.own = self._made(weights)
        self.preference = self._preference()
        self.recipe = self._recipe(weights)
        self.truncated: set[str] = getattr(self.own, "truncated", set())

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        pictures = list(Pictures.of(images))  # processors of transformers take lists only
        given = self._call("score", lambda: self.own.score(pictures, list(prompts)))
        try:
            found = np.asarray(given.detach().float().cpu() if hasattr(given, "detach") else given)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged, or tensors of an accelerator in a list
            raise UserError(self._wrong(given, len(images))) from error
        if found.dtype.kind not in "fiu":
            raise UserError(self._wrong(given, len(images)))
        with np.errstate(over="ignore"):
            return checked(self.uses, found.astype(np.float32), len(images))

    def _wrong(self, given: object, count: int) -> str:
        return f"scorer {self.uses} gave {given!r:.60}; it must give {count} numbers, NaN where it has none"

    def _made(self, weights: ScorerWeights) -> Any:
        arguments = inspect.signature(self.code).parameters
        optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if asked := [
            name
            for name, argument in arguments.items()
            if name != "weights" and argument.default is argument.empty and argument.kind not in optional
        ]:
            raise UserError(
                f"{self.uses}: __init__ asks for {', '.join(asked)}; it may ask for `weights` and nothing else"
            )
        return self._call("__init__", lambda: self.code(weights=weights) if "weights" in arguments else self.code())

    def _call(self, method: str, call: Callable[[], Any]) -> Any:
        """What a method of the user's gives. Raises UserError, with the line, for whatever it raises."""
        try:
            return call()
        except Exception as error:  # anything may come out of code that is not ours
            if isinstance(error, DdpoError | MemoryError) or type(error).__name__ == "OutOfMemoryError":
                raise
            at = traceback.extract_tb(error.__traceback__)[-1]
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"{self.uses}.{method} raised {type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {reason}"
            ) from error

    def _preference(self) -> Preference:
        preference, slope = getattr(self.own, "preference", None), getattr(self.own, "slope", None)
        if preference is None and slope is None:
            return NO_PREFERENCE
        if preference is None and isinstance(slope, int | float) and 0 < slope < float("inf"):
            return Preference(float(slope), "the scorer's own slope")
        if slope is None and isinstance(preference, Preference):
            return preference
        raise UserError(
            f"{self.uses}: slope is {slope!r} and preference {preference!r}; give a slope above 0, a Preference, or neither"
        )

    def _recipe(self, weights: ScorerWeights) -> str:
        recipe = getattr(self.own, "recipe", None)
        if recipe is None:
            source = file_hash(Path(inspect.getfile(self.code)))
            asked = weights.model_dump(mode="json", exclude={"id", "uses", "slope", "margin"})
            recipe = content_id("plugin", self.code.__qualname__, source, asked, _content(weights.id))
        if not isinstance(recipe, str) or not recipe:
            raise UserError(f"{self.uses}: recipe is {recipe!r}; give a text that changes whenever scores would")
        return recipe


def find(uses: str) -> type[Plugin]:
    """`module:Class` as a scorer; the module may lie in the current directory.

    Raises UserError where there is no such module, no such class in it, or no `score` in the class.
    """
    return type("Plugin", (Plugin,), {"uses": uses, "code": _code(uses)})


def short_name(uses: str) -> str:
    """The name by which `module:Class` goes: what its `name` says, or else the name of the class.

    Raises UserError where that is no name for a judge, or one that is taken.
    """
    code = _code(uses)
    name = getattr(code, "name", code.__name__)
    try:
        valid: str = TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise UserError(
            f"{uses}: its name is {name!r}; use letters, digits, '.', '_' and '-', a letter or digit first"
        ) from error
    if valid in {*CATALOGUE, BASE, HUMAN, CONTROL, CONSENSUS, "ai"}:
        raise UserError(f"{uses}: the name '{name}' is taken; give the class another one, as in `name = 'my-{name}'`")
    return valid


def _code(uses: str) -> type:
    module_name, _, class_name = uses.partition(":")
    if not module_name or not class_name:
        raise UserError(f"'{uses}' is no scorer; write module:Class, as in my_module:MyScorer")
    code = getattr(_module(module_name), class_name, None)
    if not isinstance(code, type):
        raise UserError(f"the module {module_name} has no class {class_name}")
    if not callable(getattr(code, "score", None)):
        raise UserError(f"{uses} has no method `score(self, images, prompts)`")
    return code


def _module(name: str) -> ModuleType:
    """As `python -m` finds it: the current directory comes first."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"there is no module {error.name}, neither in {here} nor installed") from error
        raise UserError(f"the module {name} imports {error.name}, which is not installed") from error


def _content(weights: str) -> str:
    """A hash of the weights where they lie on this machine; elsewhere their id has to do."""
    path = Path(weights).expanduser()
    if path.is_dir():
        return fingerprint(path.resolve())
    return file_hash(path.resolve()) if path.is_file() else weights
