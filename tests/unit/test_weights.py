"""Hub ids against a hub on this machine, over HTTP, and none at all: what is found, and the one line where it is not."""

import json
import socket
from pathlib import Path
from threading import Event

import huggingface_hub.constants as constants
import pytest

from aifeedback_dpo import hub, weights
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.settings import Weights
from aifeedback_dpo.weights import file_here, here, identify, locate, locate_file
from tests.fake_hub import COMMIT

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}
SHARDS = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
PIPELINE = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"weights",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "scheduler/scheduler_config.json": b"{}",
    "safety_checker/config.json": b"{}",
    "safety_checker/model.safetensors": b"not needed",
    "whole_in_one_file.safetensors": b"not needed",
}


def fill(cache: Path, name: str, files: dict[str, bytes]) -> Path:
    """A snapshot as other programs leave it: without the list of what the repository has."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for file, content in files.items():
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_bytes(content)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_cached_model_is_found_and_identified_by_its_commit_and_nobody_is_asked(cache):
    snapshot = fill(cache, "team/model", PIPELINE)
    located = locate(Weights(id="team/model"), "pipeline")
    assert located.folder == snapshot
    assert (located.name, located.revision) == ("team/model", COMMIT)
    assert identify(Weights(id="team/model"), "pipeline").revision == COMMIT


def test_a_model_of_the_hub_is_fetched_without_what_is_not_loaded(online):
    online.repositories["models/team/model"] = PIPELINE
    assert here(Weights(id="team/model"), "pipeline") is None
    located = locate(Weights(id="team/model"), "pipeline")
    there = {path.relative_to(located.folder).as_posix() for path in located.folder.rglob("*") if path.is_file()}
    assert there == {name for name in PIPELINE if not name.startswith(("safety", "whole")) and "fp16" not in name}
    assert located.revision == COMMIT
    asked = len(online.asked)
    assert locate(Weights(id="team/model"), "pipeline") == located
    assert len(online.asked) == asked


@pytest.mark.parametrize(
    "lost", ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"]
)
def test_a_pipeline_that_is_here_in_part_is_not_taken_for_whole(cache, lost):
    fill(cache, "team/model", {name: content for name, content in PIPELINE.items() if name != lost})
    assert here(Weights(id="team/model"), "pipeline") is None
    with pytest.raises(ModelMissing, match="not on this machine, or not whole"):
        locate(Weights(id="team/model"), "pipeline")


def test_a_model_with_a_shard_missing_is_not_taken_for_whole(cache):
    files = {"config.json": b"{}", "model.safetensors.index.json": json.dumps(SHARDS).encode()}
    fill(cache, "team/model", {**files, "model-1-of-2.safetensors": b"1"})
    assert here(Weights(id="team/model"), "clip") is None
    fill(cache, "team/model", {"model-2-of-2.safetensors": b"2"})
    assert here(Weights(id="team/model"), "clip") is not None


def test_a_tokenizer_needs_no_weights_and_a_model_does(cache):
    fill(cache, "team/model", {"config.json": b"{}", "tokenizer.json": b"{}"})
    assert here(Weights(id="team/model"), "tokenizer") is not None
    assert here(Weights(id="team/model"), "clip") is None


def test_what_is_here_in_part_is_fetched_to_the_end(cache, online):
    online.repositories["models/team/model"] = PIPELINE
    fill(cache, "team/model", {"model_index.json": PIPELINE["model_index.json"]})
    folder = locate(Weights(id="team/model"), "pipeline").folder
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == b"weights"


def test_one_file_is_fetched_though_another_of_its_repository_is_here(cache, online):
    online.repositories["models/team/heads"] = {"one.pt": b"1", "two.pt": b"2", "README.md": b""}
    fill(cache, "team/heads", {"one.pt": b"1"})
    assert file_here(Weights(id="team/heads"), "two.pt") is None
    located = locate_file(Weights(id="team/heads"), "two.pt")
    assert (located.path.read_bytes(), located.revision) == (b"2", COMMIT)
    assert not any("README" in asked for asked in online.asked)


def test_a_file_is_found_as_itself_or_in_a_folder_and_known_by_its_content(tmp_path):
    for name in ("one.pt", "two.pt"):
        (tmp_path / name).write_bytes(b"same")
    direct = locate_file(Weights(id=str(tmp_path / "one.pt")), "anything.pt")
    inside = locate_file(Weights(id=str(tmp_path)), "two.pt")
    assert (direct.path, inside.path) == (tmp_path / "one.pt", tmp_path / "two.pt")
    assert direct.revision == inside.revision
    with pytest.raises(ModelMissing, match=r"holds no three\.pt"):
        locate_file(Weights(id=str(tmp_path)), "three.pt")


# -- refusals: one line, with the repository, the file and the command ---------------------------------------------------


def told(error: pytest.ExceptionInfo[ModelMissing]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert error.value.exit_code == 4
    return message


def test_offline_mode_is_told_with_the_command(cache):
    for find in (identify, locate):
        with pytest.raises(ModelMissing) as error:
            find(Weights(id="team/absent", revision="v2"), "pipeline")
        assert "HF_HUB_OFFLINE is set" in told(error)
        assert "`hf download team/absent --include '*.json'" in told(error)
        assert "--revision v2`" in told(error)
    with pytest.raises(ModelMissing) as error:
        locate_file(Weights(id="team/heads"), "one.pt")
    assert "`hf download team/heads one.pt`" in told(error)


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def no_name_server(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.parametrize("names", ["resolve", "do not resolve"])
def test_a_hub_that_cannot_be_reached_is_told(online, monkeypatch, names):
    monkeypatch.setattr(constants, "ENDPOINT", closed_port())
    if names == "do not resolve":
        monkeypatch.setattr(socket, "getaddrinfo", no_name_server)
    for find in (
        lambda: locate(Weights(id="team/model"), "clip"),
        lambda: locate_file(Weights(id="team/model"), "a.pt"),
    ):
        with pytest.raises(ModelMissing) as error:
            find()
        assert "team/model is not on this machine" in told(error)
        assert "the hub cannot be reached" in told(error)
        assert "hf download team/model" in told(error)


def test_a_hub_that_accepts_and_never_answers_is_given_up(online, monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ModelMissing) as error:
            locate(Weights(id="team/model"), "clip")
    assert "the hub cannot be reached" in told(error)


def test_a_question_that_outlasts_every_single_timeout_is_given_up():
    answered = Event()
    with pytest.raises(TimeoutError, match="no answer within"):
        hub.within(0.05, answered.wait)
    answered.set()


def test_a_hub_that_fails_is_asked_once_and_told_with_its_status(online):
    online.repositories["models/team/model"] = PIPELINE
    online.broken = True
    with pytest.raises(ModelMissing) as error:
        locate(Weights(id="team/model"), "pipeline")
    assert "the hub answered 503" in told(error)
    assert [question for question in online.asked if "team/model" in question] == ["GET /api/models/team/model"]


def test_a_gated_model_is_told_with_the_page_of_its_licence_and_no_token(online, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    online.repositories["models/team/model"] = PIPELINE
    online.gated.add("models/team/model")
    with pytest.raises(ModelMissing) as error:
        locate(Weights(id="team/model"), "pipeline")
    assert "https://huggingface.co/team/model" in told(error)
    assert "hf auth login" in told(error)
    assert "hf_secret" not in told(error)


def test_an_unknown_repository_revision_or_file_is_told(online):
    online.repositories["models/team/model"] = PIPELINE
    with pytest.raises(ModelMissing, match="'team/absent' is neither a folder here nor a model on the hub"):
        locate(Weights(id="team/absent"), "pipeline")
    with pytest.raises(ModelMissing, match="neither a folder here nor a model on the hub"):
        locate(Weights(id="a/b/c d"), "pipeline")
    for find in (identify, locate):
        with pytest.raises(ModelMissing, match="team/model has no revision v9"):
            find(Weights(id="team/model", revision="v9"), "pipeline")
    with pytest.raises(ModelMissing, match=r"team/model has none of the files that are needed: absent\.pt"):
        locate_file(Weights(id="team/model"), "absent.pt")


def test_a_model_that_is_published_without_safetensors_is_told(online):
    online.repositories["models/team/model"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    with pytest.raises(ModelMissing, match=r"team/model came without \*\.safetensors"):
        locate(Weights(id="team/model"), "clip")


# -- folders -------------------------------------------------------------------------------------------------------------


def test_a_folder_has_no_revision_to_choose(tmp_path):
    with pytest.raises(UserError, match="goes with a hub id"):
        locate(Weights(id=str(tmp_path), revision="main"), "pipeline")


def test_a_folder_is_identified_by_its_content(tmp_path):
    for name, text in (("one", "{}"), ("two", "{}"), ("three", "{ }")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    one, two, three = (identify(Weights(id=str(tmp_path / name)), "clip").revision for name in ("one", "two", "three"))
    assert one == two != three


def test_the_weights_that_other_programs_use_are_left_on_the_hub():
    needed = weights.repository(Weights(id="team/model"), "pipeline").needs
    assert needed("text_encoder_3/model-00001-of-00002.safetensors")
    assert needed("tokenizer_3/spiece.model")
    assert not any(map(needed, ("flux1-dev.safetensors", "text_encoders/t5xxl_fp16.safetensors", "unet/model.onnx")))
