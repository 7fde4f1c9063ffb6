"""Generated pictures of fifteen kinds of parts and materials, to compare models of many classes: `python -m tools.kinds --help`.

The pictures are drawn, not photographed. They stand in for a benchmark of fifteen classes and say nothing about real parts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgead.config.file import parse_override
from edgead.data.layouts import find_dataset
from edgead.errors import ConfigError, EdgeadError
from edgead.imaging import jpeg_from_rgb
from edgead.storage import write_bytes, write_json
from edgead.terminal import TerminalProgress
from tools.kinds.make import Recipe, write_kinds
from tools.kinds.measure import run_cell
from tools.kinds.page import likelihoods, tables
from tools.kinds.rows import ROWS, cells_of
from tools.kinds.sheet import contact_sheet
from tools.results.cells import data_digest, data_folder, is_same_work
from tools.results.run import Workplace, read_records


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except EdgeadError as error:
        print(f"error: {error}" + (f"\n{error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; the same command continues from here.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.kinds", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(required=True)
    make = verbs.add_parser("make", help="write the pictures in the layout of MVTec AD")
    make.add_argument("out", type=Path, metavar="OUT", help="new folder, or that of a call which was interrupted")
    make.add_argument(
        "--scale", type=float, default=1.0, help="share of 200 good for training, 60 good and 60 defective for test"
    )
    make.add_argument("--size", type=int, default=256, help="side of the pictures in px (default: 256)")
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(run=_make)
    sheet = verbs.add_parser("sheet", help="draw a good and a defective picture of every class")
    sheet.add_argument("data", type=Path, metavar="DATA", help="folder of classes")
    sheet.add_argument("out", type=Path, metavar="FILE", help="picture to write, JPEG")
    sheet.add_argument("--seed", type=int, default=0, help="chooses the pictures")
    sheet.set_defaults(run=_sheet)
    measure = verbs.add_parser("measure", help="train and judge the models, and write tables and histograms")
    measure.add_argument("data", type=Path, metavar="DATA", help="folder of classes in the layout of MVTec AD")
    measure.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="results; what is finished there is kept"
    )
    measure.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], help="these rows (default: all)")
    measure.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the training (default: 0)")
    measure.add_argument("--size", type=int, default=256, help="side of the models' input in px (default: 256)")
    measure.add_argument(
        "--epochs", type=int, default=8, help="passes over the images of rows that are trained (default: 8)"
    )
    measure.add_argument("--threads", type=int, default=1, help="threads of torch and ONNX Runtime (default: 1)")
    measure.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of every row")
    measure.set_defaults(run=_measure)
    return parser


def _make(options: argparse.Namespace) -> None:
    recipe = Recipe.scaled(options.scale, seed=options.seed, size=options.size)
    with TerminalProgress() as progress:
        write_kinds(options.out, recipe, lambda done, total: progress.update("Pictures", done, total))


def _sheet(options: argparse.Namespace) -> None:
    write_bytes(options.out, jpeg_from_rgb(contact_sheet(options.data, options.seed), 88))


def _measure(options: argparse.Namespace) -> None:
    kinds = find_dataset(options.data).classes
    if len(kinds) < 2:
        raise ConfigError(f"{options.data} has {len(kinds)} classes; a comparison of unified models needs at least 2.")
    if wrong := [text for text in options.set if "=" not in text]:
        raise ConfigError(f"--set takes KEY=VALUE, got {wrong[0]!r}.")
    changes = dict(parse_override(text) for text in options.set)
    place = Workplace(options.data.absolute(), options.out.absolute(), options.threads, keep_bundles=True)
    cells = [
        cell
        for seed in options.seeds
        for row in ROWS
        if options.only is None or row.name in options.only
        for cell in cells_of(row, kinds, seed=seed, size=options.size, epochs=options.epochs, changes=changes)
    ]
    digests = {folder: data_digest(folder) for folder in {data_folder(place.root, cell) for cell in cells}}
    records = read_records(place.work)
    failed = 0
    with TerminalProgress() as progress:
        for number, cell in enumerate(cells):
            digest = digests[data_folder(place.root, cell)]
            known = records.get(cell.id)
            if known is None or "error" in known or not is_same_work(known, cell, digest):
                progress.note(f"{number + 1} of {len(cells)}: {cell.id}")
                records[cell.id] = run_cell(cell, place, digest, progress)
                failed += "error" in records[cell.id]
            found = [records[one.id] for one in cells if one.id in records]
            write_json(options.out / "kinds.json", found)
            write_bytes(options.out / "kinds.md", (tables(found, kinds) + "\n").encode())
            write_bytes(options.out / "likelihoods.svg", likelihoods(found, kinds).encode())
    print((options.out / "kinds.md").read_text(encoding="utf-8"))
    if failed:
        raise ConfigError(
            f"{failed} of {len(cells)} cells failed.",
            hint="Their JSON files say why; the same command tries them again.",
        )


if __name__ == "__main__":
    sys.exit(main())
