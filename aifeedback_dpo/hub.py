"""The hub of models and datasets: what its cache holds, one question answered within seconds, and refusals in one line.

No question waits longer than PATIENCE and none is asked twice: a machine without a network gets its answer at once. A token
is used where `hf auth login` left one, and never shown.
"""

import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, TypeVar

from aifeedback_dpo.errors import ModelMissing

PATIENCE = 4.0  # seconds that the hub has to answer

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Repository:
    """A repository at a revision, and the files of it that are needed, as names or glob patterns.

    `instead` is what else a user may do where it cannot be had, as the end of a sentence.
    """

    id: str
    revision: str | None = None
    files: tuple[str, ...] = ("*",)
    without: tuple[str, ...] = ()
    kind: Literal["model", "dataset"] = "model"
    instead: str = ""

    @property
    def fetch(self) -> str:
        """The command that puts these files into the hub's cache."""
        kind = [] if self.kind == "model" else ["--repo-type", self.kind]
        files = [word for file in self.files if file != "*" for word in (["--include"] if "*" in file else []) + [file]]
        revision = ["--revision", self.revision] if self.revision else []
        return shlex.join(["hf", "download", *kind, self.id, *files, *revision])

    @property
    def page(self) -> str:
        """Where its licence is accepted."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"

    def needs(self, name: str) -> bool:
        """Whether this file of the repository is one of them."""
        return any(fnmatch(name, file) for file in self.files) and not any(fnmatch(name, file) for file in self.without)


def cached(repository: Repository, lacks: Callable[[Path], str | None]) -> Path | None:
    """The copy in the hub's cache, if whole; `lacks` names what a folder is short of. It is not looked for anew on the hub.

    huggingface_hub takes any snapshot for whole whose file list it has not kept, as after a single file was fetched.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        folder = _snapshot(repository, local_files_only=True)
    except (OSError, HFValidationError):
        return None
    return None if lacks(folder) else folder


def is_listed(repository: Repository) -> bool:
    """Whether the cache has the list of its files, as `hf download` leaves it; without it nobody can say what is missing."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return bool(get_cached_repo_tree(repository.id, repo_type=repository.kind, revision=repository.revision))
    except CachedRepoTreeNotFoundError:
        return False


def commit(repository: Repository) -> str:
    """The commit that the hub has now. Raises ModelMissing where it does not answer or has none of the files."""
    from huggingface_hub import HfApi

    with explained(repository):
        ask = HfApi().model_info if repository.kind == "model" else HfApi().dataset_info
        found = within(PATIENCE, lambda: ask(repository.id, revision=repository.revision, timeout=PATIENCE))
    names = [file.rfilename for file in found.siblings or []]
    if not any(repository.needs(name) for name in names):
        raise ModelMissing(f"{repository.id} has none of the files that are needed: {', '.join(repository.files)}")
    return str(found.sha)


def licence(repository: Repository) -> str | None:
    """What the card of a dataset states, as `apache-2.0`; None where it states none."""
    from huggingface_hub import HfApi

    with explained(repository):
        found = within(PATIENCE, lambda: HfApi().dataset_info(repository.id, timeout=PATIENCE))
    stated = found.card_data.get("license") if found.card_data else None
    return str(stated) if stated else None


def download(repository: Repository, lacks: Callable[[Path], str | None]) -> Path:
    """The files, fetched into the hub's cache. Raises ModelMissing, with the next step, where that fails.

    The revision is given as it was asked for, so that the cache notes which commit it stands for.
    """
    commit(repository)
    with explained(repository):
        folder = _snapshot(repository, local_files_only=False)
    if missing := lacks(folder):
        raise ModelMissing(
            f"{repository.id} came without {missing}: the hub has none, or the download broke off; run the same command again"
        )
    return folder


def _snapshot(repository: Repository, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repository.id,
            repo_type=repository.kind,
            revision=repository.revision,
            allow_patterns=list(repository.files),
            ignore_patterns=list(repository.without),
            local_files_only=local_files_only,
        )
    )


def check_access(repository: Repository) -> None:
    """Raises ModelMissing for a repository that is gated, or that is not there for who asks."""
    from huggingface_hub import HfApi

    with explained(repository):
        within(PATIENCE, lambda: HfApi().auth_check(repository.id, repo_type=repository.kind))


def within(seconds: float, question: Callable[[], Answer]) -> Answer:
    """The answer, or TimeoutError: a deadline over the whole, name server included, which no single timeout covers."""
    answers: list[Answer] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception as error:  # handed to the caller's thread, which raises it
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]


@contextmanager
def explained(repository: Repository) -> Iterator[None]:
    """The hub's errors as ModelMissing, each with the next step."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, kind = repository.id, repository.kind
    absent = f"{name} is not on this machine, or not whole,"
    instead = repository.instead
    try:
        yield
    except GatedRepoError as error:
        raise ModelMissing(f"{name} is gated: accept its licence at {repository.page}, then `hf auth login`") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        place = "folder" if kind == "model" else "file"
        raise ModelMissing(
            f"'{name}' is neither a {place} here nor a {kind} on the hub (a private one needs `hf auth login`)"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelMissing(f"{name} has no revision {repository.revision} on the hub") from error
    except HfHubHTTPError as error:
        raise ModelMissing(
            f"{absent} and the hub answered {error.response.status_code}; run `{repository.fetch}` later{instead}"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ModelMissing(
            f"{absent} and HF_HUB_OFFLINE is set; unset it, or run `{repository.fetch}` where the hub can be reached{instead}"
        ) from error
    except (OSError, HTTPError) as error:
        raise ModelMissing(
            f"{absent} and the hub cannot be reached; run `{repository.fetch}` where it can{instead}"
        ) from error


def state() -> Literal["reachable", "unreachable", "offline mode"]:
    """Whether it answers, asked once and for no longer than PATIENCE."""
    from httpx2 import HTTPError
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        within(PATIENCE, lambda: get_session().head(constants.ENDPOINT, timeout=PATIENCE))
    except OfflineModeIsEnabled:
        return "offline mode"
    except (OSError, HTTPError):
        return "unreachable"
    return "reachable"


def has_token() -> bool:
    """Whether `hf auth login` or HF_TOKEN has left a token; the hub is not asked whether it is good."""
    from huggingface_hub import get_token

    return get_token() is not None
