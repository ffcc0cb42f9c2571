"""Options that several commands share, and the one place where errors become exit codes."""

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from aifeedback_dpo import tokens
from aifeedback_dpo.errors import DdpoError

if TYPE_CHECKING:
    from aifeedback_dpo.store import Run

INTERRUPTED = 130
SHAPES = Path("runs/shapes")

P = ParamSpec("P")


def complete_recipe(incomplete: str) -> list[str]:
    """The shell's completion of a recipe's name."""
    from aifeedback_dpo import config

    return [name for name in config.names() if name.startswith(incomplete)]


def _complete_scorer(incomplete: str) -> list[str]:
    from aifeedback_dpo.scorers.catalogue import CATALOGUE

    return [name for name in CATALOGUE if name.startswith(incomplete)]


def recipe_option(default: str) -> Any:
    """`--recipe`, and what a new run has without it."""
    return typer.Option(
        "--recipe",
        "-r",
        metavar="NAME|PATH",
        help=f"A recipe by name, or a YAML file. \\[default: the run's own, or {default}]",
        autocompletion=complete_recipe,
    )


Recipe = Annotated[str | None, recipe_option("shapes")]
RunFolder = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="The run's folder. \\[default: runs/<recipe>]")
]
RunNamed = Annotated[
    Path | None, typer.Argument(metavar="[RUN]", help="The run's folder; the same as --run.", show_default=False)
]
RunOrShapes = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help=f"The run's folder. \\[default: {SHAPES}]")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings on top of the recipe, as in train.beta=1000.", show_default=False
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, load nothing heavy, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Data on stdout as JSON.")]
Scorers = Annotated[
    list[str] | None,
    typer.Option(
        "--scorer",
        "-s",
        metavar="NAME",
        help="A scorer of `ddpo scorers`, or your own as module:Class; repeat for several. \\[default: the scorers among the "
        "recipe's train.judges, `ai` standing for label.ai: in the recipe shapes that is pickscore]",
        autocompletion=_complete_scorer,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="ID|DIR", help="A model in the place of the recipe's; repeat for a pool of several."
    ),
]
Consensus = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        "-j",
        metavar="consensus",
        help="What these scorers make of a pair together, as one judge more; the only value.",
    ),
]
Judges = Annotated[
    list[str] | None,
    typer.Option("--judge", "-j", metavar="NAME", help="A judge; repeat for several. \\[default: the recipe's]"),
]


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """One clear line and the right exit code for what can go wrong; Ctrl-C leaves with 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        try:
            command(*args, **kwargs)
        except DdpoError as error:
            typer.echo(f"ddpo: {tokens.masked(str(error))}", err=True)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            from aifeedback_dpo import disk

            if not disk.is_full(error):
                raise
            typer.echo(f"ddpo: {disk.disk_error(error, Path(error.filename or '.'))}", err=True)
            raise typer.Exit(DdpoError.exit_code) from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, without importing it
                raise
            say = (
                "out of GPU memory: lower generate.batch_size, label.batch_size or train.micro_batch_size, or label with one "
                "--scorer at a time, and run again"
            )
            typer.echo(f"ddpo: {say}", err=True)
            raise typer.Exit(DdpoError.exit_code) from error
        except KeyboardInterrupt as error:
            typer.echo("ddpo: interrupted. What was committed is kept; run the same command again to go on", err=True)
            raise typer.Exit(INTERRUPTED) from error

    return run


def named_run(folder: Path | None, run: Path | None) -> Path:
    """The run that a command's argument or its `--run` names. Raises UserError for two."""
    from aifeedback_dpo.errors import UserError

    if folder and run and folder != run:
        raise UserError(f"{folder} and --run {run} are two runs; name one")
    return folder or run or SHAPES


def open_run(folder: Path | None, recipe: str | None, overrides: list[str] | None) -> "Run":
    """The run, with libraries told to be quiet; heavy imports happen here and later, never before."""
    from aifeedback_dpo import opening
    from aifeedback_dpo.cli.quiet import hush

    hush()
    return opening.open_run(folder, recipe, overrides or [])


def open_imported(folder: Path | None, source: str, recipe: str | None, overrides: list[str] | None) -> "Run":
    """The run that a set is imported into: its prompts are the set's. Raises UserError for others."""
    from aifeedback_dpo.errors import UserError
    from aifeedback_dpo.records import IMPORTED
    from aifeedback_dpo.store import saved_recipe

    where = folder if folder or recipe else Path("runs") / source
    saved = saved_recipe(where) if where else None
    if saved is not None and saved.prompts.source != IMPORTED:
        raise UserError(
            f"{where} was made by `ddpo generate`, and a set is imported into a run of its own; choose another --run"
        )
    new = recipe is None and not (where and (where / "recipe.yaml").exists())
    opened = open_run(where, "sd15" if new else recipe, [f"prompts.source={IMPORTED}", *(overrides or [])])
    if opened.recipe.prompts.source != IMPORTED:
        raise UserError(
            f"prompts.source is '{opened.recipe.prompts.source}'; an import takes prompts.source={IMPORTED}"
        )
    return opened


def meanings(told: list[str]) -> dict[str, float]:
    """What label values mean: `first=1` is that 1 says the first picture won. Raises UserError."""
    from aifeedback_dpo.errors import UserError
    from aifeedback_dpo.sources import labels

    known = {"first": 1.0, "second": 0.0, "tie": 0.5}
    found: dict[str, float] = {}
    for item in told:
        word, _, value = item.partition("=")
        meant = labels.plain(value)
        if word not in known or not value or meant in found:
            raise UserError(f"--label {item}: write first=VALUE, second=VALUE or tie=VALUE, each value once")
        found[meant] = known[word]
    return found


def model_overrides(models: list[str]) -> list[str]:
    """What `--model` stands for: the first is the recipe's model, and several are the pool that draws.

    The recipe's autoencoder, adapters and revision belong to its own model and do not go with another.
    """
    if not models:
        return []
    chosen = [f"model.id={json.dumps(models[0])}", "model.vae=null", "model.adapters=[]", "model.revision=null"]
    how = {"dtype": "${oc.select:model.dtype,float32}", "offload": "${oc.select:model.offload,none}"}
    pool = json.dumps([{"id": name, **how} for name in models])
    return [*chosen, f"generate.pool={pool if len(models) > 1 else '[]'}"]


def is_override(word: str) -> bool:
    """Whether a word of the command line is a setting, KEY=VALUE, and no file that happens to have such a name."""
    return "=" in word and not Path(word).exists()


def emit(data: Any) -> None:
    """JSON to stdout."""
    json.dump(data, sys.stdout, indent=2)
    sys.stdout.write("\n")
