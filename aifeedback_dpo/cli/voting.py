"""What `ddpo annotate` does and says."""

import sys
import webbrowser
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.errors import UserError

if TYPE_CHECKING:
    from aifeedback_dpo.annotate.journal import Journal
    from aifeedback_dpo.annotate.serve import Served
    from aifeedback_dpo.annotate.study import Study
    from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Asked:
    """The options of a study; None is not said."""

    annotators: list[str]
    overlap: int | None
    overlap_share: float | None
    repeats: float | None
    attention: float | None
    limit: int | None
    blur: bool
    instructions: Path | None


def serve(run: "Run", asked: Asked, host: str, port: int, browser: bool | None) -> None:
    """The page, until Ctrl-C."""
    _need_extra()
    from aifeedback_dpo import votes
    from aifeedback_dpo.annotate import page, pictures, serve
    from aifeedback_dpo.annotate.journal import Journal

    votes.need_people(run)
    text = _text(asked.instructions) or page.default_instructions()
    names = _names(asked.annotators)
    pairs = pictures.of_run(run)  # first, so that a run that cannot be voted on is left as it was
    journal = Journal(serve.journal_path(run))
    settled = _settle(run, journal, asked)

    def started(served: "Served") -> None:
        _greet(run, served, host)
        if browser or (browser is None and sys.stdout.isatty()):
            webbrowser.open(next(iter(served.links.values())))

    look = page.Look(text, asked.blur)
    exported = serve.serve(run, journal, settled, pairs, names, look, host=host, port=port, started=started, say=_warn)
    journal.close()
    typer.echo(
        f"{exported} votes are in {run.root} from this page, as judge human; `ddpo annotate --report` says how people agree"
    )


def plan(run: "Run", asked: Asked, as_json: bool) -> None:
    """What would be asked of people."""
    from aifeedback_dpo import votes
    from aifeedback_dpo.annotate import pictures, serve
    from aifeedback_dpo.annotate.journal import Journal
    from aifeedback_dpo.annotate.study import begun

    votes.need_people(run)
    pairs = pictures.of_run(run)
    path = serve.journal_path(run)
    journal = Journal(path) if path.exists() else None
    settled = _settle(run, journal, asked)
    pool = settled.pool(pairs)
    wanted = sum(settled.quota(pair_id) for pair_id in pool)
    if as_json:
        options.emit({"run": str(run.root), "pairs": len(pool), "votes": wanted, "study": asdict(settled)})
        return
    going = "goes on with" if begun(journal) else "begins"
    typer.echo(f"{run.root}: {going} a study of {len(pool)} pairs and {wanted} votes, journal {path}")


def report(run: "Run", as_json: bool) -> None:
    """The votes into the run, and what they say about those who gave them."""
    _need_extra()
    from aifeedback_dpo import votes
    from aifeedback_dpo.annotate import ballots, report, serve
    from aifeedback_dpo.annotate.journal import Journal

    votes.need_people(run)
    path = serve.journal_path(run)
    if not path.exists():
        raise UserError(f"{run.root} has no votes of people yet; run `ddpo annotate` first")
    journal = Journal(path)
    exported = ballots.export(run, journal)
    found = report.measure(journal)
    page = report.write(run, found)
    journal.close()
    if as_json:
        options.emit({"run": str(run.root), "exported": exported, "page": str(page), **asdict(found)})
    else:
        typer.echo("\n".join([*report.lines(found), f"{exported} votes in the run; {page}"]))


def _settle(run: "Run", journal: "Journal | None", asked: Asked) -> "Study":
    from aifeedback_dpo.annotate import study

    return study.settle(
        journal,
        seed=run.recipe.seed,
        overlap=asked.overlap,
        overlap_share=asked.overlap_share,
        repeats=asked.repeats,
        attention=asked.attention,
        limit=asked.limit,
    )


def _greet(run: "Run", served: "Served", host: str) -> None:
    study = served.study
    typer.echo(f"{run.root}: {served.pairs} pairs to vote on. Ctrl-C ends, the same command goes on.")
    for name, link in served.links.items():
        typer.echo(f"  {name}: {link}")
    if study.overlap > len(served.links):
        _warn(f"{study.overlap} people are to see a pair, and {len(served.links)} invited; add --annotator NAME")
    if host not in ("127.0.0.1", "localhost", "::1"):
        _warn("votes and links travel unencrypted beyond this machine; `ssh -L` or a proxy with TLS keeps them private")


def _names(asked: list[str]) -> list[str]:
    for name in asked:
        if not name.strip() or len(name) > 80 or not name.isprintable():
            raise UserError(f"--annotator {name!r} is no name; up to 80 printable characters are")
    return [name.strip() for name in asked]


def _text(path: Path | None) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--instructions {path} cannot be read ({error}); it is a text file in UTF-8") from error


def _need_extra() -> None:
    try:
        import evalica  # noqa: F401
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f'the voting page needs {error.name}: pip install "aifeedback_dpo[annotate]"') from error


def _warn(text: str) -> None:
    typer.echo(f"ddpo: {text}", err=True)
