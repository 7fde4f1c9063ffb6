"""The bundle and its engines; without a bundle, a tiny graph proves the backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.commands.doctor.check import Check
from edgead.errors import EdgeadError

if TYPE_CHECKING:
    from edgead.bundle import Bundle

SAME_AGAIN = 1.05


def check_model(path: Path, named: bool, threads: int) -> Iterator[Check]:
    """Score the bundle's reference images with every engine, or prove the backends where there is no bundle.

    Args:
        path: Where the bundle is expected.
        named: Whether the user named it; then a missing one is a failure.
        threads: Of ONNX Runtime.
    """
    try:
        yield from _model(path, named, threads)
    except ImportError as error:  # a package that its own check has named
        yield Check("model", "failed", f"nothing can be computed here: {error}", "First put right what failed above.")


def _model(path: Path, named: bool, threads: int) -> Iterator[Check]:
    if not path.is_dir() and not named:
        from edgead.commands.doctor.proof import check_backends

        yield Check("bundle", "info", f"none at {path}; make one with `edgead train` or `edgead demo`")
        yield from check_backends(threads)
        return
    from edgead.bundle import open_bundle
    from edgead.engines.build import REFERENCE, present_engines

    try:
        bundle = open_bundle(path)
    except EdgeadError as error:
        yield Check("bundle", "failed", error.message, error.hint)
        return
    manifest = bundle.manifest
    classes = f"{len(manifest.classes)} class{'es' if len(manifest.classes) > 1 else ''}"
    yield Check(
        "bundle", "ok", f"{path}: {manifest.model}, {classes}, every digest of {len(manifest.sha256)} files right"
    )
    for name in (REFERENCE, *present_engines(bundle)):
        yield _guarded(f"engine {name}", lambda name=name: _engine(bundle, name, threads))  # type: ignore[misc]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except EdgeadError as error:
        return Check(name, "failed", error.message, error.hint)


def _engine(bundle: Bundle, name: str, threads: int) -> Check:
    from edgead.engines.build import GPU_LIMIT, REFERENCE, compare_to_reference, open_calibrated
    from edgead.engines.fingerprint import read_record
    from edgead.evaluation.compare import PARITY_LIMIT

    notes: list[str] = []
    opened, own = open_calibrated(bundle, name, threads=threads, on_note=notes.append)
    with opened as runner:
        comparison = compare_to_reference(own, runner, shipped=bundle)
    record = None if name == REFERENCE else read_record(bundle.engines_path / name)
    if record is None or (record.lower is None and record.tensorrt is None):
        on_gpu = record is not None and record.fingerprint.device == "cuda"
        limit, flips, why = GPU_LIMIT if on_gpu else PARITY_LIMIT, 0, "allowed"
    else:
        # what it may differ from float32 its gate has judged; here it must do what it did then
        limit = record.max_relative_difference * SAME_AGAIN + PARITY_LIMIT
        flips, why = record.verdict_flips, "when it was built, with a margin,"
    holds = comparison.max_relative_difference <= limit and comparison.verdict_flips <= flips
    return Check(
        f"engine {name}",
        "failed" if not holds else "warning" if notes else "ok",
        f"on {runner.device}, {comparison.n_images} reference images: largest relative difference {comparison.max_relative_difference:.1e} "
        f"({why} {limit:.0e}), {comparison.verdict_flips} verdicts flip",
        " ".join(notes) if holds else "Build it anew: edgead build-engine --rebuild",
    )
