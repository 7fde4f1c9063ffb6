"""Train and evaluate every cell of a table of results, and write the page: `python -m tools.results DATA_ROOT`.

Finished cells, also those of the published JSON, are skipped, and a killed one resumes from its last epoch, so the same
command continues after any interruption, also on another machine. The page, its chart and its JSON are rewritten after
every cell.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edgead.errors import ConfigError, DataError, EdgeadError
from edgead.storage import write_bytes
from tools.results.cells import (
    TABLE,
    Cell,
    Table,
    check_data,
    data_digest,
    data_folder,
    expand,
    expand_shipped,
    read_table,
    select,
)
from tools.results.chart import draw_chart
from tools.results.page import write_page
from tools.results.results import Results, load_results, published_records
from tools.results.run import Record, error_text, known_records, read_records
from tools.results.workers import add_work_options, list_cells, run_open_cells, workplace_of


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
    add_work_options(parser)
    parser.add_argument("--only-page", action="store_true", help="write the page from the results at hand and stop")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--json", type=Path, default=Path("docs/results.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/results.svg"))
    return parser


def _run(options: argparse.Namespace) -> int:
    table = read_table(options.config)
    everything = [*expand(table), *expand_shipped(table)]
    cells = select(everything, options.only)
    records = known_records(everything, published_records(options.json), read_records(options.work))
    if options.list:
        list_cells(cells, records)
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
    place = workplace_of(options)
    digests = {folder: data_digest(folder) for folder in {data_folder(options.root, cell) for cell in cells}}
    digest_of = {cell.id: digests[data_folder(options.root, cell)] for cell in cells}
    failed = run_open_cells(
        options, cells, place, digest_of, records, lambda: _write(options, load_results(table, everything, records))
    )
    return 1 if failed else 0


def _write(options: argparse.Namespace, results: Results) -> None:
    """Write JSON, picture and page; each is complete or as it was."""
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in results.to_json()]
    write_bytes(options.json, ("[\n" + ",\n".join(lines) + "\n]\n").encode())
    write_bytes(options.picture, draw_chart(results).encode())
    write_page(options.page, options.picture, results)


if __name__ == "__main__":
    sys.exit(main())
