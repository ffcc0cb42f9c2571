"""A run of flat pictures that nobody has judged, a module of scorers of one's own beside it, and `ddpo label` on it."""

import math
import sys
from pathlib import Path

import pytest
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.records import pair_id, prompt_id
from aifeedback_dpo.store import Run
from tests.conftest import ddpo

PROMPTS = ["a warm picture", "another warm picture", "a third"]
REDS = (10, 60, 60, 200)  # of the four pictures of a prompt; the second and third have the same pixels
MODULE = '''
import numpy as np

CALLS = []

class Warmth:
    name = "warmth"
    slope = 0.1

    def score(self, images, prompts):
        CALLS.append((type(self).__name__, len(images), id(images[0])))
        return [float(np.asarray(image)[..., 0].mean()) for image in images]

class Coolness(Warmth):
    name = "coolness"
    slope = None

    def score(self, images, prompts):
        return [-number for number in super().score(images, prompts)]

class Picky(Warmth):
    """Has no opinion on the reddest."""
    name = "picky"

    def score(self, images, prompts):
        return [float("nan") if number == 200 else number for number in super().score(images, prompts)]

class Curt(Warmth):
    """Reads no more than two words."""
    name = "curt"

    def __init__(self):
        self.truncated = set()

    def score(self, images, prompts):
        self.truncated |= {prompt for prompt in prompts if len(prompt.split()) > 2}
        return super().score(images, prompts)

class Endless(Warmth):
    name = "endless"

    def score(self, images, prompts):
        return [float("inf")] * len(images)

class Short(Warmth):
    name = "short"

    def score(self, images, prompts):
        return [0.0]
'''


def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Three prompts with four flat pictures each, all pairs, nobody's view yet; and a module of one's own beside it."""
    (tmp_path / "own_scorers.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_scorers", None)
    made = Run(
        tmp_path / "run", config.load("shapes", ["label.raters=null", "label.images_per_part=5", "label.batch_size=2"])
    )
    prompts, images, pairs = [], [], []
    for at, prompt in enumerate(PROMPTS):
        prompts.append({"prompt_id": prompt_id(prompt), "prompt": prompt, "split": "train", "source": "here"})
        ids = [f"image-{at}-{k}" for k in range(len(REDS))]
        for image_id, red in zip(ids, REDS, strict=True):
            data = encode_image(Image.new("RGB", (8, 8), (red, at, 0)))
            known = {"image_id": image_id, "prompt_id": prompt_id(prompt), "pixel_sha256": f"{at}-{red}"}
            images.append(known | {"image": {"bytes": data, "path": image_id}})
        for a, b in ((0, 1), (1, 2), (3, 2), (0, 3)):
            pairs.append({"pair_id": pair_id(ids[a], ids[b]), "prompt_id": prompt_id(prompt), "image_a": ids[a]})
            pairs[-1] |= {"image_b": ids[b], "chosen_by": "hand"}
    made.commit("prompts", prompts, "x")
    made.commit("images", images, "x", "base")
    made.commit("pairs", pairs, "x")
    made.record("generate", "done")
    return made


def own(name: str) -> str:
    return f"own_scorers:{name}"


def calls() -> list:
    import own_scorers

    return own_scorers.CALLS


def said(*arguments: str, run: Run) -> str:
    result = ddpo("label", *arguments, run=run.root)
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def refused(*arguments: str, run: Run, code: int = 2) -> str:
    """The one line, and nothing else changed."""
    before = files(run.root)
    result = ddpo("label", *arguments, run=run.root)
    lines = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    assert files(run.root) == before
    return lines[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def views(run: Run, judge: str) -> list[float]:
    known = {row["pair_id"]: row["p_a"] for row in run.rows("preferences", name=judge)}
    return [known.get(pair["pair_id"], math.nan) for pair in run.rows("pairs")]


def rules(run: Run, judge: str) -> set[str]:
    return {row["rule"] for row in run.rows("preferences", name=judge)}


def taken(run: Run, name: str) -> tuple[float, int]:
    entry = run.manifest()["made_by"][f"label/{name}"]
    return entry["seconds"], entry["pictures"]


def people(run: Run, p_a: list[float]) -> None:
    rows = [
        {"pair_id": pair["pair_id"], "judge": "human", "p_a": choice, "rule": "a vote"}
        for pair, choice in zip(run.rows("pairs"), p_a, strict=True)
    ]
    run.commit("preferences", rows, "current", "human")
