"""Tables beside the report: every number in full for computing, and LaTeX that a paper can take as it is."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo import config
from aifeedback_dpo.compare import tables
from aifeedback_dpo.compare.tabular import Column, Table, escaped, guarded, percent
from aifeedback_dpo.store import Run
from tests import reports

SPECIALS = r"& % $ # _ { } ~ ^ \ < > |"
HALF = {"value": 0.5, "low": 0.25, "high": 0.75, "prompts": 7}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    names = tables.write(Run(root, config.load("shapes")), reports.example(), root / "report")
    assert sorted(names) == sorted(f"tables/{path.name}" for path in (root / "report" / "tables").iterdir())
    return root / "report" / "tables"


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def rows(written: Path, name: str) -> list[dict[str, str]]:
    return read((written / f"{name}.csv").read_bytes().decode())


def columns_of(line: str) -> int:
    """Cells of a LaTeX row: ampersands that are not escaped, and one."""
    return len(re.findall(r"(?<!\\)&", line)) + 1


# -- every table -----------------------------------------------------------------------------------------------------


def test_every_part_of_a_result_has_a_table_in_both_formats(written):
    expected = {
        *(
            "fig6",
            "duels",
            "means",
            "factor_cells",
            "factor_effects",
            "guards",
            "published",
            "agreement",
            "calibration",
        ),
        *("calibration_bins", "slices", "bias", "ranking", "costs_of_policies", "costs_of_labels"),
    }

    assert {path.stem for path in written.glob("*.csv")} == expected
    assert {path.stem for path in written.glob("*.tex")} == expected


def test_braces_and_dollars_balance_and_every_row_has_the_columns_of_its_head(written):
    for path in written.glob("*.tex"):
        text = path.read_text()
        bare = re.sub(r"\\[{}$&%#_\\]", "", text)
        assert bare.count("{") == bare.count("}"), path
        assert bare.count("$") % 2 == 0, path
        shape = re.search(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}", text)
        body = [line for line in text.split(r"\toprule")[1].splitlines() if line.endswith(r"\\")]
        assert shape
        assert len(body) > 1
        assert {columns_of(line) for line in body} == {len(shape[1])}, path
        assert rf"\label{{tab:{path.stem}}}" in text
        assert r"\caption{" in text
        assert set(re.findall(r"\\(begin|end)\{", text)) == {"begin", "end"}


def test_every_csv_is_rectangular_with_crlf_and_utf8(written):
    for path in written.glob("*.csv"):
        data = path.read_bytes()
        found = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
        assert len({len(row) for row in found}) == 1, path
        assert data.endswith(b"\r\n")
        assert data.count(b"\r\n") == data.count(b"\n")


def test_a_table_without_rows_is_not_written_and_an_earlier_one_goes(tmp_path):
    run, told = Run(tmp_path, config.load("shapes")), reports.example()
    tables.write(run, told, tmp_path)
    told["judges"] = None
    told["sets"][0]["factors"] = None

    names = tables.write(run, told, tmp_path)

    assert "tables/duels.csv" in names
    assert not {"agreement", "factor_cells", "ranking"} & {path.stem for path in (tmp_path / "tables").iterdir()}


def test_judges_alone_have_their_tables(tmp_path):
    told = {**reports.example(), "sets": [], "policies": [], "compared": []}

    names = tables.write(Run(tmp_path, config.load("shapes")), told, tmp_path)

    assert "tables/agreement.tex" in names
    assert "tables/fig6.csv" not in names


# -- what they say ---------------------------------------------------------------------------------------------------


def test_duels_keep_every_column_in_full_and_leave_open_what_is_undefined(written):
    told = [(found["set"], duel) for found in reports.example()["sets"] for duel in found["duels"]]
    found = rows(written, "duels")

    assert len(found) == len(told)
    for (name, duel), row in zip(told, found, strict=True):
        assert row["set"] == name
        for key in ("win_rate", "difference"):
            for part in ("value", "low", "high"):
                cell = row[key if part == "value" else f"{key}_{part}"]
                assert cell == ("" if duel[key][part] is None else repr(duel[key][part]))
        assert int(row["wins"]) == duel["wins"]
        assert row["holm"] == ("" if duel["holm"] is None else repr(duel["holm"]))
        assert (row["win_rate_over_seeds"] == "") == (duel["over_seeds"] is None)
    assert {row["policy"] for row in found} >= {"human (simulated)", "other/human (simulated)"}
    assert "human" not in {row["policy"] for row in found} | {row["against"] for row in found}


def test_figure_six_marks_a_metric_that_judges_its_own_work_and_invents_no_number(written):
    by_policy = {(row["set"], row["trained_on"], row["against"]): row for row in rows(written, "fig6")}
    own = by_policy["held-out", reports.ODD, "base model"]
    silent = by_policy["held-out", "org/model", "base model"]

    assert own[reports.ODD].endswith("]*")
    assert not own["utility"].endswith("*")
    assert own["utility"] == "57 [47, 67]"  # 0.57 + 4 rows before it x 0.001, less and more 0.1: over training seeds
    assert silent["correct"] == ""


def test_published_numbers_stand_before_ours_of_the_same_metric_and_category_by_the_sets_statistic(tmp_path):
    told = reports.example()
    told["sets"][1]["statistic"] = "median"
    tables.write(Run(tmp_path, config.load("shapes")), told, tmp_path)
    found = [row for row in rows(tmp_path / "tables", "published") if not row["category"]]

    assert [row["origin"] for row in found] == ["published"] + ["this run"] * len(reports.NAMES)
    assert found[0]["value"] == "0.33"
    assert {row["value"] for row in found[1:]} == {"0.3"}  # clip's median of every policy, without the mean's interval
    assert {row["value_low"] for row in found} == {""}
    assert {row["metric"] for row in found} == {"clip"}


def test_agreement_has_every_rule_for_ties_with_kappa_and_tau(written):
    first = rows(written, "agreement")[0]

    assert [first[rule] for rule in ("decided", "half credit", "ties wrong", "inversions")] == ["0.7"] * 4
    assert (first["kappa"], first["tau"]) == ("0.36", "0.4")


def test_a_ranking_that_is_not_there_says_why(written):
    told = [(row["judge"], row["item"], row["score"], row["why_not"]) for row in rows(written, "ranking")]

    assert told == [("human (simulated)", "m_1", "0.4", ""), ("clip", "", "", "m_1 won every time")]


def test_effects_name_their_simulated_judges_as_such(written):
    assert [row["of"] for row in rows(written, "factor_effects")] == [
        f"{reports.ODD} - human (simulated)",
        "other - r_1 & <co>",
        f"({reports.ODD} - human (simulated)) on other",
    ]


# -- cells -----------------------------------------------------------------------------------------------------------


def test_specials_are_escaped_and_unicode_is_kept():
    assert escaped(SPECIALS) == (
        r"\& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{} \textgreater{} \textbar{}"
    )
    assert escaped("café 猫\nnew\tline\x00") == "café 猫 new line "


@given(st.text())
def test_no_text_opens_a_group_a_cell_or_a_comment(text):
    bare = re.sub(r"\\(?:[&%$#_{}]|text[a-z]+\{\})", "", escaped(text))

    assert not set("&%$#_{}~^\\\n") & set(bare)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_text_that_a_spreadsheet_would_compute_is_guarded_and_numbers_are_not(text):
    table = Table("t", "c", [Column(text), Column("n", "number"), Column("e", "estimate")], [[text, -1.5, HALF]])
    found = list(csv.reader(io.StringIO(table.csv(), newline="")))

    assert guarded(text) == f"'{text}"
    assert found[0][0] == f"'{text}"
    assert found[1] == [f"'{text}", "-1.5", "0.5", "0.25", "0.75", "7"]


def test_quotes_commas_and_line_breaks_come_back_from_the_csv():
    text = 'a "b", c\r\nd'
    table = Table("t", "c", [Column("x"), Column("list"), Column("yes")], [[text, [-1.5, 2], True]])

    assert read(table.csv()) == [{"x": text, "list": "-1.5; 2", "yes": "yes"}]


def test_a_share_is_in_percent_and_what_is_undefined_is_said():
    assert percent(HALF) == "50 [25, 75]"
    assert percent({**HALF, "low": None}) == "50"
    assert percent({**HALF, "value": None}) == "--"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.123"), (-0.5, "$-0.5$"), (72, "72"), (123456.7, "123457"), (0.0000123, r"$1.23\times10^{-5}$")],
)
def test_a_number_in_latex_has_three_digits_and_a_real_minus(value, shown):
    assert rf"{shown} \\" in Table("t", "c", [Column("n", "number")], [[value]]).latex()


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_line_before():
    text = Table("t", "c", [Column("x")], [["[1]"], ["*"]]).latex()

    assert r"{}[1] \\" in text
    assert r"{}* \\" in text


def test_a_long_table_breaks_over_pages():
    short, long = (Table("t", "c", [Column("x")], [["a"]] * count).latex() for count in (40, 41))

    assert r"\begin{tabular}" in short
    assert r"\begin{longtable}" in long
