"""What a user sees before anything runs."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

HEAVY = ("torch", "diffusers", "transformers", "datasets", "pyarrow", "pydantic_settings", "omegaconf", "matplotlib")


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom aifeedback_dpo.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in shown.stdout
    for command in (
        "generate",
        "label",
        "train",
        "compare",
        "study",
        "import",
        "annotate",
        "export",
        "demo",
        "status",
        "verify",
        "recipes",
        "scorers",
        "doctor",
    ):
        assert command in shown.stdout


def test_a_mistyped_command_names_the_nearest():
    shown = subprocess.run(
        [sys.executable, "-m", "aifeedback_dpo", "trian"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 2
    assert "train" in shown.stderr


@pytest.mark.parametrize("command", [[], ["label"], ["scorers"], ["verify"]])
def test_help_has_a_short_name(command):
    from aifeedback_dpo.cli.app import app

    shown = [CliRunner().invoke(app, [*command, option]) for option in ("-h", "--help")]
    assert shown[0].exit_code == 0
    assert shown[0].stdout == shown[1].stdout
