"""GPU memory, streams and events through pycuda, usable from any thread.

Two properties of pycuda shape this module: a thread that ends with a context pushed aborts the process, and an object
freed without its context pushed leaks. Every call therefore runs within `GpuContext.active`, which pushes the context and
pops it again. Read in pycuda's source and run on a fake with the same rules; not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.errors import EngineError, MissingDependencyError

if TYPE_CHECKING:
    import pycuda.driver as drv

# CU_STREAM_NON_BLOCKING, for which pycuda has no name: such a stream does not wait for the default one
_NON_BLOCKING = 1
INSTALL_PYCUDA = (
    "pip install 'edgead[jetson]' (pycuda is compiled during installation and needs nvcc and the CUDA headers)"
)


@dataclass(frozen=True)
class Gpu:
    """Properties of a GPU.

    Attributes:
        index: CUDA device index.
        name: GPU name.
        compute_capability: Compute capability, for example `8.7` on Orin.
        total_bytes: GPU memory; on an integrated GPU, the machine's memory.
        is_integrated: Whether the GPU shares the machine's memory.
        driver_version: Newest CUDA version the driver supports, for example 12060.
    """

    index: int
    name: str
    compute_capability: str
    total_bytes: int
    is_integrated: bool
    driver_version: int

    @property
    def identity(self) -> str:
        """GPU name and compute capability, which an engine is bound to."""
        return f"{self.name}, compute capability {self.compute_capability}"


def find_gpu(index: int = 0) -> Gpu:
    """Query a GPU without using it.

    Raises:
        MissingDependencyError: If pycuda is not installed.
        EngineError: If there is no GPU, or its driver cannot be used.
    """
    try:
        import pycuda.driver as drv
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "pycuda", needed_for="Running a TensorRT engine", install=INSTALL_PYCUDA
        ) from error
    except ImportError as error:  # pycuda is installed, but the driver library is missing
        raise EngineError(f"pycuda cannot be loaded: {error}.", hint="Check the driver: edgead doctor.") from error
    try:
        drv.init()
        device = drv.Device(index)
        major, minor = device.compute_capability()
        return Gpu(
            index=index,
            name=str(device.name()),
            compute_capability=f"{major}.{minor}",
            total_bytes=int(device.total_memory()),
            is_integrated=bool(device.get_attribute(drv.device_attribute.INTEGRATED)),
            driver_version=int(drv.get_driver_version()),
        )
    except drv.Error as error:
        raise EngineError(f"The GPU {index} cannot be used: {error}.", hint="Check it: edgead doctor.") from error


class GpuContext:
    """Primary context of a GPU, which TensorRT and the CUDA runtime use too.

    Args:
        gpu: GPU from `find_gpu`.

    Raises:
        EngineError: If CUDA gives no context.
    """

    def __init__(self, gpu: Gpu) -> None:
        import pycuda.driver as drv

        self.gpu = gpu
        try:
            self._context: drv.Context | None = drv.Device(gpu.index).retain_primary_context()
        except drv.Error as error:
            raise EngineError(f"{gpu.name} cannot be used: {error}.", hint="Check it: edgead doctor.") from error

    @contextmanager
    def active(self, doing: str) -> Iterator[None]:
        """Make the context current on this thread for a block.

        Args:
            doing: Activity for the error message, for example "running a batch".

        Raises:
            EngineError: If CUDA fails in the block, or the context was closed.
        """
        import pycuda.driver as drv

        context = self._context
        if context is None:
            raise EngineError("This engine was closed.")
        try:
            context.push()
            try:
                yield
            finally:
                # closing released the context and took it off the thread's stack
                if self._context is not None:
                    context.pop()
        except drv.MemoryError as error:
            raise EngineError(
                f"The GPU's memory ran out while {doing}: {error}.",
                hint="Stop other programs that use it, or build for a smaller batch.",
            ) from error
        except drv.Error as error:
            raise EngineError(f"CUDA failed while {doing}: {error}.") from error

    def close(self) -> None:
        """Release the context, within `active`, after everything that lives in it.

        It is released while current, because pycuda silently keeps a context that another thread detaches otherwise.
        """
        context, self._context = self._context, None
        if context is not None:
            context.detach()


class CudaStream:
    """A queue of GPU work; made and closed within `GpuContext.active`."""

    def __init__(self) -> None:
        import pycuda.driver as drv

        self._stream: drv.Stream | None = drv.Stream(_NON_BLOCKING)

    @property
    def native(self) -> drv.Stream:
        if self._stream is None:
            raise EngineError("This stream was closed.")
        return self._stream

    @property
    def handle(self) -> int:
        """Address of the stream for TensorRT and the CUDA runtime."""
        return int(self.native.handle)

    def synchronize(self) -> None:
        """Wait until everything queued has finished."""
        self.native.synchronize()

    def close(self) -> None:
        """Destroy the stream; pycuda does so as soon as nothing refers to it."""
        self._stream = None


class CudaEvent:
    """CUDA event in a stream; waiting for it sleeps instead of spinning, because a small board has few cores."""

    def __init__(self) -> None:
        import pycuda.driver as drv

        self._event: drv.Event | None = drv.Event(drv.event_flags.BLOCKING_SYNC)

    @property
    def _native(self) -> drv.Event:
        if self._event is None:
            raise EngineError("This event was closed.")
        return self._event

    def record(self, stream: CudaStream) -> None:
        """Record the event at the end of the stream's queue."""
        self._native.record(stream.native)

    def synchronize(self) -> None:
        """Wait until the stream has reached the event."""
        self._native.synchronize()

    def ms_since(self, earlier: CudaEvent) -> float:
        """Milliseconds of GPU time since an earlier event; both must have been reached."""
        return float(self._native.time_since(earlier._native))

    def close(self) -> None:
        self._event = None


class Buffer:
    """Page-locked host memory and its GPU memory; created and closed within `GpuContext.active`.

    On an integrated GPU both are the same mapped memory, and nothing is copied.

    Args:
        shape: Shape of the largest content.
        dtype: Element type.
        mapped: Whether the GPU shares the host's memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, mapped: bool) -> None:
        import pycuda.driver as drv

        flags = drv.host_alloc_flags.DEVICEMAP if mapped else 0
        self._host: NDArray[Any] | None = drv.pagelocked_empty(shape, dtype, mem_flags=flags)
        self._device: drv.DeviceAllocation | None = None
        try:
            if mapped:
                pinned: drv.PagelockedHostAllocation = self.host.base
                self.address = int(pinned.get_device_pointer())
            else:
                self._device = drv.mem_alloc(self.host.nbytes)
                self.address = int(self._device)
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> NDArray[Any]:
        """View of the host memory; must not outlive the buffer."""
        if self._host is None:
            raise EngineError("This buffer was closed.")
        return self._host

    def upload(self, rows: int, stream: CudaStream) -> None:
        """Queue the copy of the first `rows` rows to the GPU; does nothing if the memory is shared."""
        import pycuda.driver as drv

        if self._device is not None:
            drv.memcpy_htod_async(self._device, self.host[:rows], stream.native)

    def download(self, rows: int, stream: CudaStream) -> None:
        """Queue the copy of the first `rows` rows from the GPU; does nothing if the memory is shared."""
        import pycuda.driver as drv

        if self._device is not None:
            drv.memcpy_dtoh_async(self.host[:rows], self._device, stream.native)

    def close(self) -> None:
        """Free both sides immediately; a second call does nothing."""
        device, self._device = self._device, None
        host, self._host = self._host, None
        try:
            if device is not None:
                device.free()
        finally:
            if host is not None:
                pinned: drv.PagelockedHostAllocation = host.base
                pinned.free()
