"""Reserved disk space that lets a stream start on a full disk."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

NAME = ".reserve"
# Enough for SQLite to open its files, and for several hundred records.
SIZE = 2_000_000


def release(folder: Path) -> None:
    """Free the reserve if the disk is full."""
    with suppress(OSError):
        if shutil.disk_usage(folder).free < SIZE:
            (folder / NAME).unlink(missing_ok=True)


def keep(folder: Path) -> None:
    """Create the reserve again if there is enough space."""
    path = folder / NAME
    with suppress(OSError):
        if path.exists() or shutil.disk_usage(folder).free < 3 * SIZE:
            return
        try:
            with path.open("wb") as file:
                file.write(bytes(SIZE))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
