"""Jobs, their outcomes, and the interface of those that run them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """A call of a function in another process.

    Attributes:
        name: Name for people; no two jobs of a run share one.
        work: Function of a module. It may be called again after its process was lost, so it has to continue what it left.
        arguments: Arguments of the function; they and its result are pickled.
    """

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """End of a job.

    Attributes:
        name: Name of the job.
        result: Value that the function returned; None if there is a problem.
        problem: Reason why there is no result, as a sentence; empty if there is one.
    """

    name: str
    result: Any = None
    problem: str = ""


def always() -> bool:
    """Let every job start."""
    return True


def unheard(names: Sequence[str]) -> None:
    """Take no notice of the jobs at work."""


class Launcher(Protocol):
    """Runs jobs side by side; the end of one never ends another."""

    def run(
        self,
        jobs: Sequence[Job],
        *,
        may_start: Callable[[], bool] = always,
        on_change: Callable[[Sequence[str]], None] = unheard,
    ) -> Generator[Outcome, None, None]:
        """Run jobs, and yield each one's outcome when it has ended; closing the iterator ends those at work.

        Args:
            jobs: Jobs, in the order in which they start.
            may_start: Whether another job may start now; those that never did have no outcome.
            on_change: Called with the names of the jobs at work, about once a second.
        """
