"""Two folders, chosen/ and rejected/: a stem is a pair, its caption in a .txt beside either picture.

As kohya's and SimpleTuner's trainers read pictures; SimpleTuner's Flow-DPO takes rejected/ as the conditioning of chosen/.
`metadata.jsonl` has what file names cannot say. Pairs of held-out prompts are left out, since nothing would keep them apart.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from aifeedback_dpo.export.files import ending, stem
from aifeedback_dpo.export.pair import Pair

ABOUT = "chosen/ and rejected/ with captions; SimpleTuner's Flow-DPO, kohya's loaders"
KEEPS_TIES = False
KEEPS_UNLABELLED = False
KEEPS_HELD_OUT = False
FILES = ""


def write(slices: Iterable[list[Pair]], folder: Path) -> None:
    """The set, two pictures and two captions a decided pair."""
    for name in ("chosen", "rejected"):
        (folder / name).mkdir()
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for pairs in slices:
            for pair in pairs:
                metadata.write(json.dumps(_put(pair, folder), ensure_ascii=False) + "\n")


def _put(pair: Pair, folder: Path) -> dict[str, object]:
    chosen, rejected, p_chosen = pair.chosen_first
    name_of_pair = stem(pair.pair_id)
    told: dict[str, object] = {"id": pair.pair_id, "prompt": pair.prompt}
    for name, picture in (("chosen", chosen), ("rejected", rejected)):
        told[name] = f"{name}/{name_of_pair}{ending(picture)}"
        (folder / str(told[name])).write_bytes(picture.data)
        (folder / name / f"{name_of_pair}.txt").write_text(pair.prompt, encoding="utf-8")
    models = {"chosen_model": chosen.model, "rejected_model": rejected.model}
    return {**told, "p_chosen": p_chosen, "votes": pair.votes, **models}
