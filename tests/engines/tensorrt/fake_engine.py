"""The running half of a fake TensorRT: runtime, engine, execution context; running computes block means."""

from __future__ import annotations

import json
import weakref
from typing import Any

import numpy as np

from ..facts import version_key
from .fake_arithmetic import run_graph
from .fake_scene import MAGIC, Strict

NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}

WORDS = {"FLOAT": ("Float", "FP32"), "HALF": ("Half", "FP16"), "INT8": ("Int8", "Int8")}
# a newer major version that loads an engine built version compatible by an older one, as NVIDIA's support matrix says
NEWER_MAJOR = {8: 10, 10: 11}


class EngineInspector(Strict):
    _real = "EngineInspector"

    def __init__(self, layers: list[str], types: list[str]) -> None:
        self._layers, self._types = layers, types

    def get_engine_information(self, format: Any) -> str:
        assert format.name == "JSON"
        apart = self._scene.version.startswith("11")
        rows = []
        for name, kind in zip(self._layers, self._types, strict=True):
            tensor = (
                {"Format": "Row major linear", "Datatype": WORDS[kind][0]}
                if apart
                else {"Format/Datatype": f"Row major linear {WORDS[kind][1]}"}
            )
            rows.append({"Name": name, "LayerType": "Cask", "Inputs": [tensor], "Outputs": [tensor]})
        return json.dumps({"Layers": rows, "I/O Tensors" if apart else "Bindings": []})


class IExecutionContext(Strict):
    _real = "IExecutionContext"

    def __init__(self, engine: Any) -> None:
        self._engine, self._gpu = weakref.ref(engine), self._scene.gpu
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._has_run = False
        engine._contexts += 1
        self._gpu.born("execution context")

    def set_input_shape(self, name: str, shape: Any) -> bool:
        tensor = self._tensor(name)
        least, _, most = self._spec["profile"].get(name, [tensor["shape"]] * 3)
        inside = all(a <= size <= b for a, size, b in zip(least, shape, most, strict=True))
        if self._scene.refuses("set_input_shape") or not inside:
            return False
        self._shapes[name] = tuple(shape)
        self._has_run = False
        return True

    def infer_shapes(self) -> list[str]:
        missing = [t["name"] for t in self._spec["io"] if t["is_input"] and t["name"] not in self._shapes]
        return ["image"] if self._scene.refuses("infer_shapes") else missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        tensor = self._tensor(name)
        if tensor["is_input"]:
            return self._shapes[name]
        return (next(iter(self._shapes.values()))[0], *tensor["shape"][1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory in self._gpu.memory, "an address that is not the GPU's"
        self._addresses[name] = memory
        return not self._scene.refuses("set_tensor_address")

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._gpu.need_context("execute_async_v3")
        queue = self._gpu.streams[stream_handle]
        if self._scene.refuses("execute_async_v3") or (queue.captured is not None and not self._has_run):
            return False
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        queue.add("compute", lambda: self._compute(shapes, addresses))
        return True

    @property
    def _spec(self) -> dict[str, Any]:
        engine = self._engine()
        assert engine is not None, "the engine was freed before its context"
        return engine._spec

    def _tensor(self, name: str) -> dict[str, Any]:
        return next(tensor for tensor in self._spec["io"] if tensor["name"] == name)

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        views = {}
        rows = shapes["image"][0]
        for tensor in self._spec["io"]:
            shape = shapes.get(tensor["name"], (rows, *tensor["shape"][1:]))
            dtype = np.dtype(NUMPY[tensor["dtype"]])
            data = self._gpu.bytes_at(addresses[tensor["name"]], int(np.prod(shape)) * dtype.itemsize)
            views[tensor["name"]] = data.view(dtype).reshape(shape)
        self._scene.images = views["image"].copy()
        graph = self._spec.get("graph")
        if graph is None:
            outputs = expected_outputs(views["image"], views.get("class_bias"))
        else:
            outputs = run_graph(graph, {t["name"]: views[t["name"]] for t in self._spec["io"] if t["is_input"]})
            if self._scene.distort:
                outputs = self._scene.distort(self._spec["types"], outputs)
        for name, value in outputs.items():
            views[name][:] = value
        self._has_run = True

    def __del__(self) -> None:
        if hasattr(self, "_has_run"):
            self._gpu.died("execution context")
            if self._engine() is None:
                self._gpu.leaks.append("an execution context outlived its engine")


def expected_outputs(images: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None = None) -> dict[str, Any]:
    """Outputs of a fake engine: means of 4×4 blocks plus the sum of the bias, and their maximum."""
    n, height, width, _ = images.shape
    maps = images.reshape(n, height // 4, 4, width // 4, 4, 3).astype(np.float32).mean(axis=(2, 4, 5))
    if bias is not None:
        maps = maps + bias.sum(axis=1)[:, None, None]
    return {"anomaly_map": maps, "pred_score": maps.max(axis=(1, 2))}


class ICudaEngine(Strict):
    _real = "ICudaEngine"
    num_io_tensors = 0

    def __init__(self, spec: dict[str, Any], runtime: Any) -> None:
        self._spec, self._runtime, self._contexts = spec, weakref.ref(runtime), 0
        self._put(num_io_tensors=len(spec["io"]))

    def get_tensor_name(self, index: int) -> str:
        return str(self._spec["io"][index]["name"])

    def get_tensor_mode(self, name: str) -> Any:
        return self._scene.trt.TensorIOMode["INPUT" if self._tensor(name)["is_input"] else "OUTPUT"]

    def get_tensor_dtype(self, name: str) -> Any:
        return self._scene.trt.DataType[self._tensor(name)["dtype"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensor(name)["shape"])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert self._tensor(name)["is_input"], "of inputs only"
        return [tuple(shape) for shape in self._spec["profile"][name]]

    def create_execution_context(self, strategy: Any = None) -> Any:
        scene = self._scene
        if scene.refuses("create_execution_context"):
            return None
        if self._contexts and self._spec["profile"] and not self._spec["may_share"]:
            return None  # 8.x: one context per profile
        return scene.trt.IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        layers = self._spec["layers"]
        return self._scene.trt.EngineInspector(layers, self._spec.get("types", ["HALF"] * len(layers)))

    def _tensor(self, name: str) -> dict[str, Any]:
        return next(tensor for tensor in self._spec["io"] if tensor["name"] == name)

    def __del__(self) -> None:
        if hasattr(self, "_runtime") and self._runtime() is None:
            self._scene.gpu.leaks.append("an engine outlived its runtime")


class Runtime(Strict):
    _real = "Runtime"
    DLA_core = -1
    engine_host_code_allowed = False

    def __init__(self, logger: Any) -> None:
        assert logger._started, "the logger's base was not started"
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        content = bytes(serialized_engine)
        spec = json.loads(content[len(MAGIC) :]) if content.startswith(MAGIC) else {"version": "no engine at all"}
        if not self._takes(spec):
            self._scene.say(self._logger, "ERROR", f"Version tag does not match: {spec['version']}")
            return None
        assert spec["dla"] == self.DLA_core, "the DLA core must be set before"
        assert spec["host_code"] <= self.engine_host_code_allowed
        return self._scene.trt.ICudaEngine(spec, self)

    def _takes(self, spec: dict[str, Any]) -> bool:
        if spec["version"] == self._scene.version:
            return True
        if not (spec.get("host_code") and self.engine_host_code_allowed):
            return False
        built, here = version_key(spec["version"]), version_key(self._scene.version)
        return built < here and here[0] in (built[0], NEWER_MAJOR.get(built[0]))
