"""Diagnosis as a Markdown file to attach to a bug report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from edgead.commands.doctor.check import Check, Diagnosis
from edgead.commands.doctor.machine import Machine, ThisMachine, short
from edgead.commands.doctor.privacy import anonymise, secrets_of
from edgead.errors import EdgeadError
from edgead.storage import write_bytes

LOG_LINES = 60
LOG_BYTES = 64 * 1024
LONGEST_LINE = 2000
BUILD_LOG = "build.log"


def write_report(path: Path, diagnosis: Diagnosis, bundle_path: Path, machine: Machine | None = None) -> None:
    """Write the diagnosis, the facts of the bundle and the end of every build log, without secrets.

    Args:
        path: Output file; an older one is replaced.
        diagnosis: Diagnosis of `doctor`.
        bundle_path: Path of the bundle, if there is one.
        machine: Machine whose names are removed; None = this one.

    Raises:
        StorageError: If the file cannot be written.
    """
    secrets = secrets_of(machine or ThisMachine())
    text = "\n".join((*_checks(diagnosis), *_bundle(bundle_path), *_logs(bundle_path)))
    write_bytes(path, (anonymise(_printable(text), secrets) + "\n").encode())


def _checks(diagnosis: Diagnosis) -> Iterator[str]:
    yield "# edgead doctor"
    yield ""
    yield f"{diagnosis.count('failed')} failed, {diagnosis.count('warning')} warnings. User, machine and network names,"
    yield "folders, serial numbers and secrets were removed. Read it before you share it."
    for group, checks in groupby(diagnosis.checks, key=lambda check: check.group):
        yield f"\n## {group}\n"
        yield from map(_line, checks)


def _line(check: Check) -> str:
    mark = check.status if check.status in ("ok", "info") else f"**{check.status}**"
    advice = f" → {check.advice}" if check.advice else ""
    return f"- {mark} · {check.name}: {_one_line(check.detail + advice)}"


def _bundle(path: Path) -> Iterator[str]:
    try:
        from edgead.bundle import open_bundle
        from edgead.engines.fingerprint import read_record
        from edgead.engines.opening import present_engines

        bundle = open_bundle(path)
    except (EdgeadError, ImportError):  # reported by the checks above
        return
    manifest, (height, width) = bundle.manifest, bundle.image_size
    yield "\n## Bundle\n"
    yield f"- edgead {manifest.edgead_version}, schema {manifest.schema_version}, digest {bundle.digest[:12]}"
    yield f"- model {manifest.model}, {len(manifest.classes)} class(es), input {height} x {width} px"
    yield f"- map {manifest.graph.map_size[0]} x {manifest.graph.map_size[1]}, {bundle.model_path.stat().st_size / 1e6:.1f} MB"
    for name in present_engines(bundle):
        try:
            record = read_record(bundle.engines_path / name)
        except EdgeadError as error:
            yield f"- engine {name}: {_one_line(error.message)}"
            continue
        backend = f"{record.fingerprint.backend} {short(record.fingerprint.backend_version)}"
        yield f"- engine {name}: {backend}, {record.fingerprint.precision}, {record.size_mb:.1f} MB, {record.build_s:.0f} s"


def _logs(bundle_path: Path) -> Iterator[str]:
    for log in sorted(bundle_path.glob(f"engines/*/{BUILD_LOG}")):
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - LOG_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
        except OSError:
            continue
        longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
        fence = "`" * max(3, longest + 1)
        yield f"\n## Last {len(lines)} lines of engines/{log.parent.name}/{BUILD_LOG}\n"
        yield from (f"{fence}text", *map(_cut, lines), fence)


def _cut(line: str) -> str:
    """Cut a line to at most `LONGEST_LINE` characters at a word end, because half a secret would not be recognised."""
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE].rpartition(' ')[0]} …"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _printable(text: str) -> str:
    """Remove the control characters of a log."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")
