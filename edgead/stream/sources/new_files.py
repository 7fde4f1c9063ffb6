"""Detection of new, completely written files in a folder."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgead.data.folders import is_image

# Changes in the same clock tick as the last scan do not show in the folder's modification time.
_TICK_NS = 2_000_000_000
# The modification time of a network folder may be updated late.
_FULL_LOOK_S = 10.0
# A file that stays unreadable for this long is broken rather than still being written.
PATIENCE_S = 30.0


@dataclass
class _Arrival:
    """A file that may be incomplete: size and time, when they last changed, whether reading failed."""

    size: int
    changed_ns: int
    since_s: float
    is_unreadable: bool = False


class FolderListing:
    """Lists the files of a folder that are new and have stopped changing.

    Files are identified by name: an overwritten file is not new, one that is deleted and created again is. A scan costs
    one `stat` of the folder while nothing changes there, one directory listing when something does, and one `stat` of
    each file that is not complete yet.

    Args:
        folder: Folder to scan, without its subfolders.
        settle_s: Time for which size and modification time of a file must stay the same.
        take_existing: Whether the files of the first scan are new.
        patience_s: Time that an unreadable file is given to change.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settle_s: float,
        take_existing: bool,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._settle_s = settle_s
        self._patience_s = patience_s
        self._clock = clock
        self._arriving: dict[str, _Arrival] = {}
        status = os.stat(folder)
        self._identity = (status.st_dev, status.st_ino)
        self._known = set() if take_existing else self._names()
        self._seen_ns: int | None = None
        self._looked_s = 0.0

    def settled(self) -> list[str]:
        """Scan once; names of the settled files, in the order in which they were completed.

        Each is returned by every scan until `take` or `put_back` is called for it.

        Raises:
            OSError: If the folder is gone or replaced by an empty one, such as the mount point of an unplugged disk.
        """
        now_s = self._clock()
        if self._has_changed(now_s):
            names = self._names()
            self._known &= names
            self._arriving = {name: entry for name, entry in self._arriving.items() if name in names}
            for name in names - self._known - self._arriving.keys():
                if is_image(Path(name)):
                    self._arriving[name] = _Arrival(-1, -1, now_s)
                else:
                    self._known.add(name)
        settled = [name for name, entry in self._arriving.items() if self._is_settled(name, entry, now_s)]
        return sorted(settled, key=lambda name: (self._arriving[name].changed_ns, name))

    def take(self, name: str) -> None:
        """Mark a file as processed."""
        self._arriving.pop(name, None)
        self._known.add(name)

    def put_back(self, name: str) -> bool:
        """Mark a file as unreadable; False if it has been unchanged long enough to count as broken."""
        entry = self._arriving.get(name)
        if entry is None:
            return False
        entry.is_unreadable = True
        return self._clock() - entry.since_s < self._settle_s + self._patience_s

    def _is_settled(self, name: str, entry: _Arrival, now_s: float) -> bool:
        try:
            status = os.stat(self._folder / name)
        except OSError:  # deleted again, which the next listing will show
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        if (status.st_size, status.st_mtime_ns) != (entry.size, entry.changed_ns):
            entry.size, entry.changed_ns, entry.since_s = status.st_size, status.st_mtime_ns, now_s
            entry.is_unreadable = False
        patience_s = self._settle_s + (self._patience_s if entry.is_unreadable else 0.0)
        return now_s - entry.since_s >= patience_s

    def _has_changed(self, now_s: float) -> bool:
        status = os.stat(self._folder)
        identity = (status.st_dev, status.st_ino)
        if identity != self._identity:
            if not self._names():
                raise FileNotFoundError("an empty folder lies in its place")
            self._identity, self._seen_ns = identity, None
        changed_ns = status.st_mtime_ns
        is_old = time.time_ns() - changed_ns > _TICK_NS
        if changed_ns == self._seen_ns and is_old and now_s - self._looked_s < _FULL_LOOK_S:
            return False
        self._seen_ns = changed_ns if is_old else None
        self._looked_s = now_s
        return True

    def _names(self) -> set[str]:
        with os.scandir(self._folder) as entries:
            return {entry.name for entry in entries}
