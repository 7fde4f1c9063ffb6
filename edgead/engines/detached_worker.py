"""Process of a `DetachedRunner`: opens an engine, and answers batches until the connection is closed.

Protocol, on the connection whose number is the first argument: first the facts about the engine, then an answer for each
batch and class bias. An answer is `("ok", content)` or `("error", (message, hint))`.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def serve(connection: Connection, path: Path, name: str | None, threads: int, nice: int) -> None:
    """Answer until the other end is closed."""
    from edgead.bundle import open_bundle
    from edgead.engines.opening import open_with_thresholds
    from edgead.tiled_runner import TiledRunner

    try:
        opened, _ = open_with_thresholds(open_bundle(path), name, threads=threads)
    except Exception as error:
        connection.send(("error", _said(error)))
        return
    with opened:
        engine = opened.engine if isinstance(opened, TiledRunner) else opened
        # not before: at the lowest priority a busy machine would take minutes to open it
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
        facts = {key: getattr(engine, key) for key in ("engine_name", "device", "input_spec", "output_specs")}
        connection.send(("ok", facts))
        while True:
            batch, class_bias = connection.recv()
            try:
                answer: tuple[str, Any] = ("ok", engine.infer(batch, class_bias))
            except Exception as error:
                answer = ("error", _said(error))
            connection.send(answer)


def _said(error: Exception) -> tuple[str, str]:
    from edgead.errors import EdgeadError

    if isinstance(error, EdgeadError):
        return error.message, error.hint
    return f"{type(error).__name__}: {error}", ""


def main() -> None:
    """Serve the parent that started this process."""
    number, path, name, threads, nice = sys.argv[1:]
    try:
        serve(Connection(int(number)), Path(path), name or None, int(threads), int(nice))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has closed its end, or was killed


if __name__ == "__main__":
    main()
