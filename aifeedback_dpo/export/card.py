"""The dataset card: what the set is, who judged and by which rule, what drew the pictures, what was left out.

Its header makes `datasets.load_dataset(folder)` work. No licence is stated that nobody has stated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import yaml

from aifeedback_dpo import provenance
from aifeedback_dpo.export.formats import Taken, named
from aifeedback_dpo.export.pair import model_name
from aifeedback_dpo.export.pairs import SPLITS, UNJUDGED, Counts, Judged
from aifeedback_dpo.markdown import escaped
from aifeedback_dpo.store import Run

TAG = "ddpo-export"
TIES_MATTER = ("pickapic", "webdataset")


@dataclass(frozen=True)
class Facts:
    """What a card tells, gathered from the run before anything is written."""

    format: str
    judge: str
    title: str
    counts: Counts
    splits: Mapping[str, Counts]
    left_out: Mapping[str, int]
    rules: Sequence[str]
    models: Sequence[tuple[str, str, int]]
    works: Mapping[str, Mapping[str, Any]]


def facts(name: str, table: Judged, taken: Taken) -> Facts:
    """Of this format of these rows."""
    run, held_out = table.run, table.held_out[taken.rows]
    splits = {SPLITS["train"]: taken.rows[~held_out], SPLITS["eval"]: taken.rows[held_out]}
    return Facts(
        format=name,
        judge=table.judge,
        title="nobody yet" if table.judge == UNJUDGED else run.recipe.title(table.judge),
        counts=table.counts(),
        splits={split: table.counts(rows) for split, rows in splits.items() if len(rows)},
        left_out=taken.left_out,
        rules=_rules(run, table.judge),
        models=_models(run, table, taken),
        works=run.manifest()["made_by"],
    )


def text(told: Facts) -> str:
    """The card of the set."""
    return f"---\n{_header(told)}---\n\n# Preferences of {escaped(told.title)} on pairs of pictures\n\n" + "\n\n".join(
        part for part in (_summary(told), _pictures(told), _sources(told), _licence(told), _made_by(told)) if part
    )


def _header(told: Facts) -> str:
    header: dict[str, Any] = {"pretty_name": f"Preferences of {told.title}", "task_categories": ["text-to-image"]}
    header["tags"] = [TAG, "preferences", "dpo", *(["simulated"] if "simulated" in told.title else [])]
    if (licence := _stated(told)) is not None:
        header["license"] = licence
    if files := named(told.format).FILES:
        data = [{"split": split, "path": files.format(split=split)} for split in told.splits]
        header["configs"] = [{"config_name": "default", "data_files": data}]
    else:
        header["viewer"] = False
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True)


def _summary(told: Facts) -> str:
    lines = [f"Format `{told.format}` of `ddpo export`: {named(told.format).ABOUT}."]
    by = f"**Judge:** {escaped(told.title)}"
    if "simulated" in told.title:
        by += ". These are simulated raters, not people"
    if told.rules:
        by += f". **Rule:** {escaped('; '.join(told.rules))}"
    lines.append(f"{by}.")
    rows = [
        f"| {split} | {counts.pairs} | {counts.decided} | {counts.ties} | {counts.unlabelled} |"
        for split, counts in told.splits.items()
    ]
    lines.append("| split | pairs | decided | ties | without a label |\n|---|---|---|---|---|\n" + "\n".join(rows))
    left = ", ".join(f"{reason} ({count})" for reason, count in told.left_out.items()) or "none"
    lines.append(f"Left out of the run's {told.counts.pairs} pairs: {left}.")
    ties = sum(counts.ties for counts in told.splits.values())
    if ties and told.format in TIES_MATTER:
        lines.append(
            f"Ties ({ties}) have label_0 = label_1 = 0.5. Trainers that only ask `label_0 == 0` take them for wins of picture "
            "0: filter `label_0 != 0.5` first, or export with `--without-ties`."
        )
    return "\n\n".join(lines)


def _pictures(told: Facts) -> str:
    rows = [
        f"| {escaped(model or 'unknown')} | {escaped(revision or '')} | {count} |"
        for model, revision, count in told.models
    ]
    return "## Pictures\n\n| model | revision | pictures |\n|---|---|---|\n" + "\n".join(rows)


def _sources(told: Facts) -> str:
    lines = []
    for work, entry in told.works.items():
        if work.startswith("import/"):
            name = entry.get("dataset") or entry.get("source") or work.removeprefix("import/")
            lines.append(f"- {escaped(str(name))}: {escaped(str(entry.get('licence') or 'no licence stated'))}")
    return "## Imported from\n\n" + "\n".join(lines) if lines else ""


def _licence(told: Facts) -> str:
    stated = _stated(told)
    said = f"The imported set states {escaped(stated)}." if stated else "None is stated here."
    return (
        f"## Licence\n\n{said} Prompts and pictures have the terms of where they come from: the imported sets, and the "
        "models that drew them."
    )


def _stated(told: Facts) -> str | None:
    """The one licence of all imported sets, where no model of ours has drawn a picture beside them."""
    found = {entry.get("licence") for work, entry in told.works.items() if work.startswith("import/")}
    drawn = any(work == "generate" for work in told.works)
    return str(next(iter(found))) if len(found) == 1 and None not in found and not drawn else None


def _made_by(told: Facts) -> str:
    """The versions of what drew, what judged and what exported."""
    made = [name for name in ("generate", f"label/{told.judge}") if name in told.works]
    works: list[tuple[str, Mapping[str, Any]]] = [(name, told.works[name]) for name in made]
    works.append((f"ddpo export {told.format}", provenance.versions()))
    lines = []
    for work, entry in works:
        listed = ", ".join(f"{name} {version}" for name, version in entry.get("versions", {}).items())
        commit = f"; commit {entry['commit']}" if entry.get("commit") else ""
        scorer = f"; scorer's recipe {entry['scorer']}" if entry.get("scorer") else ""
        lines.append(f"- `{work}`: {escaped(listed + commit + scorer)}")
    return "## Made by\n\n" + "\n".join(lines) + "\n"


def _rules(run: Run, judge: str) -> list[str]:
    if judge == UNJUDGED:
        return []
    rules = pc.unique(run.read("preferences", ["rule"], judge).column("rule").combine_chunks())
    return sorted(rule for rule in rules.to_pylist() if rule)


def _models(run: Run, table: Judged, taken: Taken) -> list[tuple[str, str, int]]:
    """Model, revision and number of the pictures that are exported; most first."""
    images = run.read("images", ["image_id", "model", "revision"])
    images = images.filter(pc.is_in(images.column("image_id"), value_set=table.images(taken.rows)))
    counted = images.group_by(["model", "revision"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    found = [(model_name(row["model"]), row["revision"] or "", int(row["count_all"])) for row in counted]
    return sorted(found, key=lambda row: (-row[2], row))
