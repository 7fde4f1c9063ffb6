"""Measured peak of this machine's processor: operations and bytes per second."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgead.engines.onnx_session import available_cores, open_session

SIDE = 512
COPIED = 128 << 20
PRODUCTS, COPIES = 60, 12


@dataclass(frozen=True)
class Peak:
    """Highest rates seen.

    Attributes:
        operations_per_s: Float32 operations of a matrix product; a multiply-add is two.
        bytes_per_s: Bytes read plus bytes written while copying arrays larger than the caches.
        threads: Number of threads.
    """

    operations_per_s: float
    bytes_per_s: float
    threads: int


def measure_peak(threads: int) -> Peak:
    """Measure with products of two 512 × 512 matrices on ONNX Runtime, and with copies of 128 MB.

    The fastest counts: other work on the machine can only slow them down.

    Args:
        threads: Number of threads; 0 = one per core this process may use.
    """
    threads = threads or available_cores()
    return Peak(_operations_per_s(threads), _bytes_per_s(threads), threads)


def _operations_per_s(threads: int) -> float:
    from onnx import TensorProto, helper

    shape = [SIDE, SIDE]
    a, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b", "c"))
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [a, b], [c])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_session(model.SerializeToString(), threads)
    ones = np.ones(shape, np.float32)
    return 2 * SIDE**3 / _shortest(lambda: session.run(None, {"a": ones, "b": ones}), PRODUCTS)


def _bytes_per_s(threads: int) -> float:
    source = np.ones(COPIED, np.uint8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        return 2 * COPIED / _shortest(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts)), COPIES)


def _shortest(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round, after one that does not count."""
    work()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
