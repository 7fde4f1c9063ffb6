"""Progress reports of commands, independent of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Progress(Protocol):
    """Receiver of progress reports: a terminal in `cli`, or `Silent`."""

    def note(self, text: str) -> None:
        """Report one sentence."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report how far a named task is; `done == total` ends it."""


def aside(progress: Progress, text: str) -> None:
    """Report one sentence about how something was done: dimmed where the receiver can, and else as any other."""
    getattr(progress, "aside", progress.note)(text)


def tracked(items: Sequence[_T], task: str, progress: Progress) -> Iterator[_T]:
    """The items, each reported as done when the next one is asked for."""
    for done, item in enumerate(items, start=1):
        yield item
        progress.update(task, done, len(items))


class Silent:
    """Progress that is not shown."""

    def note(self, text: str) -> None:
        return None

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        return None


SILENT = Silent()


class Notes(Silent):
    """Progress of which the sentences go to a function, such as `print`."""

    def __init__(self, receive: Callable[[str], object]) -> None:
        self._receive = receive

    def note(self, text: str) -> None:
        self._receive(text)


def as_progress(given: Progress | Callable[[str], object] | None) -> Progress:
    """Receiver of progress reports: an object with the protocol, a function that takes each sentence, or None = silent."""
    if given is None:
        return Silent()
    return Notes(given) if callable(given) else given
