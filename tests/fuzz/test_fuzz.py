"""What others made, damaged: readers raise a DdpoError or read it, and never anything else.

The long search is `python -m tests.fuzz`; here are some hundred mutations of valid inputs, the same ones in each run, and what
that search and reading have found.
"""

import json
import random
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.sources import labels
from tests.fuzz import targets

TIMES = {"image": 2000, "part": 600, "recipe": 30, "description": 80, "document": 30, "archive": 200}
DEEP = b"[" * 100_000
CALLS_ITSELF_TOO_OFTEN = b"[" * 3000 + b"]" * 3000
BILLION = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 10)) for letter in b"bcdefghij"
)


def mutations(seeds: list[bytes], count: int) -> Iterator[bytes]:
    """Truncated, flipped, spliced with another, a stretch doubled or taken out; one to three of these each."""
    draw = random.Random(0)
    for _ in range(count):
        data = draw.choice(seeds)
        for _ in range(draw.randint(1, 3)):
            at, to = sorted(draw.choices(range(len(data) + 1), k=2))
            to = min(to, at + 64)
            data = draw.choice(
                [
                    data[: max(1, at)],
                    data[:at] + bytes(byte ^ 1 << draw.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :],
                    data[:at] + draw.choice(seeds)[at:],
                    data[:to] + data[at:],
                    data[:at] + data[to:],
                    data[:at] + draw.choice([b"\x00", b"\xff" * 4, b"-1", b"1e999", b"null", b"\\ud800"]) + data[at:],
                ]
            )
        yield data


@pytest.mark.filterwarnings("ignore")  # of the libraries, on damaged files
@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_is_damaged_is_read_or_refused_in_one_line(name: str) -> None:
    target, seeds = targets.TARGETS[name]
    valid = seeds()
    for data in [*valid, b"", *mutations(valid, TIMES[name])]:
        target(data)


def test_the_same_damage_is_done_in_every_run() -> None:
    assert list(mutations([b"a picture"], 20)) == list(mutations([b"a picture"], 20))


@pytest.mark.parametrize(
    "text",
    [
        b"about: " + DEEP,  # libyaml composes by recursion: this was the end of the process
        b"about: " + CALLS_ITSELF_TOO_OFTEN,
        BILLION,
        b"a: &a [*a]\n",
        b"\r000",  # a bare number
        b"extends: recipe.yaml\n",
        b"about: ${about}\n",
        b"seed: " + b"9" * 5000,
        b"\0train.beta=" + DEEP,
        b"\0train.seeds[0]=3",
    ],
    ids=range(10),
)
def test_no_recipe_takes_the_process_down(text: bytes) -> None:
    targets.recipe(text)
    with pytest.raises(UserError), targets.folder() as there:
        (there / "recipe.yaml").write_bytes(text.split(b"\0")[0])
        overrides = [item.decode() for item in text.split(b"\0")[1:]]
        targets.config.load("shapes" if overrides else there / "recipe.yaml", overrides)


def hpdv2(**said: Any) -> bytes:
    row = {"prompt": "a cat", "file_path": ["images/1.png", "images/2.png"], "human_preference": [1, 0], **said}
    return b"\0" + json.dumps([row]).encode()


def folders(**said: Any) -> bytes:
    return bytes([10]) + json.dumps({"id": "a", "prompt": "a cat", **said}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"\0" + b'[{"prompt":' + DEEP,  # took memory by the square of the depth
        hpdv2(human_preference="[" * 100_000),
        hpdv2(human_preference=[10**400, 0]),
        hpdv2(prompt="\ud800"),
        folders(votes=10**400),
        folders(prompt="half a pair \ud800"),
        folders(chosen_model="\ud800"),
        bytes([10]) + DEEP,
        bytes([10]) + b"\xff\xfe",
        b"\4" + b'{"prompt":' + DEEP,
    ],
    ids=range(10),
)
def test_no_set_takes_the_process_down(data: bytes) -> None:
    targets.document(data)


def headed(size: int, kind: bytes = tarfile.REGTYPE, real_size: int = 0) -> bytes:
    """A tar of one member that claims so many bytes; a sparse one also claims how many it has unpacked."""
    member = tarfile.TarInfo("1.png")
    member.size, member.type = size, kind
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[483:495] = b"\x80" + real_size.to_bytes(11, "big")
    head[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(head))[0]
    return bytes(head) + bytes(2048)


@pytest.mark.parametrize(
    "data",
    [headed(2**63 - 2), headed(2**63 - 1025), headed(2**40), headed(-1024), headed(0, tarfile.GNUTYPE_SPARSE, 2**60)],
    ids=range(5),
)
def test_no_tar_is_believed_about_its_sizes(data: bytes) -> None:
    targets.archive(data)


def test_a_label_that_no_float_or_list_can_hold_is_no_label() -> None:
    with pytest.raises(labels.NotALabel, match="is no number"):
        labels.number(10**400)
    with pytest.raises(labels.NotALabel, match="is no list"):
        labels.listed("[" * 100_000)
