"""The audit of what is installed: a drifted version, a licence that is not free and a known advisory are errors, offline."""

import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from urllib.error import HTTPError

import pytest

INDEX = "https://index.test/pypi"
PINS = {"one": "1.0", "two": "2.0"}
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fixed_in": ["1.1"], "summary": "it leaks", "withdrawn": None}


@pytest.fixture
def audit() -> ModuleType:
    path = Path(__file__).parents[2] / ".ci" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pins_are_read_whatever_the_spelling_of_a_name(audit):
    assert audit.pinned("# why\nTypes_PyYAML==6.0\n\nzope.event==5.1  # a comment\n") == {
        "types-pyyaml": "6.0",
        "zope-event": "5.1",
    }


def test_what_is_installed_is_pinned_and_is_what_is_pinned(audit):
    assert audit.drifted(PINS, {"one": "1.0"}) == []
    (other,) = audit.drifted(PINS, {"one": "1.1"})
    (stray,) = audit.drifted(PINS, {"three": "3.0"})
    assert "one 1.1 is installed, and constraints.txt has 1.0" in other
    assert "three 3.0 is installed, and constraints.txt has no such line" in stray


@pytest.mark.parametrize(
    ("licence", "is_free"),
    [
        ("MIT", True),
        ("(MIT OR GPL-3.0)", True),
        ("Apache-2.0 WITH LLVM-exception AND MIT", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("MIT AND GPL-3.0-or-later", False),
        ("GNU Affero General Public License v3", False),
        ("LicenseRef-NVIDIA-Proprietary", False),
        ("", False),
    ],
)
def test_users_install_nothing_that_is_not_free(audit, licence, is_free):
    assert (audit.unfree({"one": licence}) == []) is is_free


def test_cudas_licence_is_taken_of_cuda_alone(audit):
    assert audit.unfree({"nvidia-cublas": "LicenseRef-NVIDIA-Proprietary"}) == []


def answering(monkeypatch, audit, pages):
    asked = []

    def urlopen(page, timeout):
        asked.append(page)
        if page not in pages:
            raise HTTPError(page, 404, "Not Found", {}, None)
        return io.BytesIO(json.dumps(pages[page]).encode())

    monkeypatch.setattr(audit, "urlopen", urlopen)
    return asked


def test_a_refresh_writes_what_the_index_says_and_the_audit_refuses_a_pin_with_an_advisory(
    audit, monkeypatch, tmp_path
):
    monkeypatch.setattr(audit, "SNAPSHOT", tmp_path / "advisories.json")
    page = {"info": {"version": "1.0"}, "vulnerabilities": [ADVISORY, ADVISORY | {"withdrawn": "2026-01-01"}]}
    answering(monkeypatch, audit, {f"{INDEX}/one/1.0/json": page})

    audit.refresh(PINS, [], index=INDEX)

    snapshot = json.loads((tmp_path / "advisories.json").read_text())
    assert set(snapshot["packages"]) == {"one"}  # of the other nobody said anything
    (line,) = audit.known(PINS, snapshot)
    assert line == "one 1.0 has PYSEC-1 (CVE-1): it leaks; fixed in 1.1"
    assert audit.known(PINS | {"one": "1.1"}, snapshot) == []
    assert audit.told(snapshot, "one", "1.1") is None
    monkeypatch.setattr(audit, "ACCEPTED", {"PYSEC-1": "nothing here calls it"})
    assert audit.known(PINS, snapshot) == []


def test_the_newest_versions_page_tells_of_that_version_alone(audit, monkeypatch):
    page = {"info": {"version": "1.0"}, "vulnerabilities": []}
    answering(monkeypatch, audit, {f"{INDEX}/one/json": page})

    assert audit.ask("one", "1.0", index=INDEX) == []
    assert audit.ask("one", "0.9", index=INDEX) is None


def test_the_audit_asks_nobody(audit, monkeypatch, capsys):
    asked = answering(monkeypatch, audit, {})

    audit.main([])

    assert asked == []
    assert "pins known as of" in capsys.readouterr().out
