"""A GPU without arithmetic of its own: memory, streams that work only when waited for, and a ledger of what is alive.

Nothing is computed when it is queued. A missing wait, a buffer that is reused or freed too early, and an object that is
freed without its context therefore show up as wrong numbers or in `leaks`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Work = Callable[[], None]
FREED = 0xDD


class CudaError(Exception):
    """`Error` of the fake pycuda driver."""


class OutOfMemory(CudaError):
    """`MemoryError` of the fake pycuda driver."""


class FakeGpu:
    """Shared by the fakes of pycuda, TensorRT and the CUDA runtime.

    Attributes:
        live: Objects by kind that were made and not freed.
        leaks: What was done wrong, one sentence each.
        trace: Names of the operations in the order in which the GPU ran them.
        calls: How often a call that can be made to fail was made.
        fail: Call name -> the number of the call that fails, from 1.
    """

    def __init__(self, *, integrated: bool) -> None:
        self.integrated = integrated
        self.name = "Orin (fake)"
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.streams: dict[int, FakeQueue] = {}
        self.live: Counter[str] = Counter()
        self.leaks: list[str] = []
        self.trace: list[str] = []
        self.calls: Counter[str] = Counter()
        self.fail: dict[str, int] = {}
        self.stacks: dict[int, list[object]] = {}
        self.clock_ms = 0.0
        self._next = 0x10000

    def call(self, name: str, error: type[CudaError] = CudaError) -> None:
        """Count a call, and fail if the test requests it."""
        self.calls[name] += 1
        if self.fail.get(name) == self.calls[name]:
            raise error(f"{name} was made to fail")

    def address(self) -> int:
        self._next += 0x10000
        return self._next

    @property
    def stack(self) -> list[object]:
        """Contexts pushed on the calling thread."""
        return self.stacks.setdefault(threading.get_ident(), [])

    def need_context(self, what: str) -> None:
        if not self.stack:
            raise CudaError(f"{what}: no current context")

    def born(self, kind: str) -> None:
        self.live[kind] += 1

    def died(self, kind: str) -> None:
        self.live[kind] -= 1
        if not self.stack:
            self.leaks.append(f"{kind} freed without a current context")

    def bytes_at(self, address: int, count: int) -> NDArray[np.uint8]:
        if address not in self.memory:
            raise AssertionError(f"the GPU uses memory that was freed: {address:#x}")
        assert count <= len(self.memory[address]), "the GPU reads past the end of a buffer"
        return self.memory[address][:count]

    def check_clean(self) -> None:
        """Nothing is left over, on any thread."""
        assert not self.leaks, self.leaks
        assert {kind: count for kind, count in self.live.items() if count} == {}
        assert not [stack for stack in self.stacks.values() if stack], (
            "a thread ends with a context pushed: pycuda aborts"
        )
        assert not self.memory


class FakeQueue:
    """Queue of a stream; its work runs only when the stream is waited for."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.waiting: list[tuple[str, Work]] = []
        self.captured: list[tuple[str, Work]] | None = None

    def add(self, name: str, work: Work) -> None:
        (self.waiting if self.captured is None else self.captured).append((name, work))

    def run_until(self, done: Callable[[], bool]) -> None:
        assert self.captured is None, "waiting for a stream that is captured"
        while self.waiting and not done():
            name, work = self.waiting.pop(0)
            self.gpu.trace.append(name)
            self.gpu.clock_ms += 1
            work()


def raw(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of an array, shared."""
    return array.reshape(-1).view(np.uint8)
