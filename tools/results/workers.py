"""Execution of cells, one after the other or in parallel processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread

from edgead.progress import Silent
from tools.results.cells import Cell
from tools.results.run import Record, Workplace, fail_cell, read_records, run_cell
from tools.results.show import Display


def run_cells(
    cells: Sequence[Cell],
    place: Workplace,
    digest_of: Mapping[str, str],
    in_time: Callable[[], bool],
    display: Display,
    workers: int,
) -> Iterator[Record]:
    """Do the cells, each when the last one's record was taken or, of several workers, when one is free.

    Args:
        cells: Cells to run, in order.
        place: Folders of data and results.
        digest_of: Digest of the data, by cell id.
        in_time: Whether another one may be started.
        display: Shows which cells are being worked on.
        workers: Processes; 1 works in this one.
    """
    if workers > 1:
        yield from _side_by_side(cells, place, digest_of, in_time, display, workers)
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
    workers: int,
) -> Iterator[Record]:
    """Two processes with one thread each do more than one with two; a process per cell takes only its own cell along."""
    context = get_context("spawn")
    waiting = list(cells)
    running: dict[int, tuple[BaseProcess, Cell]] = {}
    try:
        while True:
            while waiting and len(running) < workers and in_time():
                cell = waiting.pop(0)
                process: BaseProcess = context.Process(target=_work, args=(cell, place, digest_of[cell.id]))
                process.start()
                running[process.sentinel] = process, cell
            display.running([cell for _, cell in running.values()])
            if not running:
                return
            for sentinel in connection.wait(list(running), timeout=1.0):
                assert isinstance(sentinel, int)
                process, cell = running.pop(sentinel)
                process.join()
                display.left(cell)
                yield _record(cell, place, digest_of[cell.id], process.exitcode)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.join()


def _record(cell: Cell, place: Workplace, digest: str, exit_code: int | None) -> Record:
    if exit_code == 0:
        return read_records(place.work)[cell.id]
    how = f"exit code {exit_code}" if exit_code is None or exit_code > 0 else f"signal {-exit_code}"
    hint = " (out of memory?)" if exit_code == -signal.SIGKILL else ""
    return fail_cell(cell, place, digest, f"ProcessError: its process ended with {how}{hint}; the run can go on.")


def _work(cell: Cell, place: Workplace, digest: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers
    Thread(target=_end_with_parent, daemon=True).start()
    run_cell(cell, place, digest, Silent())


def _end_with_parent() -> None:
    """A killed parent must not leave workers behind, which would share their runs with those of the next start."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
