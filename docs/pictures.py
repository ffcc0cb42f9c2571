"""The documentation's pictures of the demo: candidates, what each policy draws, and the top of the report.

ddpo demo
python docs/pictures.py runs/shapes        # the report's needs Chromium
"""

import io
import shutil
import sys
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

DOCS = Path(__file__).parent
PROMPTS, COLUMNS = 8, 2
SIDE, LINE, GAP = 96, 26, 8
POLICIES = ("base", "human-seed-0", "pickscore-seed-0", "random-seed-0")

Row = tuple[str, list[bytes]]


def candidates(run: Path) -> list[Row]:
    """Of the first prompts, what `ddpo generate` drew."""
    prompts, drawn = _prompts(run), _drawn(run, "base")
    drawn = drawn[drawn["prompt_id"].map(prompts["split"]) == "train"]
    groups = [(name, list(group["picture"])) for name, group in drawn.groupby("prompt_id", sort=False)]
    return [(prompts["prompt"][name], pictures) for name, pictures in groups[:PROMPTS]]


def policies(run: Path) -> list[Row]:
    """Of the first held-out prompts, the picture of each policy, from the same noise."""
    prompts = _prompts(run)
    drawn = [_drawn(run, policy).groupby("prompt_id", sort=False)["picture"].first() for policy in POLICIES]
    return [(prompts["prompt"][name], [pictures[name] for pictures in drawn]) for name in drawn[1].index[:PROMPTS]]


def sheet(rows: list[Row]) -> Image.Image:
    """The pictures twice as large, each row under its prompt, in two columns of rows."""
    width = max(len(pictures) for _, pictures in rows) * (SIDE + GAP) + GAP
    height = SIDE + LINE + GAP
    drawn = Image.new("RGB", (width * COLUMNS, height * -(-len(rows) // COLUMNS)), "white")
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(14)
    for at, (prompt, pictures) in enumerate(rows):
        left, top = width * (at % COLUMNS) + GAP, height * (at // COLUMNS)
        pen.text((left, top + 6), prompt, fill="black", font=font)
        for number, picture in enumerate(pictures):
            shown = Image.open(io.BytesIO(picture)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            drawn.paste(shown, (left + number * (SIDE + GAP), top + LINE))
    return drawn


def report(run: Path, chromium: str) -> bytes:
    """The top of the report, as a desktop shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 860})
        page.goto((run / "report" / "index.html").resolve().as_uri())
        return page.screenshot()


def _prompts(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "prompts").set_index("prompt_id")


def _drawn(run: Path, policy: str) -> pd.DataFrame:
    drawn = pd.read_parquet(run / "images" / policy, columns=["prompt_id", "image"])
    return drawn.assign(picture=drawn["image"].map(lambda image: image["bytes"]))


if __name__ == "__main__":
    run = Path(sys.argv[1])
    sheet(candidates(run)).save(DOCS / "candidates.png", optimize=True)
    sheet(policies(run)).save(DOCS / "policies.png", optimize=True)
    if chromium := shutil.which("chromium") or shutil.which("google-chrome"):
        (DOCS / "report-demo.png").write_bytes(report(run, chromium))
