"""Train and evaluate every cell of a table of results, and write the page: `python -m tools.results DATA_ROOT`.

Finished cells, also those of the published JSON, are skipped, and a killed one resumes from its last epoch, so the same
command continues after any interruption, also on another machine. The page, its chart and its JSON are rewritten after
every cell.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgead.errors import ConfigError, DataError, EdgeadError
from edgead.launch.launcher import Launcher
from edgead.launch.local import LocalLauncher
from edgead.launch.on_ray import RayLauncher
from edgead.storage import write_bytes
from tools.results.cells import TABLE, Cell, Table, check_data, data_digest, data_folder, expand, read_table, select
from tools.results.chart import draw_chart
from tools.results.page import write_page
from tools.results.results import Results, load_results, published_records
from tools.results.run import Record, Workplace, error_text, is_finished, known_records, read_records
from tools.results.show import Display
from tools.results.workers import run_cells


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write the page; 1 if a cell failed."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except EdgeadError as error:
        print(error_text(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; the same command continues from here.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.results", description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path, nargs="?", metavar="DATA_ROOT", help="folder of the data sets")
    parser.add_argument("--config", type=Path, default=TABLE, help="the table (default: the one beside the tool)")
    parser.add_argument("--work", type=Path, default=Path("runs/results"), help="finished cells and unfinished runs")
    parser.add_argument("--only", metavar="PATTERN", help="cells whose id matches, such as 'pcb-*-seed0'")
    parser.add_argument("--again", action="store_true", help="also the cells that are finished")
    parser.add_argument("--list", action="store_true", help="print the cells with their commands and stop")
    parser.add_argument("--only-page", action="store_true", help="write the page from the results at hand and stop")
    parser.add_argument("--limit-hours", type=float, metavar="H", help="start no cell after this time")
    parser.add_argument(
        "--threads", type=int, default=0, help="per cell, of torch and ONNX Runtime (default: cores / N)"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="cells at a time, each in a process")
    parser.add_argument(
        "--launcher", choices=("local", "ray"), default="local", help="processes of this machine, or a Ray cluster"
    )
    parser.add_argument("--keep-bundles", action="store_true", help="keep every bundle in WORK/runs")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--json", type=Path, default=Path("docs/results.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/results.svg"))
    return parser


def _run(options: argparse.Namespace) -> int:
    table = read_table(options.config)
    everything = expand(table)
    cells = select(everything, options.only)
    records = known_records(everything, published_records(options.json), read_records(options.work))
    if options.list:
        for cell in cells:
            state = "finished" if is_finished(records.get(cell.id), cell) else "open    "
            print(f"{state}  {cell.id:<48}  {cell.command}")
        return 0
    if options.only_page:
        if not records:
            raise DataError(f"There are no results in {options.work} or {options.json}.", hint="Run some cells.")
        _write(options, load_results(table, everything, records))
        return 0
    if options.root is None:
        raise ConfigError("DATA_ROOT is missing.", hint="python -m tools.results DATA_ROOT")
    check_data(options.root, table, cells)
    return _work(options, table, everything, cells, records)


def _work(
    options: argparse.Namespace, table: Table, everything: list[Cell], cells: list[Cell], records: dict[str, Record]
) -> int:
    threads = options.threads or max(1, len(os.sched_getaffinity(0)) // max(1, options.workers))
    place = Workplace(options.root.absolute(), options.work.absolute(), threads, options.keep_bundles)
    digests = {folder: data_digest(folder) for folder in {data_folder(options.root, cell) for cell in cells}}
    digest_of = {cell.id: digests[data_folder(options.root, cell)] for cell in cells}
    open_cells = [
        cell for cell in cells if options.again or not is_finished(records.get(cell.id), cell, digest_of[cell.id])
    ]
    failed = 0
    started = time.monotonic()

    def in_time() -> bool:
        return options.limit_hours is None or time.monotonic() - started <= options.limit_hours * 3600

    with Display(len(cells), open_cells, records, options.workers) as display:
        n_done = 0
        for record in run_cells(open_cells, place, digest_of, in_time, display, _launcher(options, place)):
            records[record["id"]] = record
            failed += "error" in record
            n_done += 1
            display.finished(record)
            _write(options, load_results(table, everything, records))
        if n_done < len(open_cells):
            display.say(f"{options.limit_hours:g} hours are over; {len(open_cells) - n_done} cells remain.")
    if not open_cells:
        _write(options, load_results(table, everything, records))
    return 1 if failed else 0


def _launcher(options: argparse.Namespace, place: Workplace) -> Launcher | None:
    """Launcher of the cells; None for one at a time in this process."""
    if options.launcher == "ray":
        return RayLauncher(options.workers, place.threads, reads=place.root, writes=place.work, takes_gpu=True)
    return LocalLauncher(options.workers, place.threads) if options.workers > 1 else None


def _write(options: argparse.Namespace, results: Results) -> None:
    """Write JSON, picture and page; each is complete or as it was."""
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in results.to_json()]
    write_bytes(options.json, ("[\n" + ",\n".join(lines) + "\n]\n").encode())
    write_bytes(options.picture, draw_chart(results).encode())
    write_page(options.page, options.picture, results)


if __name__ == "__main__":
    sys.exit(main())
