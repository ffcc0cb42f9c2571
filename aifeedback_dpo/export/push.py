"""Uploading an exported folder to the hub as a dataset. What can fail is asked first, before anything is written here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aifeedback_dpo import hub
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.export.card import TAG
from aifeedback_dpo.hub import Repository

NAME = r"[\w.-]+/[\w.-]+"
OURS = ["data/*", "README.md", "chosen/*", "rejected/*", "images/*", "metadata.jsonl", "tasks.json", "config.xml"]
"""What an export may have put there before, and the next one replaces; any other file of the repository stays."""


def prepare(name: str, *, private: bool) -> Repository:
    """The dataset of the hub, made where it is not there yet.

    Raises UserError for a name that is none, for a dataset that holds something else, and for a public one where a private one
    was asked for; ModelMissing where the hub cannot be reached, or does not let this user write there.
    """
    from huggingface_hub import HfApi

    if not re.fullmatch(NAME, name):
        raise UserError(f"--push-to-hub {name} is no OWNER/NAME")
    repository = Repository(name, kind="dataset")
    with _explained(repository, "nothing was written"):
        HfApi().create_repo(name, repo_type="dataset", private=private or None, exist_ok=True)
        there = HfApi().dataset_info(name, timeout=hub.PATIENCE)
    others = [file.rfilename for file in there.siblings or [] if file.rfilename != ".gitattributes"]
    if others and TAG not in (there.tags or []):
        raise UserError(f"{repository.page} holds files that are no export of ddpo ({others[0]}); choose another name")
    if private and not there.private:
        raise UserError(
            f"{repository.page} is there and public; choose another name, or make it private in its settings"
        )
    return repository


def push(repository: Repository, folder: Path, message: str) -> str:
    """Uploads the folder in the place of an earlier export, and gives the page's address.

    Raises ModelMissing, with the command that goes on, where that fails.
    """
    from huggingface_hub import HfApi

    again = f"{folder} is whole; upload it by `hf upload --repo-type dataset {repository.id} {folder}`"
    with _explained(repository, again):
        HfApi().upload_folder(
            repo_id=repository.id, repo_type="dataset", folder_path=folder, delete_patterns=OURS, commit_message=message
        )
    return repository.page


@contextmanager
def _explained(repository: Repository, state: str) -> Iterator[None]:
    """The hub's refusals of an upload in one line each; `state` says what is here now."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    name = repository.id
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ModelMissing(f"cannot upload to {name}: HF_HUB_OFFLINE is set; unset it. {state}") from error
    except LocalTokenNotFoundError as error:
        raise ModelMissing(f"cannot upload to {name} without a token; `hf auth login` first. {state}") from error
    except HFValidationError as error:
        raise UserError(f"'{name}' is no name of a dataset: {' '.join(str(error).split())[:160]}") from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        way = "`hf auth login` with a token that may write there" if code in (401, 403, 404) else "try again later"
        raise ModelMissing(f"cannot upload to {name}: the hub answered {code}; {way}. {state}") from error
    except (OSError, HTTPError) as error:
        raise ModelMissing(f"cannot upload to {name}: the hub cannot be reached. {state}") from error
