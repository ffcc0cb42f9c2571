"""A model card for each policy that was trained here: what it learned from, how, what was measured, and how to load it.

The header is the hub's (huggingface.co/docs/hub/model-cards). What is not known is left out or said: a base model only by
its id on the hub, never a licence, which nobody has stated.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aifeedback_dpo.compare.loading import how_to_load, on_hub
from aifeedback_dpo.compare.markdown import number, share, table
from aifeedback_dpo.compare.method import REFERENCES
from aifeedback_dpo.markdown import escaped, fenced
from aifeedback_dpo.records import BASE, HUMAN
from aifeedback_dpo.settings import Model
from aifeedback_dpo.store import Run, read_policy, saved_recipe

Result = Mapping[str, Any]
TRAINED = ("run", "other run")
TAG = "aifeedback_dpo"


@dataclass(frozen=True)
class Trained:
    """A policy: its row of the result, its folder at each training seed, and what its run has written of it.

    `described` is the policy.json of its first training seed, None where that is gone; `label` is what the manifest says of
    its judge's labels.
    """

    row: dict[str, Any]
    title: str
    folders: list[Path]
    described: dict[str, Any] | None
    label: dict[str, Any]
    model: Model | None

    @property
    def simulated(self) -> bool:
        """Whether its people are simulated."""
        return self.row["judge"] == HUMAN and (bool(self.label.get("simulated")) or "(simulated)" in self.title)

    @property
    def judge(self) -> str:
        return f"{HUMAN} (simulated)" if self.simulated else str(self.row["judge"])


def write(run: Run, result: Result, folder: Path) -> dict[str, str]:
    """Policy -> its card, relative to `folder`. Cards of an earlier report's policies are deleted."""
    names: dict[str, str] = {}
    for row in result["policies"]:
        if row["kind"] in TRAINED:
            name = _file(row["policy"], {taken.casefold() for taken in names.values()})
            names[row["policy"]] = name
            run.write_text(folder / name, card(result, _trained(run, result, row)))
    for path in (folder / "cards").glob("*.md"):
        if f"cards/{path.name}" not in names.values() and f"- {TAG}\n" in path.read_text(
            encoding="utf-8", errors="replace"
        ):
            path.unlink(missing_ok=True)
    return names


def card(result: Result, one: Trained) -> str:
    """The card of one policy, as Markdown."""
    parts = [
        f"---\n{_header(one)}---\n\n# {escaped(one.title)}",
        _summary(result, one),
        *(_numbers(result, one, found) for found in result["sets"]),
        _guards(result, one),
        _cautions(result, one),
        f"## How to load it\n\n{how_to_load(one.row, one.folders, _base(one), one.model)}",
        _settings(one),
        _versions(result, one),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _trained(run: Run, result: Result, row: dict[str, Any]) -> Trained:
    """Raises DataError for a policy.json that is there and cannot be read."""
    root, recipe = run.root, run.recipe
    folders = [run.policy_folder(row["policy"], seed) for seed in row["seeds"]]
    if row["kind"] == "other run":
        folder = Path(row["where"]).resolve()
        root, folders = folder.parents[1], [folder / f"seed-{seed}" for seed in row["seeds"]]
        recipe = saved_recipe(root) or run.recipe
    there = next((at for at in folders if (at / "policy.json").is_file()), None)
    label = Run(root, recipe).manifest()["made_by"].get(f"label/{row['judge']}", {})
    title = str(result["titles"].get(row["policy"], row["policy"]))
    return Trained(row, title, folders, read_policy(there) if there else None, label, recipe.model)


def _file(policy: str, taken: set[str]) -> str:
    """A name that every file system takes, `other/human` as `other-human`; a hash tells two apart that would be one."""
    safe = re.sub(r"[^A-Za-z0-9._+-]+", "-", policy).strip("-.")[:80] or "policy"
    name = f"cards/{safe}.md"
    if name.casefold() in taken:
        name = f"cards/{safe}-{hashlib.sha256(policy.encode()).hexdigest()[:8]}.md"
    return name


def _base(one: Trained) -> dict[str, Any]:
    """The base model's id and revision, as far as they are known."""
    if one.described:
        return dict(one.described["base"])
    return {"model": one.model.id if one.model else None, "revision": None}


def _header(one: Trained) -> str:
    how, base = one.row["training"], _base(one)
    header: dict[str, Any] = {}
    if on_hub(base):
        header["base_model"] = base["model"]
        header["base_model_relation"] = "adapter" if how["method"] == "lora" else "finetune"
    header |= {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    tags = ["text-to-image", TAG, f"objective:{how['objective']}"]
    header["tags"] = [*tags, *(["lora"] if how["method"] == "lora" else []), *(["simulated"] if one.simulated else [])]
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True)


def _summary(result: Result, one: Trained) -> str:
    how, base = one.row["training"], _base(one)
    name = REFERENCES.get(how["objective"], f"the {how['objective']} objective")
    weights = "a LoRA of" if how["method"] == "lora" else "all weights of the denoiser of"
    by = escaped(one.judge) + (", which are simulated raters and no people" if one.simulated else "")
    revision = f", revision {escaped(base['revision'])}" if base["revision"] else ""
    rule = one.label.get("rule")
    made = ", ".join(f"{steps} steps (seed {seed})" for seed, steps in how["steps"].items())
    beta = "" if how["beta"] is None else f"; beta {how['beta']:g} ({escaped(str(how['beta_means']))})"
    rows = [
        f"- **What it is:** {weights} {escaped(str(base['model'] or 'a base model that is not recorded'))}{revision}, trained "
        f"by {escaped(name)}.",
        f"- **Judge:** {by}.",
        f"- **Rule of its preferences:** {escaped(str(rule)) if rule else 'not recorded'}.",
        f"- **Pairs:** {how['pairs']} of the run {escaped(str(one.row['images_of']))}, {how['ties_left_out']} more were ties "
        "and left out.",
        f"- **Training:** {made}, of {how['steps_asked']} asked for, {how['batch_size']} pairs each, learning rate "
        f"{how['learning_rate']:g}{beta}.",
        f"- **Measured:** {escaped(str(result['made']))}, by `ddpo compare` of the run {escaped(str(result['run']))}.",
    ]
    if others := [str(name) for name in one.row["labellers"] or () if name != one.row["judge"]]:
        rows.insert(2, f"- **Its judge stands for:** {escaped(', '.join(others))}.")
    return "\n".join(rows)


def _numbers(result: Result, one: Trained, found: Mapping[str, Any]) -> str:
    """Its duels, on either side, and its means on one prompt set."""
    name, titles = one.row["policy"], result["titles"]
    shown = {other: escaped(str(titles.get(other, other))) for other in titles}
    duels = [
        [
            *(shown.get(row[who], escaped(row[who])) for who in ("policy", "against")),
            escaped(row["metric"]) + (" (in loop)" if row["in_loop"] else ""),
            share(row["win_rate"]),
            share((row["over_seeds"] or {}).get("win_rate")),
            number(row["difference"]),
        ]
        for row in found["duels"]
        if name in (row["policy"], row["against"]) and row["category"] is None
    ]
    means = [
        [escaped(row["metric"]), number(row["mean"]), number({"value": row["median"]})]
        for row in found["means"]
        if row["policy"] == name and row["category"] is None
    ]
    if not duels and not means:
        return ""
    said = [
        f"## On {escaped(found['set'])}",
        f"{found['prompts']} prompts: {escaped(found['about'])}. Win rates are in percent, a tie counts one half; brackets are "
        f"{100 * result['confidence']:g} % intervals. (in loop): this metric had a hand in the labels, so it says little.",
    ]
    heads = ("policy", "against", "metric", "win rate", "win rate over training seeds", "difference")
    said += [table(heads, duels)] if duels else []
    said += [table(("metric", "mean", "median"), means)] if means else []
    return "\n\n".join(said)


def _guards(result: Result, one: Trained) -> str:
    against = {None: "", BASE: "the base model", "reference": "real pictures"}
    rows = [
        [
            *(escaped(text) for text in (found["set"], row["guard"], against.get(row["against"], str(row["against"])))),
            number(row["value"]),
            escaped("; ".join(text for text in (row["about"], row["caution"]) if text)),
        ]
        for found in result["sets"]
        for row in found["guards"]
        if row["policy"] == one.row["policy"]
    ]
    return (
        f"## What preference does not see\n\n{table(('set', 'guard', 'against', 'value', 'what it is'), rows)}"
        if rows
        else ""
    )


def _cautions(result: Result, one: Trained) -> str:
    how = one.row["training"]
    said = [text for text in result["cautions"] if _concerns(result, text, one.title)]
    said += [f"Training seed {seed} ended early: {text}" for seed, text in how["ended_early"].items()]
    said += [f"Training seed {seed}: {text}" for seed, text in how["warnings"].items()]
    if one.described is None:
        said.append("Its policy.json is not there any more, so its settings and its base's revision are not told here.")
    return "## Cautions\n\n" + "\n".join(f"- {escaped(text)}" for text in said) if said else ""


def _concerns(result: Result, text: str, title: str) -> bool:
    """Whether a caution names this policy, or none. A name inside a longer one (`human` in `human+sft`) is not meant."""
    titles = {str(result["titles"].get(row["policy"], row["policy"])) for row in result["policies"]}
    named = {other for other in titles if re.search(rf"(?<![\w/+]){re.escape(other)}(?![\w/+])", text)}
    return title in named or not named


def _settings(one: Trained) -> str:
    if one.described is None:
        return ""
    told = yaml.safe_dump(one.described["settings"], sort_keys=False, allow_unicode=True)
    return f"## Settings\n\n{fenced(told, 'yaml')}"


def _versions(result: Result, one: Trained) -> str:
    works = [("training", one.described or {}), ("comparison", result)]
    lines = []
    for work, entry in works:
        listed = ", ".join(f"{name} {version}" for name, version in entry.get("versions", {}).items())
        commit = f"; commit {entry['commit']}" if entry.get("commit") else ""
        lines += [f"- {work}: {escaped(listed + commit)}"] if listed else []
    return "## Versions\n\n" + "\n".join(lines) if lines else ""
