"""A little space kept back, so that a stream can also start on a full disk: a restart must not end the watching."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

NAME = ".reserve"
# What SQLite needs to open its files, and room for several hundred records.
SIZE = 2_000_000


def release(folder: Path) -> None:
    """Give the space up where it is needed now."""
    with suppress(OSError):
        if shutil.disk_usage(folder).free < SIZE:
            (folder / NAME).unlink(missing_ok=True)


def keep(folder: Path) -> None:
    """Take the space again when there is enough for it."""
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
