"""Terminal output while cells run: one live line, and one printed line per finished cell."""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from typing_extensions import Self

from tools.results.cells import Cell
from tools.results.run import Record


class Display:
    """Bar over all cells with elapsed and remaining time, the current cell and what it is doing.

    Where the output is no terminal there is no bar, only the lines.

    Args:
        n_cells: Chosen cells, the finished ones included.
        open_cells: Those to be done, in order.
        records: Earlier results; their durations predict those of the others.
        workers: Cells at a time.
    """

    def __init__(
        self, n_cells: int, open_cells: Sequence[Cell], records: Mapping[str, Record], workers: int = 1
    ) -> None:
        self._workers = max(1, workers)
        self._console = Console(highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.fields[cell]}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TextColumn("{task.fields[clock]}"), TextColumn("[dim]{task.fields[step]}"),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._open = list(open_cells)
        self._done = n_cells - len(open_cells)
        self._pace = Pace(records)
        self._started = self._cell_started = time.monotonic()
        self._task = self._bars.add_task("", total=n_cells, completed=self._done, cell="", clock="", step="")
        self.say(f"{n_cells} cells, {self._done} of them finished.")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bars.console.print(text, markup=False)

    @contextmanager
    def cell(self, cell: Cell) -> Iterator[CellProgress]:
        """Show that a cell is being worked on."""
        self._cell_started = time.monotonic()
        self._bars.update(self._task, cell=cell.id, step="")
        yield CellProgress(self)
        self._open.remove(cell)
        self._done += 1

    def running(self, cells: Sequence[Cell]) -> None:
        """Show which cells are being worked on at the same time."""
        self._bars.update(self._task, cell=", ".join(cell.id for cell in cells))
        self.step("")

    def left(self, cell: Cell) -> None:
        """One of several cells is done."""
        self._cell_started = time.monotonic()
        self._open.remove(cell)
        self._done += 1

    def step(self, text: str) -> None:
        """Show what the current cell is doing."""
        elapsed = time.monotonic() - self._started
        left = self._pace.estimate(self._open)
        if left is not None:
            left = max(0.0, left / self._workers - (time.monotonic() - self._cell_started))
        clock = f"{duration(elapsed)} elapsed, {'?' if left is None else duration(left)} left"
        self._bars.update(self._task, completed=self._done, clock=clock, step=text)

    def finished(self, record: Record) -> None:
        """Print the line of a finished cell."""
        seconds = sum(record["seconds"].values()) if "seconds" in record else time.monotonic() - self._cell_started
        self._pace.add(record)
        self.say(f"{record['id']:<46} {duration(seconds):>8}  {outcome(record)}")
        self.step("")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


class CellProgress:
    """Progress of one cell, shown in the display's line."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._shown = 0.0

    def note(self, text: str) -> None:
        """Notes are of no use with a hundred cells, but for a warning."""
        if text.startswith("Warning"):
            self._display.say(f"  {text}")

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """At most ten times a second."""
        now = time.monotonic()
        if now - self._shown > 0.1:
            self._shown = now
            self._display.step(f"{task} {100 * done // max(1, total)} % {detail}")


class Pace:
    """How long cells take, from those that are finished: of the same model and data, else of the same model, else all."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = {}
        for record in records.values():
            self.add(record)

    def add(self, record: Record) -> None:
        """Learn from a finished cell."""
        if "seconds" not in record or record.get("resumed"):
            return
        total = sum(record["seconds"].values())
        for key in ((record["model"], record["data"]), (record["model"],), ()):
            self._seconds.setdefault(key, []).append(total)

    def estimate(self, cells: Sequence[Cell]) -> float | None:
        """Seconds for some cells; None while nothing is known."""
        if () not in self._seconds:
            return None
        total = 0.0
        for cell in cells:
            keys: tuple[tuple[str, ...], ...] = ((cell.model, cell.data), (cell.model,), ())
            total += statistics.fmean(next(self._seconds[key] for key in keys if key in self._seconds))
        return total


def outcome(record: Record) -> str:
    """The result of a cell in a few words."""
    if "error" in record:
        return f"failed: {record['error'].splitlines()[0]}"
    parts = []
    for mode, evaluation in record["evaluations"].items():
        m = evaluation["mean"]
        name = "" if len(record["evaluations"]) == 1 else f"{mode}: "
        pixel = "" if m["pixel_auroc"] is None else f", pixel {100 * m['pixel_auroc']:.2f}"
        parts.append(f"{name}image AUROC {_percent(m['image_auroc'])}{pixel}")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    return str(datetime.timedelta(seconds=round(seconds)))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
