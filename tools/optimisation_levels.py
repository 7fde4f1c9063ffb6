"""Differences of fp32 graphs from their bundles' references by ONNX Runtime's optimisation level: `python -m tools.optimisation_levels BUNDLE...`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import onnxruntime

from edgead.bundle import open_bundle
from edgead.engines import onnx_session
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.parity import compare_to_reference

LEVELS = {
    "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_options = onnx_session.session_options


def _options_at(level: onnxruntime.GraphOptimizationLevel, threads: int) -> onnxruntime.SessionOptions:
    options = _options(threads)
    options.graph_optimization_level = level
    return options


def main(paths: list[Path]) -> None:
    """Print a row of a Markdown table for each bundle and level."""
    print("| bundle | level | scores | maps to peaks | map elements | verdicts that flip |\n|---|---|---|---|---|---|")
    for path in paths:
        bundle = open_bundle(path)
        for name, level in LEVELS.items():
            onnx_session.session_options = partial(_options_at, level)
            with OnnxRunner(bundle.model_path, threads=1, engine_name=name) as runner:
                found = compare_to_reference(bundle, runner)
            print(
                f"| {path.resolve().parent.name} | {name} | {found.score_relative_difference:.1e} "
                f"| {found.peak_relative_difference:.1e} | {found.max_relative_difference:.1e} "
                f"| {found.verdict_flips} of {found.n_images} |"
            )


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
