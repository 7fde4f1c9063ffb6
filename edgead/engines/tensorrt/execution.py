"""An engine ready to run: execution context, stream, buffers, and a CUDA graph once it pays."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.engines.tensorrt.cuda import Buffer, CudaEvent, CudaStream, GpuContext
from edgead.engines.tensorrt.cuda_graph import CudaGraph, GraphError
from edgead.engines.tensorrt.loading import LoadedEngine, Refused
from edgead.errors import EngineError
from edgead.runner import Outputs

if TYPE_CHECKING:
    import tensorrt as trt


class Execution:
    """Everything that running one batch needs besides the engine itself.

    Created, used and closed within `GpuContext.active`.

    Args:
        gpu: GPU context; on an integrated GPU, buffers are mapped instead of copied.
        loaded: The engine; buffers are allocated for its largest batch.
        use_graph: Whether to capture a CUDA graph once a batch size comes a second time.

    Raises:
        Refused: If TensorRT gives no execution context or refuses a shape or an address.
        EngineError: If the GPU's memory runs out.
    """

    def __init__(self, gpu: GpuContext, loaded: LoadedEngine, *, use_graph: bool) -> None:
        self.graph_note = "" if use_graph else "switched off"
        self._loaded = loaded
        self._context: trt.IExecutionContext | None = None
        self._graph: CudaGraph | None = None
        self._buffers: dict[str, Buffer] = {}
        self._rows = 0
        self._has_run = False
        with ExitStack() as stack:
            self._stream = CudaStream()
            stack.callback(self._stream.close)
            self._started, self._computed, self._done = (self._event(stack) for _ in range(3))
            stack.callback(self._drop_context)
            self._make_context()
            stack.callback(self._drop_graph)
            self._set_rows(loaded.most)
            for tensor in loaded.tensors:
                shape = tuple(self._native.get_tensor_shape(tensor.name))
                buffer = Buffer(shape, tensor.dtype, mapped=gpu.gpu.is_integrated)
                stack.callback(buffer.close)
                self._buffers[tensor.name] = buffer
                if not self._native.set_tensor_address(tensor.name, buffer.address):
                    raise Refused(f"TensorRT refused the memory for the tensor {tensor.name!r}.")
            self._resources = stack.pop_all()

    @property
    def uses_graph(self) -> bool:
        """Whether the last batch was launched as a CUDA graph."""
        return self._graph is not None

    def run(self, arrays: dict[str, NDArray[Any]], count: int) -> tuple[Outputs, float]:
        """Compute a batch: copy in, compute, copy out, wait.

        Args:
            arrays: `count` rows per input name; padded with zeros up to the engine's smallest batch.
            count: Number of images, at most the engine's largest batch.

        Returns:
            Copies of the outputs, `count` rows each, float32; and the milliseconds the GPU computed.

        Raises:
            Refused: If TensorRT does not take the batch; the next one can still be run.
            EngineError: If a captured graph fails.
        """
        rows = max(count, self._loaded.least)
        self._set_rows(rows)
        self._capture_if_due()
        try:
            for name, array in arrays.items():
                host = self._buffers[name].host
                host[:count] = array
                host[count:rows] = 0
                self._buffers[name].upload(rows, self._stream)
            self._started.record(self._stream)
            self._compute()
            self._computed.record(self._stream)
            for tensor in self._loaded.outputs:
                self._buffers[tensor.name].download(rows, self._stream)
            self._done.record(self._stream)
            self._done.synchronize()
        except BaseException:
            self._drain()
            raise
        self._has_run = True
        outputs = {
            tensor.name: np.array(self._buffers[tensor.name].host[:count], dtype=np.float32)
            for tensor in self._loaded.outputs
        }
        return outputs, self._computed.ms_since(self._started)

    def close(self) -> None:
        """Free everything, in reverse order of creation, once nothing is running."""
        self._drain()
        self._resources.close()

    def _drain(self) -> None:
        """Wait until the stream is empty, whatever the outcome."""
        with suppress(Exception):  # an error of the work itself is already being raised
            self._stream.synchronize()

    @property
    def _native(self) -> trt.IExecutionContext:
        if self._context is None:
            raise EngineError("This engine was closed.")
        return self._context

    def _event(self, stack: ExitStack) -> CudaEvent:
        event = CudaEvent()
        stack.callback(event.close)
        return event

    # No method below keeps a TensorRT object in a variable: the traceback of an error would keep it alive beyond the
    # engine and the GPU context, and freeing it needs both.

    def _make_context(self) -> None:
        self._context = self._loaded.native.create_execution_context()
        if self._context is None:
            raise Refused("TensorRT gave no execution context; most likely the GPU's memory ran out.")

    def _set_rows(self, rows: int) -> None:
        """Set the batch size; a CUDA graph is valid only for the size it was captured with."""
        if rows == self._rows:
            return
        self._drop_graph()
        self._rows, self._has_run = 0, False
        for tensor in self._loaded.inputs:
            if not self._native.set_input_shape(tensor.name, (rows, *tensor.shape[1:])):
                raise Refused(f"TensorRT refused a batch of {rows} for the input {tensor.name!r}.")
        missing = self._native.infer_shapes()
        if missing:
            raise Refused(f"TensorRT does not know the shapes of {', '.join(missing)} for a batch of {rows}.")
        self._rows = rows

    def _capture_if_due(self) -> None:
        """Capture on the second batch of one size: on the first, TensorRT allocates and chooses, which is not capturable."""
        if self._graph is not None or self.graph_note or not self._has_run:
            return
        try:
            self._graph = CudaGraph(self._stream.handle, self._enqueue)
        except GraphError as error:
            self.graph_note = str(error)

    def _compute(self) -> None:
        if self._graph is not None:
            try:
                self._graph.launch(self._stream.handle)
            except GraphError as error:
                raise EngineError(f"The captured engine failed on a batch of {self._rows}: {error}.") from error
        elif not self._enqueue():
            raise Refused(f"TensorRT failed on a batch of {self._rows}.")

    def _enqueue(self) -> bool:
        return bool(self._native.execute_async_v3(self._stream.handle))

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.close()

    def _drop_context(self) -> None:
        self._context = None
