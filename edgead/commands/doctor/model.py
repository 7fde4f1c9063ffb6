"""Check of the bundle and its engines; without a bundle, a tiny graph tests the backends."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from edgead.commands.doctor.check import Check
from edgead.commands.doctor.machine import short
from edgead.errors import EdgeadError

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.engines.tensorrt.runner import TensorRTRunner

SAME_AGAIN = 1.05
TIMED_RUNS = 10


def check_model(path: Path, named: bool, threads: int, *, compared: Collection[str] = ()) -> Iterator[Check]:
    """Score the bundle's reference images with every engine, or test the backends if there is no bundle.

    Args:
        path: Expected path of the bundle.
        named: Whether the user named the bundle; then a missing one is a failure.
        threads: Number of CPU threads of ONNX Runtime.
        compared: Engines of float32 that this process has compared with the reference images already: they are opened, and
            judge one of them. The bundle's own graph among them is left out.
    """
    try:
        yield from _model(path, named, threads, compared)
    except ImportError as error:  # reported by the check of that package
        yield Check("model", "failed", f"no model can run here: {error}", "Fix the failed checks above first.")


def _model(path: Path, named: bool, threads: int, compared: Collection[str]) -> Iterator[Check]:
    yield from _tensorrt()
    if not path.is_dir() and not named:
        from edgead.commands.doctor.proof import check_backends

        yield Check("bundle", "info", f"none at {path}; create one with `edgead train` or `edgead demo`")
        yield from check_backends(threads)
        return
    from edgead.bundle import open_bundle
    from edgead.engines.opening import present_engines
    from edgead.runner import REFERENCE

    try:
        bundle = open_bundle(path)
    except EdgeadError as error:
        yield Check("bundle", "failed", error.message, error.hint)
        return
    manifest = bundle.manifest
    classes = f"{len(manifest.classes)} class{'es' if len(manifest.classes) > 1 else ''}"
    yield Check("bundle", "ok", f"{path}: {manifest.model}, {classes}, all {len(manifest.sha256)} file digests match")
    for name in (REFERENCE, *present_engines(bundle)):
        if name == REFERENCE and name in compared:
            continue
        try:
            yield from _opens(bundle, name, threads) if name in compared else _engine(bundle, name, threads)
        except EdgeadError as error:
            yield Check(f"engine {name}", "failed", error.message, error.hint)


def _opens(bundle: Bundle, name: str, threads: int) -> Iterator[Check]:
    """Check that an engine opens, which judges one reference image."""
    from edgead.engines.fingerprint import read_record
    from edgead.engines.opening import open_engine

    notes: list[str] = []
    with open_engine(bundle, name, threads=threads, on_note=notes.append) as runner:
        record = read_record(bundle.engines_path / name)
        detail = (
            f"on {runner.device}, opens; {record.n_images} reference images when it was built: largest relative difference "
            f"{record.max_relative_difference:.1e}"
        )
        yield Check(f"engine {name}", "warning" if notes else "ok", detail, " ".join(notes))


def _tensorrt() -> Iterator[Check]:
    """Check whether the installed TensorRT is usable; package, driver and GPU are checked separately under GPU."""
    from edgead.engines.tensorrt import available, versions

    found = versions()
    if "tensorrt" not in found:
        return
    reason = available()
    if reason is not None:
        yield Check("tensorrt engines", "warning", f"cannot be built or run here: {reason}")
        return
    shown = (f"{name} {value if ' ' in value else short(value)}" for name, value in found.items())
    yield Check("tensorrt engines", "ok", f"can be built and run here: {'; '.join(shown)}")


def _engine(bundle: Bundle, name: str, threads: int) -> Iterator[Check]:
    from edgead.engines.fingerprint import read_record
    from edgead.engines.opening import open_with_thresholds
    from edgead.engines.parity import GPU_LIMIT, compare_to_reference
    from edgead.engines.tensorrt.runner import TensorRTRunner
    from edgead.evaluation.compare import PARITY_LIMIT
    from edgead.runner import REFERENCE
    from edgead.tiled_runner import TiledRunner

    notes: list[str] = []
    opened, own = open_with_thresholds(bundle, name, threads=threads, on_note=notes.append)
    with opened as runner:
        comparison = compare_to_reference(own, runner, shipped=bundle)
        engine = runner.engine if isinstance(runner, TiledRunner) else runner
        speed = [_speed(name, engine, bundle)] if isinstance(engine, TensorRTRunner) else []
    record = None if name == REFERENCE else read_record(bundle.engines_path / name)
    seen = comparison.max_relative_difference
    detail = f"largest relative difference {seen:.1e}"
    if record is not None and (record.lower is not None or record.tensorrt is not None):
        # its gate has judged the difference from float32; here it must reproduce its own results
        limit = record.max_relative_difference * SAME_AGAIN + PARITY_LIMIT
        holds = seen <= limit and comparison.verdict_flips <= record.verdict_flips
        detail += f" (at build time, with a margin, {limit:.0e}), {comparison.verdict_flips} verdicts flip"
    elif record is not None and record.fingerprint.device == "cuda":
        holds = seen <= GPU_LIMIT and not comparison.verdict_flips
        detail += f" (allowed {GPU_LIMIT:.0e}), {comparison.verdict_flips} verdicts flip"
    else:
        holds, detail = comparison.is_parity, comparison.describe()
    yield Check(
        f"engine {name}",
        "failed" if not holds else "warning" if notes else "ok",
        f"on {runner.device}, {comparison.n_images} reference images: {detail}",
        " ".join(notes) if holds else "Rebuild it: edgead build-engine --rebuild",
    )
    yield from speed


def _speed(name: str, runner: TensorRTRunner, bundle: Bundle) -> Check:
    """Time per image on the GPU, kind of launch, and whether the engine was tuned in the current power mode."""
    image = bundle.reference()["images"][:1]
    wall_ms, gpu_ms = [], []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        runner.infer(image)
        wall_ms.append((time.perf_counter() - started) * 1e3)
        gpu_ms.append(runner.gpu_ms or 0.0)
    launched = "one CUDA graph" if runner.uses_graph else f"no CUDA graph: {runner.graph_note}"
    detail = f"{median(wall_ms):.1f} ms per image, of which the GPU computes {median(gpu_ms):.1f} ms; {launched}"
    if runner.power_note:
        advice = f"Build it in the power mode it will run in: edgead build-engine --{name.rpartition('-')[2]} --rebuild"
        return Check(f"speed {name}", "warning", f"{detail}; {runner.power_note}", advice)
    return Check(f"speed {name}", "ok" if runner.uses_graph else "info", detail)
