"""How long the INT8 engine of a bundle takes beside the fp32 one: `python tools/engine_times.py BUNDLE [BUNDLE ...]`.

Builds what is missing for ONNX Runtime's CPU provider (`edgead build-engine` does it with a gate; so does this), then runs
both in turns, one image at a time, several rounds, on one thread and on all. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import open_bundle
from edgead.engines.onnx_runner import OnnxRunner, available_cores

WARM_UP = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table: medians in ms and their ratio, the ratio's spread over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=150, help="of each engine per round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    print("| bundle | threads | fp32 | int8 | int8 / fp32 | of rounds |\n|:--|--:|--:|--:|--:|:--|")
    for folder in options.bundles:
        files = {precision: _engine(folder, precision) for precision in ("fp32", "int8")}
        image = open_bundle(folder).calibration_images()[:1]
        for threads in dict.fromkeys([1, available_cores()]):
            rounds = [_round(files, image, threads, options.runs) for _ in range(options.rounds)]
            ratios = sorted(times["int8"] / times["fp32"] for times in rounds)
            full, lower = (1e3 * statistics.median(times[name] for times in rounds) for name in ("fp32", "int8"))
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(f"| {folder} | {threads} | {full:.1f} | {lower:.1f} | {statistics.median(ratios):.2f} | {spread} |")
    return 0


def _engine(folder: Path, precision: str) -> Path:
    command = [
        sys.executable,
        "-m",
        "edgead",
        "build-engine",
        str(folder),
        f"--{precision}",
        "--backend",
        "onnxruntime",
    ]
    subprocess.run([*command, "--device", "cpu"], check=True, stdout=subprocess.DEVNULL)
    return folder / "engines" / f"onnxruntime-{precision}" / "model.onnx"


def _round(files: dict[str, Path], image: NDArray[np.uint8], threads: int, runs: int) -> dict[str, float]:
    """Median seconds of each engine, run in turns."""
    runners = {name: OnnxRunner(file, threads=threads, engine_name=name) for name, file in files.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(WARM_UP + runs):
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.infer(image)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}


if __name__ == "__main__":
    sys.exit(main())
