"""Hub ids, without a hub: a cache laid out as huggingface_hub lays it out, and errors that name the next step."""

from pathlib import Path

import huggingface_hub.constants as hub
import pytest

from aifeedback_dpo.config import Weights
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.weights import identify, locate

COMMIT = "c" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def fill(cache: Path, name: str) -> Path:
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_cached_model_is_found_and_identified_by_its_commit(cache):
    snapshot = fill(cache, "team/model")
    located = locate(Weights(id="team/model"), "pipeline")
    assert located.folder == snapshot
    assert (located.name, located.revision) == ("team/model", COMMIT)
    assert identify(Weights(id="team/model"), "pipeline").revision == COMMIT


def test_a_model_that_is_neither_cached_nor_reachable_names_the_command(cache):
    for find in (identify, locate):
        with pytest.raises(ModelMissing, match=r"hf download team/absent --revision v2"):
            find(Weights(id="team/absent", revision="v2"), "pipeline")


def test_a_name_that_no_hub_model_can_have_is_told(cache):
    with pytest.raises(ModelMissing, match="neither a folder here nor a model on the hub"):
        locate(Weights(id="a/b/c d"), "pipeline")


def test_a_folder_has_no_revision_to_choose(tmp_path):
    with pytest.raises(UserError, match="goes with a hub id"):
        locate(Weights(id=str(tmp_path), revision="main"), "pipeline")


def test_a_folder_is_identified_by_its_content(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for name, text in (("one", "{}"), ("two", "{}")):
        (tmp_path / name / "config.json").write_text(text)
    one, two = (identify(Weights(id=str(tmp_path / name)), "clip").revision for name in ("one", "two"))
    assert one == two
