"""A slice of a set into a run: which picture is `a`, which prompt is held out, and the order in which all is written.

The ledger comes last: what a slice has committed without it is taken back, and read again.
"""

import json
from dataclasses import asdict
from typing import Any

from aifeedback_dpo.importing.known import Known, bare
from aifeedback_dpo.importing.plan import Import
from aifeedback_dpo.importing.slices import Looked, Seen, Slice
from aifeedback_dpo.records import IMPORTED, pair_id, prompt_id
from aifeedback_dpo.seeds import uniform
from aifeedback_dpo.store import Run

HELD_OUT = 0.1
"""Of ten prompts about one is held out, by a seeded hash, until `prompts.eval` are: a set may grow, and none ever moves."""


def commit(run: Run, asked: Import, part: Slice, looked: Looked, there: Known) -> None:
    """A slice: pictures, prompts, pairs, votes, and last the ledger."""
    tally = looked.tally
    images, prompts, pairs, cast = [], [], [], []
    for one in looked.usable:
        where, text, comparison, first, second = one.where, one.prompt, one.comparison, one.first, one.second
        if not comparison.votes and not asked.unlabelled:
            tally.judge(comparison)
            continue
        prompt = prompt_id(text)
        low, high = sorted((first, second), key=lambda seen: seen.image_id)
        low_is_a = uniform(run.recipe.seed, "side", low.image_id, high.image_id) < 0.5
        a, b = (low, high) if low_is_a else (high, low)
        pair = pair_id(a.image_id, b.image_id)
        before = there.prompt_of(pair)
        if before not in (None, prompt):
            tally.refuse(where, "the same pictures under another prompt", "")
            looked.refused.append({"where": where, "reason": "the same pictures under another prompt", "detail": ""})
            continue
        tally.judge(comparison)
        for seen in (first, second):
            if there.pixels(seen.image_id) is None:
                there.add_picture(seen.image_id, seen.pixels)
                images.append(_image(seen, prompt))
        if not there.has_prompt(prompt):
            split = _split(run, text, there)
            there.add_prompt(prompt)
            prompts.append({"prompt_id": prompt, "prompt": text, "split": split, "source": asked.opened.name})
        if before is None:
            there.add_pair(pair, prompt)
            by = f"imported from {asked.opened.name}"
            sides = {"image_a": a.image_id, "image_b": b.image_id}
            pairs.append({"pair_id": pair, "prompt_id": prompt, **sides, "chosen_by": by})
        tally.repeated += before is not None
        cast += [
            {
                "pair_id": pair,
                "annotator": f"{asked.source}/{vote.annotator}" if vote.annotator else asked.source,
                "p_a": vote.p_first if a is first else 1 - vote.p_first,
                "votes": vote.count,
                "seconds": vote.seconds,
                "source": asked.key,
                "where": where,
            }
            for vote in comparison.votes
        ]
    tally.images, tally.prompts, tally.pairs = len(images), len(prompts), len(pairs)
    named = f"{asked.key}-{part.start:09d}"
    for table, rows in (("images", images), ("prompts", prompts), ("pairs", pairs), ("votes", cast)):
        if rows:
            run.commit(table, rows, named, asked.key if table == "votes" else None)
    ledger = {"end": part.end, "state": part.state, "tally": asdict(tally), "refused": looked.refused}
    run.write_text(run.imports(asked.key) / f"rows-{part.start:09d}.json", json.dumps(ledger) + "\n")


def _image(seen: Seen, prompt: str) -> dict[str, Any]:
    return {
        "image_id": seen.image_id,
        "prompt_id": prompt,
        "image": {"bytes": seen.data, "path": None},
        "pixel_sha256": seen.pixels,
        "policy": IMPORTED,
        "model": seen.model or None,
        "width": seen.width,
        "height": seen.height,
    }


def _split(run: Run, prompt: str, there: Known) -> str:
    """Another spelling of a held-out prompt is held out as well."""
    wanted = len(there.held_out) < run.recipe.prompts.eval
    if (wanted and uniform(run.recipe.seed, "held out", bare(prompt)) < HELD_OUT) or bare(prompt) in there.held_out:
        there.hold_out(prompt)
        return "eval"
    return "train"


def take_back(run: Run) -> None:
    """Removes what slices committed that were stopped before their ledgers, of any import: they are read again.

    Not only of this one: else the pairs of another's half slice would be taken for pairs that are there to stay.
    """
    ledgers = {path.relative_to(run.root / "imports").as_posix() for path in run.imports("").glob("*/rows-*.json")}
    for table in ("images", "prompts", "pairs", "votes"):
        for path in run.parts(table):
            key, _, start = path.stem.removeprefix("part-").rpartition("-")
            if (run.imports(key) / "about.json").exists() and f"{key}/rows-{start}.json" not in ledgers:
                path.unlink()
