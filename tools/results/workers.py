"""Execution of cells, one after the other in this process, or as jobs of a launcher."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from edgead.launch.launcher import Job, Launcher
from edgead.launch.local import LocalLauncher
from edgead.launch.on_ray import RayLauncher
from edgead.progress import Silent
from tools.results.cells import Cell
from tools.results.run import Evaluate, Record, Workplace, evaluate_cell, fail_cell, is_finished, run_cell
from tools.results.show import Display


def add_work_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which cells are run, and how many at a time."""
    parser.add_argument("--only", metavar="PATTERN", help="cells whose id matches, such as 'pcb-*-seed0'")
    parser.add_argument("--again", action="store_true", help="also the cells that are finished")
    parser.add_argument("--list", action="store_true", help="print the cells with their commands and stop")
    parser.add_argument("--limit-hours", type=float, metavar="H", help="start no cell after this time")
    parser.add_argument(
        "--threads", type=int, default=0, help="per cell, of torch and ONNX Runtime (default: cores / N)"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="cells at a time, each in a process")
    parser.add_argument(
        "--launcher", choices=("local", "ray"), default="local", help="processes of this machine, or a Ray cluster"
    )
    parser.add_argument("--keep-bundles", action="store_true", help="keep every bundle in WORK/runs")


def workplace_of(options: argparse.Namespace) -> Workplace:
    """Folders of `root` and `work`, and the threads of a cell."""
    threads = options.threads or max(1, len(os.sched_getaffinity(0)) // max(1, options.workers))
    return Workplace(options.root.absolute(), options.work.absolute(), threads, options.keep_bundles)


def list_cells(cells: Sequence[Cell], records: Mapping[str, Record]) -> None:
    """Print the cells with their state and the command that does each again."""
    for cell in cells:
        state = "finished" if is_finished(records.get(cell.id), cell) else "open    "
        print(f"{state}  {cell.id:<48}  {cell.command}")


def run_open_cells(
    options: argparse.Namespace,
    cells: Sequence[Cell],
    place: Workplace,
    digest_of: Mapping[str, str],
    records: dict[str, Record],
    write: Callable[[], None],
    evaluate: Evaluate = evaluate_cell,
) -> int:
    """Run the cells that are not finished, and return how many of them failed.

    Args:
        options: Values of `add_work_options`.
        cells: Chosen cells, in order.
        place: Folders of data and results.
        digest_of: Digest of the data, by cell id.
        records: Earlier results by cell id, to which each new one is added.
        write: Writes what is known; called after each cell, or once if none is open.
        evaluate: See `run_cell`.
    """
    open_cells = [
        cell for cell in cells if options.again or not is_finished(records.get(cell.id), cell, digest_of[cell.id])
    ]
    failed = n_done = 0
    started = time.monotonic()

    def in_time() -> bool:
        return options.limit_hours is None or time.monotonic() - started <= options.limit_hours * 3600

    launcher = _launcher(options, place)
    with Display(len(cells), open_cells, records, options.workers) as display:
        for record in run_cells(open_cells, place, digest_of, in_time, display, launcher, evaluate):
            records[record["id"]] = record
            failed += "error" in record
            n_done += 1
            display.finished(record)
            write()
        if n_done < len(open_cells):
            display.say(f"{options.limit_hours:g} hours are over; {len(open_cells) - n_done} cells remain.")
    if not open_cells:
        write()
    return failed


def _launcher(options: argparse.Namespace, place: Workplace) -> Launcher | None:
    """Launcher of the cells; None for one at a time in this process."""
    if options.launcher == "ray":
        return RayLauncher(options.workers, place.threads, reads=place.root, writes=place.work, takes_gpu=True)
    return LocalLauncher(options.workers, place.threads) if options.workers > 1 else None


def run_cells(
    cells: Sequence[Cell],
    place: Workplace,
    digest_of: Mapping[str, str],
    in_time: Callable[[], bool],
    display: Display,
    launcher: Launcher | None,
    evaluate: Evaluate = evaluate_cell,
) -> Iterator[Record]:
    """Do the cells, each when the last one's record was taken or, with a launcher, when one of its processes is free.

    Args:
        cells: Cells to run, in order.
        place: Folders of data and results.
        digest_of: Digest of the data, by cell id.
        in_time: Whether another one may be started.
        display: Shows which cells are being worked on.
        launcher: Runs several cells at a time; None works in this process.
        evaluate: See `run_cell`.
    """
    if launcher is not None:
        yield from _side_by_side(cells, place, digest_of, in_time, display, launcher, evaluate)
        return
    for cell in cells:
        if not in_time():
            return
        with display.cell(cell) as progress:
            record = run_cell(cell, place, digest_of[cell.id], progress, evaluate)
        yield record


def _side_by_side(
    cells: Sequence[Cell],
    place: Workplace,
    digest_of: Mapping[str, str],
    in_time: Callable[[], bool],
    display: Display,
    launcher: Launcher,
    evaluate: Evaluate,
) -> Iterator[Record]:
    """Two processes with one thread each do more than one with two; a process per cell takes only its own cell along."""
    by_id = {cell.id: cell for cell in cells}
    jobs = [Job(cell.id, run_cell, (cell, place, digest_of[cell.id], Silent(), evaluate)) for cell in cells]

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
