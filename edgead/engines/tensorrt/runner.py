"""TensorRT behind the `Runner` contract.

Run on fakes whose signatures are those of the bindings 8.6 to 11.4, of pycuda and of cuda-bindings; not run on a GPU.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.engines.tensorrt.cuda import GpuContext
from edgead.engines.tensorrt.execution import Execution
from edgead.engines.tensorrt.loading import EngineTensor, LoadedEngine, load_engine, quoting
from edgead.engines.tensorrt.power import UNKNOWN, mode_note
from edgead.errors import EngineError, ShapeError
from edgead.runner import Outputs, TensorSpec


@dataclass(frozen=True)
class RunnerOptions:
    """How to run an engine.

    Attributes:
        dla_core: DLA core the engine was built for; None = none.
        host_code_allowed: Whether the engine was built version compatible.
        use_graph: Whether to capture CUDA graphs.
        power_mode: Power mode of the machine when the engine was built.
    """

    dla_core: int | None = None
    host_code_allowed: bool = False
    use_graph: bool = True
    power_mode: str = UNKNOWN


class TensorRTRunner:
    """Runs a serialized engine, one batch at a time; any thread may call.

    A batch of any size is taken: below the engine's smallest batch it is padded with zeros and the outputs are cut, above
    the largest it is run in parts.

    Args:
        plan: Serialized engine that this machine built; see `opening.open_tensorrt`.
        gpu: GPU context, closed with the runner, also if the constructor fails.
        engine_name: `tensorrt-<precision>`.
        options: Settings the engine was built with, and whether to capture graphs.

    Attributes:
        batch_range: Smallest and largest number of images the engine computes at once.
        gpu_ms: Milliseconds the GPU computed the last batch; None before the first.

    Raises:
        EngineMismatchError: If TensorRT does not take the plan.
        EngineError: If there is not enough memory, or CUDA fails.
    """

    device = "cuda"

    def __init__(self, plan: bytes, gpu: GpuContext, *, engine_name: str, options: RunnerOptions) -> None:
        self.engine_name = engine_name
        self.gpu_ms: float | None = None
        self._gpu, self._power_mode = gpu, options.power_mode
        self._lock = threading.Lock()
        self._is_open = True
        try:
            self._load(plan, options)
        except BaseException:
            gpu.close()
            raise
        self.batch_range = (self._loaded.least, self._loaded.most)
        images = next(tensor for tensor in self._loaded.inputs if len(tensor.shape) == 4)
        self._class_bias = next((tensor for tensor in self._loaded.inputs if tensor is not images), None)
        self.input_spec = _spec(images)
        self.output_specs = tuple(_spec(tensor) for tensor in self._loaded.outputs)
        if self.input_spec.dtype != "uint8":
            self.close()
            raise EngineError(f"The engine takes images of {self.input_spec.dtype}, edgead gives uint8.")

    @property
    def uses_graph(self) -> bool:
        """Whether the last batch was launched as a CUDA graph."""
        return self._execution.uses_graph

    @property
    def graph_note(self) -> str:
        """Why no CUDA graph is used; empty if there is no reason against it. The first batch never uses one."""
        return self._execution.graph_note

    @property
    def power_note(self) -> str:
        """Why this engine may be slower than one built now; empty if there is no reason to think so."""
        return mode_note(self._power_mode)

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        """Run a batch of any size; see `Runner`.

        Raises:
            ShapeError: If the images do not have the engine's size, or there are none.
            EngineError: If CUDA or TensorRT fails, or the runner was closed.
        """
        bias = self._checked(batch, class_bias)
        most = self.batch_range[1]
        with self._lock, self._gpu.active("running a batch"), quoting("running a batch"):
            parts = [
                self._run(batch[first : first + most], None if bias is None else bias[first : first + most])
                for first in range(0, len(batch), most)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Wait for a batch that is running and free everything; a second call does nothing."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                with self._gpu.active("closing the engine"):
                    self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, plan: bytes, options: RunnerOptions) -> None:
        with self._gpu.active("loading the engine"), ExitStack() as stack:
            stack.callback(self._gpu.close)
            self._loaded: LoadedEngine = load_engine(
                plan, dla_core=options.dla_core, host_code_allowed=options.host_code_allowed
            )
            stack.callback(self._loaded.close)
            with quoting("preparing the engine"):
                self._execution = Execution(self._gpu, self._loaded, use_graph=options.use_graph)
            stack.callback(self._execution.close)
            self._resources = stack.pop_all()

    def _run(self, batch: NDArray[np.uint8], bias: NDArray[np.float32] | None) -> Outputs:
        arrays: dict[str, NDArray[Any]] = {self.input_spec.name: batch}
        if self._class_bias is not None and bias is not None:
            arrays[self._class_bias.name] = bias
        outputs, self.gpu_ms = self._execution.run(arrays, len(batch))
        return outputs

    def _checked(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """Check a batch and return the bias to use; None if the model takes none."""
        expected = self.input_spec.shape[1:]
        if batch.ndim != 4 or not len(batch) or batch.shape[1:] != expected:
            raise ShapeError("batch", expected=f"(N, {', '.join(map(str, expected))})", actual=batch.shape)
        if batch.dtype != np.uint8:
            raise EngineError(f"A batch of {batch.dtype} was given, the engine takes uint8.")
        if self._class_bias is None:
            return None
        classes = self._class_bias.shape[1]
        if class_bias is None:
            return np.zeros((len(batch), classes), np.float32)
        if class_bias.shape != (len(batch), classes):
            raise ShapeError("class_bias", expected=f"({len(batch)}, {classes})", actual=class_bias.shape)
        return class_bias


def _spec(tensor: EngineTensor) -> TensorSpec:
    """Specification of a tensor for callers: any number of images, which the runner pads or splits."""
    dtype = tensor.dtype.name if tensor.is_input else "float32"
    return TensorSpec(tensor.name, (None, *tensor.shape[1:]), dtype)
