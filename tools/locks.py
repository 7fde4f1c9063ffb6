"""Lock files with hashes, and the list of dependencies with their licences: `python -m tools.locks`; needs the network.

pip resolves each environment without installing anything, and says which file it would take. `locks/*.txt` hold name,
version and SHA-256 of these files, for `pip install --require-hashes -r FILE`, wherever the files come from;
`docs/dependencies.md` has the licence that each package states. Each lock names the digest of the requirements it was
made from, so that a test finds a stale one without the network. pycuda, which has no wheel, is not locked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tools.aarch64.wheels import PYPROJECT, TARGETS, Target, project_of, requirements, run_pip
from tools.wheelhouse import environment_of, unsatisfied

ROOT = PYPROJECT.parent
LOCKS, PAGE = ROOT / "locks", ROOT / "docs" / "dependencies.md"
# what CI installs; pip writes the other extras that a developer needs out of these
DEVELOPMENT = ("train", "demo", "backbones", "web", "ray", "dev")
DEVICE = ("web", "mqtt")
PYTHON = (3, 11)
Resolve = Callable[[Sequence[str]], "tuple[int, str]"]

_HEAD = """# {title}
# Made by `python -m tools.locks`. Install: pip install --require-hashes -r {name}, then pip install --no-deps .
# Requirements: {digest}
"""
_PAGE = """# Dependencies

Made by `python -m tools.locks` with the files in `locks/`, which hold the version and the SHA-256 of every package:

    pip install --require-hashes -r locks/device-x86_64.txt
    pip install --no-deps .

| lock file | environment |
|---|---|
{environments}

A lock is made for one system and Python. Elsewhere pip takes the ranges of `pyproject.toml`, whose lower ends are above the known
vulnerabilities that concern edgead: OpenCV 4.8.1 (WebP), ONNX 1.21 (links to other files), PyTorch 2.10 (`weights_only`), Starlette 1.3.1
(host names, ranges), h11 0.16. One remains: OpenCV before 4.12 can write outside its memory for a crafted JPEG, and on JetPack 6 NumPy 1
keeps OpenCV at 4.11; take JPEG only from cameras that you trust there. Which systems are supported:
[Compatibility](compatibility.md).

The licence is what the package itself states. *device*: in a lock of the device side; all others are needed for training or
development only. The system's packages (GStreamer, TensorRT, CUDA) have licences of their own.

| package | version | licence | device |
|---|---|---|---|
{rows}
"""


@dataclass(frozen=True)
class Environment:
    """A lock file: its title, its requirements, and pip's options for its system."""

    name: str
    title: str
    requirements: tuple[str, ...]
    options: tuple[str, ...] = ()
    is_device: bool = True
    target: Target | None = None

    @property
    def path(self) -> Path:
        return LOCKS / f"{self.name}.txt"

    @property
    def digest(self) -> str:
        """Digest of the requirements."""
        return hashlib.sha256("\n".join(sorted(self.requirements)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Package:
    """A package as pip would install it."""

    name: str
    version: str
    sha256: str
    licence: str


def environments(text: str) -> list[Environment]:
    """All lock files of a `pyproject.toml`."""
    project = project_of(text)
    extras: Mapping[str, Sequence[str]] = project["optional-dependencies"]
    base: Sequence[str] = project["dependencies"]
    python = ".".join(map(str, PYTHON))

    def of(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*base, *(entry for name in names for entry in extras[name])]))

    found = [
        Environment("development", f"Development and CI: x86-64 Linux, Python {python}", of(DEVELOPMENT), (), False),
        Environment("device-x86_64", f"Device side: x86-64 Linux, Python {python}", of(DEVICE)),
    ]
    for target in TARGETS:
        number = target.name.rpartition(" ")[2]
        wheels, _ = requirements(text, target.extra)
        title = f"Device side: {target.name}, aarch64, Python {target.python}"
        found.append(
            Environment(f"device-jetpack{number}", title, tuple(wheels), tuple(target.options()), target=target)
        )
    return found


def resolved(environment: Environment, pip: Resolve) -> list[Package]:
    """Packages of an environment, by name.

    Raises:
        SystemExit: If pip finds no solution.
    """
    todo = list(environment.requirements)
    for _ in range(5):
        status, output = pip([*environment.options, *todo])
        if status:
            raise SystemExit(f"{environment.name}: {output}")
        entries = json.loads(output)["install"]
        # pip evaluates markers for the Python that runs it
        markers = environment_of(environment.target)
        missing = unsatisfied(dict(map(_needs, entries)), environment.requirements, markers)
        if not missing:
            return sorted(map(package_of, entries), key=lambda package: package.name)
        todo = [*environment.requirements, *missing]
    raise SystemExit(f"{environment.name}: no packages for {', '.join(missing)}")


def _needs(entry: Mapping[str, Any]) -> tuple[NormalizedName, tuple[Version, Sequence[str]]]:
    metadata = entry["metadata"]
    return canonicalize_name(metadata["name"]), (Version(metadata["version"]), metadata.get("requires_dist", []))


def package_of(entry: Mapping[str, Any]) -> Package:
    """One package of pip's report."""
    metadata = entry["metadata"]
    digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
    return Package(canonicalize_name(metadata["name"]), metadata["version"], digest, licence_of(metadata))


def licence_of(metadata: Mapping[str, Any]) -> str:
    """Licence that a package states: its expression, its classifiers, or the first line of its text."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    prefix = "License :: "
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get("classifier", []) if text.startswith(prefix)]
    classifiers = [text for text in classifiers if text != "OSI Approved"]
    if classifiers:
        return ", ".join(dict.fromkeys(classifiers))
    lines = str(metadata.get("license") or "").strip().splitlines()
    return lines[0].strip()[:80] if lines and lines[0].strip() != "UNKNOWN" else "not stated"


def lock_text(environment: Environment, packages: Sequence[Package]) -> str:
    """Content of a lock file."""
    head = _HEAD.format(title=environment.title, name=f"locks/{environment.name}.txt", digest=environment.digest)
    lines = (f"{one.name}=={one.version} \\\n    --hash=sha256:{one.sha256}\n" for one in packages)
    return head + "".join(lines)


def page_text(found: Sequence[tuple[Environment, Sequence[Package]]]) -> str:
    """The page of dependencies."""
    versions: dict[str, set[str]] = {}
    licences: dict[str, str] = {}
    on_device = {one.name for environment, packages in found if environment.is_device for one in packages}
    for _, packages in found:
        for one in packages:
            versions.setdefault(one.name, set()).add(one.version)
            licences[one.name] = one.licence
    rows = (
        f"| {name} | {', '.join(sorted(versions[name]))} | {licences[name].replace('|', '/')} | "
        f"{'device' if name in on_device else ''} |"
        for name in sorted(versions)
    )
    names = (f"| `locks/{environment.name}.txt` | {environment.title} |" for environment, _ in found)
    return _PAGE.format(environments="\n".join(names), rows="\n".join(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all lock files and the page."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    if sys.version_info[:2] != PYTHON:
        raise SystemExit(f"The lock files are made with Python {'.'.join(map(str, PYTHON))}.")
    found = [(one, resolved(one, run_pip)) for one in environments(PYPROJECT.read_text(encoding="utf-8"))]
    LOCKS.mkdir(exist_ok=True)
    for environment, packages in found:
        environment.path.write_text(lock_text(environment, packages), encoding="utf-8")
    PAGE.write_text(page_text(found), encoding="utf-8")


if __name__ == "__main__":
    main()
