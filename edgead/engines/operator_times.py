"""Run time of an ONNX Runtime engine, operator by operator."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.onnx_session import feed_of, open_profiling_session

WARM_UP = 3
_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class OperatorTime:
    """One node of the engine's graph.

    Attributes:
        node: Node name.
        operator: Operator type, such as `QLinearConv`.
        milliseconds: Median time over the runs.
    """

    node: str
    operator: str
    milliseconds: float


def operator_times(runner: OnnxRunner, image: NDArray[np.uint8], *, runs: int) -> list[OperatorTime]:
    """Run an engine under ONNX Runtime's profiler, which adds a small overhead of its own.

    Args:
        runner: Open engine on the CPU.
        image: `(1, H, W, 3)` uint8 RGB.
        runs: Number of measured runs, after three warm-up runs.

    Returns:
        Every node that ran, the slowest first.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_profiling_session(runner.path, runner.threads, Path(folder) / "profile")
        feed = feed_of(session, image)
        for _ in range(WARM_UP + runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            times[name.removesuffix(_KERNEL), event["args"]["op_name"]].append(event["dur"] / 1e3)
    found = [OperatorTime(*key, statistics.median(values[WARM_UP:])) for key, values in times.items()]
    return sorted(found, key=lambda one: -one.milliseconds)


def by_operator(times: Iterable[OperatorTime]) -> list[tuple[str, int, float]]:
    """Operator type, number of nodes and total milliseconds, the most expensive type first."""
    groups: dict[str, list[float]] = defaultdict(list)
    for one in times:
        groups[one.operator].append(one.milliseconds)
    return sorted(((name, len(values), sum(values)) for name, values in groups.items()), key=lambda row: -row[2])
