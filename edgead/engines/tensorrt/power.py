"""Power mode of a Jetson, which sets its clock rates."""

from __future__ import annotations

from pathlib import Path

# nvpmodel stores the current mode here, in a line such as "pmode:0002 fmode:fanNull"
STATUS = Path("/var/lib/nvpmodel/status")
UNKNOWN = "unknown"


def power_mode(status: Path | None = None) -> str:
    """Number of the current power mode, as written by nvpmodel; `unknown` if it cannot be read."""
    try:
        words = (status or STATUS).read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return UNKNOWN
    modes = [word.partition(":")[2] for word in words if word.startswith("pmode:")]
    return str(int(modes[0])) if modes and modes[0].isdigit() else UNKNOWN


def mode_note(built: str) -> str:
    """Why an engine built in the power mode `built` may not be the fastest; empty in the same or an unknown mode."""
    now = power_mode()
    if now == built or UNKNOWN in (now, built):
        return ""
    return f"built in power mode {built}, but the board is now in {now}: its kernels were chosen at other clock rates"
