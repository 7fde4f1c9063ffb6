"""A Jetson's power mode, which decides how fast its GPU runs."""

from __future__ import annotations

from pathlib import Path

# nvpmodel keeps the mode in force here; a line such as "pmode:0002 fmode:fanNull"
STATUS = Path("/var/lib/nvpmodel/status")
UNKNOWN = "unknown"


def power_mode(status: Path | None = None) -> str:
    """The number of the power mode in force as nvpmodel wrote it; `unknown` where there is none to read."""
    try:
        words = (status or STATUS).read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return UNKNOWN
    modes = [word.partition(":")[2] for word in words if word.startswith("pmode:")]
    return str(int(modes[0])) if modes and modes[0].isdigit() else UNKNOWN


def mode_note(built: str) -> str:
    """Why an engine that was built in the power mode `built` may not be the fastest; empty in that mode, or unknown ones."""
    now = power_mode()
    if now == built or UNKNOWN in (now, built):
        return ""
    return f"built in power mode {built}, and the board is in {now} now: its kernels were chosen by other clocks"
