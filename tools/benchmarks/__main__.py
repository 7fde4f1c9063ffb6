"""Train and judge detectors on a published benchmark, and write a table beside the published numbers.

    python -m tools.benchmarks mvtec-ad data/mvtec-ad --work runs/mvtec-ad

trains edgead's default for each class, and one model for all classes; `--models` adds the published settings of
`configs/papers`. Finished cells are skipped and a killed one resumes, so the same command continues after any interruption.
`DIR/NAME.md` and `DIR/NAME.json` are rewritten after every cell.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgead.config.file import parse_override
from edgead.errors import EdgeadError
from edgead.storage import write_bytes, write_json
from tools.benchmarks.measure import evaluate
from tools.benchmarks.methods import DEFAULTS, PROTOCOLS, cells_of, chosen_methods, methods
from tools.benchmarks.page import lines_of, page, to_json
from tools.benchmarks.sets import BENCHMARKS, COMMAND, benchmark_of, open_data, samples_digest
from tools.results.cells import UNIFIED, select
from tools.results.run import error_text, is_finished, read_records
from tools.results.workers import add_work_options, list_cells, run_open_cells, workplace_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write table and JSON; 1 if a cell failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        return _run(options, words)
    except EdgeadError as error:
        print(error_text(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; the same command continues from here.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n")[0])
    parser.add_argument("benchmark", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("root", type=Path, metavar="DATA_ROOT", help="folder of its classes, as published")
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="results, and runs that are not finished"
    )
    parser.add_argument(
        "--models", nargs="+", default=list(DEFAULTS), metavar="MODEL",
        help=f"what is trained (default: {' '.join(DEFAULTS)}): {', '.join(methods())}",
    )  # fmt: skip
    parser.add_argument(
        "--protocol",
        nargs="+",
        choices=PROTOCOLS,
        default=list(PROTOCOLS),
        help="a model per class, one for all (default: both)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the training (default: 0)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of every cell")
    add_work_options(parser)
    return parser


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    benchmark = benchmark_of(options.benchmark)
    chosen = chosen_methods(options.models)
    changes = dict(parse_override(text) for text in options.set)
    if changes:  # a title names a backbone, which may be another one now
        chosen = [replace(method, title=f"{method.title}, with --set") for method in chosen]
    options.root, dataset = open_data(benchmark, options.root)
    cells = cells_of(
        benchmark, chosen, options.protocol, dataset.classes, seeds=options.seeds, changes=changes,
        options=" ".join(f"--set {shlex.quote(text)}" for text in options.set),
    )  # fmt: skip
    cells_here = select(cells, options.only)
    digest_of = {cell.id: samples_digest(dataset, None if cell.data == UNIFIED else cell.data) for cell in cells}
    known = read_records(options.work)
    # what was done with other settings or data, or by methods that are not asked for, is no part of this table
    records = {
        cell.id: one
        for cell in cells
        if (one := known.get(cell.id)) is not None and ("error" in one or is_finished(one, cell, digest_of[cell.id]))
    }
    if options.list:
        list_cells(cells_here, records)
        return 0
    place = workplace_of(options)
    markdown, data = (options.work / f"{benchmark.name}.{suffix}" for suffix in ("md", "json"))

    def write() -> None:
        found = [records[cell.id] for cell in cells if cell.id in records]
        lines = lines_of(benchmark, chosen, options.protocol, found)
        write_json(data, to_json(benchmark, dataset.classes, lines, found))
        command = shlex.join([*COMMAND.split(), *words])
        write_bytes(markdown, page(benchmark, dataset.classes, lines, found, command).encode())

    failed = run_open_cells(options, cells_here, place, digest_of, records, write, evaluate)
    print(markdown.read_text(encoding="utf-8") if markdown.is_file() else "No cell is finished.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
