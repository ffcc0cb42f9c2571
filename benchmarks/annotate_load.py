"""Twenty people at the voting page at once, and a kill in the middle: is any vote lost that the page confirmed?

    python benchmarks/annotate_load.py [--seconds 60] [--people 20] [--think 0] [--side 512]

Starts `ddpo annotate` in a process of its own on a run of synthetic pictures, lets each person fetch both pictures of the
next pair and vote, kills the server with SIGKILL after half the time, starts it again on the same port, and in the end
compares what was confirmed with the journal.
"""

import argparse
import http.client
import itertools
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
from PIL import Image

from aifeedback_dpo import config, records
from aifeedback_dpo.annotate.journal import Journal
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.store import Run

PROMPTS, CANDIDATES = 10, 40
ANSWERS = ("left", "right", "tie", "both_bad")


def write(root: Path, side: int) -> Run:
    """Ten prompts of forty pictures each, and every pair of them."""
    run = Run(root, config.load("shapes", ["label.raters=null"]))
    prompts = [f"synthetic prompt number {number}" for number in range(PROMPTS)]
    rows = [{"prompt_id": records.prompt_id(t), "prompt": t, "split": "train", "source": "synthetic"} for t in prompts]
    run.commit("prompts", rows, "000000")
    pairs = []
    for number, text in enumerate(prompts):
        ids = [records.content_id("image", number, candidate) for candidate in range(CANDIDATES)]
        images = [picture(side, number * CANDIDATES + candidate) for candidate in range(CANDIDATES)]
        about = {"prompt_id": records.prompt_id(text), "width": side, "height": side}
        rows = [
            {"image_id": name, "image": {"bytes": data, "path": None}, **about}
            for name, data in zip(ids, images, strict=True)
        ]
        run.commit("images", rows, f"{number:06d}")
        pairs += [
            {"pair_id": records.pair_id(a, b), "prompt_id": records.prompt_id(text), "image_a": a, "image_b": b}
            for a, b in itertools.combinations(ids, 2)
        ]
    run.commit("pairs", pairs, "000000")
    run.write_text(root / "recipe.yaml", config.dump(run.recipe))
    return run


def picture(side: int, seed: int) -> bytes:
    """Smooth waves with a little grain, as hard to compress as a photograph."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = np.stack([np.sin(random.uniform(2, 12) * x + random.uniform(2, 12) * y) for _ in range(3)], -1)
    return encode_image(
        Image.fromarray((128 + 90 * waves + random.normal(0, 4, waves.shape)).clip(0, 255).astype(np.uint8))
    )


def start(run: Run, people: int, port: int) -> tuple[subprocess.Popen[str], list[str]]:
    """The server, and everyone's link."""
    names = [argument for number in range(people) for argument in ("--annotator", f"person {number:02d}")]
    where = ["--run", str(run.root), "--port", str(port), "--no-open"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aifeedback_dpo", "annotate", *where, "--overlap", str(people), *names],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    links: list[str] = []
    while len(links) < people:
        links += re.findall(r"http://\S+", process.stdout.readline())
    return process, links


class Person(threading.Thread):
    """Fetches the pictures of the next pair and votes, again and again; after a broken connection tries again."""

    def __init__(self, link: str, think: float, over: threading.Event) -> None:
        super().__init__()
        self.at, self.link, self.think, self.over = urlsplit(link), link, think, over
        self.confirmed: list[str] = []
        self.latencies: list[float] = []
        self.errors = 0
        self._cookie = ""
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        ask = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}
        html, fetched, number, consented = "", set[str](), 0, False
        while not self.over.is_set():
            try:
                if not self._cookie:
                    self._cookie = self._ask("GET", f"/?{self.at.query}")[1].split(";")[0]
                if not consented:
                    self._ask("POST", "/consent", "", ask)
                    consented = True
                html = html or self._ask("GET", "/")[0]
                tokens = re.findall(r'data-(?:showing|ahead)="([^"]+)"', html)
                if "data-showing" not in html:
                    return
                for token in tokens:
                    if token not in fetched:
                        fetched.add(token)
                        for side in ("left", "right"):
                            self._ask("GET", f"/picture/{token}/{side}")
                self.over.wait(self.think)
                form = {"showing": tokens[0], "answer": ANSWERS[number % 4], "milliseconds": 1000}
                began = time.perf_counter()
                html = self._ask("POST", "/vote", urlencode(form), ask)[0]
                self.latencies.append(time.perf_counter() - began)
                self.confirmed.append(tokens[0])
                number += 1
            except (OSError, http.client.HTTPException):
                self.errors += 1
                self._connection, html = None, ""
                self.over.wait(0.1)

    def _ask(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> list[str]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.at.hostname or "", self.at.port, timeout=30)
        self._connection.request(method, path, body, {**(headers or {}), "Cookie": self._cookie})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise http.client.HTTPException(answer.status)
        text = data.decode() if answer.headers["Content-Type"] != "image/webp" else ""
        return [text, answer.headers.get("Set-Cookie", "")]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--think", type=float, default=0.0, help="seconds between seeing a pair and voting")
    parser.add_argument("--side", type=int, default=512)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write(Path(folder) / "run", asked.side)
        process, links = start(run, asked.people, 0)
        over = threading.Event()
        people = [Person(link, asked.think, over) for link in links]
        for person in people:
            person.start()
        time.sleep(asked.seconds / 2)
        process.kill()
        process.wait()
        killed = time.perf_counter()
        at_kill = sum(len(person.confirmed) for person in people)
        process, _ = start(run, asked.people, urlsplit(links[0]).port or 0)
        away = time.perf_counter() - killed
        time.sleep(asked.seconds / 2)
        over.set()
        for person in people:
            person.join()
        process.send_signal(signal.SIGTERM)
        process.wait()
        journal = Journal(run.root / "annotate" / "votes.sqlite")
        answered = {showing.token for showing in journal.showings() if showing.answer}
        exported = run.read("votes", ["pair_id"]).num_rows
        journal.close()
    confirmed = {token for person in people for token in person.confirmed}
    latencies = sorted(latency * 1000 for person in people for latency in person.latencies)
    p95 = latencies[int(0.95 * len(latencies))]
    print(f"{asked.people} people, think time {asked.think:g} s, {asked.side} px, {asked.seconds:g} s of service")
    print(f"votes: {len(confirmed)}, {len(confirmed) / asked.seconds:.0f} a second; {at_kill} before the kill")
    print(f"vote confirmed after: median {statistics.median(latencies):.0f} ms, p95 {p95:.0f} ms")
    print(f"killed once, back after {away:.1f} s; requests that failed meanwhile: {sum(p.errors for p in people)}")
    print(f"confirmed and not in the journal: {len(confirmed - answered)}; in the journal {len(answered)}")
    print(f"votes exported, repeats left out: {exported}")


if __name__ == "__main__":
    main()
