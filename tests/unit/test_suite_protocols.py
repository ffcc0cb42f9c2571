"""How much of a suite is drawn, under which protocol, and beside which published numbers: all is said as it is."""

from importlib import resources

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo import config
from aifeedback_dpo.compare import suites
from aifeedback_dpo.compare.suites.known import KNOWN, STYLES
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from tests.made_suites import prompts, suite_of, whole

# -- a share of a suite ----------------------------------------------------------------------------------------------


def test_a_share_keeps_the_shares_of_the_categories():
    """Of 80, 40 and 20 prompts 14 are 8, 4 and 2: rank + 1/2 over the size is below 0.1 for 8, 4 and 2 of them."""
    share = suites.limited(suite_of({"a": 80, "b": 40, "c": 20}), 14)
    found = [item.category for item in share.items]
    assert {category: found.count(category) for category in "abc"} == {"a": 8, "b": 4, "c": 2}
    assert share.notes == ("14 of its 140 prompts, drawn in proportion from 3 categories",)
    assert prompts(share) != prompts(suite_of({"a": 8, "b": 4, "c": 2}))  # not from the top of the list


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 50), st.integers(1, 50))
def test_a_smaller_share_is_part_of_a_larger_one_and_in_order(sizes, one, other):
    suite = suite_of({str(at): size for at, size in enumerate(sizes)})
    less, more = (prompts(suites.limited(suite, count)) for count in sorted((one, other)))
    assert set(less) <= set(more)
    assert len(less) == min(*sorted((one, other))[:1], len(suite.items))
    assert [prompt for prompt in prompts(suite) if prompt in set(more)] == more


def test_all_of_a_suite_is_the_suite_and_none_is_an_error():
    suite = suite_of({"a": 3})
    assert suites.limited(suite, 3) is suite
    with pytest.raises(UserError, match="--limit is 0"):
        suites.limited(suite, 0)


# -- protocols and published numbers ---------------------------------------------------------------------------------

AS_SPO = ["generate.steps=20", "generate.guidance=5", "generate.scheduler=ddim"]


def test_a_protocol_is_followed_only_where_nothing_differs():
    suite = whole("pickapic-validation")
    said = suites.protocol(suite, recipe=config.load("sd15", AS_SPO), images=1)
    assert (said["followed"], said["differs"]) == (True, [])
    assert (said["steps"], said["guidance"], said["scheduler"], said["images_per_prompt"]) == (20, 5.0, "ddim", 1)
    assert said["here"]["resolution"] == "512x512"
    other = suites.protocol(suite, recipe=config.load("sd15"), images=2, limited=100)
    assert other["differs"] == [
        "100 of its 500 prompts were drawn",
        "2 pictures a prompt, not 1",
        "scheduler dpmsolver++, not ddim",
        "steps 25, not 20",
        "guidance 7.5, not 5.0",
    ]
    assert not other["followed"]


def test_geneval_is_never_the_published_protocol_since_the_detector_is_another():
    recipe = config.load("sd15", ["generate.steps=50", "generate.guidance=9", "generate.scheduler=ddim"])
    said = suites.protocol(whole("geneval"), recipe=recipe, images=4)
    assert said["differs"] == ["objects are found by a detector of transformers, not by mmdetection's Mask2Former"]
    rows = suites.published(whole("geneval"), ["geneval"], said["differs"])
    assert rows
    assert not any(row["comparable"] for row in rows)


def test_fewer_prompts_than_published_are_a_difference():
    suite = suite_of({"a": 3}, "parti")
    said = suites.protocol(suite, recipe=config.load("sd15"), images=1)
    assert said["differs"][0] == "mine.txt has 3 prompts, not 1632"
    share = suites.limited(whole("parti"), 10)
    said = suites.protocol(share, recipe=config.load("sd15"), images=1)
    assert said["differs"][0] == "10 of its 1632 prompts were drawn"


def test_a_file_of_ones_own_has_no_protocol_and_nothing_published():
    suite = suite_of({"a": 3}, "mine.txt")
    said = suites.protocol(suite, recipe=config.load("sd15"), images=1)
    assert (said["followed"], said["steps"], said["here"]["steps"]) == (False, None, 25)
    assert said["differs"] == ["nothing is published on the prompts of mine.txt"]
    assert suites.published(suite, ["pickscore"], []) == []


def test_published_rows_are_those_of_the_metrics_that_were_measured():
    rows = suites.published(whole("pickapic-validation"), ["pickscore", "clip"], [])
    spo = [row for row in rows if row["source"].startswith("SPO")]
    values = {row["model"]: row["value"] for row in spo}
    assert {row["metric"] for row in rows} == {"pickscore"}
    assert (values["SD 1.5"], values["Diffusion-DPO SD 1.5"]) == (20.53, 20.98)
    assert (values["SDXL"], values["Diffusion-DPO SDXL"]) == (21.95, 22.64)
    assert all(row["comparable"] for row in spo)
    assert not any(row["comparable"] for row in rows if row not in spo)  # drawn with another sampler
    again = suites.published(whole("pickapic-validation"), ["pickscore"], ["steps 25, not 20"])
    assert all("steps 25, not 20" in row["differs"] and not row["comparable"] for row in again)


def test_the_two_versions_of_hps_never_meet():
    first, second = (
        {row["value"] for row in suites.published(whole("hpsv2"), [name], [])} for name in ("hpsv2", "hpsv2.1")
    )
    assert 0.2695 in first
    assert 0.2535 in second
    assert not first & second
    styles = [row for row in suites.published(whole("hpsv2"), ["hpsv2"], []) if row["category"]]
    assert {row["category"] for row in styles} == set(STYLES)


def test_hps_of_the_authors_package_is_compared_with_the_resize_it_had():
    today, then = (
        [row for row in suites.published(whole("hpsv2"), [name], []) if row["model"] == "SD 1.4"]
        for name in ("hpsv2", "hpsv2-legacy")
    )
    assert all(row["comparable"] and row["metric"] == "hpsv2-legacy" for row in then)
    assert not any(row["comparable"] for row in today)
    assert "resized as `hpsv2-legacy` does" in today[0]["differs"][0]


def test_a_median_is_not_compared_with_a_mean():
    rows = suites.published(whole("hpsv2"), ["pickscore"], [])
    smpo = [row for row in rows if row["source"].startswith("SmPO")]
    assert smpo
    assert all("a median over prompts, and here it is a mean" in row["differs"] for row in smpo)


def test_every_published_number_is_of_a_known_suite_metric_and_range():
    """HPS and CLIP are cosines and GenEval a share here, PickScore is near 20 and a rating of LAION's near 5.5."""
    ranges = {
        "pickscore": (18, 25),
        "hpsv2": (0.2, 0.4),
        "hpsv2.1": (0.2, 0.4),
        "imagereward": (-1, 2),
        "aesthetic": (5, 7),
        "clip": (0.2, 0.4),
        "geneval": (0, 1),
    }
    assert set(ranges) <= {*CATALOGUE, "geneval", "fid"}
    text = resources.files("aifeedback_dpo.compare.suites").joinpath("published.yaml").read_text(encoding="utf-8")
    for group in yaml.safe_load(text):
        assert group["suite"] in KNOWN
        assert group["source"]
        assert set(group) <= {"suite", "source", "protocol", "statistic", "resize", "differs", "values"}
        for values in group["values"].values():
            for metric, told in values.items():
                low, high = ranges[metric]
                assert all(low <= value <= high for value in (told.values() if isinstance(told, dict) else [told]))
