"""CUDA graph of an engine's kernels: one launch instead of hundreds.

The capture goes through NVIDIA's own binding of the CUDA runtime, because pycuda has none; both work in the device's
primary context, and a stream of one is an address for the other. Checked against the signatures of cuda-bindings 12
and 13 and run on a fake; not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuda.bindings import runtime as cudart

INSTALL = "cuda-bindings is not installed (pip install 'edgead[jetson]')"


class GraphError(Exception):
    """A graph could not be captured or launched; the caller can run without one."""


class CudaGraph:
    """Captured work that can be launched repeatedly; its shapes and addresses are fixed.

    Args:
        stream: Handle of an idle stream of the current context, on which `enqueue` was run before.
        enqueue: Queues the work on that stream; returns whether it could.

    Raises:
        GraphError: If the binding is missing, or the work cannot be captured; the stream remains usable.
    """

    def __init__(self, stream: int, enqueue: Callable[[], bool]) -> None:
        self._executable: cudart.cudaGraphExec_t | None = None
        cudart = _runtime()
        # this thread only: another camera's thread may allocate memory meanwhile
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked("cudaStreamBeginCapture", cudart.cudaStreamBeginCapture(stream, mode))
        is_queued = False
        try:
            is_queued = enqueue()
        finally:
            # also after a failure: a stream left in capture accepts no more work
            ended = cudart.cudaStreamEndCapture(stream)
        if not is_queued:
            if not int(ended[0]) and ended[1] is not None:
                cudart.cudaGraphDestroy(ended[1])
            raise GraphError("TensorRT cannot run this engine while it is captured")
        graph = _checked("cudaStreamEndCapture", ended)
        try:
            self._executable = _checked("cudaGraphInstantiate", cudart.cudaGraphInstantiate(graph, 0))
        finally:
            cudart.cudaGraphDestroy(graph)

    def launch(self, stream: int) -> None:
        """Queue the captured work on a stream.

        Raises:
            GraphError: If CUDA refuses, or the graph was closed.
        """
        if self._executable is None:
            raise GraphError("this graph was closed")
        cudart = _runtime()
        _checked("cudaGraphLaunch", cudart.cudaGraphLaunch(self._executable, stream))

    def close(self) -> None:
        """Free the graph; no launch of it may be running."""
        executable, self._executable = self._executable, None
        if executable is not None:
            cudart = _runtime()
            cudart.cudaGraphExecDestroy(executable)


def _runtime() -> ModuleType:
    try:
        from cuda.bindings import runtime as cudart
    except ImportError:
        try:
            from cuda import cudart  # its name before cuda-bindings 12.6
        except ImportError as error:
            raise GraphError(INSTALL) from error
    module: ModuleType = cudart
    return module


def _checked(name: str, returned: tuple[Any, ...]) -> Any:
    """Value returned by a CUDA runtime call, whose first result is always the error code."""
    error, *values = returned
    if int(error):
        raise GraphError(f"{name} failed: {error.name}")
    return values[0] if values else None
