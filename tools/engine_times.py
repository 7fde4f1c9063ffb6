"""Compare the latency of INT8 and fp32 engines on the CPU: `python tools/engine_times.py BUNDLE [BUNDLE ...]`.

Prints a table of medians and ratios. Builds missing engines for ONNX Runtime's CPU provider, with the gate of `edgead
build-engine`, then runs both in turns, one image at a time, in several rounds with newly opened engines, on one thread
and on all. The machine should be idle otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgead.builder.gate import time_in_turns
from edgead.bundle import open_bundle
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.onnx_session import available_cores

PRECISIONS = ("fp32", "int8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table: medians in ms and their ratio, the ratio's spread over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=150, help="of each engine per round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    print("| bundle | threads | fp32 | int8 | int8 / fp32 | of rounds |\n|:--|--:|--:|--:|--:|:--|")
    for folder in options.bundles:
        files = [_engine(folder, precision) for precision in PRECISIONS]
        image = open_bundle(folder).calibration_images()[0]
        for threads in dict.fromkeys([1, available_cores()]):
            rounds = [
                time_in_turns(_open(files[0], threads), _open(files[1], threads), image, options.runs)
                for _ in range(options.rounds)
            ]
            full, lower = (statistics.median(times) for times in zip(*rounds, strict=True))
            ratios = sorted(int8 / fp32 for fp32, int8 in rounds)
            spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
            print(f"| {folder} | {threads} | {full:.1f} | {lower:.1f} | {statistics.median(ratios):.3f} | {spread} |")
    return 0


def _engine(folder: Path, precision: str) -> Path:
    wanted = [str(folder), f"--{precision}", "--backend", "onnxruntime", "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "edgead", "build-engine", *wanted], check=True, stdout=subprocess.DEVNULL)
    return folder / "engines" / f"onnxruntime-{precision}" / "model.onnx"


def _open(file: Path, threads: int) -> OnnxRunner:
    return OnnxRunner(file, threads=threads, engine_name=file.parent.name)


if __name__ == "__main__":
    sys.exit(main())
