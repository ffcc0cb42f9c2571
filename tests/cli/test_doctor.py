"""ddpo doctor: what is here, what is not, and never a token."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from aifeedback_dpo import config, doctor
from aifeedback_dpo.cli.app import app
from aifeedback_dpo.doctor import memory_gb


def test_doctor_leaves_with_0_and_tells_what_each_recipe_lacks(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    shown = CliRunner().invoke(app, ["doctor", "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert told["machine"]["packages"]["torch"]
    assert told["machine"]["hub"] == "offline mode"
    assert told["machine"]["logged_in"] is True
    recipes = {need["recipe"]: need for need in told["recipes"]}
    assert list(recipes) == config.names()
    assert (recipes["shapes"]["missing"], recipes["shapes"]["fetch"], recipes["shapes"]["enough"]) == ([], [], True)
    assert "shapes" in recipes["shapes"]["here"]
    assert "hf_secret" not in shown.output


def test_the_gpu_that_models_run_on_is_told_with_its_memory(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Some GPU")
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=80e9))
    lines = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert any(line.startswith("Device: 2 x Some GPU, 80 GB, bfloat16;") for line in lines)
    (sd15,) = (line for line in lines if line.startswith("sd15 "))
    assert "18.9 GB, fits " in sd15
    assert "slow" not in sd15


def test_what_is_missing_comes_with_the_command_that_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "absent"))
    lines = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert any(line.startswith("Hub: offline mode, not logged in") for line in lines)
    (mine,) = (line for line in lines if line.startswith("syn-pic "))
    assert "not here: stabilityai/stable-diffusion-xl-base-1.0, madebyollin/sdxl-vae-fp16-fix" in mine
    assert "imagereward, prompts of liuhuohuo2/pick-a-pic-v2" in mine
    for command in (
        "hf download madebyollin/sdxl-vae-fp16-fix --include",
        "hf download xswu/HPSv2 HPS_v2.1_compressed.pt",
        "hf download zai-org/ImageReward ImageReward.pt",
        "hf download google-bert/bert-base-uncased --include '*.json'",
        "hf download --repo-type dataset liuhuohuo2/pick-a-pic-v2",
    ):
        assert sum(line.strip().startswith(command) for line in lines) == 1, command


def test_memory_is_counted_as_the_recipes_say():
    """sd15: 0.86 x (2 as loaded + 4 frozen + 4 trained + 4 gradient + 8 AdamW) = 18.92; Adafactor has no moments; FLUX with
    offload holds 11.9 x 2; SD 3.5 draws with (2.47 + 5.66) x 2 and trains with less.
    """
    assert memory_gb(config.load("sd15")) == pytest.approx(0.86 * 22)
    assert memory_gb(config.load("sdxl")) == pytest.approx(2.57 * 14)
    assert memory_gb(config.load("flux-dev-lora")) == pytest.approx(11.9 * 2)
    assert memory_gb(config.load("flux-dev-lora", ["model.offload=none"])) == pytest.approx((11.9 + 0.21 + 4.76) * 2)
    assert memory_gb(config.load("sd35-medium-lora")) == pytest.approx((2.47 + 0.90 + 4.76) * 2)
    assert memory_gb(config.load("sd15", ["model.id=nobody/nothing"])) is None


def test_every_recipe_that_ships_has_its_parameters_counted():
    assert all(memory_gb(config.load(name)) is not None for name in config.names())


def test_memory_is_enough_only_with_room_for_activations():
    here = doctor.machine()
    for gb, enough in ((18.92 * doctor.ROOM + 0.1, True), (18.92, False), (None, None)):
        with_memory = doctor.Machine(**{**here.__dict__, "gpu": "a GPU", "gpu_gb": gb})
        assert doctor.needs("sd15", with_memory).enough is enough


def test_one_recipe_may_be_asked_for_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    told = json.loads(CliRunner().invoke(app, ["doctor", "--recipe", "syn-pic", "--json"]).stdout)
    assert [need["recipe"] for need in told["recipes"]] == ["syn-pic"]
    lines = CliRunner().invoke(app, ["doctor", "-r", "shapes"]).stdout.splitlines()
    assert lines[-1].startswith("shapes ")
    wrong = CliRunner().invoke(app, ["doctor", "--recipe", "shapez"])
    assert (wrong.exit_code, "shapes" in wrong.stderr) == (2, True)
