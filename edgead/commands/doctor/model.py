"""The bundle and its engines; without a bundle, a tiny graph proves the backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.commands.doctor.check import Check
from edgead.errors import EdgeadError

if TYPE_CHECKING:
    from edgead.bundle import Bundle


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
    from edgead.engines.build import compare_to_reference, open_engine
    from edgead.evaluation.compare import PARITY_LIMIT

    with open_engine(bundle, name, threads=threads) as runner:
        comparison = compare_to_reference(bundle, runner)
    return Check(
        f"engine {name}",
        "ok" if comparison.is_parity else "failed",
        f"{comparison.n_images} reference images: largest relative difference {comparison.max_relative_difference:.1e} "
        f"(allowed {PARITY_LIMIT:.0e}), {comparison.verdict_flips} verdicts flip",
        "" if comparison.is_parity else "Build it anew: edgead build-engine",
    )
