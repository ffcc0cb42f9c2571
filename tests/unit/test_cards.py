"""Model cards: what was trained on what and what was measured, with nothing made up and nothing that becomes markup."""

import ast
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aifeedback_dpo import config
from aifeedback_dpo.compare import cards
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.markdown import escaped, fenced
from aifeedback_dpo.store import Run
from tests import reports

HUB = {"model": "owner/sd-x", "revision": "0123456789" * 4}


def opened(root: Path, *settings: str) -> Run:
    run = Run(root / "run", config.load("shapes", list(settings)))
    run.record("label/human", "done", rule="one simulated vote", simulated=True)
    return run


def describe(folder: Path, base: dict[str, str] = HUB, **settings: Any) -> None:
    told = {
        "base": base,
        "settings": {"method": "lora", "rank": 16, **settings},
        "versions": {"torch": "9.9"},
        "commit": "c",
    }
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text(json.dumps(told))


def written(run: Run, result: dict[str, Any], policy: str = "human") -> str:
    names = cards.write(run, result, run.report)
    return (run.report / names[policy]).read_text()


def header(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def code(text: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ast.parse(found)
    return str(found)


def test_every_policy_that_was_trained_has_a_card_and_no_other(tmp_path):
    names = cards.write(opened(tmp_path), reports.example(), tmp_path / "out")

    assert set(names) == {"human", reports.ODD, "=cmd|x", "other/human", "random"}
    assert {path.name for path in (tmp_path / "out" / "cards").iterdir()} == {
        name.removeprefix("cards/") for name in names.values()
    }
    assert all(re.fullmatch(r"cards/[A-Za-z0-9_+][\w.+-]*\.md", name) for name in names.values())


def test_two_policies_never_share_a_file_not_even_where_case_does_not_count(tmp_path):
    told = reports.example()
    told["policies"] = [{**told["policies"][1], "policy": name} for name in ("A/b", "a-b", "A-B")]

    names = cards.write(opened(tmp_path), told, tmp_path)

    assert names["A/b"] == "cards/A-b.md"
    assert len({name.casefold() for name in names.values()}) == 3


def test_cards_of_an_earlier_report_go_and_other_files_stay(tmp_path):
    run, told = opened(tmp_path), reports.example()
    cards.write(run, told, tmp_path)
    (tmp_path / "cards" / "mine.md").write_text("my notes")
    told["policies"] = told["policies"][:2]

    cards.write(run, told, tmp_path)

    assert {path.name for path in (tmp_path / "cards").iterdir()} == {"human.md", "mine.md"}


# -- what is known ---------------------------------------------------------------------------------------------------


def test_the_header_is_the_hubs_and_states_no_licence(tmp_path):
    run = opened(tmp_path)
    describe(run.policy_folder("human", 0))

    assert header(written(run, reports.example())) == {
        "base_model": "owner/sd-x",
        "base_model_relation": "adapter",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", "aifeedback_dpo", "objective:dpo", "lora", "simulated"],
    }


@pytest.mark.parametrize("model", ["shapes", "/somewhere/model", "models/sd"])
def test_a_base_that_is_not_on_the_hub_is_not_named_as_if_it_were(tmp_path, model):
    run = opened(tmp_path)
    describe(run.policy_folder("human", 0), {"model": model, "revision": "ab" * 16})

    assert "base_model" not in header(written(run, reports.example()))


def test_the_summary_tells_judge_rule_pairs_and_that_people_are_simulated(tmp_path):
    run = opened(tmp_path)
    describe(run.policy_folder("human", 0))
    text = written(run, reports.example())

    assert "# human (simulated)\n" in text
    assert "**Judge:** human (simulated), which are simulated raters and no people." in text
    assert "**Rule of its preferences:** one simulated vote." in text
    assert "68 of the run r\\_1 \\& \\<co\\>, 4 more were ties and left out." in text
    assert "150 steps (seed 0), 150 steps (seed 1), 90 steps (seed 2), of 150 asked for" in text
    assert "rank: 16" in text
    assert "training: torch 9.9; commit c" in text


def test_numbers_have_intervals_and_a_metric_in_the_loop_is_marked(tmp_path):
    text = written(opened(tmp_path), reports.example(), reports.ODD)
    mine, rows = escaped(reports.ODD), text.splitlines()

    assert f"| {mine} | base model | utility | 57 [53, 62] | 57 [47, 67] | 0.06 [0.05, 0.07] |" in rows
    assert any(f"| {mine} (in loop) |" in row for row in rows)
    assert not any("utility (in loop)" in row for row in rows)


def test_what_is_undefined_or_gone_is_said(tmp_path):
    text = written(opened(tmp_path), reports.example())

    assert "| held-out | fid | the base model | – |" in text
    guards = [row for row in text.splitlines() if re.match(r"\| (held-out|parti) \|", row)]
    assert len(guards) == 8  # its own four, on two sets
    assert "policy.json is not there any more" in text
    assert "## Settings" not in text
    assert "**Rule of its preferences:** not recorded." in written(opened(tmp_path), reports.example(), "random")


def test_a_description_that_cannot_be_read_is_an_error(tmp_path):
    run = opened(tmp_path)
    describe(run.policy_folder("human", 0))
    (run.policy_folder("human", 0) / "policy.json").write_text("{")

    with pytest.raises(DataError, match=r"policy\.json"):
        cards.write(run, reports.example(), run.report)


def test_a_policy_of_another_run_is_told_by_that_runs_manifest(tmp_path):
    other = Run(tmp_path / "other", config.load("shapes"))
    other.record("label/human", "done", rule="two votes a pair", simulated=False)
    describe(other.policy_folder("human", 0), {"model": "shapes", "revision": "cd" * 16})
    told = reports.example()
    told["titles"]["other/human"] = "other/human"
    told["policies"][4]["where"] = str(tmp_path / "other" / "policies" / "human")

    text = written(opened(tmp_path), told, "other/human")

    assert "**Judge:** human." in text
    assert "**Rule of its preferences:** two votes a pair." in text
    assert "simulated" not in header(text)["tags"]


def test_cautions_are_the_general_ones_and_its_own(tmp_path):
    told = reports.example()
    told["cautions"] = [
        "Few prompts.",
        "human (simulated)+sft: alike",
        "human (simulated) and random differ",
        "random: alike",
    ]
    told["cautions"].append("other/human (simulated) was trained on 3 of the 40 prompts of parti.")
    told["titles"]["human+sft"] = "human (simulated)+sft"
    told["policies"].append({**told["policies"][1], "policy": "human+sft"})
    section = written(opened(tmp_path), told).split("## Cautions\n\n")[1].split("\n\n")[0]

    assert section.splitlines()[:2] == ["- Few prompts.", "- human (simulated) and random differ"]
    assert "sft" not in section
    assert "parti" not in section
    assert "random: alike" not in section
    assert "Training seed 2 ended early" in section
    assert "Training seed 1: accuracy by depth \\<0.5" in section


# -- how to load it --------------------------------------------------------------------------------------------------


def test_a_lora_is_loaded_onto_its_base_at_the_commit_it_was_trained_on(tmp_path):
    run = opened(tmp_path)
    describe(run.policy_folder("human", 0))
    lines = code(written(run, reports.example())).splitlines()

    assert f'pipeline = DiffusionPipeline.from_pretrained("owner/sd-x", revision="{HUB["revision"]}")' in lines
    assert 'pipeline.load_lora_weights("policies/human/seed-0")' in lines


def test_a_whole_denoiser_takes_the_place_of_the_bases(tmp_path):
    run, told = opened(tmp_path), reports.example()
    describe(run.policy_folder("human", 0), {"model": "shapes", "revision": "ab" * 16})
    (run.policy_folder("human", 0) / "transformer").mkdir()
    told["policies"][1]["training"] = {**told["policies"][1]["training"], "method": "full"}
    text = written(run, told)
    lines = code(text).splitlines()

    assert header(text)["tags"][-1] == "simulated"
    assert 'transformer = AutoModel.from_pretrained("policies/human/seed-0", subfolder="transformer")' in lines
    assert 'pipeline = DiffusionPipeline.from_pretrained(shapes.weights("pipeline"), transformer=transformer)' in lines


def test_what_the_base_was_merged_with_is_told(tmp_path):
    run = opened(tmp_path, "model.adapters=[{id: owner/a_b, weight: 0.5}]")

    assert "the LoRA owner/a\\_b at weight 0.5, merged: load those first" in written(run, reports.example())


def test_an_odd_name_stays_a_string_of_the_code(tmp_path):
    assert "policies/judge_<b>" in code(written(opened(tmp_path), reports.example(), reports.ODD))


# -- markup ----------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8", exclude_characters="\u200b"), min_size=1))
@example("1. a")
@example("- a")
@example("=")
@example("<b>&amp; `x` [a](b) | $c$ #d")
def test_no_text_becomes_markup(text):
    line = re.sub(r"[\x00-\x1f\x7f\s]+", " ", text).strip()
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(escaped(text))

    assert shown.replace("\u200b", "") == (
        f"<p>{html.escape(line, quote=False)}</p>\n".replace('"', "&quot;") if line else ""
    )


@given(st.text(st.sampled_from("`~ ab<\n"), max_size=30))
@example("```\n<script>alert(1)</script>")
@example("  ````\n# A heading")
def test_nothing_ends_the_fence_that_it_stands_in(text):
    shown = MarkdownIt("commonmark").render(fenced(text, "yaml"))

    assert shown.startswith('<pre><code class="language-yaml">')
    assert shown.endswith("</code></pre>\n")
    assert shown.count("<") == 4


def test_tables_of_a_card_are_tables_whatever_the_names(tmp_path):
    text = written(opened(tmp_path), reports.example(), reports.ODD)
    shown = MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])

    assert shown.count("<table>") == 5  # duels and means of two sets, guards
    assert "<b>" not in shown
    assert html.escape(reports.ODD, quote=False).replace('"', "&quot;") in shown
