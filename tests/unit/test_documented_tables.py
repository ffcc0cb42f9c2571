"""docs/tables.md has every column of every table, with its type, and none that there is not."""

import re
from pathlib import Path

import pytest

from aifeedback_dpo.records import TABLES

TEXT = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))


def test_every_table_has_its_section():
    assert list(SECTIONS) == list(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_the_columns_are_those_of_the_schema(table):
    told = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", SECTIONS[table], re.MULTILINE)
    assert told == [(field.name, str(field.type)) for field in TABLES[table]]
