"""Write or check the tables of names in TensorRT's and CUDA's Python bindings: `python -m tools.bindings`.

Tests check the names that our TensorRT and CUDA code uses against these tables.

The Python halves of TensorRT, cuda-bindings and pycuda are downloaded through pip, imported (pycuda: read) and listed:
classes, methods, properties, enum members with their numbers, argument names. Only these names are kept.
TensorRT itself is absent: its bindings load stub libraries, so nothing is built and nothing runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bindings.packages import (
    CUDA_BINDINGS,
    PATHFINDER,
    PYCUDA,
    TENSORRT,
    DownloadError,
    Package,
    default_cache,
    fetch,
)
from tools.bindings.pycuda_source import source_facts
from tools.bindings.stubs import NoCompilerError, build_stubs
from tools.bindings.table import FOLDER, differences, table_text

CANNOT_DOWNLOAD = 3
HOW = {
    "tensorrt": "imported with libraries without content; signatures out of the docstrings' first lines",
    "cuda.bindings": "imported without a driver; signatures through inspect",
    "pycuda": "read from the C++ and Python sources, not imported: enum numbers unknown (null), '(*)' = not named there",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: written, or the same; 1: different; 3: a download is impossible."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    try:
        tables = _tables(options.cache)
    except (DownloadError, NoCompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_DOWNLOAD
    changed = [line for name, table in tables.items() for line in _changes(options.out / name, table)]
    print("\n".join(changed) or "Nothing differs from the committed tables.")
    if not options.check:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            (options.out / name).write_text(table_text(table) + "\n", encoding="utf-8")
    print(f"{len(changed)} differences, {time.monotonic() - started:.0f} s")
    return 1 if options.check and changed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bindings", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed tables, write nothing")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the tables")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for downloads")
    return parser


def _changes(path: Path, table: dict[str, Any]) -> list[str]:
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return [f"{path.name}: {line}" for line in differences(old, json.loads(table_text(table)))]


def _tables(cache: Path) -> dict[str, dict[str, Any]]:
    """File name -> {"how": ..., package api: {version: facts}}."""
    every = (*TENSORRT, *CUDA_BINDINGS, *PYCUDA)
    found: dict[str, dict[str, Any]] = {"tensorrt": {}, "cuda.bindings": {}, "pycuda": {}}
    for number, package in enumerate(every, 1):
        print(f"[{number}/{len(every)}] {package}", flush=True)
        found[package.api][package.version] = {"package": str(package), **_facts(package, cache)}
    tensorrt = {"how": HOW["tensorrt"], "versions": found.pop("tensorrt")}
    return {
        "tensorrt.json": tensorrt,
        "cuda.json": {api: {"how": HOW[api], "versions": facts} for api, facts in found.items()},
    }


def _facts(package: Package, cache: Path) -> dict[str, Any]:
    if package.api == "pycuda":
        return source_facts(fetch(package, cache, source=True))
    folders = [fetch(package, cache)]
    if package.api == "cuda.bindings":
        return _child("dump_cuda", [*folders, fetch(PATHFINDER, cache)], {})
    stubs = build_stubs(package.major, cache / f"stubs-{package.major}")
    return _child("dump_tensorrt", folders, {"LD_LIBRARY_PATH": str(stubs)})


def _child(module: str, folders: list[Path], environment: dict[str, str]) -> dict[str, Any]:
    """A process for each version: two of them do not fit into one."""
    command = [sys.executable, "-m", f"tools.bindings.{module}", *map(str, folders)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    facts = json.loads(done.stdout)
    facts.pop("version")
    return dict(facts)


if __name__ == "__main__":
    sys.exit(main())
