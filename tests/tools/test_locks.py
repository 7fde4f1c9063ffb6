"""The lock files belong to the requirements of today, and every package in them has a digest and a licence."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.aarch64.wheels import PYPROJECT
from tools.locks import LOCKS, PAGE, Environment, environments, licence_of, lock_text, resolved

ENVIRONMENTS = environments(PYPROJECT.read_text(encoding="utf-8"))
ENTRY = re.compile(r"([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:([0-9a-f]{64})\n")


def locked(environment: Environment) -> dict[str, str]:
    """Version of each package in a lock file."""
    return {name: version for name, version, _ in ENTRY.findall(environment.path.read_text(encoding="utf-8"))}


def test_there_is_a_lock_for_each_environment() -> None:
    """And no other file."""
    assert {path.name for path in LOCKS.iterdir()} == {environment.path.name for environment in ENVIRONMENTS}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)
def test_a_lock_belongs_to_the_requirements_of_today(environment: Environment) -> None:
    """It names their digest, satisfies each of them, and holds nothing but names, versions and digests."""
    text = environment.path.read_text(encoding="utf-8")
    assert f"# Requirements: {environment.digest}\n" in text, "stale: python -m tools.locks"
    found = locked(environment)
    for entry in map(Requirement, environment.requirements):
        if entry.marker is None or entry.marker.evaluate():
            assert entry.specifier.contains(found[canonicalize_name(entry.name)]), entry
    rest = ENTRY.sub("", text)
    assert all(line.startswith("# ") for line in rest.splitlines())
    assert "://" not in text


def test_the_page_lists_every_package_with_its_licence() -> None:
    """With every version that a lock has; packages that state none say so."""
    rows = dict(
        re.findall(r"^\| (\S+) \| (.+ \| .+ \| (?:device)?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    for environment in ENVIRONMENTS:
        for name, version in locked(environment).items():
            versions, licence, device = (cell.strip() for cell in rows[name].split("|"))
            assert version in versions.split(", ")
            assert licence
            assert device or not environment.is_device
    assert "://" not in PAGE.read_text(encoding="utf-8")


def test_a_marker_of_the_target_is_followed() -> None:
    """A package for the target's Python alone is asked for in a second round."""
    jetpack = next(one for one in ENVIRONMENTS if one.name == "device-jetpack6")
    environment = Environment("x", "X", ("top",), jetpack.options, target=jetpack.target)
    asked: list[list[str]] = []

    def entry(name: str, *needs: str) -> dict[str, Any]:
        metadata = {"name": name, "version": "1.0", "requires_dist": list(needs), "license": "MIT"}
        return {"metadata": metadata, "download_info": {"archive_info": {"hashes": {"sha256": "a" * 64}}}}

    def pip(words: Sequence[str]) -> tuple[int, str]:
        wanted = [word for word in words[len(jetpack.options) :]]
        asked.append(wanted)
        top = entry("top", "back; python_version < '3.11'", "new; python_version > '3.11'")
        return 0, json.dumps({"install": [top, *(entry(name) for name in wanted if name != "top")]})

    packages = resolved(environment, pip)
    assert [package.name for package in packages] == ["back", "top"]
    assert asked == [["top"], ["top", "back"]]
    assert ENTRY.findall(lock_text(environment, packages)) == [(name, "1.0", "a" * 64) for name in ("back", "top")]


def test_a_failed_resolution_is_an_error() -> None:
    """With pip's words."""
    with pytest.raises(SystemExit, match="no such package"):
        resolved(ENVIRONMENTS[0], lambda words: (1, "no such package"))


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"license_expression": "MIT", "license": "x"}, "MIT"),
        ({"classifier": ["License :: OSI Approved :: BSD License", "License :: OSI Approved"]}, "BSD License"),
        ({"license": "\nMIT\nlong text"}, "MIT"),
        ({"license": "UNKNOWN"}, "not stated"),
        ({}, "not stated"),
    ],
)
def test_a_licence_is_found_where_packages_state_it(metadata: dict[str, Any], licence: str) -> None:
    """In the expression, the classifiers or the text."""
    assert licence_of(metadata) == licence
