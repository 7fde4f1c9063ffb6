"""TensorRT backend: whether it can be used here, and in which versions."""

from __future__ import annotations

import importlib.metadata
import importlib.util

_PACKAGES = ("tensorrt", "pycuda", "cuda-bindings")


def available() -> str | None:
    """Why no TensorRT engine can be built and run here; None if one can.

    Checks packages, driver and GPU; loads nothing onto the GPU.
    """
    from edgead.engines.tensorrt.cuda import find_gpu
    from edgead.errors import EngineError, MissingDependencyError

    try:
        import tensorrt as trt
    except ModuleNotFoundError:
        return (
            "TensorRT's Python package is not installed; on a Jetson it comes with JetPack and is visible in a virtual "
            "environment made with --system-site-packages"
        )
    except (ImportError, OSError) as error:
        return f"TensorRT cannot be loaded: {error}"
    if not hasattr(trt.IExecutionContext, "execute_async_v3"):
        return f"TensorRT {trt.__version__} is too old: edgead needs 8.5 or later"
    try:
        find_gpu()
    except (EngineError, MissingDependencyError) as error:
        return f"{error.message} {error.hint}"
    return None


def versions() -> dict[str, str]:
    """Installed versions by name: `tensorrt`, `pycuda`, `cuda-bindings`, `gpu`, `cuda driver`, `power mode`.

    Names of missing components are left out.
    """
    from edgead.engines.tensorrt.cuda import find_gpu
    from edgead.engines.tensorrt.power import power_mode
    from edgead.errors import EngineError, MissingDependencyError

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        import tensorrt as trt

        found["tensorrt"] = str(trt.__version__)  # JetPack's TensorRT has no package metadata
    except (ImportError, OSError):
        found.pop("tensorrt", None)
    try:
        gpu = find_gpu()
    except (EngineError, MissingDependencyError):
        return found
    return {
        **found,
        "gpu": gpu.identity,
        "cuda driver": f"{gpu.driver_version // 1000}.{gpu.driver_version % 1000 // 10}",
        "power mode": power_mode(),
    }
