"""Choosing and opening an engine of a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edgead.bundle import Bundle
from edgead.bundle_files import MANIFEST
from edgead.engines.fingerprint import (
    ONNXRUNTIME,
    RECORD,
    TENSORRT,
    EngineRecord,
    read_record,
    verify_engine,
)
from edgead.engines.first_image import check_first_image
from edgead.errors import EngineMismatchError
from edgead.evaluation.stored_thresholds import check_thresholds
from edgead.runner import REFERENCE, Runner
from edgead.suggestion import did_you_mean

PREFERENCE = (TENSORRT, ONNXRUNTIME)
DeviceChoice = Literal["auto", "cpu", "cuda"]


def open_engine(
    bundle: Bundle,
    name: str | None,
    *,
    threads: int,
    device: DeviceChoice = "auto",
    on_note: Callable[[str], None] | None = None,
) -> Runner:
    """Open an engine of the bundle.

    Args:
        bundle: Verified bundle.
        name: `<backend>-<precision>`, a path or `reference`; None = the best engine present, or the reference if there is none.
        threads: Number of CPU threads of ONNX Runtime; 0 = one per core.
        device: `auto` = the device the engine was built for, or the CPU if ONNX Runtime cannot use the GPU.
        on_note: Called with a sentence when the engine falls back to the CPU.

    Raises:
        EngineMismatchError: If the named engine is missing, stale or changed, or was built on another machine or for
            another device; with None such engines are skipped.
        CudaProviderError: If `device` is `cuda` and ONNX Runtime cannot use the GPU.
    """
    return open_with_thresholds(bundle, name, threads=threads, device=device, on_note=on_note)[0]


def open_with_thresholds(
    bundle: Bundle,
    name: str | None,
    *,
    threads: int,
    device: DeviceChoice = "auto",
    on_note: Callable[[str], None] | None = None,
) -> tuple[Runner, Bundle]:
    """Open an engine as `open_engine` does, with a view of the bundle that has the engine's thresholds.

    A lower-precision engine has its own thresholds. Thresholds that do not follow from the scores stored with them are
    refused, and so is an engine that does not give the stored result of a reference image.

    Raises:
        BundleError: If the bundle's thresholds were changed, or its reference is damaged.
        EngineError: If the engine is not of this bundle's model.
    """
    from edgead.engines import onnx_runner

    check_thresholds(bundle.manifest.thresholds, bundle.manifest.nfa, str(bundle.path / MANIFEST))

    def reference() -> tuple[Runner, Bundle]:
        if device == "cuda":
            raise EngineMismatchError(
                "engine.device is cuda, but the reference runs on the CPU.",
                hint="Build an engine for the GPU (edgead build-engine --device cuda), or set engine.device=auto.",
            )
        runner = onnx_runner.OnnxRunner(bundle.model_path, threads=threads, engine_name=REFERENCE)
        return _proven(bundle, bundle, runner, None)

    if name == REFERENCE:
        return reference()
    opening = _Opening(threads, device, on_note or (lambda text: None))
    if name is not None:
        folder = Path(name) if "/" in name else bundle.engines_path / name
        if not folder.is_dir():
            present = [REFERENCE, *present_engines(bundle)]
            raise EngineMismatchError(
                f"The bundle has no engine {name!r} on this machine; it has: {', '.join(present)}.{did_you_mean(name, present)}",
                hint=_how_to_build(bundle, name),
            )
        return _open(bundle, folder, opening)
    for folder in preferred_engines(bundle):
        try:
            return _open(bundle, folder, opening)
        except EngineMismatchError as error:
            opening.on_note(f"The engine {folder.name} is not used. {error.message} {error.hint}".rstrip())
    return reference()


def _how_to_build(bundle: Bundle, name: str) -> str:
    precision = name.rpartition("-")[2]
    option = f" --{precision}" if precision in ("fp32", "fp16", "int8") else ""
    return f"Build it: edgead build-engine {bundle.path}{option}, or leave out --engine to use the best one."


def present_engines(bundle: Bundle) -> list[str]:
    """Names of the engine folders in the bundle, usable or not, sorted."""
    if not bundle.engines_path.is_dir():
        return []
    folders = (path for path in bundle.engines_path.iterdir() if path.is_dir())  # the log of a failed build is a file
    return sorted(path.name for path in folders if not path.name.startswith("."))


def preferred_engines(bundle: Bundle) -> list[Path]:
    """Engine folders in order of preference: TensorRT before ONNX Runtime, then the newest build first."""
    found = []
    for name in present_engines(bundle):
        try:
            record = read_record(bundle.engines_path / name)
        except EngineMismatchError:
            continue
        if record.fingerprint.backend in PREFERENCE:
            found.append((record, bundle.engines_path / name))
    found.sort(key=lambda pair: pair[0].built_at, reverse=True)
    found.sort(key=lambda pair: PREFERENCE.index(pair[0].fingerprint.backend))
    return [folder for _, folder in found]


@dataclasses.dataclass(frozen=True)
class _Opening:
    threads: int
    device: DeviceChoice
    on_note: Callable[[str], None]


def _open(bundle: Bundle, folder: Path, opening: _Opening) -> tuple[Runner, Bundle]:
    record = read_record(folder)
    own = bundle
    if record.lower:
        check_thresholds(record.lower.thresholds, record.lower.nfa, str(folder / RECORD))
        own = bundle.with_thresholds(record.lower.thresholds, record.lower.nfa)
    if record.fingerprint.backend == TENSORRT:
        from edgead.engines.tensorrt.opening import open_tensorrt

        if opening.device == "cpu":
            raise _other_device(folder, "cuda", "cpu")
        return _proven(bundle, own, open_tensorrt(bundle, folder), record)
    return _proven(bundle, own, _open_onnxruntime(bundle, folder, opening), record)


def _proven(bundle: Bundle, own: Bundle, runner: Runner, record: EngineRecord | None) -> tuple[Runner, Bundle]:
    """The engine with its bundle, after it has judged a reference image; closed if it fails."""
    try:
        check_first_image(bundle, own, runner, record)
    except BaseException as error:
        runner.__exit__(type(error), error, error.__traceback__)
        raise
    return bundle.frame_runner(runner), own


def _open_onnxruntime(bundle: Bundle, folder: Path, opening: _Opening) -> Runner:
    from edgead.engines import onnx_runner, onnx_session

    record = read_record(folder)
    if record.fingerprint.backend != ONNXRUNTIME:
        raise EngineMismatchError(f"The engine {folder.name} needs the backend {record.fingerprint.backend!r}.")
    built_for = record.fingerprint.device
    # a graph optimised for the CPU contains CPU-only kernels; one built for the GPU runs on both
    if opening.device == "cuda" and built_for == "cpu":
        raise _other_device(folder, "cpu", "cuda")
    file = verify_engine(folder, bundle, onnx_session.version())
    device = built_for if opening.device == "auto" else opening.device
    try:
        return onnx_runner.OnnxRunner(file, threads=opening.threads, engine_name=folder.name, device=device)
    except onnx_session.CudaProviderError as error:
        if opening.device == "cuda":
            raise
        opening.on_note(f"{folder.name} was built for the GPU but runs on the CPU: {error.message}. {error.hint}")
    return onnx_runner.OnnxRunner(file, threads=opening.threads, engine_name=folder.name)


def _other_device(folder: Path, built_for: str, wanted: str) -> EngineMismatchError:
    return EngineMismatchError(
        f"The engine {folder.name} was built for {built_for}, but engine.device is {wanted}.",
        hint=f"Build one: edgead build-engine --device {wanted}; or set engine.device=auto.",
    )
