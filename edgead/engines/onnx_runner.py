"""ONNX Runtime behind the `Runner` contract."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.engines.fingerprint import Device
from edgead.engines.graph_check import check_graph
from edgead.engines.onnx_session import FIRST_LIMIT_S, CudaProviderError, first_line, open_session, run_first
from edgead.errors import EngineError, ShapeError
from edgead.runner import REFERENCE, Outputs, TensorSpec

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRunner:
    """Runs a graph on ONNX Runtime's CPU or CUDA provider.

    Args:
        path: An `.onnx` file written by edgead.
        threads: Number of CPU threads; 0 = one per core this process may use.
        engine_name: `<backend>-<precision>`, or `reference`.
        device: `cpu` or `cuda`; `cuda` never falls back to the CPU silently.

    Raises:
        CudaProviderError: If `device` is `cuda` and the GPU cannot be used.
        EngineError: If the file is not a graph of edgead's (see `check_graph`), or ONNX Runtime refuses it.
    """

    def __init__(self, path: Path, *, threads: int, engine_name: str, device: Device = "cpu") -> None:
        self.path = path
        self.threads = threads
        self.engine_name = engine_name
        self.device: Device = device
        self._has_run = False
        check_graph(path, optimised=engine_name != REFERENCE)
        try:
            self._session: onnxruntime.InferenceSession | None = open_session(str(path), threads, device)
        except CudaProviderError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common public type
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {first_line(error)}",
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
            EngineError: If ONNX Runtime fails, does not finish its first batch in time, or the runner was closed.
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
            if self._has_run:
                values = self._session.run(self._names, feed)
            else:
                values = run_first(self._session, self._names, feed, FIRST_LIMIT_S[self.device])
                self._has_run = True
        except EngineError:
            raise
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed on a batch of {len(batch)}: {first_line(error)}") from error
        return dict(zip(self._names, values, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES.get(value.type, value.type))
