"""Roofline of `edgead bench`: each layer against what the machine could do, and a prediction for Jetson boards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgead.bundle import Bundle
from edgead.engines.machine_peak import Peak, measure_peak
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.operator_times import OperatorTime, operator_times
from edgead.precision.layers import LayerCost, layer_costs
from edgead.progress import Progress
from edgead.runner import REFERENCE

RUNS = 30
OPTIMISED_SUFFIX = "_nchwc"  # ONNX Runtime names a fused convolution after its result
# dense operations per clock of one of Orin's tensor cores: gives the 20, 33 and 85 INT8 TOPS of the data sheets
INT8_PER_CORE, FP16_PER_CORE = 1024, 512


@dataclass(frozen=True)
class Board:
    """A module as its data sheet describes it; its deep-learning accelerators (DLA) are not counted.

    Attributes:
        name: Name of the module and of its mode.
        tensor_cores: Number of tensor cores of the GPU.
        clock_mhz: Highest clock of the GPU.
        gb_per_s: Memory bandwidth.
        source: Document with the three figures.
    """

    name: str
    tensor_cores: int
    clock_mhz: int
    gb_per_s: float
    source: str

    def operations_per_s(self, precision: str) -> float:
        """Dense operations of the tensor cores; data sheets give the INT8 figure, twice that with sparse weights."""
        per_core = INT8_PER_CORE if precision == "int8" else FP16_PER_CORE
        return self.tensor_cores * per_core * self.clock_mhz * 1e6


BOARDS = (
    Board("Orin Nano 8 GB", 32, 625, 68.0, "Jetson Orin Nano data sheet, DS-11105-001"),
    Board("Orin Nano 8 GB Super", 32, 1020, 102.0, "NVIDIA, Jetson Orin Nano Super, December 2024"),
    Board("Orin NX 16 GB", 32, 918, 102.0, "Jetson Orin NX data sheet, DS-10712-001"),
    Board("AGX Orin 32 GB", 56, 939, 204.8, "Jetson AGX Orin data sheet, DS-10662-001"),
    Board("AGX Orin 64 GB", 64, 1300, 204.8, "Jetson AGX Orin data sheet, DS-10662-001"),
)
BYTES_OF = {"fp16": 0.5, "int8": 0.25}


@dataclass(frozen=True)
class LayerPoint:
    """A layer with its limits here.

    Attributes:
        cost: Multiply-adds and bytes.
        bound_ms: Shortest time that operations and bytes allow at the measured peak.
        bound_by: `compute` or `memory`, whichever takes longer.
        measured_ms: Time under ONNX Runtime's profiler; None if its graph has no such layer.
    """

    cost: LayerCost
    bound_ms: float
    bound_by: str
    measured_ms: float | None

    @property
    def short_name(self) -> str:
        """The end of the name without the operator, `blocks.1.0/conv_pw` for one."""
        parts = [part for part in self.cost.name.split("/") if part]
        return "/".join((parts[:-1] or parts or [self.cost.operator])[-2:])

    def to_json(self) -> dict[str, Any]:
        """A layer under `roofline` of `bench --json`."""
        return {
            "layer": self.cost.name,
            "operator": self.cost.operator,
            "multiply_adds": self.cost.multiply_adds,
            "bytes": self.cost.n_bytes,
            "bound_ms": round(self.bound_ms, 4),
            "bound_by": self.bound_by,
            "measured_ms": self.measured_ms,
        }


@dataclass(frozen=True)
class Prediction:
    """Shortest time per image that a board's data sheet allows; never measured."""

    board: Board
    fp16_ms: float
    int8_ms: float

    def to_json(self) -> dict[str, Any]:
        """A board under `predictions` of `bench --json`."""
        return {
            "board": self.board.name,
            "fp16_at_least_ms": round(self.fp16_ms, 4),
            "int8_at_least_ms": round(self.int8_ms, 4),
            "tensor_cores": self.board.tensor_cores,
            "clock_mhz": self.board.clock_mhz,
            "gb_per_s": self.board.gb_per_s,
            "source": self.board.source,
            "measured": False,
        }


@dataclass(frozen=True)
class Roofline:
    """Layers of the bundle's float32 graph in the order of the graph, with the peak they are compared with."""

    peak: Peak
    layers: tuple[LayerPoint, ...]
    predictions: tuple[Prediction, ...]

    @property
    def bound_ms(self) -> float:
        """Sum of the layers' limits."""
        return sum(layer.bound_ms for layer in self.layers)

    @property
    def measured_ms(self) -> float:
        """Sum of the layers' times."""
        return sum(layer.measured_ms or 0.0 for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """The key `roofline` of `bench --json`."""
        return {
            "threads": self.peak.threads,
            "peak_gflops": round(self.peak.operations_per_s / 1e9, 2),
            "peak_gb_per_s": round(self.peak.bytes_per_s / 1e9, 2),
            "bound_ms": round(self.bound_ms, 3),
            "measured_ms": round(self.measured_ms, 3),
            "layers": [layer.to_json() for layer in self.layers],
            "predictions": [prediction.to_json() for prediction in self.predictions],
        }


def roofline(bundle: Bundle, progress: Progress, *, threads: int) -> Roofline:
    """Compare the layers of a bundle's float32 graph with this machine's measured peak.

    Args:
        bundle: Verified bundle.
        progress: Receives progress.
        threads: Number of CPU threads; 0 = one per core this process may use.
    """
    import onnx

    progress.update("Measuring the processor's peak", 0, 2)
    peak = measure_peak(threads)
    progress.update("Measuring layers", 1, 2)
    runner = OnnxRunner(bundle.model_path, threads=threads, engine_name=REFERENCE)
    times = operator_times(runner, bundle.reference()["images"][:1], runs=RUNS)
    costs = layer_costs(onnx.load(str(bundle.model_path)))
    progress.update("Measuring layers", 2, 2)
    return Roofline(peak, points(costs, peak, times), tuple(predict(costs, board) for board in BOARDS))


def points(costs: Sequence[LayerCost], peak: Peak, times: Sequence[OperatorTime]) -> tuple[LayerPoint, ...]:
    """Limits of the layers, and their times where a node of the optimised graph belongs to one of them."""
    owner = {name: index for index, cost in enumerate(costs) for name in cost.members}
    spent: dict[int, float] = {}
    for one in times:
        index = owner.get(one.node, owner.get(one.node.removesuffix(OPTIMISED_SUFFIX)))
        if index is not None:
            spent[index] = spent.get(index, 0.0) + one.milliseconds
    found = []
    for index, cost in enumerate(costs):
        by_operations = 2e3 * cost.multiply_adds / peak.operations_per_s
        by_bytes = 1e3 * cost.n_bytes / peak.bytes_per_s
        bound_by = "memory" if by_bytes > by_operations else "compute"
        found.append(LayerPoint(cost, max(by_operations, by_bytes), bound_by, spent.get(index)))
    return tuple(found)


def predict(costs: Sequence[LayerCost], board: Board) -> Prediction:
    """Sum over the layers of what operations or bytes take at the board's peak, whichever is more.

    No engine is faster. Real ones are slower by a factor that this does not know: depthwise convolutions do not fill tensor
    cores, and each kernel has to be started.
    """

    def at_least_ms(precision: str) -> float:
        operations = board.operations_per_s(precision)
        return 1e3 * sum(
            max(2 * cost.multiply_adds / operations, BYTES_OF[precision] * cost.n_bytes / (board.gb_per_s * 1e9))
            for cost in costs
        )

    return Prediction(board, at_least_ms("fp16"), at_least_ms("int8"))
