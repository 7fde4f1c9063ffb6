"""`cuda.bindings.runtime` on a fake GPU: stream capture and graphs."""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

from .fake_gpu import FakeGpu, Work

Steps = list[tuple[str, Work]]


class cudaError_t(enum.IntEnum):  # NVIDIA's name
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorStreamCaptureInvalidated = 901


class cudaStreamCaptureMode(enum.IntEnum):  # NVIDIA's name
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


OK, FAILED, INVALIDATED = (
    cudaError_t.cudaSuccess,
    cudaError_t.cudaErrorInvalidValue,
    cudaError_t.cudaErrorStreamCaptureInvalidated,
)


def cudart_functions(gpu: FakeGpu) -> dict[str, Any]:
    def failing(name: str) -> bool:
        gpu.calls[name] += 1
        gpu.need_context(name)
        return gpu.fail.get(name) == gpu.calls[name]

    def cudaStreamBeginCapture(stream: int, mode: cudaStreamCaptureMode) -> tuple[Any, ...]:
        assert mode == cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        if failing("cudaStreamBeginCapture"):
            return (FAILED,)
        assert not gpu.streams[stream].waiting, "the stream must be idle before a capture"
        gpu.streams[stream].captured = []
        return (OK,)

    def cudaStreamEndCapture(stream: int) -> tuple[Any, ...]:
        steps, gpu.streams[stream].captured = gpu.streams[stream].captured, None
        assert steps is not None, "the stream was not captured"
        if failing("cudaStreamEndCapture"):
            return (INVALIDATED, None)
        gpu.born("graph")
        return (OK, steps)

    def cudaGraphInstantiate(graph: Steps, flags: int) -> tuple[Any, ...]:
        if failing("cudaGraphInstantiate"):
            return (FAILED, None)
        gpu.born("executable graph")
        return (OK, list(graph))

    def cudaGraphLaunch(graphExec: Steps, stream: int) -> tuple[Any, ...]:  # NVIDIA's name
        if failing("cudaGraphLaunch"):
            return (FAILED,)

        def run() -> None:
            for name, work in graphExec:
                gpu.trace.append(name)
                work()

        gpu.streams[stream].add("graph", run)
        return (OK,)

    def cudaGraphDestroy(graph: Steps) -> tuple[Any, ...]:
        gpu.died("graph")
        return (OK,)

    def cudaGraphExecDestroy(graphExec: Steps) -> tuple[Any, ...]:  # NVIDIA's name
        gpu.died("executable graph")
        return (OK,)

    return {name: value for name, value in locals().items() if name.startswith("cuda")}


def cudart_modules(gpu: FakeGpu) -> dict[str, ModuleType]:
    """`cuda`, `cuda.bindings` and `cuda.bindings.runtime`, for `sys.modules`."""
    runtime, bindings, package = ModuleType("cuda.bindings.runtime"), ModuleType("cuda.bindings"), ModuleType("cuda")
    contents = {**cudart_functions(gpu), "cudaStreamCaptureMode": cudaStreamCaptureMode, "cudaError_t": cudaError_t}
    for name, value in contents.items():
        setattr(runtime, name, value)
    bindings.runtime = runtime  # type: ignore[attr-defined]
    package.bindings = bindings  # type: ignore[attr-defined]
    return {"cuda": package, "cuda.bindings": bindings, "cuda.bindings.runtime": runtime}
