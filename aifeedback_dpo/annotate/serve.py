"""The page on a port of this machine, until Ctrl-C or SIGTERM; both end it in order, with the votes in the run."""

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from aifeedback_dpo.annotate import ballots, page, pictures, study
from aifeedback_dpo.annotate.assignment import Assignment
from aifeedback_dpo.annotate.guard import Invitations, own_names
from aifeedback_dpo.annotate.journal import Journal
from aifeedback_dpo.annotate.study import Study
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.store import Run

FILE = "votes.sqlite"
ALONE = "annotator"
PATIENCE = 3  # seconds that a request under way may take when the server ends


@dataclass(frozen=True)
class Served:
    """What a start has to say: the study, how many pairs, and the link of each person."""

    study: Study
    pairs: int
    links: dict[str, str]


class Server(uvicorn.Server):
    """uvicorn's, which after a signal ends in order and does not raise it again: the votes are still to be exported."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def journal_path(run: Run) -> Path:
    """Where the votes of a run are written down first."""
    return run.root / "annotate" / FILE


def serve(
    run: Run,
    journal: Journal,
    settled: Study,
    pairs: dict[str, pictures.Pair],
    names: Sequence[str],
    look: page.Look,
    *,
    host: str,
    port: int,
    started: Callable[[Served], object],
    say: Callable[[str], None],
) -> int:
    """Serves until it is stopped, and says how many votes are in the run then. Nobody named is one `annotator`."""
    with _listening(host, port) as listener:
        journal.alone()
        if journal.study() is None:
            journal.begin(study.settings(settled))
        if names or not journal.annotators():
            journal.invite(list(names) or [ALONE])
        invited = list(journal.annotators())
        invitations = Invitations(str(journal.setting("secret")), invited)
        assignment = Assignment(journal, settled, list(pairs))
        app = page.build(assignment, pictures.Pictures(run, pairs), invitations, own_names(host), look)
        address = f"http://{_shown(host)}:{listener.getsockname()[1]}"
        links = {name: f"{address}/?token={invitations.link(name)}" for name in invited}
        exporter = ballots.Exporter(run, journal, lambda: assignment.changes, say)
        exporter.start()
        started(Served(settled, len(settled.pool(pairs)), links))
        config = uvicorn.Config(
            app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=PATIENCE
        )
        try:
            Server(config).run(sockets=[listener])
        finally:
            exporter.stop()
            exported = ballots.export(run, journal)
    return exported


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises UserError for a port that is taken, or a host that is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"port {port} is taken; choose another with --port, or --port 0 for any that is free"
                ) from error
            raise UserError(
                f"cannot listen at {host}:{port} ({error}); --host is an address of this machine"
            ) from error
        listener.listen(128)
        yield listener


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
