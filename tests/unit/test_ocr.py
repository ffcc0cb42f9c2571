"""The text score: quoted texts, read texts, and the edits between them, by hand; and the reader on drawn words."""

import logging
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from aifeedback_dpo import scorers
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers import ocr
from aifeedback_dpo.scorers.ocr import legibility, quoted
from aifeedback_dpo.settings import ScorerWeights

pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")

WEIGHTS = ScorerWeights(id="rapidocr")


def drawn(text: str) -> Image.Image:
    picture = Image.new("RGB", (208, 208), "white")
    ImageDraw.Draw(picture).text((32, 40), text, fill="black", font=ImageFont.load_default(48))
    return picture


@pytest.fixture(scope="module")
def scorer():
    return scorers.load("ocr", WEIGHTS)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('a sign that says "HELLO"', ["hello"]),
        ('"Open  Daily" above "9 to 5"', ["opendaily", "9to5"]),
        ("a sign “Hello”, „Hallo“ and «Salut»", ["hello", "hallo", "salut"]),
        ('写着"你好"的牌子', ["你好"]),
        ("a sign that says hello", []),
        ("it's the cat's", []),
        ('an empty "" and a blank " "', []),
        ('an open " quote', []),
        ('a 12" pizza and a 9" plate', []),
    ],
)
def test_what_is_quoted_is_wanted_in_lower_case_without_white_space(prompt, texts):
    assert quoted(prompt) == texts


@pytest.mark.parametrize(
    ("wanted", "read", "score"),
    [
        ("hello", ["hello"], 1),
        ("hello", ["say", "hellothere"], 1),
        ("opendaily", ["open", "daily"], 1),  # two reads, joined in order
        (
            "opendaily",
            ["daily", "open"],
            1 - 4 / 9,
        ),  # the nearest is `daily`, 4 letters short; joined, all but a letter is out of place
        ("opendaily", ["open", "daly"], 1 - 1 / 9),  # the nearest is both, an i short
        ("hello", ["help"], 1 - 2 / 5),  # p to l, and an o
        ("help", ["hello"], 1 - 2 / 4),  # l to p, and no o
        ("abc", ["xyzuvw"], 0),  # six edits, not below 0
        ("hello", [], 0),  # five edits to nothing
    ],
)
def test_legibility_is_one_minus_the_edits_a_letter(wanted, read, score):
    assert legibility(wanted, read) == pytest.approx(score)


def test_drawn_words_are_read(scorer):
    hello, empty = drawn("HELLO"), drawn("")
    prompts = [
        'a sign that says "Hello"',
        'a sign that says "help"',
        'a sign that says "hello" and "help"',
        'a sign that says "hello"',
        "a sign",
    ]
    scored = scorer.score([hello, hello, hello, empty, hello], prompts)
    assert scored.dtype == np.float32
    assert scored == pytest.approx([1.0, 0.5, 0.75, 0.0, np.nan], nan_ok=True)


def test_words_below_one_another_are_read_in_order(scorer):
    assert scorer.score([drawn("OPEN\nDAILY")], ['"open daily"']) == 1.0


def test_what_is_read_with_little_confidence_is_not_read(scorer, monkeypatch):
    class Unsure:
        txts, scores = ("HELLO", "WORLD"), (0.79, 0.81)

    monkeypatch.setattr(scorer, "reader", lambda picture: Unsure)
    assert scorer.score([drawn("")], ['"world"']) == 1.0
    assert scorer.score([drawn("")], ['"hello"']) == pytest.approx(1 - 4 / 5)  # only the l of `world` is in its place


def test_a_reader_that_fails_is_no_score(scorer, monkeypatch):
    def fail(picture):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(scorer, "reader", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        scorer.score([drawn("")], ['"hello"'])


def test_weights_of_its_own_are_refused_as_it_has_none_to_choose_from():
    with pytest.raises(UserError, match=r"ocr takes no weights, and id is '/models/ocr'; .* 'rapidocr'"):
        scorers.load("ocr", ScorerWeights(id="/models/ocr"))


def test_a_change_of_arithmetic_is_another_recipe(scorer, monkeypatch):
    monkeypatch.setattr(ocr, "VERSION", 0)
    assert scorers.load("ocr", WEIGHTS).recipe != scorer.recipe


def test_the_reader_is_silent(scorer, capfd):
    scorer.score([drawn("")], ['"hello"'])
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("RapidOCR").isEnabledFor(logging.ERROR)


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime", "rapidfuzz"])
def test_without_the_extra_the_command_that_installs_it_is_given(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'{package}.*pip install "aifeedback_dpo\[ocr\]"'):
        scorers.load("ocr", WEIGHTS)
