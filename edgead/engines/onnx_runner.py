"""ONNX Runtime behind the `Runner` contract."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.errors import EngineBuildError, EngineError, ShapeError
from edgead.runner import Outputs, TensorSpec
from edgead.storage import require_writable

_ERRORS_ONLY = 3
# would quantise the weights of a convolution that was left in float between integer ones, with one scale per tensor
DISABLED_OPTIMIZERS = ("WeightBiasQuantization",)
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRunner:
    """Runs a graph on ONNX Runtime's CPU provider.

    Args:
        path: An `.onnx` file that edgead wrote.
        threads: CPU threads; 0 = one per core that this process may use.
        engine_name: `<backend>-<precision>`, or `reference`.

    Raises:
        EngineError: If ONNX Runtime refuses the file.
    """

    def __init__(self, path: Path, *, threads: int, engine_name: str) -> None:
        self.engine_name = engine_name
        try:
            self._session: onnxruntime.InferenceSession | None = open_session(str(path), threads)
        except Exception as error:  # ONNX Runtime's exceptions have no common public type
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {_first_line(error)}",
                hint="Rebuild it with `edgead build-engine`.",
            ) from error
        self.input_spec = _spec(self._session.get_inputs()[0])
        self.output_specs = tuple(_spec(output) for output in self._session.get_outputs())
        self._names = [spec.name for spec in self.output_specs]
        others = [_spec(value) for value in self._session.get_inputs()[1:]]
        self._class_bias = others[0] if others else None

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        """Run a batch; see `Runner`.

        Raises:
            ShapeError: If the images do not have the graph's size.
            EngineError: If ONNX Runtime fails, or the runner was closed.
        """
        if self._session is None:
            raise EngineError("This engine was closed.")
        expected = self.input_spec.shape[1:]
        if batch.ndim != 4 or batch.shape[1:] != expected:
            raise ShapeError("batch", expected=f"(N, {', '.join(map(str, expected))})", actual=batch.shape)
        feed: dict[str, NDArray[np.uint8] | NDArray[np.float32]] = {self.input_spec.name: batch}
        if self._class_bias is not None:
            classes = self._class_bias.shape[1] or 0
            if class_bias is None:
                class_bias = np.zeros((len(batch), classes), np.float32)
            if class_bias.shape != (len(batch), classes):
                raise ShapeError("class_bias", expected=f"({len(batch)}, {classes})", actual=class_bias.shape)
            feed[self._class_bias.name] = class_bias
        try:
            values = self._session.run(self._names, feed)
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed on a batch of {len(batch)}: {_first_line(error)}") from error
        return dict(zip(self._names, values, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None


def open_session(graph: bytes | str, threads: int) -> onnxruntime.InferenceSession:
    """A session of a serialized graph or of a file, computing as engines do."""
    return _session(graph, session_options(threads))


def _session(graph: bytes | str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS)
    )


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of every session: errors only, all graph optimisations, no spinning threads that eat a small board."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_optimised(source: Path | bytes, target: Path) -> None:
    """Write a graph (its file, or serialized) as ONNX Runtime optimises it for this CPU: it then starts faster.

    Raises:
        EngineBuildError: If ONNX Runtime refuses the graph.
        StorageError: If the file cannot be written.
    """
    options = session_options(0)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(target)
    try:
        _session(source if isinstance(source, bytes) else str(source), options)
    except Exception as error:  # ONNX Runtime's exceptions have no common public type
        # of a full disk it says "Protobuf serialization failed"
        require_writable(target, len(source) if isinstance(source, bytes) else source.stat().st_size)
        raise EngineBuildError(f"ONNX Runtime {version()} could not build the engine: {_first_line(error)}") from error


def version() -> str:
    """ONNX Runtime's version."""
    return str(onnxruntime.__version__)


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES.get(value.type, value.type))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
