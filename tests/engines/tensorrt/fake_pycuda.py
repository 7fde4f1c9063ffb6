"""`pycuda.driver` on a fake GPU, with pycuda's rules about contexts and threads."""

from __future__ import annotations

import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fake_gpu import FREED, CudaError, FakeGpu, FakeQueue, OutOfMemory, raw


class Context:
    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu, self._thread, self._valid = gpu, threading.get_ident(), True
        gpu.born("context")

    def push(self) -> None:
        self._gpu.call("push")
        self._gpu.stack.append(self)

    def pop(self) -> None:
        if not self._gpu.stack:
            raise CudaError("cannot pop non-current context")
        self._gpu.stack.pop()

    def detach(self) -> None:
        if not self._valid:
            raise CudaError("cannot detach from invalid context")
        self._valid = False
        stack = self._gpu.stack
        if not (stack and stack[-1] is self) and threading.get_ident() != self._thread:
            return  # as pycuda does: it stays retained without an error
        self._gpu.live["context"] -= 1
        stack[:] = [other for other in stack if other is not self]


class Device:
    def __init__(self, number: int) -> None:
        if number:
            raise CudaError("invalid device ordinal")

    def name(self) -> str:
        return self._gpu.name

    def compute_capability(self) -> tuple[int, int]:
        return (8, 7)

    def total_memory(self) -> int:
        return 4 * 1024**3

    def get_attribute(self, attribute: int) -> int:
        assert attribute == 18
        return int(self._gpu.integrated)

    def retain_primary_context(self) -> Context:
        self._gpu.call("retain")
        return Context(self._gpu)

    _gpu: FakeGpu


class Stream:
    _gpu: FakeGpu

    def __init__(self, flags: int = 0) -> None:
        self._gpu.need_context("Stream")
        self._gpu.call("Stream")
        assert flags == 1, "a blocking stream waits for the default one"
        self.handle = self._gpu.address()
        self._gpu.streams[self.handle] = FakeQueue(self._gpu)
        self._gpu.born("stream")

    def synchronize(self) -> None:
        self._gpu.need_context("Stream.synchronize")
        self._gpu.streams[self.handle].run_until(lambda: False)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            if self._gpu.streams.pop(self.handle).waiting:
                self._gpu.leaks.append("a stream was destroyed with work in it")
            self._gpu.died("stream")


class Event:
    _gpu: FakeGpu

    def __init__(self, flags: int = 0) -> None:
        self._gpu.need_context("Event")
        self._gpu.call("Event")
        assert flags == 1, "waiting should sleep, not spin"
        self._queue: FakeQueue | None = None
        self._number, self._reached, self._at_ms = 0, 0, 0.0
        self._gpu.born("event")

    def record(self, stream: Stream | None = None) -> Event:
        assert stream is not None, "the default stream is not to be used"
        self._gpu.need_context("Event.record")
        self._queue = self._gpu.streams[stream.handle]
        self._number += 1
        number = self._number

        def reached() -> None:
            self._reached, self._at_ms = number, self._gpu.clock_ms

        self._queue.add("event", reached)
        return self

    def synchronize(self) -> Event:
        self._gpu.need_context("Event.synchronize")
        self._gpu.call("wait")
        assert self._queue is not None, "an event that was never recorded"
        self._queue.run_until(lambda: self._reached == self._number)
        return self

    def time_since(self, event: Event) -> float:
        for mark in (self, event):
            assert mark._reached == mark._number, "a time between events not yet reached"
        return self._at_ms - event._at_ms

    def __del__(self) -> None:
        if hasattr(self, "_queue"):
            self._gpu.died("event")


class DeviceAllocation:
    def __init__(self, gpu: FakeGpu, count: int) -> None:
        self._gpu, self._address = gpu, gpu.address()
        gpu.memory[self._address] = np.full(count, 0xAB, np.uint8)
        gpu.born("device memory")

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._gpu.memory.pop(self._address).fill(FREED)
        self._gpu.died("device memory")


class PagelockedHostAllocation:
    def __init__(self, gpu: FakeGpu, shape: tuple[int, ...], dtype: np.dtype[Any], flags: int) -> None:
        self._gpu, self._flags = gpu, flags
        self._array = np.full(int(np.prod(shape)) * dtype.itemsize, 0xAB, np.uint8).view(dtype).reshape(shape)
        self.__array_interface__ = self._array.__array_interface__
        self._address = gpu.address()
        if flags:
            gpu.memory[self._address] = raw(self._array)
        gpu.born("host memory")

    def get_device_pointer(self) -> int:
        self._gpu.call("get_device_pointer")
        assert self._flags == 2, "this memory is not mapped"
        return self._address

    def free(self) -> None:
        self._gpu.memory.pop(self._address, None)
        raw(self._array).fill(FREED)
        self._gpu.died("host memory")


def pycuda_modules(gpu: FakeGpu) -> dict[str, ModuleType]:
    """`pycuda` and `pycuda.driver`, for `sys.modules`."""
    driver, package = ModuleType("pycuda.driver"), ModuleType("pycuda")

    def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> NDArray[Any]:
        gpu.need_context("pagelocked_empty")
        gpu.call("pagelocked_empty", OutOfMemory)
        array = np.asarray(PagelockedHostAllocation(gpu, shape, np.dtype(dtype), mem_flags))
        assert isinstance(array.base, PagelockedHostAllocation)
        return array

    def mem_alloc(size: int) -> DeviceAllocation:
        gpu.need_context("mem_alloc")
        gpu.call("mem_alloc", OutOfMemory)
        return DeviceAllocation(gpu, size)

    def check_pinned(array: NDArray[Any]) -> None:
        assert array.flags.c_contiguous
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base, PagelockedHostAllocation), "an asynchronous copy of pageable memory waits for its end"

    def memcpy_htod_async(dest: DeviceAllocation, src: NDArray[Any], stream: Stream | None = None) -> None:
        assert stream is not None
        check_pinned(src)
        gpu.call("htod")
        address, count = int(dest), src.nbytes

        def copy() -> None:
            gpu.bytes_at(address, count)[:] = raw(src)

        gpu.streams[stream.handle].add("htod", copy)

    def memcpy_dtoh_async(dest: NDArray[Any], src: DeviceAllocation, stream: Stream | None = None) -> None:
        assert stream is not None
        check_pinned(dest)
        gpu.call("dtoh")
        address, count = int(src), dest.nbytes

        def copy() -> None:
            raw(dest)[:] = gpu.bytes_at(address, count)

        gpu.streams[stream.handle].add("dtoh", copy)

    contents = {
        "init": lambda flags=0: gpu.call("init"),
        "get_driver_version": lambda: 12060,
        "Error": CudaError,
        "MemoryError": OutOfMemory,
        "Context": Context,
        "host_alloc_flags": SimpleNamespace(DEVICEMAP=2),
        "event_flags": SimpleNamespace(BLOCKING_SYNC=1),
        "device_attribute": SimpleNamespace(INTEGRATED=18),
        "pagelocked_empty": pagelocked_empty,
        "mem_alloc": mem_alloc,
        "memcpy_htod_async": memcpy_htod_async,
        "memcpy_dtoh_async": memcpy_dtoh_async,
    }
    for cls in (Device, Stream, Event):
        contents[cls.__name__] = type(cls.__name__, (cls,), {"_gpu": gpu})
    for name, value in contents.items():
        setattr(driver, name, value)
    package.driver = driver  # type: ignore[attr-defined]
    return {"pycuda": package, "pycuda.driver": driver}
