"""A user's own scorer: what a class may leave out, and one clear line for each thing it may get wrong."""

import sys

import numpy as np
import pytest
from PIL import Image

from aifeedback_dpo import scorers
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers.plugin import find, short_name
from aifeedback_dpo.settings import ScorerWeights

RED, BLUE = Image.new("RGB", (4, 2), "red"), Image.new("RGBA", (3, 3), "blue")

WARMTH = """
import numpy as np

class Warmth:
    name = "warmth"

    def score(self, images, prompts):
        means = [np.asarray(image).mean(axis=(0, 1)) / 255 for image in images]
        return [float(mean[0] - mean[2]) for mean in means]
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a user's module into the current directory, as another name each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def written(source: str, name: str = "my_module") -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield written
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def load(uses: str, **settings):
    return scorers.load("mine", ScorerWeights(id=settings.pop("id", "none"), uses=uses, **settings))


def test_a_class_with_nothing_but_score_is_a_scorer(write):
    scorer = load(f"{write(WARMTH)}:Warmth")
    scored = scorer.score([RED, BLUE, np.asarray(RED)], ["x", "y", "z"])
    assert scored.dtype == np.float32
    assert scored.tolist() == [1.0, -1.0, 1.0]
    assert scorer.preference.slope is None
    assert scorer.truncated == set()


def test_a_processor_of_transformers_takes_the_pictures_as_they_come(write):
    source = """
from transformers import CLIPImageProcessor

class Mine:
    def score(self, images, prompts):
        pixels = CLIPImageProcessor(do_normalize=False)(images=images, return_tensors="pt")["pixel_values"]
        return pixels[:, 0].mean(dim=(1, 2))
"""
    assert load(f"{write(source)}:Mine").score([RED, BLUE], ["x", "y"]) == pytest.approx([1.0, 0.0])


def test_it_goes_by_its_name_or_by_that_of_its_class(write):
    module = write(
        WARMTH
        + "\nclass Other(Warmth):\n    name = 'two words'\n\nclass Bare:\n    def score(self, images, prompts): ..."
    )
    assert short_name(f"{module}:Warmth") == "warmth"
    assert short_name(f"{module}:Bare") == "Bare"
    with pytest.raises(UserError, match="my_module:Other: its name is 'two words'; use letters"):
        short_name(f"{module}:Other")


@pytest.mark.parametrize("taken", ["pickscore", "human", "random", "consensus", "base", "ai"])
def test_it_takes_no_name_that_is_taken(write, taken):
    module = write(WARMTH.replace("warmth", taken))
    with pytest.raises(UserError, match=f"the name '{taken}' is taken"):
        short_name(f"{module}:Warmth")


def test_it_gets_the_weights_if_it_asks(write):
    source = """
class Mine:
    def __init__(self, weights):
        self.number = float(weights.id)

    def score(self, images, prompts):
        return [self.number] * len(images)
"""
    assert load(f"{write(source)}:Mine", id="0.5").score([RED], ["x"]).tolist() == [0.5]


def test_an_optional_argument_of_its_own_keeps_its_default(write):
    source = """
class Mine:
    def __init__(self, device="cpu", *, weights=None, **more):
        self.number = 1.0 if device == "cpu" and weights.id == "none" else 0.0

    def score(self, images, prompts):
        return [self.number] * len(images)
"""
    assert load(f"{write(source)}:Mine").score([RED], ["x"]).tolist() == [1.0]


def test_it_is_asked_for_nothing_else(write):
    module = write(
        "class Mine:\n    def __init__(self, weights, device): ...\n    def score(self, images, prompts): ..."
    )
    with pytest.raises(UserError, match="my_module:Mine: __init__ asks for device; it may ask for `weights`"):
        load(f"{module}:Mine")


@pytest.mark.parametrize(
    ("said", "slope"),
    [
        ("slope = 2", 2.0),
        ("slope = None", None),
        (
            "from aifeedback_dpo.scorers.preference import Preference\n    preference = Preference(3.0, 'as trained')",
            3.0,
        ),
    ],
)
def test_it_may_say_how_two_scores_compare(write, said, slope):
    module = write(f"class Mine:\n    {said}\n    def score(self, images, prompts): ...")
    assert load(f"{module}:Mine").preference.slope == slope


@pytest.mark.parametrize("said", ["slope = 0", "slope = -1", "slope = 'steep'", "preference = 2.0"])
def test_a_slope_that_is_none_is_refused(write, said):
    module = write(f"class Mine:\n    {said}\n    def score(self, images, prompts): ...")
    with pytest.raises(UserError, match="give a slope above 0, a Preference, or neither"):
        load(f"{module}:Mine")


@pytest.mark.parametrize(
    "given",
    ["[0.5, float('nan')]", "np.array([0.5, np.nan])", "torch.tensor([0.5, float('nan')], requires_grad=True)",
     "torch.tensor([0.5, float('nan')], dtype=torch.bfloat16)", "(np.float32(0.5), np.float32('nan'))"],
)  # fmt: skip
def test_numbers_may_come_as_a_list_an_array_or_a_tensor(write, given):
    module = write(f"import numpy as np, torch\nclass Mine:\n    def score(self, images, prompts): return {given}")
    assert load(f"{module}:Mine").score([RED, BLUE], ["x", "y"]) == pytest.approx([0.5, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    "given",
    ["[0.5]", "0.5", "None", "[[0.5], [0.5]]", "[0.5, None]", "['0.5', '0.5']", "[0.5, float('inf')]", "[1e300, 0.5]",
     "[[0.5], 0.5]", "(number for number in (0.5, 0.5))", "[True, False]"],
)  # fmt: skip
def test_what_is_not_one_number_a_picture_is_refused_with_the_scorer_named(write, given):
    module = write(f"class Mine:\n    def score(self, images, prompts): return {given}")
    with pytest.raises(UserError, match=r"my_module:Mine gave .* must give 2 "):
        load(f"{module}:Mine").score([RED, BLUE], ["x", "y"])


def test_its_recipe_is_of_its_source_its_class_and_its_weights(write, tmp_path):
    mine = write(WARMTH + "\nclass Twin(Warmth): ...", "my_first")
    other = write(WARMTH + "\nclass Twin(Warmth): ...\n# changed", "my_second")
    folders = {name: tmp_path / name for name in ("here", "moved", "changed")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "head.safetensors").write_bytes(b"2" if name == "changed" else b"1")
    known = load(f"{mine}:Warmth").recipe
    assert load(f"{mine}:Warmth").recipe == known
    assert load(f"{mine}:Warmth", slope=2.0, margin=0.1).recipe == known  # these change no score
    others = [
        load(f"{mine}:Twin"),
        load(f"{other}:Warmth"),
        load(f"{mine}:Warmth", id="some/model"),
        load(f"{mine}:Warmth", id="some/model", revision="abc"),
        load(f"{mine}:Warmth", dtype="bfloat16"),
        load(f"{mine}:Warmth", id=str(folders["here"])),
        load(f"{mine}:Warmth", id=str(folders["changed"])),
        load(f"{mine}:Warmth", id=str(folders["here"] / "head.safetensors")),
    ]
    assert len({known, *(scorer.recipe for scorer in others)}) == len(others) + 1
    here, moved = (load(f"{mine}:Warmth", id=str(folders[name])).recipe for name in ("here", "moved"))
    assert here == moved


def test_it_may_say_its_own_recipe_if_it_is_a_text(write):
    module = write(
        "class Mine:\n    recipe = 'v1'\n    def score(self, images, prompts): ...\nclass Bad(Mine):\n    recipe = 1"
    )
    assert load(f"{module}:Mine").recipe == "v1"
    with pytest.raises(UserError, match="recipe is 1; give a text"):
        load(f"{module}:Bad")


@pytest.mark.parametrize(
    ("source", "uses", "message"),
    [
        ("", "nowhere:Mine", "there is no module nowhere, neither in "),
        ("", "nowhere.within:Mine", "there is no module nowhere, neither in "),
        ("", "my_module.within:Mine", "there is no module my_module.within, neither in "),
        (
            "import absent_package",
            "my_module:Mine",
            "the module my_module imports absent_package, which is not installed",
        ),
        ("", "my_module:Mine", "the module my_module has no class Mine"),
        ("def mine(images, prompts): ...", "my_module:mine", "the module my_module has no class mine"),
        ("class Mine: ...", "my_module:Mine", r"my_module:Mine has no method `score\(self, images, prompts\)`"),
        ("", "my_module:", "is no scorer; write module:Class"),
        ("", ":Mine", "is no scorer; write module:Class"),
    ],
)
def test_what_cannot_be_found_is_one_line(write, source, uses, message):
    write(source)
    with pytest.raises(UserError, match=message):
        find(uses)


def test_whatever_a_users_code_raises_is_one_line_with_its_place(write):
    source = """
class Bug:
    def score(self, images, prompts):
        return [1 / (len(images) - 1)]

class Unborn:
    def __init__(self):
        {}["key"]

    def score(self, images, prompts): ...
"""
    module = write(source)
    with pytest.raises(UserError, match=r"my_module:Bug\.score raised ZeroDivisionError at my_module\.py:4: "):
        load(f"{module}:Bug").score([RED], ["x"])
    with pytest.raises(UserError, match=r"my_module:Unborn\.__init__ raised KeyError at my_module\.py:8: 'key'"):
        load(f"{module}:Unborn")
