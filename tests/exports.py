"""A judged run of eight pairs to export, with its truth by hand: people and a scorer, ties, silence, a held-out prompt."""

import io
from pathlib import Path

import numpy as np

from aifeedback_dpo import config, records
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.export.run import Plan, export
from aifeedback_dpo.store import Run
from tests import labelled

SOFT, RARE = float(np.float32(0.7)), float(np.float32(0.3))
HUMAN = (1.0, 0.0, 0.5, SOFT, None, RARE, 1.0, 0.5)
"""Of eight pairs, two a prompt; the last two are of a held-out prompt."""
VOTES = (2, 1, 4, 10, None, None, 1, 2)
PEOPLE = ("zoe", "ada", "4 annotators", "10 annotators", None, None, "ada", "2 annotators")
TRAIN = [0, 1, 2, 3, 5]
DECIDED = [0, 1, 3, 5]


def write(at: Path) -> Run:
    """Judged by people and by a scorer; the first picture is a PNG, all others lossless WebP."""
    said = {"human": HUMAN, "pickscore": (0.9, 0.3, 0.6, 0.8, 0.2, 0.7, 0.1, 0.95)}
    root = labelled.write(at, "label.raters=null", said=said)
    made = Run(root, config.load(root / "recipe.yaml"))
    prompts = made.rows("prompts")
    prompts[-1]["split"] = "eval"
    made.commit("prompts", prompts, "train")
    images = made.rows("images", records.IMAGES.names)
    png = io.BytesIO()
    decode_image(images[0]["image"]["bytes"]).save(png, "PNG")
    images[0]["image"]["bytes"] = png.getvalue()
    drawn = [row | {"model": "team/drawer" if at else "team/other", "revision": "abc"} for at, row in enumerate(images)]
    made.commit("images", drawn, "000000", "base")
    told = zip(made.rows("pairs"), HUMAN, VOTES, PEOPLE, strict=True)
    rows = [
        dict.fromkeys(records.PREFERENCES.names)
        | {
            "pair_id": pair["pair_id"],
            "judge": "human",
            "p_a": p_a,
            "votes": votes,
            "annotator": who,
            "rule": "by hand",
        }
        for pair, p_a, votes, who in told
        if p_a is not None
    ]
    made.commit("preferences", rows, "000000", "human")
    return made


def told(run: Run) -> list[dict]:
    """The pairs as they are in the run, with their prompts and pictures."""
    data, prompts = (
        dict(run.images(run.done("images"))),
        {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")},
    )
    return [
        pair | {"prompt": prompts[pair["prompt_id"]], "a": data[pair["image_a"]], "b": data[pair["image_b"]]}
        for pair in run.rows("pairs")
    ]


def exported(run: Run, format: str, folder: Path, judge: str = "human", **options: bool) -> Plan:
    return export(run, format, folder, judge, Silent(), **options)


def chosen_first(truth: list[dict], at: int) -> tuple[bytes, bytes]:
    return (truth[at]["a"], truth[at]["b"]) if HUMAN[at] > 0.5 else (truth[at]["b"], truth[at]["a"])
