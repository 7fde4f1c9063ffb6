"""Watched folder: yields each new, completely written image once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edgead.data.reader import read_image
from edgead.errors import DataError, SourceError
from edgead.imaging import Image, Reading
from edgead.printable import path_text
from edgead.stream.frame import Frame
from edgead.stream.sources.new_files import PATIENCE_S, FolderListing
from edgead.stream.sources.source import Phase, SourceOptions, SourceReport, SourceState

POLL_S = 0.2
# Maximum share of the time spent on scanning, however many files there are.
_SHARE = 0.1
_LOG = logging.getLogger(__name__)


class WatchedFolder:
    """Every new image of a folder, without end.

    No image is dropped when the stream is slow. If the folder disappears, as with an unplugged disk, the source waits
    for it to come back.

    Args:
        folder: Folder to watch, without its subfolders.
        settle_s: Time for which a file must stay unchanged to count as written.
        take_existing: Whether the images present at the start are read too.
        reading: Rules for reading image files.
        patience_s: Time that an unreadable file is given to change before it is reported as broken.
    """

    live = False
    paced = True
    fps: float | None = None

    def __init__(
        self,
        folder: Path,
        *,
        settle_s: float,
        take_existing: bool,
        reading: Reading,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.name = f"watch:{path_text(folder)}"
        self.report = SourceReport(state=SourceState("connecting", time.monotonic()))
        self._folder = folder
        self._settle_s = settle_s
        self._take_existing = take_existing
        self._reading = reading
        self._patience_s = patience_s
        self._listing: FolderListing | None = None

    def __enter__(self) -> Self:
        try:
            self._listing = FolderListing(
                self._folder,
                settle_s=self._settle_s,
                take_existing=self._take_existing,
                patience_s=self._patience_s,
            )
        except OSError as error:
            raise SourceError(
                f"The folder {self._folder} cannot be watched: {error.strerror or error}.",
                hint="Make it, or name another: --source watch:FOLDER",
            ) from error
        self._enter("running")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listing = None

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        index = 0
        pause_s = 0.0
        while not stop.wait(pause_s):
            started_s = time.monotonic()
            names = self._look()
            pause_s = max(POLL_S, (time.monotonic() - started_s) / _SHARE)
            for name in names:
                image = self._read(name)
                if image is not None:
                    yield Frame(image, index, time.monotonic(), path_text(self._folder / name))
                    index += 1
                if stop.is_set():
                    return

    def _look(self) -> list[str]:
        assert self._listing is not None, "frames() needs an opened source"
        try:
            names = self._listing.settled()
        except OSError as error:
            reason = str(error.strerror or error)
            if self.report.state is not None and self.report.state.phase == "running":
                _LOG.debug("%s is away: %s", self.name, reason)
            self._enter("reconnecting", reason)
            return []
        self._enter("running")
        return names

    def _read(self, name: str) -> Image | None:
        assert self._listing is not None, "frames() needs an opened source"
        path = self._folder / name
        try:
            image = read_image(path, **self._reading)
        except DataError as error:
            if path.exists() and not self._listing.put_back(name):
                self._listing.take(name)
                self.report.broken.append(path_text(path))
                _LOG.warning("skipped: %s", error.message)
            return None
        self._listing.take(name)
        return image

    def _enter(self, phase: Phase, error: str = "") -> None:
        state = self.report.state
        if state is None or state.phase != phase:
            last_error = error or (state.last_error if state else "")
            self.report.state = SourceState(phase, time.monotonic(), last_error)


def watched_folder(uri: str, options: SourceOptions) -> WatchedFolder:
    """A watched folder by `watch:DIR`.

    Raises:
        SourceError: If there is no such folder.
    """
    folder = Path(uri.partition(":")[2]).expanduser()
    if not folder.is_dir() or not uri.partition(":")[2]:
        raise SourceError(
            f"There is no folder {folder} to watch.",
            hint="Make it first: --source watch:FOLDER waits for its pictures.",
        )
    return WatchedFolder(
        folder,
        settle_s=options.watch_settle_s,
        take_existing=options.watch_existing,
        reading=options.reading,
    )
