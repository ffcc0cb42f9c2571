"""Prompts: cleaned, in order, each once; the last held out; a hub dataset is read once and then lives in the run."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants as constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import snapshot_download

from aifeedback_dpo import config, prompts
from aifeedback_dpo.errors import DataError, ModelMissing, UserError
from aifeedback_dpo.store import Run
from tests.fake_hub import COMMIT, serving

SHARED = Path(__file__).parents[3] / "shared" / "data" / "prompts"
MESSY = ["a cat", "  a   dog ", "a cat", "", "a\tcat", "a fox", "a hen", "a cow"]
CLEAN = ["a cat", "a dog", "a fox", "a hen", "a cow"]


def run_of(folder: Path, source: Path | str, **settings: object) -> Run:
    recipe = config.load(
        {
            "extends": "shapes",
            "name": "test",
            "prompts": {"source": str(source), "train": 2, "eval": 2, **settings},
        }
    )
    return Run(folder / "run", recipe)


def write(path: Path, texts: list[str | None], column: str = "prompt") -> Path:
    """The same prompts in the format that the name says, beside a column of something else."""
    if path.suffix == ".txt":
        path.write_text("\n".join(text or "" for text in texts))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"n": [1, {}], column: text}) for text in texts) + "\n\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"n": range(len(texts)), column: texts}), path)
    elif path.suffix == ".csv":
        path.write_text(f"n,{column}\n" + "".join(f'1,"{text or ""}"\n' for text in texts), encoding="utf-8-sig")
    else:
        path.write_text(f"n\t{column}\n" + "".join(f"1\t{(text or '').replace(chr(9), ' ')}\n" for text in texts))
    return path


@pytest.mark.parametrize("suffix", ["txt", "tsv", "csv", "jsonl", "parquet"])
def test_every_format_gives_the_same_prompts_and_holds_out_the_last(tmp_path, suffix):
    found = prompts.read(run_of(tmp_path, write(tmp_path / f"mine.{suffix}", [*MESSY])))
    assert found.train == CLEAN[:2]
    assert found.eval == CLEAN[-2:]
    assert found.source == f"mine.{suffix}"


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_an_unknown_column_names_the_ones_that_are_there(tmp_path, suffix):
    path = write(tmp_path / f"mine.{suffix}", [*MESSY], column="Prompt")
    with pytest.raises(UserError, match=rf"prompts\.column is 'prompt'; .*mine\.{suffix} has n, Prompt"):
        prompts.read(run_of(tmp_path, path))
    assert prompts.read(run_of(tmp_path, path, column="Prompt")).train == CLEAN[:2]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_missing_prompt_is_no_prompt(tmp_path, suffix):
    path = write(tmp_path / f"mine.{suffix}", [None, *MESSY])
    assert prompts.read(run_of(tmp_path, path)).train == CLEAN[:2]


def test_a_quotation_mark_is_a_character_in_a_tsv_and_quotes_in_a_csv(tmp_path):
    (tmp_path / "a.tsv").write_text('prompt\n"Wanderers"\na sign that says "no\none\ntwo\n')
    assert prompts.read(run_of(tmp_path, tmp_path / "a.tsv")).train == ['"Wanderers"', 'a sign that says "no']
    (tmp_path / "a.csv").write_text('prompt\n"one, ""two"""\n"of\ntwo lines"\nx\ny\n')
    assert prompts.read(run_of(tmp_path, tmp_path / "a.csv")).train == ['one, "two"', "of two lines"]


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.jsonl", b'{"prompt": "a cat"}\n{"prompt": \n', DataError, "no JSON on line 2"),
        ("a.jsonl", b'["a cat"]\n', DataError, "line 1 of .* is no object"),
        ("a.jsonl", b'{"prompt": 5}\n', UserError, "holds int"),
        ("a.parquet", b"PAR1 but no more", DataError, r"a\.parquet cannot be understood"),
        ("a.csv", b"", UserError, "has no columns"),
        ("a.json", b'["a cat", "a dog"]', UserError, r"ends in \.json; give a \.txt .* \.jsonl"),
        ("a.txt", b"caf\xe9\n", UserError, "is not UTF-8 text: .* at byte 3"),
        ("a.txt", b"one\ntwo\nthree\none\n", UserError, "has 3 different prompts; .* asks for 4"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, name, content, kind, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=words) as error:
        prompts.read(run_of(tmp_path, tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["absent.txt", "some/absent.parquet", "one/two/three", "just-a-name", "."])
def test_a_file_that_is_not_there_says_what_a_source_may_be(tmp_path, source):
    with pytest.raises(UserError, match=r"cannot be read .*give `shapes`, a text file"):
        prompts.read(run_of(tmp_path, source))


def test_the_parti_prompts_are_all_there():
    path = SHARED / "PartiPrompts.tsv"
    if not path.exists():
        pytest.skip("needs ../shared/data/prompts/PartiPrompts.tsv")
    run = run_of(path.parent, path, column="Prompt", train=1000, eval=632)
    found = prompts.read(run)
    assert (len(found.train), len(found.eval)) == (1000, 632)
    assert found.train[:2] == ["bond", "element"]
    assert any('The Rumbury Wanderers"' in text for text in (*found.train, *found.eval))


# -- datasets of the hub ---------------------------------------------------------------------------------------------


def parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


DATASET = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/train-00000-of-00001.parquet": parquet(prompt=MESSY, picture=[b"bytes"] * len(MESSY)),
}


COMMITTING = """
import sys
from pathlib import Path
from aifeedback_dpo import prompts
from tests.unit.test_prompts import run_of
run = run_of(Path(sys.argv[1]), "team/prompts")
assert prompts.at_hand(run) is None
prompts.commit(run, prompts.read(run))
"""


@pytest.mark.slow
def test_a_dataset_of_the_hub_is_read_at_one_commit_and_then_lives_in_the_run(tmp_path):
    with serving() as served:
        served.repositories["datasets/team/prompts"] = DATASET
        place = {"HF_ENDPOINT": served.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        shown = subprocess.run(
            [sys.executable, "-c", COMMITTING, tmp_path],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **place},
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr
        about = [question for question in served.asked if "team/prompts" in question]
        assert about[0] == "GET /api/datasets/team/prompts"
        assert all(COMMIT in question for question in about[1:])
    run = run_of(tmp_path, "team/prompts")  # from here on there is no hub
    found = prompts.read(run)
    assert (found.train, found.eval) == (CLEAN[:2], CLEAN[2:4])  # the first four; the fifth was never asked for
    assert found.source == f"team/prompts@{COMMIT}"
    assert {row["source"] for row in run.rows("prompts")} == {found.source}
    before = run.parts("prompts")[0].read_bytes()
    prompts.commit(run, prompts.read(run))
    assert run.parts("prompts")[0].read_bytes() == before
    run.parts("prompts")[0].unlink()
    with pytest.raises(ModelMissing):  # half of a split is no answer
        prompts.read(run)


def test_a_dataset_that_was_downloaded_is_read_without_the_hub(tmp_path, online, monkeypatch):
    online.repositories["datasets/team/downloaded"] = DATASET
    snapshot_download("team/downloaded", repo_type="dataset")  # what `hf download` calls
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(online.asked)
    found = prompts.read(run_of(tmp_path, "team/downloaded"))
    assert (found.train, found.eval) == (CLEAN[:2], CLEAN[2:4])
    with pytest.raises(UserError, match=r"prompts\.column is 'caption'; team/downloaded has prompt, picture"):
        prompts.read(run_of(tmp_path, "team/downloaded", column="caption"))
    with pytest.raises(UserError, match=r"split test, cannot be read as a dataset: .*Bad split"):
        prompts.read(run_of(tmp_path, "team/downloaded", split="test"))
    with pytest.raises(UserError, match=r"has 5 different prompts; .* asks for 6"):
        prompts.read(run_of(tmp_path, "team/downloaded", train=4))
    assert len(online.asked) == asked


def test_a_dataset_that_is_not_here_is_one_line_with_the_command(tmp_path, cache):
    with pytest.raises(ModelMissing, match="team/absent is not on this machine") as error:
        prompts.read(run_of(tmp_path, "team/absent"))
    assert "`hf download --repo-type dataset team/absent`" in str(error.value)
    assert "or give prompts.source a file" in str(error.value)


def test_a_dataset_of_which_a_file_is_here_is_not_taken_for_whole(tmp_path, cache):
    snapshot = cache / "datasets--team--part" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("as `datasets` leaves it")
    (cache / "datasets--team--part" / "refs").mkdir()
    (cache / "datasets--team--part" / "refs" / "main").write_text(COMMIT)
    with pytest.raises(ModelMissing, match="team/part is not on this machine, or not whole"):
        prompts.read(run_of(tmp_path, "team/part"))


def test_a_dataset_that_is_unknown_is_told(tmp_path, online):
    with pytest.raises(ModelMissing, match="'team/absent' is neither a file here nor a dataset on the hub"):
        prompts.read(run_of(tmp_path, "team/absent"))


def test_a_gated_dataset_is_told_with_the_page_of_its_licence(tmp_path, online, monkeypatch):
    """`datasets` has its own address of the hub from when it was imported, so what it raises is put in its place."""

    def refuse(*_: object, **__: object) -> None:
        raise DatasetNotFoundError("Dataset 'team/gated' is a gated dataset on the Hub.")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    online.repositories["datasets/team/gated"] = DATASET
    online.gated.add("datasets/team/gated")
    with pytest.raises(
        ModelMissing, match=r"is gated: accept its licence at https://huggingface.co/datasets/team/gated"
    ):
        prompts.read(run_of(tmp_path, "team/gated"))
