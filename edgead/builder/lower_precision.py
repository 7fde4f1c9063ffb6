"""Building FP16 and INT8 engines that pass the accuracy gate, with their own thresholds."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import edgead
from edgead.builder.backends import Backend
from edgead.builder.gate import GateImages, GateScores, judge, score_images, time_in_turns
from edgead.builder.images import CalibrationImages, calibration_images, gate_images, pseudo_defective, single_inputs
from edgead.builder.thresholds import HeldOutBatch, carried_thresholds, thresholds_from_runner
from edgead.bundle import Bundle
from edgead.data.folders import is_image
from edgead.engines.fingerprint import TENSORRT, EngineRecord, GateRecord, LayerRecord, PrecisionRecord
from edgead.engines.installing import fingerprint_of, install_engine
from edgead.engines.opening import open_engine
from edgead.engines.parity import compare_to_reference
from edgead.errors import CheckFailed
from edgead.manifest import ClassThresholds, NfaRecord
from edgead.precision.cost import node_multiply_adds
from edgead.precision.fp16 import all_activations, float32_nodes, half_between_integers, to_fp16
from edgead.precision.int8 import Int8Options
from edgead.precision.quantiser import LayerError, Quantiser
from edgead.precision.ranges import collect_statistics
from edgead.precision.recipe import Recipe
from edgead.progress import Progress, Silent
from edgead.runner import REFERENCE, Runner
from edgead.storage import scratch_folder

if TYPE_CHECKING:
    import onnx

BATCH = 8
SENSITIVITY_IMAGES = 4
FP16_IMAGES = 8
STEP_SHARE = 0.1


@dataclass(frozen=True)
class LowerOptions:
    """User options for a lower-precision engine.

    Attributes:
        max_drop: Largest allowed drop of the image AUROC, 0..1.
        recipe: INT8 calibration recipe.
        calib: Folder of good images for the ranges; None = the bundle's images.
        labelled: Labelled data set for the gate; None = pseudo-defects on the bundle's held-out images.
    """

    max_drop: float = 0.01
    recipe: Recipe = field(default_factory=Recipe)
    calib: Path | None = None
    labelled: Path | None = None


@dataclass(frozen=True)
class _Candidate:
    """A form of the graph, the nodes kept in float32, and the share of lower precision."""

    graph: bytes
    kept: frozenset[str]
    layers: list[LayerRecord]
    coverage: float


@dataclass(frozen=True)
class _Judged:
    runner: Runner
    gate: GateRecord
    thresholds: dict[str, ClassThresholds]
    nfa: NfaRecord | None


def request_of(bundle: Bundle, backend: Backend, options: LowerOptions) -> str:
    """Digest of everything that determines the engine: the same request gives the same engine."""
    content = {
        "edgead": edgead.__version__,
        "bundle": bundle.digest,
        "backend": [backend.name, backend.version, backend.gpu, backend.precision],
        "options": backend.request,
        "max_drop": options.max_drop,
        "recipe": options.recipe.model_dump(mode="json"),
        "folders": [_folder_state(path) for path in (options.calib, options.labelled)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def build_lower(bundle: Bundle, backend: Backend, options: LowerOptions, progress: Progress) -> EngineRecord:
    """Build a lower-precision engine; it is installed only if it passes the gate.

    Args:
        bundle: Verified bundle with held-out images.
        backend: Backend for the requested precision.
        options: Options for calibration and gate.
        progress: Receives notes and progress.

    Raises:
        EngineBuildError: If the backend cannot build it, or the bundle has no held-out images.
        DataError: If the supplied images are too few or not good.
        CheckFailed: If every candidate misses the gate; an older engine stays installed.
    """
    started = time.monotonic()
    name = f"{backend.name}-{backend.precision}"
    with open_engine(bundle, REFERENCE, threads=0) as reference:
        images = gate_images(bundle, options.labelled, progress)
        ranges = calibration_images(bundle, options.calib, options.recipe.images, reference, progress)
        progress.note(
            f"Ranges from {len(ranges.images)} good images; gate on {len(images.good)} good and {len(images.defective)} "
            f"{'defective' if images.is_labelled else 'pseudo-defective'} images."
        )
        truth = score_images(reference, images, progress)
        with scratch_folder(bundle.engines_path, name) as staging:
            candidate, judged = _first_that_holds(
                bundle, backend, options, progress, staging, _candidates(bundle, backend, options, ranges, images, progress),
                lambda runner: _judge(bundle, runner, images, truth, options.max_drop, progress),
            )  # fmt: skip
            with judged.runner as runner:
                comparison = compare_to_reference(
                    bundle.with_thresholds(judged.thresholds, judged.nfa), runner, shipped=bundle
                )
                reference_ms, engine_ms = time_in_turns(reference, runner, images.good[0])
            if engine_ms > reference_ms:
                progress.note(
                    f"Note: {engine_ms:.1f} ms per image; the float32 graph takes {reference_ms:.1f} ms on this machine."
                )
            lower = PrecisionRecord(
                gate=judged.gate,
                layers=tuple(backend.layers() or candidate.layers),
                coverage=candidate.coverage,
                recipe=options.recipe.model_dump(mode="json") if backend.precision == "int8" else {},
                images=ranges.names,
                reference_ms=round(reference_ms, 3),
                engine_ms=round(engine_ms, 3),
                thresholds=judged.thresholds,
                nfa=judged.nfa,
            )
            fingerprint = fingerprint_of(
                bundle, backend.name, backend.version, backend.precision, backend.gpu, backend.device
            )
            return install_engine(
                bundle, staging, staging / backend.file, fingerprint, comparison, time.monotonic() - started,
                request=request_of(bundle, backend, options), tensorrt=backend.record(), lower=lower,
            )  # fmt: skip


def _first_that_holds(
    bundle: Bundle,
    backend: Backend,
    options: LowerOptions,
    progress: Progress,
    staging: Path,
    candidates: Iterator[_Candidate],
    judge_runner: Callable[[Runner], _Judged],
) -> tuple[_Candidate, _Judged]:
    """Build one candidate after another until one passes the gate; its engine file is then in `staging`."""
    last: GateRecord | None = None
    for candidate in candidates:
        engine = backend.build(candidate.graph, candidate.kept, staging)
        with _closing_on_error(bundle.frame_runner(engine)) as runner:
            judged = judge_runner(runner)
        last = judged.gate
        progress.note(_gate_text(last, candidate.coverage, backend.precision))
        if last.drop <= options.max_drop:
            return candidate, judged
        runner.__exit__(None, None, None)
    assert last is not None
    raise CheckFailed(
        f"{backend.name}-{backend.precision} misses the gate: image AUROC {last.engine_auroc:.4f} on {last.judged_by}, "
        f"float32 {last.reference_auroc:.4f}; the allowed drop is {options.max_drop:.4f}. Nothing was installed.",
        hint="Allow more with --max-drop, try another --recipe, or use --fp16 or --fp32.",
    )


@contextmanager
def _closing_on_error(runner: Runner) -> Iterator[Runner]:
    try:
        yield runner
    except BaseException:
        runner.__exit__(None, None, None)
        raise


def _candidates(
    bundle: Bundle,
    backend: Backend,
    options: LowerOptions,
    ranges: CalibrationImages,
    images: GateImages,
    progress: Progress,
) -> Iterator[_Candidate]:
    """Forms of the graph, the one with the most lower precision first."""
    import onnx

    master = onnx.load(str(bundle.model_path))
    if backend.graph == "int8":
        yield from _int8_candidates(master, backend, options, ranges, images, progress)
        return
    kept = _float32_nodes(master, ranges, progress)
    # given a float32 graph, the backend lowers the precision by its own flags, except for the kept nodes
    graph = to_fp16(master, kept) if backend.graph == "fp16" else master
    yield _Candidate(
        graph.SerializeToString(), frozenset(kept), _half_layers(master, kept), _half_coverage(master, kept)
    )


def _int8_candidates(
    master: onnx.ModelProto,
    backend: Backend,
    options: LowerOptions,
    ranges: CalibrationImages,
    images: GateImages,
    progress: Progress,
) -> Iterator[_Candidate]:
    """INT8 forms: the sensitive layers stay in higher precision, more of them each time."""
    quantiser = Quantiser(master, ranges.images, options.recipe, backend.int8_options, progress.update)
    float32 = _float32_nodes(master, ranges, progress) if backend.name == TENSORRT else {}
    groups = _first_of_both(images)
    errors = quantiser.sensitivity(*groups)
    kept = quantiser.outliers(errors)
    if options.recipe.rounding == "second_order" and not quantiser.choose_rounding(kept, *groups):
        progress.note("Weights are rounded to the nearest integers, which changes the maps less than second order.")
    if kept:
        progress.note(
            f"Kept in higher precision because of their own error: {', '.join(_short(name) for name in kept)}."
        )
    step = max(1, round(STEP_SHARE * len(errors)))
    order = [layer.name for layer in errors]
    while True:
        graph = quantiser.graph(kept)
        if backend.int8_options.half_scales:
            graph = half_between_integers(graph, float32)
        layers = _int8_layers(quantiser, errors, kept, float32, backend.int8_options)
        yield _Candidate(graph.SerializeToString(), frozenset(float32), layers, quantiser.coverage(kept))
        more = [name for name in order if name not in kept][:step]
        if not more or len(kept) + len(more) >= len(order):
            return
        kept = [*kept, *more]
        progress.note(f"Returned to higher precision: {', '.join(_short(name) for name in more)}.")


def _float32_nodes(master: onnx.ModelProto, ranges: CalibrationImages, progress: Progress) -> dict[str, str]:
    """Nodes that must stay in float32 in every form, with the reasons."""
    images = ranges.images[:FP16_IMAGES]
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress.update("Ranges", done, len(images))

    names = all_activations(master)
    return float32_nodes(master, collect_statistics(master, names, images, histograms=False, on_image=step))


def _half_layers(master: onnx.ModelProto, kept: Mapping[str, str]) -> list[LayerRecord]:
    costs = node_multiply_adds(master)
    return [LayerRecord(name=name, precision="fp32" if name in kept else "fp16") for name in costs]


def _half_coverage(master: onnx.ModelProto, kept: Mapping[str, str]) -> float:
    costs = node_multiply_adds(master)
    return sum(cost for name, cost in costs.items() if name not in kept) / max(sum(costs.values()), 1)


def _int8_layers(
    quantiser: Quantiser,
    errors: Sequence[LayerError],
    kept: Collection[str],
    float32: Collection[str],
    options: Int8Options,
) -> list[LayerRecord]:
    """Precision and error of every layer with weights, in graph order."""
    error_of = {layer.name: layer.error for layer in errors}
    integers = set(quantiser.candidates) - set(kept)
    rows = []
    for name in quantiser.costs:
        higher = "fp16" if options.layout == "tensorrt" and name not in float32 else "fp32"
        precision = "int8" if name in integers else higher
        rows.append(LayerRecord(name=name, precision=precision, error=error_of.get(name)))
    return rows


def _first_of_both(images: GateImages) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A few good and a few pseudo-defective images; labelled images serve the gate only, never a choice."""
    some = images.held_out[:SENSITIVITY_IMAGES]
    return single_inputs(some), single_inputs(pseudo_defective(some))


def _held_out_batches(images: GateImages) -> Iterator[HeldOutBatch]:
    for start in range(0, len(images.held_out), BATCH):
        part = slice(start, start + BATCH)
        yield images.held_out[part], images.classes[part]


def _gate_text(gate: GateRecord, coverage: float, precision: str) -> str:
    return (
        f"{coverage:.0%} of the multiply-adds in {precision}: image AUROC {gate.engine_auroc:.4f} on {gate.judged_by} "
        f"(float32 {gate.reference_auroc:.4f}), score correlation {gate.score_correlation:.4f}."
    )


def _short(name: str) -> str:
    """A node's name without the common prefix and suffix."""
    return name.strip("/").removeprefix("backbone/body/").removesuffix("/Conv")


def _folder_state(folder: Path | None) -> list[tuple[str, int, int]] | None:
    """Names, sizes and modification times of a folder's images: cheap to read, and different after any change."""
    if folder is None:
        return None
    states = [(path, path.stat()) for path in sorted(folder.rglob("*")) if is_image(path)]
    return [(str(path.relative_to(folder)), state.st_size, state.st_mtime_ns) for path, state in states]


def _judge(
    bundle: Bundle, runner: Runner, images: GateImages, truth: GateScores, max_drop: float, progress: Progress
) -> _Judged:
    scores = score_images(runner, images, progress)
    manifest = bundle.manifest
    if images.corrections is not None:
        # the model has seen these images: its thresholds come from left-out scores, which no engine can give
        carried = carried_thresholds(manifest.thresholds, truth.outputs, scores.outputs)
        gate = judge(truth, scores, bundle, carried, max_drop, is_labelled=images.is_labelled)
        return _Judged(runner, gate, carried, None)
    thresholds, nfa = thresholds_from_runner(
        runner,
        _held_out_batches(images),
        len(images.held_out),
        classes=manifest.classes,
        knows_classes=manifest.graph.class_bias is not None,
        norms=[(level.output, level.channels) for level in manifest.nfa.levels] if manifest.nfa else [],
        false_alarm_rate=bundle.thresholds().threshold.false_alarm_rate,
        confidence=bundle.thresholds().threshold.confidence,
        progress=Silent(),
    )
    gate = judge(truth, scores, bundle, thresholds, max_drop, is_labelled=images.is_labelled)
    return _Judged(runner, gate, thresholds, nfa)
