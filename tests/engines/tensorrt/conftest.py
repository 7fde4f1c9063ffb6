"""TensorRT, pycuda and the CUDA runtime as fakes, for each version, and a check that nothing is left over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.engines.tensorrt.builder import BuiltPlan, build_plan
from edgead.engines.tensorrt.cuda import GpuContext, find_gpu
from edgead.engines.tensorrt.decision import decide
from edgead.engines.tensorrt.options import BatchRange, BuildOptions
from edgead.engines.tensorrt.runner import RunnerOptions, TensorRTRunner

from .fake_gpu import FakeGpu
from .fake_machine import install
from .fake_scene import Scene

VERSIONS = ("8.6.1", "10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106")
SIDE = 16
CLASSES = 2
MACHINE = {"gpu": "a", "tensorrt": "b", "power_mode": "c"}


@dataclass
class Notes:
    """A progress display that records its calls."""

    notes: list[str]
    updates: list[tuple[str, int, int, str]]

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        self.updates.append((task, done, total, detail))


@dataclass
class World:
    """A machine with a fake GPU and a fake TensorRT."""

    gpu: FakeGpu
    scene: Scene
    progress: Notes

    def build(
        self, precision: Any = "fp32", options: BuildOptions | None = None, *, classes: int = 0, **others: Any
    ) -> BuiltPlan:
        kept = others.pop("kept", ())
        how = decide(precision, **others)
        return build_plan(
            make_graph(classes), how, options or BuildOptions(), kept=kept, machine=MACHINE,
            memory_bytes=find_gpu().total_bytes, progress=self.progress,
        )  # fmt: skip

    def runner(self, batch: tuple[int, int, int] = (1, 2, 4), *, classes: int = 0, **options: Any) -> TensorRTRunner:
        plan = self.build(options=BuildOptions(batch=BatchRange(*batch)), classes=classes).plan
        return self.runner_of(plan, **options)

    def runner_of(self, plan: bytes, **options: Any) -> TensorRTRunner:
        return TensorRTRunner(
            plan, GpuContext(find_gpu()), engine_name="tensorrt-fp32", options=RunnerOptions(**options)
        )


@pytest.fixture(params=["shared memory", "own memory"])
def gpu(request: pytest.FixtureRequest) -> FakeGpu:
    """A GPU like a Jetson's, then one like a workstation's."""
    return FakeGpu(integrated=request.param == "shared memory")


@pytest.fixture
def version() -> str:
    """TensorRT version of a test that is not parametrised over all of them."""
    return "10.3.0"


@pytest.fixture
def world(gpu: FakeGpu, version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Everything installed; at the end, everything must have been freed."""
    yield World(gpu, install(gpu, version, monkeypatch), Notes([], []))
    gpu.check_clean()


def make_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def make_graph(classes: int = 0) -> bytes:
    """A graph with the contract's inputs and outputs; the fake engine does not compute its nodes."""
    side = SIDE // 4
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])]
    if classes:
        inputs.append(helper.make_tensor_value_info("class_bias", TensorProto.FLOAT, ["N", classes]))
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], name="backbone/cast", to=1),
        helper.make_node("Conv", ["x", "w"], ["features"], name="backbone/conv"),
        helper.make_node("Shape", ["features"], ["size"], name="flow/size"),
        helper.make_node("Mul", ["features", "features"], ["anomaly_map"], name="flow/square"),
        helper.make_node("ReduceMax", ["anomaly_map"], ["pred_score"], name="flow/square_1"),
    ]
    outputs = [
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", side, side]),
        helper.make_tensor_value_info("pred_score", TensorProto.FLOAT, ["N"]),
    ]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=[weights])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()
