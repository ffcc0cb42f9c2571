"""A run made by hand to vote on, and a study of it: pictures that carry metadata, of a policy whose name must never show."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from starlette.testclient import TestClient

from aifeedback_dpo import config, records
from aifeedback_dpo.annotate import page, pictures, study
from aifeedback_dpo.annotate.assignment import Assignment, Turn
from aifeedback_dpo.annotate.guard import Invitations
from aifeedback_dpo.annotate.journal import Journal
from aifeedback_dpo.annotate.study import Study
from aifeedback_dpo.store import Run

SECRET_POLICY = "policy-nobody-may-see"
ADDRESS = "http://127.0.0.1:8008"
AWAY = 3600.0


def write(root: Path, pairs: int = 6, sizes: Sequence[tuple[int, int]] = ((48, 48),), raters: str = "null") -> Run:
    """A run of so many prompts, with one pair each; pictures of these sizes in turn."""
    run = Run(root, config.load("shapes", [f"label.raters={raters}", f"prompts.train={pairs}"]))
    prompts = [f"picture number {number} & <b>bold</b>" for number in range(pairs)]
    run.commit(
        "prompts",
        [
            {"prompt_id": records.prompt_id(text), "prompt": text, "split": "train", "source": "here"}
            for text in prompts
        ],
        "000000",
    )
    rows, pair_rows = [], []
    for number, text in enumerate(prompts):
        ids = [records.content_id("image", number, side) for side in "ab"]
        for side, image_id in enumerate(ids):
            size = sizes[(2 * number + side) % len(sizes)]
            rows.append(_image(image_id, text, size, seed=2 * number + side))
        pair = {"pair_id": records.pair_id(*ids), "image_a": ids[0], "image_b": ids[1], "chosen_by": "all"}
        pair_rows.append({"prompt_id": records.prompt_id(text), **pair})
    run.commit("images", rows, "000000", "base")
    run.commit("pairs", pair_rows, "000000")
    run.write_text(root / "recipe.yaml", config.dump(run.recipe))
    return run


def _image(image_id: str, prompt: str, size: tuple[int, int], seed: int) -> dict[str, object]:
    return {
        "image_id": image_id,
        "prompt_id": records.prompt_id(prompt),
        "image": {"bytes": photograph(size, seed), "path": None},
        "pixel_sha256": "",
        "policy": SECRET_POLICY,
        "model": SECRET_POLICY,
        "revision": SECRET_POLICY,
        "seed": seed,
        "steps": 1,
        "guidance": 1.0,
        "scheduler": "none",
        "width": size[0],
        "height": size[1],
    }


def photograph(size: tuple[int, int], seed: int) -> bytes:
    """A smooth picture as PNG, with the policy's name in its EXIF and in a text chunk."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    waves = [np.sin(6 * x * (1 + seed % 3) + at) + np.cos(5 * y * (1 + at) + seed) for at in range(3)]
    image = Image.fromarray(((np.stack(waves, -1) + 2) * 63).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0131] = SECRET_POLICY  # Software
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", SECRET_POLICY)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif, pnginfo=text)
    return buffer.getvalue()


class Clock:
    """Time that passes when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Opened:
    """A study with its parts, as the server puts them together."""

    run: Run
    journal: Journal
    study: Study
    clock: Clock
    assignment: Assignment

    def vote(self, name: str, choice: str = "left", milliseconds: int | None = 1500) -> Turn:
        """What somebody answers to the pair before them."""
        showing = self.assignment.turn(name).showing
        assert showing is not None
        return self.assignment.answer(name, showing.token, choice, milliseconds)

    def restart(self) -> None:
        """A new process, which knows only the journal."""
        self.journal.close()
        self.journal = Journal(self.journal.path)
        self.assignment = Assignment(self.journal, self.study, sorted(self.run.done("pairs")), self.clock)

    def client(self, name: str | None, blur: bool = False, instructions: str = "Choose.") -> TestClient:
        """A browser that has opened its link, or none."""
        people = Invitations(str(self.journal.setting("secret")), self.journal.annotators())
        shown = pictures.Pictures(self.run, pictures.of_run(self.run))
        look = page.Look(instructions, blur)
        client = TestClient(page.build(self.assignment, shown, people, ["localhost"], look), ADDRESS)
        if name:
            client.get("/", params={"token": people.link(name)}, follow_redirects=False)
            client.post("/consent", follow_redirects=False)
        return client


@contextmanager
def opened(run: Run, *names: str, **settings: float | None) -> Iterator[Opened]:
    """A study of a run, with these people."""
    journal = Journal(run.root / "annotate" / "votes.sqlite")
    try:
        chosen = Study(**{"seed": 0, "repeats": 0.0, **settings})
        if journal.study() is None:
            journal.begin(study.settings(chosen))
        journal.invite(names)
        clock = Clock()
        there = Opened(run, journal, chosen, clock, Assignment(journal, chosen, sorted(run.done("pairs")), clock))
        yield there
        journal = there.journal
    finally:
        journal.close()
