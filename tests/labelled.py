"""A labelled run made by hand: pictures of the embedded world, and what three judges say of them, ties and silence too."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import Result

from aifeedback_dpo import config, records
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.shapes import grammar, renderer
from aifeedback_dpo.store import Run
from tests.conftest import ddpo

PROMPTS = 4  # three pictures each, and two pairs of them
JUDGES = ("human", "pickscore", "random")
SAID: dict[str, tuple[float | None, ...]] = {
    "human": (1.0, 0.0, 1.0, 0.5, 0.0, 1.0, 0.0, None),
    "pickscore": (0.9, 0.3, 0.6, 0.8, 0.2, 0.7, 0.1, 0.95),
    "random": (0.0, 1.0, 1.0, 0.0, 0.5, 0.0, 1.0, 1.0),
}
QUICK = (  # two epochs of eight pairs, at a rate that shows at once
    "train.steps=4",
    "train.batch_size=4",
    "train.rank=2",
    "train.warmup=0",
    "train.learning_rate=0.01",
    "train.checkpoint_steps=1",
)
REORDERED = 5e-4
"""What another order of float32 sums may do to a loss at beta 2000, which multiplies the rounding of an error by 1000."""
FULL = ("train.method=full", "train.learning_rate=1e-3", "--judge", "human")


def write(
    root: Path,
    *settings: str,
    side: int = 32,
    said: Mapping[str, Sequence[float | None]] = SAID,
    leave_out: Sequence[int] = (),
    eval_prompts: int = 0,
) -> Path:
    """The tables and the recipe; pictures of `side` pixels; without the pairs of the prompts `leave_out`."""
    run = Run(root, config.load("shapes", [f"prompts.train={PROMPTS}", *QUICK, *settings]))
    for split, number in (("train", PROMPTS), ("eval", eval_prompts)):
        texts = [text for text, scene in grammar.scenes().items() if scene.split == split][:number]
        rows = [{"prompt_id": records.prompt_id(t), "prompt": t, "split": split, "source": "shapes"} for t in texts]
        if rows:
            run.commit("prompts", rows, split)
    prompts = [text for text, scene in grammar.scenes().items() if scene.split == "train"][:PROMPTS]
    images = [_image(text, number, side) for text in prompts for number in range(3)]
    run.commit("images", images, "000000", "base")
    pairs = [_pair(images[3 * at + first], images[3 * at + first + 1]) for at in range(PROMPTS) for first in range(2)]
    run.commit("pairs", [pair for at, pair in enumerate(pairs) if at // 2 not in leave_out], "000000")
    for judge, votes in said.items():
        told = [(pair["pair_id"], p_a) for pair, p_a in zip(pairs, votes, strict=True) if p_a is not None]
        run.commit("preferences", [_preference(pair, judge, p_a) for pair, p_a in told], "000000", judge)
    run.write_text(root / "recipe.yaml", config.dump(run.recipe))
    return root


def train(run: Path, *arguments: str) -> Result:
    """`ddpo train`, which must succeed."""
    result = ddpo("train", *arguments, run=run)
    assert result.exit_code == 0, result.output
    return result


def folder(run: Path, policy: str = "human", seed: int = 0) -> Path:
    return run / "policies" / policy / f"seed-{seed}"


def metrics(run: Path, policy: str = "human", seed: int = 0) -> list[dict[str, Any]]:
    """The steps of a policy."""
    return [json.loads(line) for line in (folder(run, policy, seed) / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path, policy: str = "human", seed: int = 0) -> dict[str, torch.Tensor]:
    """What was saved of a policy."""
    (file,) = folder(run, policy, seed).rglob("*.safetensors")
    return load_file(file)


def saved(run: Path) -> dict[str, list[int]]:
    """The steps that there are checkpoints of, by policy."""
    found: dict[str, list[int]] = {}
    for path in sorted(run.glob("policies/*/seed-0/checkpoints/*.pt")):
        found.setdefault(path.parents[2].name, []).append(int(path.stem.removeprefix("step-")))
    return found


def assert_alike(
    one: Path, other: Path, judges: Sequence[str] = JUDGES, *, close: float = 1e-5, besides: Sequence[str] = ()
) -> None:
    """The same metrics, to `close` and a tenth of it, and the same weights; one may have metrics `besides`.

    The default is for what sums the same numbers in the same order, REORDERED for what does not. Each matrix may be off by
    ten times `close` of its length: Adam makes a whole step of a gradient that is rounding alone.
    """
    for judge in judges:
        rows, others = metrics(one, judge), metrics(other, judge)
        assert len(rows) == len(others)
        for row, its in zip(rows, others, strict=True):
            assert row.keys() - set(besides) == its.keys() - set(besides)
            for name, value in row.items():
                wanted = pytest.approx(value, rel=close, abs=close / 10) if isinstance(value, float) else value
                assert its[name] == wanted, f"{name} of {judge} at step {row['step']}: {its[name]}, not {value}"
        ours, theirs = weights(one, judge), weights(other, judge)
        assert ours.keys() == theirs.keys()
        for name, matrix in theirs.items():
            off = float((ours[name] - matrix).norm() / matrix.norm())
            assert off <= 10 * close, f"{name} of {judge} is off by {off:.1g} of its length"


def fingerprint(module: torch.nn.Module) -> int:
    """A hash of the weights that are frozen: without adapters, under the names they have without them."""
    state = {name.replace(".base_layer", ""): value for name, value in module.state_dict().items()}
    frozen = {name: value for name, value in state.items() if "lora_" not in name}
    return hash(
        tuple((name, str(frozen[name].dtype), frozen[name].float().numpy().tobytes()) for name in sorted(frozen))
    )


def _image(prompt: str, number: int, side: int) -> dict[str, Any]:
    rng = np.random.default_rng([number, *prompt.encode()])
    picture = renderer.render(grammar.scenes()[prompt], rng).resize((side, side))
    row = dict.fromkeys(records.IMAGES.names) | {"prompt_id": records.prompt_id(prompt)}
    stored = {"bytes": encode_image(picture), "path": f"{number}.webp"}
    return row | {"image_id": records.content_id(prompt, number, side), "image": stored}


def _pair(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    ids = {"image_a": a["image_id"], "image_b": b["image_id"]}
    return {
        "pair_id": records.pair_id(*ids.values()),
        "prompt_id": a["prompt_id"],
        **ids,
        "chosen_by": "hand",
    }


def _preference(pair_id: str, judge: str, p_a: float) -> dict[str, Any]:
    row = dict.fromkeys(records.PREFERENCES.names)
    return row | {"pair_id": pair_id, "judge": judge, "p_a": p_a, "margin": 2 * p_a - 1, "votes": 1, "rule": "hand"}
