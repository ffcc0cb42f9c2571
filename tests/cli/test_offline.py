"""Without a network: one line that names what is missing and the command that fetches it, and exit code 4."""

import socket

import pytest

from tests.conftest import ddpo, ddpo_process

ONLINE = "import os; os.environ.update(HF_HUB_OFFLINE='0', HF_ENDPOINT='{address}')"


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path_factory, monkeypatch) -> None:
    """Whatever the developer's own cache holds."""
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(empty))
    monkeypatch.setenv("HF_HUB_CACHE", str(empty))  # of the processes that a test starts


def refused_with(shown, *words: str) -> None:
    assert shown.returncode == 4, shown.stderr
    (line,) = shown.stderr.splitlines()
    assert line.startswith("ddpo: ")
    for word in words:
        assert word in line


def test_a_shipped_recipe_on_a_machine_that_has_nothing_is_one_line_and_exit_code_4(tmp_path):
    result = ddpo("generate", "--recipe", "sd15", run=tmp_path / "run")
    assert result.exit_code == 4
    (line,) = result.stderr.splitlines()
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5 is not on this machine" in line
    assert "HF_HUB_OFFLINE is set" in line
    assert "hf download stable-diffusion-v1-5/stable-diffusion-v1-5" in line
    assert not (tmp_path / "run").exists()


def test_prompts_of_the_hub_that_cannot_be_had_are_one_line_and_exit_code_4(tmp_path):
    result = ddpo("generate", "prompts.source=team/prompts", run=tmp_path / "run")
    assert result.exit_code == 4
    note, line = result.stderr.splitlines()
    assert note == "Reading prompts of team/prompts"
    assert line.startswith("ddpo: team/prompts is not on this machine")
    assert "hf download --repo-type dataset team/prompts" in line
    assert not (tmp_path / "run").exists()


def test_a_dry_run_without_a_network_tells_the_plan_and_what_is_missing(tmp_path):
    result = ddpo("generate", "--recipe", "sd15", "--dry-run", run=tmp_path / "run")
    assert result.exit_code == 0
    assert "16000 of 16000 images to draw (4000 prompts), 16000 pairs" in result.stdout
    assert "not on this machine yet" in result.stdout


def test_a_hub_that_refuses_the_connection_is_one_line(tmp_path):
    shown = ddpo_process(
        "generate", "--recipe", "sd15", cwd=tmp_path, before=ONLINE.format(address="http://127.0.0.1:9")
    )
    refused_with(shown, "stable-diffusion-v1-5", "the hub cannot be reached", "hf download")


@pytest.mark.slow
def test_a_hub_that_accepts_and_never_answers_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        shown = ddpo_process("generate", "--recipe", "sd15", cwd=tmp_path, before=ONLINE.format(address=address))
    refused_with(shown, "stable-diffusion-v1-5", "the hub cannot be reached", "hf download")
