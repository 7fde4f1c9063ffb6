"""Execution of cells, one after the other in this process, or as jobs of a launcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from edgead.launch.launcher import Job, Launcher
from edgead.progress import Silent
from tools.results.cells import Cell
from tools.results.run import Record, Workplace, fail_cell, run_cell
from tools.results.show import Display


def run_cells(
    cells: Sequence[Cell],
    place: Workplace,
    digest_of: Mapping[str, str],
    in_time: Callable[[], bool],
    display: Display,
    launcher: Launcher | None,
) -> Iterator[Record]:
    """Do the cells, each when the last one's record was taken or, with a launcher, when one of its processes is free.

    Args:
        cells: Cells to run, in order.
        place: Folders of data and results.
        digest_of: Digest of the data, by cell id.
        in_time: Whether another one may be started.
        display: Shows which cells are being worked on.
        launcher: Runs several cells at a time; None works in this process.
    """
    if launcher is not None:
        yield from _side_by_side(cells, place, digest_of, in_time, display, launcher)
        return
    for cell in cells:
        if not in_time():
            return
        with display.cell(cell) as progress:
            record = run_cell(cell, place, digest_of[cell.id], progress)
        yield record


def _side_by_side(
    cells: Sequence[Cell],
    place: Workplace,
    digest_of: Mapping[str, str],
    in_time: Callable[[], bool],
    display: Display,
    launcher: Launcher,
) -> Iterator[Record]:
    """Two processes with one thread each do more than one with two; a process per cell takes only its own cell along."""
    by_id = {cell.id: cell for cell in cells}
    jobs = [Job(cell.id, run_cell, (cell, place, digest_of[cell.id], Silent())) for cell in cells]

    def show(names: Sequence[str]) -> None:
        display.running([by_id[name] for name in names])

    with closing(launcher.run(jobs, may_start=in_time, on_change=show)) as outcomes:
        for outcome in outcomes:
            cell = by_id[outcome.name]
            display.left(cell)
            if outcome.problem:
                error = f"ProcessError: {outcome.problem} Its run can be resumed."
                yield fail_cell(cell, place, digest_of[cell.id], error)
            else:
                yield outcome.result
