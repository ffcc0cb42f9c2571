"""What is installed against constraints.txt, its licences, and known advisories: without a network, from committed files alone.

    python .ci/audit.py                       as `make audit` and CI run it
    python .ci/audit.py --refresh INDEX           asks an index for the advisories of every pin, and writes .ci/advisories.json
    python .ci/audit.py --refresh INDEX pillow    the same for these names; what was known of the others stays

INDEX is the address of PyPI's JSON, the part before `/NAME/VERSION/json`, or of a mirror that has it. The source of its
advisories is the Python Packaging Advisory Database. A pin that nobody has asked about is counted, and is no error: this says
what is known, and not that nothing is wrong.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from packaging.requirements import Requirement

HERE = Path(__file__).parent
PINS = HERE.parent / "constraints.txt"
SNAPSHOT = HERE / "advisories.json"
OURS = "aifeedback-dpo"
FOR_DEVELOPERS = ("dev", "docs")  # extras that no user installs

FREE = {
    *(
        "0bsd",
        "apache",
        "apache 2.0",
        "apache 2.0 license",
        "apache license 2.0",
        "apache software license",
        "apache-2.0",
    ),
    *(
        "bsd",
        "bsd license",
        "bsd-2-clause",
        "bsd-3-clause",
        "3-clause bsd license",
        "bsl-1.0",
        "cc0-1.0",
        "cnri-python",
    ),
    *("isc", "isc license (iscl)", "llvm-exception", "mit", "mit license", "mit-cmu", "psf-2.0", "zlib", "unlicense"),
    *("python software foundation license", "mpl-2.0", "mozilla public license 2.0 (mpl 2.0)"),
}
CUDA = {
    "licenseref-nvidia-proprietary",
    "nvidia proprietary software",
}  # of what torch needs for NVIDIA's GPUs, and only there
READ_BY_HAND = {
    "cuda-toolkit": "nvidia proprietary software",
    "axe-playwright-python": "mit",
}  # whose metadata says none
ACCEPTED: Mapping[str, str] = {}
"""Advisories that do not concern this package, by id, each with the reason."""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where something is wrong, each in a line."""
    pins = pinned(PINS.read_text(encoding="utf-8"))
    if arguments[:1] == ["--refresh"]:
        if not arguments[1:]:
            say("audit: --refresh needs the address of an index, the part before /NAME/VERSION/json")
            return 2
        refresh(pins, arguments[2:], index=arguments[1])
        return 0
    installed = {plain(found.name): found for found in distributions()}
    users, everyone = needed(installed, developers=False), needed(installed, developers=True)
    snapshot = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    wrong = [
        *drifted(pins, {name: installed[name].version for name in everyone}),
        *unfree({name: licence(installed[name]) for name in users}),
        *known(pins, snapshot),
    ]
    for line in wrong:
        say(f"audit: {line}")
    asked = sum(told(snapshot, name, version) is not None for name, version in pins.items())
    strays = sorted(installed.keys() - everyone - pins.keys() - {"pip", "wheel", OURS})
    say(
        f"audit: {len(everyone)} installed as pinned, {len(users)} of them for users; advisories of "
        f"{asked} of {len(pins)} pins "
        f"known as of {snapshot['asked']}" + (f"; not of this package: {', '.join(strays)}" if strays else "")
    )
    return 1 if wrong else 0


def plain(name: str) -> str:
    """A name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """The pins of a constraints file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {plain(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def needed(installed: Mapping[str, Distribution], *, developers: bool) -> set[str]:
    """What is installed because this package asks for it, with all its extras, or with those of its users."""
    ours = installed[OURS]
    extras = [
        name for name in ours.metadata.get_all("Provides-Extra") or [] if developers or name not in FOR_DEVELOPERS
    ]
    found: set[str] = set()
    left = [(OURS, ("", *extras))]
    seen = set()
    while left:
        name, wanted = left.pop()
        for text in installed[name].requires or []:
            asked = Requirement(text)
            is_asked = not asked.marker or any(asked.marker.evaluate({"extra": extra}) for extra in wanted)
            one = (plain(asked.name), ("", *sorted(asked.extras)))
            if is_asked and one[0] in installed and one not in seen:
                seen.add(one)
                left.append(one)
                found.add(one[0])
    return found - {OURS}


def drifted(pins: Mapping[str, str], versions: Mapping[str, str]) -> list[str]:
    """What is installed and not pinned, or pinned and another version."""
    return [
        f"{name} {version} is installed, and constraints.txt has {pins.get(name, 'no such line')}; install it by `make`"
        for name, version in sorted(versions.items())
        if pins.get(name) != version
    ]


def licence(found: Distribution) -> str:
    """As a distribution states it: an expression, else its classifiers, else the first line of its text."""
    told = found.metadata
    classified = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    by_hand = READ_BY_HAND.get(plain(found.name), "")
    first = (told.get("License") or "").strip().partition("\n")[0]
    return told.get("License-Expression") or " AND ".join(classified) or first or by_hand


def unfree(licences: Mapping[str, str]) -> list[str]:
    """What users would install under a licence that is not on the list. Of `A OR B` one is enough."""
    wrong = []
    for name, text in sorted(licences.items()):
        ways = [re.split(r"\s+(?:AND|WITH)\s+|;", way.strip()) for way in re.split(r"\s+OR\s+", text)]
        allowed = FREE | CUDA if name.startswith(("nvidia-", "cuda-")) else FREE
        if not any(all({part.lower(), part.strip("() ").lower()} & allowed for part in way) for way in ways):
            wrong.append(f"{name} has the licence '{text[:80]}', which is not on the list of .ci/audit.py")
    return wrong


def known(pins: Mapping[str, str], snapshot: Mapping[str, Any]) -> list[str]:
    """Advisories of versions that are pinned."""
    return [
        f"{name} {version} has {one['id']} ({', '.join(one['aliases']) or 'no alias'}): {one['says']}; "
        f"fixed in {', '.join(one['fixed_in']) or 'no version yet'}"
        for name, version in pins.items()
        for one in told(snapshot, name, version) or []
        if one["id"] not in ACCEPTED
    ]


def told(snapshot: Mapping[str, Any], name: str, version: str) -> list[dict[str, Any]] | None:
    """What the snapshot has of this version; None where nobody was asked, or nobody answered."""
    found = snapshot["packages"].get(name)
    return found["advisories"] if found and found["version"] == version else None


def refresh(pins: Mapping[str, str], names: Iterable[str], *, index: str) -> None:
    """Asks about these names, or about every pin, and keeps what was known of others."""
    before = json.loads(SNAPSHOT.read_text(encoding="utf-8"))["packages"] if SNAPSHOT.exists() else {}
    wanted = {plain(name) for name in names} or set(pins)
    packages = {name: found for name, found in before.items() if pins.get(name) == found["version"]}
    for name in sorted(wanted & pins.keys()):
        found = ask(name, pins[name], index=index)
        if found is None:
            say(f"audit: the index says nothing of {name} {pins[name]}")
        else:
            packages[name] = {"version": pins[name], "advisories": found}
    made = {"asked": f"{datetime.now(UTC):%Y-%m-%d}", "packages": dict(sorted(packages.items()))}
    SNAPSHOT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def ask(name: str, version: str, *, index: str) -> list[dict[str, Any]] | None:
    """The advisories of a version; by the page of the newest one where an index has no other. None for no answer."""
    for page in (f"{index}/{name}/{version}/json", f"{index}/{name}/json"):
        try:
            with urlopen(page, timeout=30) as answer:  # noqa: S310 (the address is the caller's)
                found = json.load(answer)
        except (HTTPError, URLError, TimeoutError, ValueError):
            continue
        if found["info"]["version"] == version and "vulnerabilities" in found:
            return [
                {
                    "id": one["id"],
                    "aliases": one["aliases"],
                    "fixed_in": one["fixed_in"],
                    "says": (one["summary"] or "")[:200],
                }
                for one in found["vulnerabilities"]
                if not one.get("withdrawn")
            ]
    return None


def say(line: str) -> None:
    """A line on stdout."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
