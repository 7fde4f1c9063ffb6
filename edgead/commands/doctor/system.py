"""System, Python, processor, memory and disk."""

from __future__ import annotations

from collections.abc import Iterator

from edgead import __version__
from edgead.commands.doctor.check import Check
from edgead.commands.doctor.jetson import Board
from edgead.commands.doctor.machine import Machine

LOW_DISK_MB = 2000
LOW_MEMORY_MB = 1000


def check_system(machine: Machine, board: Board | None) -> Iterator[Check]:
    """Check system, Python, processor, memory and disk."""
    yield Check("edgead", "info", __version__)
    yield Check("system", "info", machine.system)
    yield _python(machine)
    yield Check("cpu", "info", f"{machine.cores} cores")
    yield from _memory(machine, board)
    free = machine.free_mb()
    low = free <= LOW_DISK_MB
    yield Check(
        "disk",
        "warning" if low else "ok",
        f"{free:.0f} MB free in the current folder",
        "Alerts and engines need disk space: free some, or use another disk." if low else "",
    )


def _python(machine: Machine) -> Check:
    interpreter = machine.interpreter
    where = ", in a virtual environment" if interpreter.in_venv else ""
    return Check("python", "info", f"{interpreter.text}{where}")


def _memory(machine: Machine, board: Board | None) -> Iterator[Check]:
    sizes = {}
    for line in (machine.read("/proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        if rest.split()[1:] == ["kB"]:
            sizes[name] = int(rest.split()[0]) * 1024 / 1e6
    if "MemTotal" not in sizes or "MemAvailable" not in sizes:
        yield Check("memory", "info", "unknown: not in /proc/meminfo")
        return
    total, available, swap = sizes["MemTotal"], sizes["MemAvailable"], sizes.get("SwapTotal", 0)
    shared = ", shared with the GPU" if board else ""
    low = available < LOW_MEMORY_MB
    yield Check(
        "memory",
        "warning" if low else "ok",
        f"{total:.0f} MB{shared}, {available:.0f} MB available",
        _save_memory(board) if low else "",
    )
    yield Check("swap", "info", f"{swap:.0f} MB" if swap else "none: a process that runs out of memory is killed")


def _save_memory(board: Board | None) -> str:
    if board is None:
        return "Close other programs before building an engine."
    return (
        "Building a TensorRT engine needs more memory than streaming with it. Close the desktop (`sudo systemctl isolate "
        "multi-user.target`) and other programs, and add a swap file."
    )
