"""Jetson model, JetPack release, and the versions that JetPack ships."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgead.commands.doctor.check import Check
from edgead.commands.doctor.machine import Machine, debian_version, numbers

OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class JetPack:
    """A JetPack release and the versions it ships; docs/jetson.md names the source of each fact.

    Attributes:
        name: JetPack version.
        l4t: L4T releases, major and minor.
        python: Python version of its Ubuntu.
        cuda: CUDA toolkit version.
        tensorrt: TensorRT version.
        upgrades: Other TensorRT versions that NVIDIA supports as an upgrade.
    """

    name: str
    l4t: tuple[tuple[int, int], ...]
    python: tuple[int, int]
    cuda: str
    tensorrt: str
    upgrades: tuple[str, ...] = ()


JETPACKS = (
    JetPack("5.1", ((35, 2), (35, 3), (35, 4), (35, 5), (35, 6)), (3, 8), "11.4", "8.5"),
    JetPack("6.0", ((36, 3),), (3, 10), "12.2", "8.6"),
    JetPack("6.1 or 6.2", ((36, 4), (36, 5)), (3, 10), "12.6", "10.3", ("10.7",)),
    JetPack("7.0 or 7.1", ((38, 2), (38, 4)), (3, 12), "13.0", "10.13"),
    JetPack("7.2", ((39, 2),), (3, 12), "13.2", "10.16", ("11.4",)),
)


@dataclass(frozen=True)
class Board:
    """A Jetson.

    Attributes:
        model: Model from the device tree.
        l4t: L4T release, for example `36.4.3`; empty if unknown.
        package: Version of the Debian package `nvidia-jetpack`; empty if not installed.
        jetpack: Row of `JETPACKS`; None for a release unknown to this edgead.
    """

    model: str
    l4t: str
    package: str
    jetpack: JetPack | None

    @property
    def name(self) -> str:
        """JetPack and its version, as far as known."""
        return f"JetPack {self.jetpack.name}" if self.jetpack else f"L4T {self.l4t or 'of unknown release'}"


def find_board(machine: Machine) -> Board | None:
    """Identify the Jetson; None on any other machine."""
    model = machine.read("/proc/device-tree/model") or ""
    l4t = _l4t(machine)
    if not l4t and "jetson" not in model.lower():
        return None
    jetpack = next((row for row in JETPACKS if numbers(l4t)[:2] in row.l4t), None)
    return Board(model or "unknown board", l4t, debian_version(machine, "nvidia-jetpack") or "", jetpack)


def check_board(machine: Machine, board: Board | None) -> Iterator[Check]:
    """Check the board and its JetPack."""
    if board is None:
        yield Check("jetson", "info", "this machine is not a Jetson")
        return
    yield Check("board", "info", board.model)
    yield _jetpack(board)
    if board.jetpack and machine.interpreter.version[:2] != board.jetpack.python:
        theirs = ".".join(map(str, board.jetpack.python))
        yield Check(
            "python of jetpack",
            "warning",
            f"{board.name} ships TensorRT for Python {theirs} only; edgead runs in {machine.interpreter.text}",
            f"Create the environment with the system's Python: /usr/bin/python{theirs} -m venv --system-site-packages .venv",
        )


def _jetpack(board: Board) -> Check:
    installed = f", package nvidia-jetpack {board.package}" if board.package else ""
    seen = f"L4T {board.l4t or 'of unknown release'}{installed}"
    if board.jetpack is None:
        known = ", ".join(f"{major}.{minor}" for row in JETPACKS for major, minor in row.l4t)
        return Check(
            "jetpack",
            "warning",
            f"{seen}: this edgead does not know its TensorRT version (known: L4T {known})",
            "See docs/jetson.md, or update edgead.",
        )
    row = board.jetpack
    belongs = f"JetPack {row.name}: {seen}; ships TensorRT {row.tensorrt} and CUDA {row.cuda}"
    if row.python < OLDEST_PYTHON:
        return Check(
            "jetpack",
            "warning",
            f"{belongs}, and Python {'.'.join(map(str, row.python))}, which edgead does not support",
            "Install JetPack 6.2 or newer if it is available for this board.",
        )
    if not board.package:
        return Check(
            "jetpack",
            "info",
            f"{belongs}; the package nvidia-jetpack is not installed, so CUDA and TensorRT may be missing",
            "sudo apt update && sudo apt install nvidia-jetpack",
        )
    return Check("jetpack", "ok", belongs)


def _l4t(machine: Machine) -> str:
    release = machine.read("/etc/nv_tegra_release") or ""
    if match := re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", release):
        return f"{match[1]}.{match[2]}"
    return ".".join(map(str, numbers(debian_version(machine, "nvidia-l4t-core") or "")))
