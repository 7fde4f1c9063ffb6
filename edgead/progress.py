"""How a command tells what it is doing, without knowing about terminals."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Shown by `cli`, ignored by `Silent`."""

    def note(self, text: str) -> None:
        """Say one sentence."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Say how far a named piece of work is; `done == total` ends it."""


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        return None

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        return None
