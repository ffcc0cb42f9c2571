"""Label Studio's tasks: every pair with every vote on it, a scorer's view as a prediction, and a configuration that fits."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from aifeedback_dpo.store import Run
from tests import exports
from tests.exports import SOFT, exported


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return exports.write(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def truth(run) -> list[dict]:
    return exports.told(run)


def test_label_studio_has_every_pair_as_a_task_and_every_vote_as_an_annotation(run, truth, tmp_path):
    people = [("ada", 1.0, 1, 2.5), ("zoe", 0.0, 1, None), ("zoe", 0.5, 3, 4.0)]
    at = (1, 1, 0)  # two votes on the second pair, three of one kind on the first
    rows = [
        {"pair_id": truth[number]["pair_id"], "annotator": who, "p_a": p_a, "votes": votes, "seconds": seconds}
        | {"source": "page", "where": None}
        for number, (who, p_a, votes, seconds) in zip(at, people, strict=True)
    ]
    run.commit("votes", rows, "000000", "page")
    try:
        exported(run, "label-studio", tmp_path / "set")
    finally:
        for path in run.parts("votes"):
            path.unlink()

    tasks = json.loads((tmp_path / "set" / "tasks.json").read_text())
    assert [task["data"]["pair_id"] for task in tasks] == [pair["pair_id"] for pair in truth]
    for task, pair in zip(tasks, truth, strict=True):
        assert task["data"]["prompt"] == pair["prompt"]
        for side in "ab":
            start, path = task["data"][f"image_{side}"].split("?d=")
            assert (start, (tmp_path / "set" / path).read_bytes()) == ("/data/local-files/", pair[side])
    assert tasks[0]["annotations"] == [
        {
            "result": [{"from_name": "tie", "to_name": "image_a", "type": "choices", "value": {"choices": ["tie"]}}],
            "lead_time": 4.0,
            "meta": {"annotator": "zoe", "p_a": 0.5, "votes": 3},
        }
    ]
    left, right = tasks[1]["annotations"]
    click = {"from_name": "preference", "to_name": "image_a,image_b", "type": "pairwise"}
    assert left == {
        "result": [click | {"value": {"selected": "left"}}],
        "lead_time": 2.5,
        "meta": {"annotator": "ada", "p_a": 1.0, "votes": 1},
    }
    assert right["result"] == [click | {"value": {"selected": "right"}}]
    assert "lead_time" not in right
    (summed,) = tasks[3]["annotations"]  # of which only the mean is known
    assert (summed["result"][0]["value"], summed["meta"]["p_a"], summed["meta"]["votes"]) == (
        {"selected": "left"},
        SOFT,
        10,
    )
    assert tasks[4]["annotations"] == []
    assert [len(task["annotations"]) for task in tasks] == [1, 2, 1, 1, 0, 1, 1, 1]
    assert len(list((tmp_path / "set" / "images").iterdir())) == 12  # each once, though some are in two pairs


def test_label_studio_takes_no_scorer_for_a_person(run, tmp_path):
    exported(run, "label-studio", tmp_path / "set", "pickscore")

    first, second, *_ = json.loads((tmp_path / "set" / "tasks.json").read_text())
    assert first["annotations"] == second["annotations"] == []
    said = [(task["predictions"][0]["model_version"], task["predictions"][0]["score"]) for task in (first, second)]
    assert said == [("pickscore", float(np.float32(0.9))), ("pickscore", float(np.float32(1 - np.float32(0.3))))]
    assert second["predictions"][0]["result"][0]["value"] == {"selected": "right"}


def test_label_studio_without_a_judge_is_all_pairs_and_nothing_said(run, tmp_path):
    made = exported(run, "label-studio", tmp_path / "set", "none")

    tasks = json.loads((tmp_path / "set" / "tasks.json").read_text())
    assert [(task["annotations"], "predictions" in task) for task in tasks] == 8 * [([], False)]
    assert made.unlabelled == 8


def test_label_studios_configuration_has_the_names_that_tasks_and_annotations_use(run, tmp_path):
    exported(run, "label-studio", tmp_path / "set")

    tags = {
        tag.get("name"): tag for tag in ElementTree.parse(tmp_path / "set" / "config.xml").iter() if tag.get("name")
    }
    tasks = json.loads((tmp_path / "set" / "tasks.json").read_text())
    for task in tasks:
        for annotation in task["annotations"]:
            for entry in annotation["result"]:
                assert tags[entry["from_name"]].get("toName") == entry["to_name"]
                assert tags[entry["from_name"]].tag.lower() == entry["type"]
    values = {tag.get("value") for tag in tags.values() if tag.tag == "Image"}
    assert values == {"$image_a", "$image_b"} <= {f"${name}" for name in tasks[0]["data"]}
