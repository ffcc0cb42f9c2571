"""Every `ddpo ...` that the documentation and the cluster files show is one that the command line takes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from aifeedback_dpo import config
from aifeedback_dpo.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
SCRIPTS = sorted(ROOT.glob("recipes/cluster/*.*"))
COMMANDS = typer.main.get_command(app).commands

FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = ("", "bash", "console")
NAMED = re.compile(r"`ddpo ([^`]+)`")
SHOWN = re.compile(r"(?:^|[\s('])ddpo (?=[a-z-])(.*)")
ENDS = ("&&", "||", "|", ">", "2>&1", "&", ";", "...")


def blocks(text: str) -> str:
    """What a page shows to be typed, or printed; but for what it shows to be refused."""
    shell = (body for language, body in FENCED.findall(text) if language in SHELL)
    return "\n".join(re.sub(r"^.*\n(?=ddpo: )", "", body, flags=re.MULTILINE) for body in shell)


def shown(text: str) -> list[str]:
    """What follows `ddpo` in the lines of a shell, up to a comment."""
    lines = text.replace("\\\n", " ").replace('"$command"', "generate").splitlines()
    found = [SHOWN.search(line) for line in lines if not line.startswith("ddpo: ") and "`ddpo" not in line]
    return [re.split(r"\s#\s|'\s", match[1])[0].rstrip("'") for match in found if match]


def named(text: str) -> list[str]:
    """The same in a sentence."""
    return NAMED.findall(FENCED.sub("", text))


def words(line: str) -> list[str]:
    """With a number in the place of each shell variable, up to the end of the command."""
    told = re.sub(r"\$\{?\w+\}?|(?<=\s)N$", "1", line.replace('"$@"', ""))
    found = shlex.split(told)
    return found[: next((at for at, word in enumerate(found) if word in ENDS), len(found))]


def refusal(line: str, *, whole: bool = True) -> str | None:
    """What the command line has against it, and a recipe against its settings; nothing is run.

    What is not `whole` names a command in a sentence, and may lack what it needs.
    """
    name, *told = words(line)
    if name not in COMMANDS:
        return None if name in ("COMMAND", "--help") else f"no command {name}"
    command = COMMANDS[name]
    if told and told[0] in (below := getattr(command, "commands", {})):
        command, told = below[told[0]], told[1:]
    before = told[: told.index("--")] if "--" in told else told
    settings = [
        word for word in before if re.match(r"(model|prompts|generate|label|train|compare|study)\.[^=]+=", word)
    ]
    try:
        command.make_context(name, told)
        config.load("shapes", settings)
    except typer.Exit:  # --help
        return None
    except Exception as error:  # typer has no public name for a wrong option
        said = getattr(error, "message", "") or str(error)
        return None if not whole and re.search(r"Missing parameter|requires an argument", said) else said
    return None


def found_in(paths: list[Path], find) -> list:
    return [
        pytest.param(line, id=f"{path.relative_to(ROOT)}: {line}")
        for path in paths
        for line in dict.fromkeys(find(path.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize("line", found_in(PAGES, lambda text: shown(blocks(text))))
def test_a_command_of_a_page_is_one_that_there_is(line):
    assert refusal(line) is None


@pytest.mark.parametrize("line", found_in(PAGES, named))
def test_a_command_that_a_sentence_names_is_one_that_there_is(line):
    assert refusal(line, whole=False) is None


@pytest.mark.parametrize("line", found_in(SCRIPTS, shown))
def test_a_command_of_a_cluster_file_is_one_that_there_is(line):
    assert refusal(line) is None


def test_what_there_is_not_is_refused():
    assert refusal("gnerate") == "no command gnerate"
    assert "--no-such" in (refusal("generate --no-such") or "")
    assert "--num-processes" in (refusal("train --num-processes") or "")
    assert "train.beta" in (refusal("train train.bta=1") or "")
    assert "source" in (refusal("import") or "")
    assert refusal("import", whole=False) is None


def test_commands_are_found_in_the_lines_of_a_shell():
    text = """$ ddpo label -s clip    # a judge
srun bash -c 'exec ddpo train --num-processes "$N" "$@" \\
  -- --x 2' train "$@"
ddpo: no such thing"""
    assert [words(line) for line in shown(text)] == [
        ["label", "-s", "clip"],
        ["train", "--num-processes", "1", "--", "--x", "2"],
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_cluster_file_opens_with_its_command_and_has_nothing_that_shellcheck_warns_of(path):
    text = path.read_text(encoding="utf-8")
    task = yaml.safe_load(text) if path.suffix == ".yaml" else None
    head = text.splitlines()[0 if task else 1]
    script = f"#!/usr/bin/env bash\n{task['run']}" if task else text
    assert re.match(rf"# (sbatch|sky jobs launch) .*recipes/cluster/{path.name}", head)
    assert "set -euo pipefail" in script
    shellcheck = [Path(sys.executable).parent / "shellcheck", "--severity=warning", "-"]
    found = subprocess.run(shellcheck, input=script, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_cluster_files_are_no_recipes():
    assert len(SCRIPTS) == 4
    assert {path.stem for path in SCRIPTS}.isdisjoint(config.names())
