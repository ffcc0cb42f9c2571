"""Label Studio's tasks: tasks.json, images/ and a labelling configuration, config.xml. Every pair is a task.

What people said is an annotation a vote; what another judge says, simulated people too, is a prediction, since Label Studio
takes an annotation for the work of whoever imports it. It refuses one whose `completed_by` is no member of its own, so that
who said it, and P where it is soft, are in `meta`, which it passes over.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aifeedback_dpo.export.files import ending, stem
from aifeedback_dpo.export.pair import Pair, Picture, Vote
from aifeedback_dpo.export.pairs import Votes
from aifeedback_dpo.records import HUMAN

ABOUT = "Label Studio: tasks.json, config.xml and images/; every pair, with what was said of it"
KEEPS_TIES = True
KEEPS_UNLABELLED = True
KEEPS_HELD_OUT = True
FILES = ""

LOCAL = "/data/local-files/?d="
CONFIG = """<View>
  <Header value="$prompt"/>
  <Pairwise name="preference" toName="image_a,image_b"/>
  <View style="display: flex; gap: 1em">
    <Image name="image_a" value="$image_a"/>
    <Image name="image_b" value="$image_b"/>
  </View>
  <Choices name="tie" toName="image_a" choice="single" showInline="true">
    <Choice value="tie"/>
  </Choices>
</View>
"""


def write(slices: Iterable[list[Pair]], folder: Path, votes: Votes, judge: str) -> None:
    """The tasks, one a line; a picture of several pairs is written once. `judge` as it is shown to people."""
    (folder / "images").mkdir()
    (folder / "config.xml").write_text(CONFIG, encoding="utf-8")
    with (folder / "tasks.json").open("w", encoding="utf-8") as tasks:
        before = "[\n"
        for pairs in slices:
            for pair in pairs:
                tasks.write(before + json.dumps(_task(pair, folder, votes.of(pair), judge), ensure_ascii=False))
                before = ",\n"
        tasks.write("\n]\n")


def _task(pair: Pair, folder: Path, votes: Sequence[Vote], judge: str) -> dict[str, Any]:
    data = {
        "prompt": pair.prompt,
        "image_a": LOCAL + _put(pair.a, folder),
        "image_b": LOCAL + _put(pair.b, folder),
        "pair_id": pair.pair_id,
        "image_a_model": pair.a.model,
        "image_b_model": pair.b.model,
        "split": pair.split,
    }
    if pair.p_a is None:
        return {"data": data, "annotations": []}
    if judge != HUMAN:
        score = pair.p_a if pair.p_a == 0.5 else pair.chosen_first[2]
        predicted = {"model_version": judge, "score": score, "result": [_clicked(pair.p_a)]}
        return {"data": data, "annotations": [], "predictions": [predicted]}
    said = list(votes) or [Vote(pair.p_a, "", pair.votes, None)]
    return {"data": data, "annotations": [_annotation(vote) for vote in said]}


def _annotation(vote: Vote) -> dict[str, Any]:
    lead = {} if vote.seconds is None else {"lead_time": vote.seconds}
    meta = {"annotator": vote.annotator, "p_a": vote.p_a, "votes": vote.count}
    return {"result": [_clicked(vote.p_a)], **lead, "meta": meta}


def _clicked(p_a: float) -> dict[str, Any]:
    if p_a == 0.5:
        return {"from_name": "tie", "to_name": "image_a", "type": "choices", "value": {"choices": ["tie"]}}
    side = "left" if p_a > 0.5 else "right"
    return {"from_name": "preference", "to_name": "image_a,image_b", "type": "pairwise", "value": {"selected": side}}


def _put(picture: Picture, folder: Path) -> str:
    name = f"images/{stem(picture.id)}{ending(picture)}"
    if not (folder / name).exists():
        (folder / name).write_bytes(picture.data)
    return name
