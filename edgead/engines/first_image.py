"""A reference image judged before any other: an engine that is blind, or of another model, is refused at once."""

from __future__ import annotations

import numpy as np

from edgead.bundle import Bundle
from edgead.engines.fingerprint import EngineRecord
from edgead.errors import BundleError, EngineError, ShapeError
from edgead.evaluation.compare import compare_outputs
from edgead.manifest import Manifest
from edgead.runner import Runner

# Far above the rounding of a float32 engine on any processor (1e-4), and of TF32 on a GPU.
WRONG = {"cpu": 5e-3, "cuda": 5e-2}
# Share of the threshold within which rounding may decide a verdict.
CLOSE = 0.1
# An engine of lower precision has to reproduce its own difference from the build.
SAME_AGAIN = 1.05


def check_contract(manifest: Manifest, runner: Runner) -> None:
    """Check inputs and outputs of an engine against the manifest.

    Raises:
        EngineError: If a name, a size or a type differs; the message names it.
    """
    height, width = manifest.preprocessing.image_size
    expected: dict[str, tuple[int, ...]] = {"anomaly_map": manifest.graph.map_size, "pred_score": ()}
    if manifest.nfa is not None:
        expected |= {level.output: level.size for level in manifest.nfa.levels}
    image = runner.input_spec
    if (image.name, image.shape[1:], image.dtype) != (manifest.graph.image, (height, width, 3), "uint8"):
        raise _unlike(runner, f"{image.name} {image.shape} {image.dtype}", f"image (None, {height}, {width}, 3) uint8")
    outputs = {spec.name: spec for spec in runner.output_specs}
    for name, size in expected.items():
        if name not in outputs:
            raise _unlike(runner, f"outputs {', '.join(outputs)}", f"an output {name}")
        spec = outputs[name]
        if (spec.shape[1:], spec.dtype) != (size, "float32"):
            raise _unlike(runner, f"{name} {spec.shape} {spec.dtype}", f"{name} {(None, *size)} float32")


def check_first_image(bundle: Bundle, own: Bundle, runner: Runner, record: EngineRecord | None) -> None:
    """Judge the reference image with the highest score, and compare map, score and verdict with the stored ones.

    Args:
        bundle: Bundle with the thresholds for the stored scores.
        own: The same with the thresholds for the engine's scores.
        runner: Open engine.
        record: Record of the engine; None for the bundle's own graph.

    Raises:
        BundleError: If the reference cannot be read.
        EngineError: If the engine does not give the stored results.
    """
    check_contract(bundle.manifest, runner)
    reference = bundle.reference()
    index = int(np.argmax(reference["pred_score"]))
    one = slice(index, index + 1)
    stored = {name: reference[name][one] for name in bundle.reference_outputs}
    theirs, ours = bundle.thresholds().threshold.value, own.thresholds().threshold.value
    outputs = runner.infer(reference["images"][one])
    try:
        comparison = compare_outputs(stored, outputs, theirs)
    except ShapeError as error:
        raise EngineError(f"{runner.engine_name} does not fit the bundle: {error}.", hint=_HINT) from error
    limit, flips = WRONG.get(runner.device, WRONG["cuda"]), 0
    if record is not None and record.lower is not None:
        limit, flips = max(WRONG["cuda"], record.max_relative_difference * SAME_AGAIN), record.verdict_flips
    seen = max(comparison.max_relative_difference, comparison.score_relative_difference)
    has_flipped = bool(stored["pred_score"][0] > theirs) != bool(outputs["pred_score"][0] > ours)
    if not seen <= limit or (has_flipped and not flips and not _is_close_call(stored["pred_score"][0], theirs)):
        raise EngineError(
            f"{runner.engine_name} does not give the results stored in the bundle: on a reference image its score is "
            f"{float(outputs['pred_score'][0]):.4g} instead of {float(stored['pred_score'][0]):.4g}, and its map differs by "
            f"up to {comparison.max_relative_difference:.2g} relative (allowed {limit:.2g}).",
            hint=_HINT,
        )


def _is_close_call(score: float, threshold: float) -> bool:
    """Whether rounding may decide the verdict: a score as near to the threshold as an engine may differ."""
    return abs(score - threshold) <= CLOSE * abs(threshold)


def _unlike(runner: Runner, seen: str, expected: str) -> BundleError:
    return BundleError(f"{runner.engine_name} has {seen}; the bundle's manifest says {expected}.", hint=_HINT)


_HINT = "Rebuild the engine (edgead build-engine --rebuild). If that fails too, do not use this bundle; train it again."
