"""Progress reports of commands, independent of a terminal."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receiver of progress reports: a terminal in `cli`, or `Silent`."""

    def note(self, text: str) -> None:
        """Report one sentence."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report how far a named task is; `done == total` ends it."""


class Silent:
    """Progress that is not shown."""

    def note(self, text: str) -> None:
        return None

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        return None
