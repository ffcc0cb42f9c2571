"""Uploading: what can fail is asked before anything is written, and nothing of others is written over or made public."""

from types import SimpleNamespace
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.export import push


class Api:
    """The hub's answers, and what was asked of it."""

    asked: ClassVar[list[tuple[str, dict]]] = []
    there: ClassVar[SimpleNamespace] = SimpleNamespace()
    refuses: ClassVar[Exception | None] = None

    def create_repo(self, name: str, **options: object) -> None:
        Api.asked.append((name, options))
        if Api.refuses:
            raise Api.refuses

    def dataset_info(self, name: str, **_: object) -> SimpleNamespace:
        return Api.there

    def upload_folder(self, **options: object) -> None:
        Api.asked.append(("upload", options))
        if Api.refuses:
            raise Api.refuses


@pytest.fixture(autouse=True)
def _hub(monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(Api, "asked", [])
    monkeypatch.setattr(Api, "there", SimpleNamespace(private=False, siblings=[file(".gitattributes")], tags=[]))
    monkeypatch.setattr(Api, "refuses", None)


def file(name: str) -> SimpleNamespace:
    return SimpleNamespace(rfilename=name)


def refusal(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("refused", response=SimpleNamespace(status_code=status, headers={}, request=None))


def test_a_dataset_is_made_and_the_folder_uploaded_in_the_place_of_an_earlier_export(tmp_path):
    page = push.push(push.prepare("team/set", private=False), tmp_path, "7 pairs")

    made, uploaded = Api.asked
    assert made == ("team/set", {"repo_type": "dataset", "private": None, "exist_ok": True})
    assert uploaded[1]["repo_id"] == "team/set"
    assert uploaded[1]["repo_type"] == "dataset"
    assert uploaded[1]["folder_path"] == tmp_path
    assert "data/*" in uploaded[1]["delete_patterns"]
    assert page == "https://huggingface.co/datasets/team/set"


def test_a_private_one_is_made_private():
    Api.there.private = True
    push.prepare("team/set", private=True)

    assert Api.asked[0][1]["private"] is True


def test_a_public_one_is_not_filled_where_a_private_one_was_asked_for():
    with pytest.raises(UserError, match="is there and public"):
        push.prepare("team/set", private=True)


def test_a_dataset_of_other_files_is_refused_and_an_earlier_export_is_not():
    Api.there.siblings = [file("data/train-00000.parquet")]
    with pytest.raises(UserError, match=r"holds files that are no export of ddpo \(data/train-00000.parquet\)"):
        push.prepare("team/set", private=False)

    Api.there.tags = ["ddpo-export"]
    push.prepare("team/set", private=False)


@pytest.mark.parametrize("name", ["set", "team/set/more", "team/", "https://huggingface.co/datasets/team/set"])
def test_a_name_that_is_none_is_the_users_error_before_the_hub_is_asked(name):
    with pytest.raises(UserError, match="is no OWNER/NAME"):
        push.prepare(name, private=False)
    assert not Api.asked


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (LocalTokenNotFoundError("no token"), "without a token; `hf auth login` first"),
        (refusal(403), "answered 403; `hf auth login` with a token that may write there"),
        (refusal(503), "answered 503; try again later"),
        (OSError("no route"), "the hub cannot be reached"),
    ],
)
def test_a_refusal_is_one_line_with_the_next_step_and_says_that_nothing_was_written(refused, says):
    Api.refuses = refused
    with pytest.raises(ModelMissing, match=says) as caught:
        push.prepare("team/set", private=False)
    assert str(caught.value).endswith("nothing was written")


def test_an_upload_that_breaks_off_names_the_command_that_goes_on(tmp_path):
    repository = push.prepare("team/set", private=False)
    Api.refuses = OSError("reset")

    with pytest.raises(ModelMissing, match=f"hf upload --repo-type dataset team/set {tmp_path}"):
        push.push(repository, tmp_path, "7 pairs")
