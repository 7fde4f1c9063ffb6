"""Power mode and clock rates of a Jetson, which determine its speed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from edgead.commands.doctor.check import Check
from edgead.commands.doctor.jetson import Board
from edgead.commands.doctor.machine import NOT_FOUND, Machine

MISLEADS = "measured times are not the best this board can reach"
_GPU = re.compile(r"\.gpu$|^gpu-gpc-|\.g[apv]1\db$")


def check_power(machine: Machine, board: Board | None) -> Iterator[Check]:
    """Check the power mode and whether clocks are fixed."""
    if board is None:
        return
    yield _mode(machine)
    for folder in machine.glob("/sys/class/devfreq/*"):
        if _GPU.search(PurePosixPath(folder).name):
            yield _clock("gpu clock", machine, f"{folder}/min_freq", f"{folder}/cur_freq", f"{folder}/max_freq", 1e6)
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/scaling"
    if machine.exists(f"{cpu}_min_freq"):
        yield _clock("cpu clock", machine, f"{cpu}_min_freq", f"{cpu}_cur_freq", f"{cpu}_max_freq", 1e3)


def _mode(machine: Machine) -> Check:
    ran = machine.run("nvpmodel", "-q")
    match = re.search(r"NV Power Mode:\s*(\S+)\s+(\d+)", ran.out)
    if not ran.ok or match is None:
        reason = "nvpmodel is not installed" if ran.err == NOT_FOUND else f"nvpmodel -q failed: {ran.problem}"
        return Check("power mode", "info", f"unknown: {reason}", "Query it as root: sudo nvpmodel -q")
    name, number = match[1], match[2]
    modes = dict(re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", machine.read("/etc/nvpmodel.conf") or ""))
    best = next((n for prefix in ("MAXN_SUPER", "MAXN") for n, mode in modes.items() if mode.startswith(prefix)), None)
    if number == best or (best is None and name.startswith("MAXN")):
        return Check("power mode", "ok", f"{name} ({number}), the highest")
    if best is None:
        known = ", ".join(f"{mode} ({n})" for n, mode in modes.items()) or "unknown"
        return Check(
            "power mode", "info", f"{name} ({number}); modes of this board: {known}. In a low-power mode, {MISLEADS}"
        )
    return Check(
        "power mode",
        "warning",
        f"{name} ({number}), not {modes[best]} ({best}): {MISLEADS}",
        f"Before measuring, if supply and cooling allow it: sudo nvpmodel -m {best}. An engine built in another mode may have "
        "other kernels: build it in the power mode it will run in.",
    )


def _clock(name: str, machine: Machine, low: str, now: str, high: str, hz: float) -> Check:
    values = [machine.read(path) or "" for path in (low, now, high)]
    if not all(value.strip().isdigit() for value in values):
        return Check(name, "info", "unknown")
    least, current, most = (int(value) / hz for value in values)
    if least == most:
        return Check(name, "ok", f"fixed at {most:.0f} MHz")
    return Check(
        name,
        "info",
        f"{current:.0f} MHz, varies with load between {least:.0f} and {most:.0f} MHz: short measurements start slow",
        "Before measuring: sudo jetson_clocks",
    )
