"""Runs made by hand for judges to be told of: their pairs, what is said of them, and grey pictures as bright as asked."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aifeedback_dpo import config, records
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.compare import judging
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.store import Run

SETTINGS = ("compare.resamples=40", "label.raters=null", "label.scorers={pickscore: {}, clip: {}}")
NOTHING = {"value": None, "low": None, "high": None, "prompts": 0}
ONE = (("p", "x", "y"),)
"""A pair: the prompt, and the names of its two pictures."""
SIX = tuple((text, f"{text} x", f"{text} y") for text in ("one", "two", "three", "four", "five", "six"))
Row = tuple[str, str, str]


def image_id(name: str) -> str:
    return records.content_id(name)


def write(
    root: Path,
    pairs: Sequence[Row],
    said: Mapping[str, Sequence[float | None]],
    *settings: str,
    margins: Mapping[str, Sequence[float | None]] | None = None,
    votes: Sequence[int | None] | None = None,
    drew: Mapping[str, str] | None = None,
    looks: Mapping[str, int] | None = None,
    swapped: bool = False,
) -> Run:
    """A run of these pairs; pictures are grey, as bright as `looks` says, and drawn by the model that `drew` says."""
    run = Run(root, config.load("shapes", [*SETTINGS, *settings]))
    texts = list(dict.fromkeys(text for text, *_ in pairs))
    rows = [{"prompt_id": records.prompt_id(t), "prompt": t, "split": "train", "source": "hand"} for t in texts]
    run.commit("prompts", rows, "train")
    shown = {name: text for text, *names in pairs for name in names}
    run.commit("images", [_image(name, text, drew or {}, looks or {}) for name, text in shown.items()], "0")
    run.commit("pairs", [pair_row(pair, swapped) for pair in pairs], "0")
    for judge, columns in said.items():
        away = (margins or {}).get(judge, [None if p_a is None else p_a - 0.5 for p_a in columns])
        many = votes if judge == "human" and votes else [None] * len(pairs)
        rows = [
            _preference(pair_row(pair, swapped)["pair_id"], judge, p_a, margin, count, swapped)
            for pair, p_a, margin, count in zip(pairs, columns, away, many, strict=True)
            if p_a is not None
        ]
        run.commit("preferences", rows, "0", judge)
    return run


def _image(name: str, text: str, drew: Mapping[str, str], looks: Mapping[str, int]) -> dict[str, Any]:
    picture = Image.new("RGB", (4, 4), (looks.get(name, 128),) * 3)
    row = dict.fromkeys(records.IMAGES.names) | {"image_id": image_id(name), "prompt_id": records.prompt_id(text)}
    return row | {"image": {"bytes": encode_image(picture), "path": ""}, "model": drew.get(name, "m"), "policy": "base"}


def pair_row(pair: Row, swapped: bool = False) -> dict[str, Any]:
    text, *names = pair
    one, other = (image_id(name) for name in (names[::-1] if swapped else names))
    ids = {"image_a": one, "image_b": other}
    row = {"pair_id": records.pair_id(one, other), "prompt_id": records.prompt_id(text), "chosen_by": "hand"}
    return row | ids


def _preference(
    pair: str, judge: str, p_a: float, margin: float | None, votes: int | None, swapped: bool
) -> dict[str, Any]:
    row = dict.fromkeys(records.PREFERENCES.names) | {"pair_id": pair, "judge": judge, "votes": votes, "rule": "hand"}
    away = None if margin is None else -margin if swapped else margin
    return row | {"p_a": 1 - p_a if swapped else p_a, "margin": away}


def told(run: Run, *names: str) -> dict[str, Any]:
    """Of these judges or all; it must be JSON without NaN."""
    found = judging.judges(run, names or judging.known(run), Silent())
    json.dumps(found, allow_nan=False)
    return found


def only(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> Mapping[str, Any]:
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


def many(root: Path, *, swapped: bool = False, seed: int = 0) -> Run:
    """Ten prompts of all pairs of three pictures by three models, each as bright as it likes."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(["word"] * (at % 4 + 1) + [str(at)]) for at in range(10)]
    names = {text: [f"{text} {letter}" for letter in "xyz"] for text in texts}
    pairs = [(text, *pair) for text in texts for pair in combinations(names[text], 2)]
    said = {judge: rng.choice([0.0, 0.2, 0.5, 0.8, 1.0], size=30).tolist() for judge in ("human", "clip", "pickscore")}
    looks = {name: int(rng.integers(256)) for each in names.values() for name in each}
    drew = {name: name[-1] for name in looks}
    return write(root, pairs, said, votes=rng.integers(1, 4, 30).tolist(), drew=drew, looks=looks, swapped=swapped)
