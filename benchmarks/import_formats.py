"""What comes of a small set in every published schema: `python benchmarks/import_formats.py`.

The sets are those of tests/published.py, each with the traps of the real one; the tests hold every preference against what was
worked out by hand. Here are the counts: rows in, comparisons in them, and what became of each.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from aifeedback_dpo.cli.app import app
from tests.published import EVERY


def main() -> None:
    """Prints the table."""
    print("| set | imported as | rows | comparisons | decided | ties | unlabelled | cannot be used | pairs | votes |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, made in EVERY.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = made(Path(folder) / "set").arguments
            told = imported(arguments, Path(folder) / "run")
        options = " ".join(word for word in (arguments[0], *arguments[2:]))
        refused = ", ".join(f"{reason} {count}" for reason, count in told["unusable"].items())
        decided = told["first"] + told["second"]
        counts = [told["rows"], told["comparisons"], decided, told["ties"], told["unlabelled"], refused or "none"]
        print(f"| {name} | {options} | {' | '.join(map(str, [*counts, told['pairs'], told['votes']]))} |")


def imported(arguments: tuple[str, ...], run: Path) -> dict[str, dict[str, int]]:
    """What the command line says of the whole set."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        app(["import", *arguments, "--run", str(run), "--json"])
    return dict(json.loads(said.getvalue())["imported"])


if __name__ == "__main__":
    main()
