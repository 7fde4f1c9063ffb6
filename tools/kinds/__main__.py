"""Generated pictures of fifteen kinds of parts and materials, to compare models of many classes: `python -m tools.kinds --help`.

The pictures are drawn, not photographed. They stand in for a benchmark of fifteen classes and say nothing about real parts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgead.errors import EdgeadError
from edgead.terminal import TerminalProgress
from tools.kinds.make import Recipe, write_kinds


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
    return parser


def _make(options: argparse.Namespace) -> None:
    recipe = Recipe.scaled(options.scale, seed=options.seed, size=options.size)
    with TerminalProgress() as progress:
        write_kinds(options.out, recipe, lambda done, total: progress.update("Pictures", done, total))


if __name__ == "__main__":
    sys.exit(main())
