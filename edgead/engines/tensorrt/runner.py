"""TensorRT behind the `Runner` contract, with two batches in flight.

Run on fakes whose signatures are those of the bindings 8.6 to 11.4, of pycuda and of cuda-bindings; not run on a GPU.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.engines.tensorrt.cuda import Device
from edgead.engines.tensorrt.loading import EngineTensor, LoadedEngine, load_engine, quoting
from edgead.engines.tensorrt.power import UNKNOWN, mode_note
from edgead.engines.tensorrt.slot import Slot
from edgead.errors import EngineError, ShapeError
from edgead.runner import Outputs, TensorSpec

IN_FLIGHT = 2


@dataclass(frozen=True)
class Ticket:
    """A batch that was submitted and not yet collected."""

    number: int
    rows: int


@dataclass(frozen=True)
class RunnerOptions:
    """How an engine is run.

    Attributes:
        dla_core: The accelerator's core that it was built for; None = none.
        host_code_allowed: Whether it was built version compatible.
        in_flight: Batches that may be on their way at once; each costs its own memory.
        use_graph: Whether to capture CUDA graphs.
        power_mode: When it was built.
    """

    dla_core: int | None = None
    host_code_allowed: bool = False
    in_flight: int = IN_FLIGHT
    use_graph: bool = True
    power_mode: str = UNKNOWN


class TensorRTRunner:
    """Runs a serialized engine; calls may come from any thread, and one thread may submit while another collects.

    A batch of any size is taken: fewer images than the engine's least are padded with zeros and the outputs cut, more
    than its most are run in parts by `infer`.

    Args:
        plan: A serialized engine that this machine built; see `opening.open_tensorrt`.
        device: Closed with the runner, also when it cannot be made.
        engine_name: `tensorrt-<precision>`.
        options: As it was built.

    Attributes:
        batch_range: The fewest and the most images that the engine computes at once.
        gpu_ms: Milliseconds that the GPU computed the batch collected last; None before the first. Two batches in flight
            share the GPU, and each takes longer.

    Raises:
        EngineMismatchError: If TensorRT does not take the plan.
        EngineError: If there is not enough memory, or CUDA fails.
    """

    device = "cuda"

    def __init__(self, plan: bytes, device: Device, *, engine_name: str, options: RunnerOptions) -> None:
        self.engine_name = engine_name
        self.gpu_ms: float | None = None
        self._device, self._power_mode = device, options.power_mode
        self._lock = threading.Lock()
        self._waiting: dict[int, Slot] = {}
        self._submitted = 0
        self._slots: list[Slot] = []
        self._free: deque[Slot] = deque()
        try:
            self._load(plan, options)
        except BaseException:
            device.close()
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
        """Whether the last batches were launched as a CUDA graph."""
        return any(slot.uses_graph for slot in self._slots)

    @property
    def graph_note(self) -> str:
        """Why no CUDA graph is used; empty while nothing speaks against it. The first batches are never one."""
        return next((slot.graph_note for slot in self._slots if slot.graph_note), "")

    @property
    def power_note(self) -> str:
        """Why this engine may not be as fast as one built now; empty where nothing speaks for it."""
        return mode_note(self._power_mode)

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        """Run a batch of any size; see `Runner`.

        Raises:
            ShapeError: If the images do not have the engine's size, or there are none.
            EngineError: If CUDA or TensorRT fails, the runner was closed, or submitted batches wait in every slot.
        """
        bias = self._checked(batch, class_bias)
        most = self.batch_range[1]
        tickets: deque[Ticket] = deque()
        parts: list[Outputs] = []
        try:
            for first in range(0, len(batch), most):
                part = slice(first, first + most)
                if tickets and not self._free:
                    parts.append(self.collect(tickets.popleft()))
                tickets.append(self.submit(batch[part], None if bias is None else bias[part]))
            while tickets:
                parts.append(self.collect(tickets.popleft()))
        finally:
            for ticket in tickets:  # left over by an error: their slots must become free again
                self._abandon(ticket)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def submit(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Ticket:
        """Start a batch and come back at once, so that the next one can be prepared meanwhile.

        Args:
            batch: `(N, H, W, 3)` uint8 RGB, at most `batch_range[1]` images; copied before this returns.
            class_bias: As for `infer`.

        Raises:
            ShapeError: If the images do not have the engine's size, or are too many for one call.
            EngineError: If as many batches as the runner has slots are in flight, or CUDA or TensorRT fails.
        """
        least, most = self.batch_range
        bias = self._checked(batch, class_bias)
        if len(batch) > most:
            raise ShapeError("batch", expected=f"(1 to {most}, ...); infer takes more", actual=batch.shape)
        arrays: dict[str, NDArray[Any]] = {self.input_spec.name: batch}
        if self._class_bias is not None and bias is not None:
            arrays[self._class_bias.name] = bias
        with self._device.active("starting a batch"), quoting("starting a batch"):
            slot = self._take()
            try:
                slot.start(arrays, max(len(batch), least))
            except BaseException:
                self._give_back(slot)
                raise
        with self._lock:
            self._submitted += 1
            ticket = Ticket(self._submitted, len(batch))
            self._waiting[ticket.number] = slot
        return ticket

    def collect(self, ticket: Ticket) -> Outputs:
        """Wait for a batch that was submitted; tickets may be collected in any order.

        Returns:
            As `infer`.

        Raises:
            EngineError: If CUDA fails, or the ticket was collected before.
        """
        with self._device.active("running a batch"):
            with self._lock:
                slot = self._waiting.pop(ticket.number, None)
            if slot is None:
                raise EngineError("This batch was collected before.")
            try:
                outputs, self.gpu_ms = slot.finish(ticket.rows)
            finally:
                self._give_back(slot)
        return outputs

    def close(self) -> None:
        """Wait for the batches in flight and free everything; a second call does nothing."""
        with self._lock:
            if self._slots:
                with self._device.active("closing the engine"):
                    self._resources.close()
                self._slots.clear()
                self._free.clear()
                self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, plan: bytes, options: RunnerOptions) -> None:
        with self._device.active("loading the engine"), ExitStack() as stack:
            stack.callback(self._device.close)
            self._loaded: LoadedEngine = load_engine(
                plan, dla_core=options.dla_core, host_code_allowed=options.host_code_allowed
            )
            stack.callback(self._loaded.close)
            with quoting("preparing the engine"):
                for _ in range(options.in_flight):
                    slot = Slot(self._device, self._loaded, use_graph=options.use_graph)
                    stack.callback(slot.close)
                    self._slots.append(slot)
            self._free.extend(self._slots)
            self._resources = stack.pop_all()

    def _take(self) -> Slot:
        with self._lock:
            if not self._free:
                raise EngineError(f"{len(self._slots)} batches are in flight already; collect one first.")
            return self._free.popleft()

    def _give_back(self, slot: Slot) -> None:
        with self._lock:
            # the newest first: a caller with one batch at a time stays on one slot, and so on one graph
            self._free.appendleft(slot)

    def _abandon(self, ticket: Ticket) -> None:
        with suppress(EngineError):  # of the batch that is given up; the one that broke it is being raised
            self.collect(ticket)

    def _checked(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """The bias to use; None where the model takes none."""
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
    """As callers see it: any number of images, which the runner pads or splits."""
    dtype = tensor.dtype.name if tensor.is_input else "float32"
    return TensorSpec(tensor.name, (None, *tensor.shape[1:]), dtype)
