"""Progress that keeps what it is told."""

from __future__ import annotations

from edgead.progress import Silent


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)
