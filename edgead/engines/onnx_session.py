"""Sessions of ONNX Runtime: providers, options and optimised graphs."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgead.engines.fingerprint import Device
from edgead.errors import EngineBuildError, EngineError, StorageError
from edgead.storage import readable_name, require_writable, writable_name

_ERRORS_ONLY = 3
# WeightBiasQuantization would quantise, with one scale per tensor, a convolution left in float between integer ones
DISABLED_OPTIMIZERS = ("WeightBiasQuantization",)
CUDA_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"
# The default search, EXHAUSTIVE, times every algorithm on the first image and may choose another one on the next start.
CUDA_OPTIONS = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC"}

# A large backbone on an emulated processor takes a minute; a GPU may compile its kernels first.
FIRST_LIMIT_S: dict[Device, float] = {"cpu": 180.0, "cuda": 900.0}
_GRACE_S = 5.0


class CudaProviderError(EngineError):
    """ONNX Runtime cannot use the GPU here."""


def open_session(graph: bytes | str, threads: int, device: Device = "cpu") -> onnxruntime.InferenceSession:
    """Open a session of a serialized graph or of a file, with the options of an engine.

    Raises:
        CudaProviderError: If the GPU was asked for and cannot be used.
    """
    options = session_options(threads)
    with contextlib.nullcontext(graph) if isinstance(graph, bytes) else readable_name(Path(graph)) as given:
        return _session(given, options) if device == "cpu" else _cuda_session(given, options)


def open_profiling_session(path: Path, threads: int, prefix: Path) -> onnxruntime.InferenceSession:
    """Open a session of a file that records the time of each operator; `end_profiling` returns the path of the record."""
    options = session_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    with readable_name(path) as name:
        return _session(name, options)


def _session(graph: bytes | str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        graph, options, providers=[CPU_PROVIDER], disabled_optimizers=list(DISABLED_OPTIMIZERS)
    )


def _cuda_session(graph: bytes | str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Open a session that certainly uses the CUDA provider: ONNX Runtime itself falls back to the CPU without an error."""
    if not has_cuda_provider():
        found = ", ".join(onnxruntime.get_available_providers())
        raise CudaProviderError(
            f"the installed ONNX Runtime {version()} has no CUDA provider, only {found}",
            hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu (not available for ARM boards; use TensorRT "
            "there).",
        )
    cure = "Install the CUDA and cuDNN versions this ONNX Runtime was built for; its own messages name what is missing."
    # since 1.21: finds the libraries installed by pip, and prints the missing ones
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(
            graph, options, providers=[(CUDA_PROVIDER, CUDA_OPTIONS), CPU_PROVIDER],
            disabled_optimizers=list(DISABLED_OPTIMIZERS), enable_fallback=0,
        )  # fmt: skip
    except Exception as error:  # ONNX Runtime's exceptions have no common public type
        raise CudaProviderError(f"ONNX Runtime's CUDA provider fails: {first_line(error)}", hint=cure) from error
    if CUDA_PROVIDER not in session.get_providers():
        raise CudaProviderError(
            "ONNX Runtime has a CUDA provider, but it did not start: the session would run on the CPU", hint=cure
        )
    return session


def has_cuda_provider() -> bool:
    """Whether the installed ONNX Runtime includes a CUDA provider; it may still fail to start."""
    return CUDA_PROVIDER in onnxruntime.get_available_providers()


def cuda_problem() -> CudaProviderError | None:
    """Why ONNX Runtime cannot use the GPU here; None if it can. Opens a session of one convolution to find out."""
    try:
        open_session(_one_convolution(np.dtype(np.float32)), 1, "cuda")
    except CudaProviderError as error:
        return error
    return None


def computes_half() -> bool:
    """Whether ONNX Runtime convolves in float16 on this CPU; otherwise it wraps a float32 convolution in casts."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgead-") as folder:
        file = Path(folder) / "half.onnx"
        write_optimised(_one_convolution(np.dtype(np.float16)), file)
        return all(node.op_type != "Cast" for node in onnx.load(str(file)).graph.node)


def _one_convolution(dtype: np.dtype[np.floating]) -> bytes:  # type: ignore[type-arg]
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(dtype)
    values = [helper.make_tensor_value_info(name, kind, [1, 8, 8, 8]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.ones((8, 8, 1, 1), dtype), "w")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "one", values[:1], values[1:], [weight])
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def feed_of(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Inputs of a graph for images of unknown class."""
    first, *others = session.get_inputs()
    feed: dict[str, NDArray[np.generic]] = {first.name: images}
    for other in others:
        feed[other.name] = np.zeros((len(images), other.shape[1]), np.float32)
    return feed


def run_first(
    session: onnxruntime.InferenceSession, names: Sequence[str], feed: Mapping[str, NDArray[Any]], limit_s: float
) -> list[NDArray[Any]]:
    """Run a batch; give up after `limit_s` seconds.

    ONNX Runtime is asked to stop, which it does between two operators; a single operator that does not end is left
    behind on its thread, which does not keep the process alive.

    Raises:
        EngineError: After the limit.
        Exception: The exceptions of ONNX Runtime.
    """
    options = onnxruntime.RunOptions()
    found: list[list[NDArray[Any]]] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(session.run(list(names), dict(feed), options))
        except Exception as error:  # ONNX Runtime's exceptions have no common public type
            failed.append(error)

    thread = threading.Thread(target=run, name="edgead first image", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        options.terminate = True
        thread.join(_GRACE_S)
        raise EngineError(
            f"The graph did not finish its first image within {limit_s:g} s.",
            hint="If this machine is slow, build an engine for it (edgead build-engine); otherwise do not use this bundle.",
        )
    if failed:
        raise failed[0]
    return found[0]


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of every session: errors only, all graph optimisations, threads that sleep when idle.

    Spinning does not pay for camera frames: with 2 threads and a frame every 50 ms it took 70 % of a core instead of
    36 %, and on a machine with other work each frame 39 ms instead of 28 ms.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def available_cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_optimised(source: Path | bytes, target: Path) -> None:
    """Write a graph (its file, or serialized) as ONNX Runtime optimises it for this CPU, so that it opens faster.

    Nothing more can be cached: a session of the lite0 graph opens in 91 ms, of this file in 72 ms. Opening the file with
    optimisations off takes as long (73 ms), ONNX Runtime's own format longer (110 ms).

    Raises:
        EngineBuildError: If ONNX Runtime refuses the graph.
        StorageError: If the file cannot be written.
    """
    options = session_options(0)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    try:
        with contextlib.ExitStack() as names:
            options.optimized_model_filepath = names.enter_context(writable_name(target))
            _session(source if isinstance(source, bytes) else names.enter_context(readable_name(source)), options)
    except StorageError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common public type
        # on a full disk ONNX Runtime only says "Protobuf serialization failed"
        require_writable(target, len(source) if isinstance(source, bytes) else source.stat().st_size)
        raise EngineBuildError(f"ONNX Runtime {version()} could not build the engine: {first_line(error)}") from error


def version() -> str:
    """ONNX Runtime's version."""
    return str(onnxruntime.__version__)


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
