"""Whether a run is sound: every part, picture, reference and policy, without torch, and without a byte written.

    tables.py    each part opens and is of this schema and version; in rows.py, what its rows must be
    linked.py    what one table names is in the other; the same id twice is the same row
    pictures.py  each picture opens, at its stated size and with its stated pixels
    policies.py  policies are described, and their weights are there
    files.py     manifest, imports, the journal of votes, what training keeps
    whole.py     a file is whole, by what its format says of itself

Memory stays flat: a part at a time, and of what was seen the ids alone, packed.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aifeedback_dpo import config, engine
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.records import IMPORTED, TABLES
from aifeedback_dpo.store import Run, saved_recipe
from aifeedback_dpo.verify import files, policies, tables
from aifeedback_dpo.verify.findings import Fault, Findings

__all__ = ["Fault", "Findings", "verify"]

MENDS_RECIPE = (
    "Restore it, or delete it and run the last command again with --run {root}, --recipe and settings as they were"
)


def verify(root: Path, progress: engine.Progress, *, quick: bool = False) -> Findings:
    """All that is wrong in a run, and in the runs of a study. `quick` opens no picture.

    Raises UserError for a folder that is no run.
    """
    if not (root / "recipe.yaml").exists():
        raise UserError(f"{root} is not a run; `ddpo generate` makes one")
    found = Findings()
    arms = _run(root, found, progress, quick=quick)
    for arm in arms:
        if (arm / "recipe.yaml").exists():
            _run(arm, found, progress, quick=quick)
    return found


def _run(root: Path, found: Findings, progress: engine.Progress, *, quick: bool) -> list[Path]:
    """Checks one run, and gives the runs of the study that it is."""
    recipe = None
    try:
        recipe = saved_recipe(root)
    except DataError as error:
        said = str(error).removeprefix(f"{root / 'recipe.yaml'}: ").splitlines()[0]
        found.fault("recipe", root / "recipe.yaml", f"cannot be read ({said})", MENDS_RECIPE.format(root=root))
    run = Run(root, recipe or config.load("shapes"))
    parts = sum(len(run.parts(table)) for table in TABLES)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress.task(f"Checking parts of {root}", parts) as bar:
        made_by = files.manifest(run, found)
        tables.check(run, found, bar, None if quick else pool, made_by)
    if recipe is not None and recipe.prompts.source != IMPORTED:
        tables.count_prompts(run, found)
    policies.check(run, found)
    files.check(run, found)
    return [root / name for name in recipe.study.images] if recipe and recipe.study else []
