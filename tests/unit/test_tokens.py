"""A token of the hub is sent to the hub and is nowhere else: in no file of a run, in nothing that is printed."""

import json
from pathlib import Path

import pytest

from aifeedback_dpo import config, tokens
from aifeedback_dpo.errors import UserError
from tests.conftest import TINY, ddpo

SENTINEL = "hf_" + "Sentinel" * 4
KEY = "wandb-key-0123456789"


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_TOKEN": SENTINEL, "HUGGING_FACE_HUB_TOKEN": SENTINEL, "WANDB_API_KEY": KEY}.items():
        monkeypatch.setenv(name, value)


def assert_nowhere(said: list[str], root: Path) -> None:
    files = [path for path in root.rglob("*") if path.is_file()]
    for secret in (SENTINEL, KEY):
        assert not [text for text in said if secret in text]
        assert not [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.slow
def test_no_stage_writes_or_prints_a_token(tmp_path: Path) -> None:
    said = []
    for command in (
        ("generate", *TINY),
        ("label", "--scorer", "pickscore"),
        ("train",),
        ("compare", "human", "vs", "ai"),
        ("export", "pickapic", str(tmp_path / "set")),
        ("status",),
    ):
        result = ddpo(*command, run=tmp_path / "run")
        assert result.exit_code == 0, result.output
        said += [result.stdout, result.stderr]
    assert (tmp_path / "run" / "report" / "index.html").exists()
    assert_nowhere(said, tmp_path)


def test_no_failure_of_the_hub_prints_a_token_though_the_hub_was_sent_it(online, tmp_path: Path) -> None:
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    files = {"model_index.json": json.dumps(index).encode(), "unet/config.json": b"{}"}
    online.repositories |= {f"models/team/{name}": files for name in ("gated", "short")}
    online.gated.add("models/team/gated")
    asked = [f"model.id=team/{name}" for name in ("gated", "short", "absent")]
    asked += [
        "prompts.source=team/absent",
        f"model.id=https://somebody:{SENTINEL}@example.org/team/model",
        f"model.id=https://somebody:letmein@example.org/{SENTINEL}",
        f"prompts.source={SENTINEL}",
        f"about={SENTINEL}",
        f"model.revision={SENTINEL}",
        f"train.beta={SENTINEL}",
        f"{SENTINEL}=1",
        SENTINEL,
    ]
    said = []
    for number, override in enumerate(asked):
        result = ddpo("generate", *TINY, override, run=tmp_path / f"run-{number}")
        assert result.exit_code in (2, 4), result.output
        said += [result.stdout, result.stderr]
    for path in (f"https://somebody:{SENTINEL}@example.org/team/set", f"team/{SENTINEL}"):
        result = ddpo("import", "pairs", path, run=tmp_path / "imported")
        assert result.exit_code in (2, 4), result.output
        said += [result.stdout, result.stderr]
    online.broken = True
    said.append(ddpo("generate", *TINY, "model.id=team/other", run=tmp_path / "run").stderr)
    said.append(ddpo("doctor", run=tmp_path / "run").output)

    assert SENTINEL in online.tokens
    assert "letmein" not in "".join(said)
    assert_nowhere(said, tmp_path)


@pytest.mark.parametrize(
    "text", [SENTINEL, f"see {KEY}!", "https://me:secret@example.org/x", "git+https://tok3n@example.org"]
)
def test_what_is_a_secret_is_masked(text: str) -> None:
    assert "***" in tokens.masked(text)
    assert not any(secret in tokens.masked(text) for secret in (SENTINEL, KEY, "secret", "tok3n"))


@pytest.mark.parametrize("text", ["hf_hub", "a@b.org", "https://example.org/a@b", "org/model", "a cat: 3 @ 4"])
def test_what_is_none_stays(text: str) -> None:
    assert tokens.masked(text) == text


def test_no_recipe_holds_a_token() -> None:
    for setting in ({"about": f"by {SENTINEL}"}, {"model": {"id": "https://me:secret@example.org/model"}}):
        with pytest.raises(UserError, match="holds a token or a password") as error:
            config.load({"extends": "shapes", **setting})
        assert SENTINEL not in str(error.value)
        assert "secret" not in str(error.value)
