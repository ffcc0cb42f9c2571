"""The method in a paragraph, from what was done: to be pasted into a paper, and changed by nobody's memory."""

from typing import Any

from aifeedback_dpo.records import BASE

REFERENCES = {
    "dpo": "Diffusion-DPO (Wallace et al., 2023)",
    "sft": "supervised fine-tuning on the preferred pictures",
    "kto": "Diffusion-KTO (Li et al., 2024)",
    "mapo": "MaPO (Hong et al., 2024)",
}


def paragraph(result: dict[str, Any], recipe: dict[str, Any]) -> str:
    """What was trained, drawn, judged and computed; only what this result and its recipe say."""
    said = [*_trained(result, recipe), *_drawn(result, recipe), *_judged(result), *_computed(result)]
    return " ".join(said)


def _trained(result: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    trained = [row for row in result["policies"] if row["training"]]
    if not trained:
        return []
    titles = result["titles"]
    said = [f"We fine-tuned {recipe['model']['id']} on pairwise preferences."]
    for row in trained:
        how = row["training"]
        name = REFERENCES.get(how["objective"], f"the {how['objective']} objective")
        beta = "" if how["beta"] is None else f", beta {how['beta']:g} on mean squared errors"
        steps = "/".join(map(str, dict.fromkeys(how["steps"].values())))
        said.append(
            f"{titles[row['policy']]}: {name} on {how['pairs']} pairs labelled by {titles.get(row['judge'], row['judge'])}"
            f"{_pictures(row, result)}, {_weights(how['method'])}, {steps} steps of {how['batch_size']} pairs, learning rate "
            f"{how['learning_rate']:g}{beta}, {_count(len(row['seeds']), 'training seed')}; {how['ties_left_out']} ties were "
            "left out."
        )
    if result["simulated"]:
        said.append("Human preferences are simulated: votes drawn from a known utility, with noise.")
    return said


def _drawn(result: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    if not result["sets"]:
        return []
    how = recipe["generate"]
    sampler = how["scheduler"] or "the model's own scheduler"
    sets = ", ".join(
        f"{found['set']} ({_count(found['prompts'], 'prompt')}, {_count(found['images_per_prompt'], 'picture')} each)"
        for found in result["sets"]
    )
    settings = f"{sampler}, {how['steps']} steps, guidance {how['guidance']:g}"
    return [f"Every policy drew the same prompts from the same seeds ({settings}): {sets}."]


def _judged(result: dict[str, Any]) -> list[str]:
    said = []
    for found in result["sets"]:
        names = ", ".join(metric["metric"] for metric in found["metrics"])
        if names:
            said.append(f"On {found['set']} pictures were measured by {names}; {found['primary']} decides.")
    return said


def _computed(result: dict[str, Any]) -> list[str]:
    share = f"{100 * result['confidence']:g} %"
    said = []
    if any(row["policy"] != BASE for row in result["policies"]):
        said.append(
            f"Win rates count a tie as one half; {share} intervals are percentile bootstraps over prompts "
            f"({result['resamples']} resamples, a prompt's pictures together), never narrower than Clopper and Pearson's where "
            "fewer than ten prompts are won or lost. Where several training seeds exist, a second interval treats seeds and "
            "prompts as random (two-way random effects, their half widths added by squares: Howe, 1974). Verdicts go by these "
            "intervals, unadjusted. Sign tests are exact, of prompts with their training seeds together and without ties; "
            "their p is adjusted by Holm's method over metrics, or over categories."
        )
    if result["judges"]:
        said.append(
            f"Judges were compared on {result['judges']['pairs']} pairs, with {share} cluster-bootstrap intervals over prompts."
        )
    version = result["versions"].get("aifeedback_dpo", "")
    return [*said, f"Computed with aifeedback_dpo {version}."]


def _pictures(row: dict[str, Any], result: dict[str, Any]) -> str:
    """Whose pictures they were, where policies learned from those of several runs."""
    several = len({other["images_of"] for other in result["policies"] if other["images_of"]}) > 1
    return f" over the pictures of {row['images_of']}" if several else ""


def _weights(method: str) -> str:
    return "LoRA" if method == "lora" else "all weights"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
