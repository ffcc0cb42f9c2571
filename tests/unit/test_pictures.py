"""The report's pictures: the run's bytes once, thumbnails within their budget, and nothing that is not there."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.codec import decode_image, encode_image
from aifeedback_dpo.compare import pictures
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.store import Run
from tests import reports


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def noise(side: int, seed: int = 0) -> Image.Image:
    """The hardest to compress: no neighbour tells anything of a pixel."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def encoded(picture: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def opened(root: Path, stored: dict[str, bytes]) -> Run:
    run = Run(root, config.load("shapes"))
    rows = [
        {"image_id": image, "prompt_id": "p", "model": "m", "seed": 0, "image": {"bytes": data, "path": None}}
        for image, data in stored.items()
    ]
    run.commit("images", rows, "000000", "base")
    return run


def result(*images: str) -> dict:
    cells = [{"policy": "base", "image": image, "scores": {}} for image in images]
    return {"sets": [{"gallery": [{"prompt": "p", "category": None, "images": cells}]}], "judges": None}


A, B, C, D = (digit * 32 for digit in "abcd")


def test_full_pictures_are_the_runs_bytes_under_the_suffix_of_their_format(tmp_path):
    several = encoded(noise(200), "MPO", save_all=True, append_images=[noise(200, 1)])  # as of a camera with two lenses
    stored = {A: encode_image(noise(300)), B: encoded(noise(20), "PNG"), C: encoded(noise(200), "JPEG"), D: several}
    run = opened(tmp_path / "a run #1", stored)

    shown = pictures.write(run, result(A, B, C, D), run.report, Silent())

    for image, name in ((A, f"{A}.webp"), (B, f"{B}.png"), (C, f"{C}.jpg"), (D, f"{D}.jpg")):
        assert (run.root / "pictures" / name).read_bytes() == stored[image]
        assert shown[image].full == f"../pictures/{name}"
        assert shown[image].thumb == f"thumbnails/{image}.webp"
    assert [(one.width, one.small) for one in shown.values()] == [(300, False), (20, True), (200, False), (200, False)]


def test_a_report_elsewhere_links_back_to_the_run_with_its_odd_name_quoted(tmp_path):
    run = opened(tmp_path / "a run #1", {A: encode_image(noise(8))})

    shown = pictures.write(run, result(A), tmp_path / "out" / "deep", Silent())

    assert shown[A].full == f"../../a%20run%20%231/pictures/{A}.webp"
    assert (tmp_path / "out" / "deep" / "thumbnails" / f"{A}.webp").exists()


def test_a_thumbnail_is_never_enlarged_and_at_most_256_pixels(tmp_path):
    run = opened(tmp_path, {A: encode_image(noise(20)), B: encode_image(noise(257).resize((512, 100)))})

    pictures.write(run, result(A, B), run.report, Silent())

    files = [run.report / "thumbnails" / f"{image}.webp" for image in (A, B)]
    sizes = [decode_image(file.read_bytes()).size for file in files]
    assert sizes == [(20, 20), (256, 50)]  # 512 x 100, halved


def test_a_small_picture_keeps_every_pixel():
    small = noise(32)

    assert decode_image(pictures.thumbnail(small, 10_000)).tobytes() == small.tobytes()


@pytest.mark.parametrize("count", [1, 72, 3_000, 8_000])
def test_so_many_pictures_of_noise_stay_within_the_budget(count):
    share = pictures.BUDGET // count

    assert len(pictures.thumbnail(noise(512), share)) * count <= pictures.BUDGET


def test_nothing_is_written_twice_and_thumbnails_of_an_earlier_report_go(tmp_path):
    run = opened(tmp_path, {image: encode_image(noise(16, at)) for at, image in enumerate((A, B))})
    pictures.write(run, result(A, B), run.report, Silent())
    stamps = {path: path.stat().st_ino for path in tmp_path.rglob(f"{A}.*")}
    (run.report / "thumbnails" / "mine.webp").write_bytes(b"")

    pictures.write(run, result(A), run.report, Silent())

    assert len(stamps) == 2
    assert {path: path.stat().st_ino for path in stamps} == stamps
    assert {path.stem for path in (run.report / "thumbnails").iterdir()} == {A, "mine"}
    assert (run.root / "pictures" / f"{B}.webp").exists()


def test_a_thumbnail_too_large_for_more_pictures_is_made_again(tmp_path, monkeypatch):
    run = opened(tmp_path, {A: encode_image(noise(512)), B: encode_image(noise(512, 1))})
    pictures.write(run, result(A), run.report, Silent())
    before = (run.report / "thumbnails" / f"{A}.webp").stat().st_size
    monkeypatch.setattr(pictures, "BUDGET", before)

    pictures.write(run, result(A, B), run.report, Silent())

    assert sum(path.stat().st_size for path in (run.report / "thumbnails").iterdir()) <= before


def test_a_picture_that_is_not_there_or_cannot_be_opened_is_left_out_and_said(tmp_path):
    run = opened(tmp_path, {A: encode_image(noise(8)), B: b"no picture"})
    progress = Noting()

    shown = pictures.write(run, result(A, B, D), run.report, progress)

    assert list(shown) == [A]
    assert any(B in note for note in progress.notes)
    assert any(note.startswith("2 pictures") for note in progress.notes)


def test_a_photograph_on_its_side_is_shown_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    run = opened(tmp_path, {A: encoded(noise(40).resize((300, 200)), "JPEG", exif=exif)})

    for _ in range(2):  # and the second time as well, when its thumbnail is there
        (one,) = pictures.write(run, result(A), run.report, Silent()).values()
        assert (one.width, one.height) == (200, 300)


def test_the_gallery_of_every_set_and_both_sides_in_dispute_are_wanted_once():
    told = reports.example()
    told["sets"].append(told["sets"][0])

    ids = pictures.wanted(told)

    assert len(ids) == len(set(ids)) == 2 * 3 * len(reports.NAMES) + 2 * 2
    assert ids[-4:] == [told["judges"]["disputed"][at][f"image_{side}"] for at in range(2) for side in "ab"]
