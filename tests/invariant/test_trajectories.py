"""Frozen trajectories: a change that should move no number moves none of these.

The losses, step by step, of a few short trainings of the embedded world's model on labels made by hand, and how far the
weights that are kept have moved. Other CPUs and other versions of PyTorch sum in another order: numbers are compared to
1e-4 of their size, which that does not reach and a change of the objective, the noise, the order or the optimizer does.
Where they are meant to move, or the model is trained anew:

    python -m tests.invariant.test_trajectories
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aifeedback_dpo import shapes
from tests import labelled
from tests.labelled import metrics, weights

pytestmark = pytest.mark.slow

FROZEN = Path(__file__).with_name("trajectories.json")
CLOSE = 1e-4
AI = ("--judge", "ai")
TRAININGS = {
    "three judges": (),
    "all weights": ("train.method=full", "train.learning_rate=1e-4", "train.schedule=cosine", "--judge", "human"),
    "kto and a mean of the weights": ("train.objective=kto", "train.ema=0.5", *AI, "--judge", "random"),
    "soft labels, smoothing, safeguard": (
        "train.labels=soft",
        "train.smoothing=0.1",
        "train.safeguard=0.9",
        "train.learning_rate=0.003",
        *AI,
    ),
    "draws in turn, mirrored, captions dropped": (
        "train.draws=1",
        "train.flip=true",
        "train.caption_dropout=0.5",
        "train.learning_rate=0.003",
        "train.seeds=[1]",
        "--judge",
        "human",
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return labelled.write(tmp_path_factory.mktemp("base") / "run", side=48)


@pytest.mark.parametrize("name", TRAININGS)
def test_trajectories_are_as_they_were(base, tmp_path, name):
    found, frozen = trained(base, tmp_path / "run", *TRAININGS[name]), json.loads(FROZEN.read_text())[name]
    assert found.keys() == frozen.keys()
    for policy, numbers in frozen.items():
        assert found[policy]["loss"] == pytest.approx(numbers["loss"], rel=CLOSE), policy
        assert found[policy]["moved"] == pytest.approx(numbers["moved"], rel=CLOSE), policy


def trained(base: Path, run: Path, *settings: str) -> dict[str, Any]:
    """What becomes of a copy of the run: by policy and seed the losses, and how far its weights moved."""
    shutil.copytree(base, run)
    labelled.train(run, *settings)
    numbers = {}
    for folder in sorted(run.glob("policies/*/seed-*")):
        policy, seed = folder.parent.name, int(folder.name.removeprefix("seed-"))
        losses = [row["loss"] for row in metrics(run, policy, seed)]
        numbers[f"{policy}, {folder.name}"] = {"loss": losses, "moved": moved(weights(run, policy, seed))}
    return numbers


def moved(kept: dict[str, torch.Tensor]) -> float:
    """The length of the way: of all weights from the base's, or of a LoRA's second matrices, which start at zero."""
    start = load_file(shapes.weights("pipeline") / "unet" / "diffusion_pytorch_model.safetensors")
    ways = [value - start.get(name, 0) for name, value in kept.items() if "lora_A" not in name]
    return float(torch.cat([way.flatten() for way in ways]).norm())


def main() -> None:
    """Writes the numbers of this machine, seven digits of each."""
    with tempfile.TemporaryDirectory() as folder:
        base = labelled.write(Path(folder) / "base", side=48)
        found = {name: trained(base, Path(folder) / name, *settings) for name, settings in TRAININGS.items()}
    rounded = json.loads(json.dumps(found), parse_float=lambda number: float(f"{float(number):.7g}"))
    FROZEN.write_text(json.dumps(rounded, indent=1) + "\n")


if __name__ == "__main__":
    main()
