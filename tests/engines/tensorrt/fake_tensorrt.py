"""`tensorrt` on a fake GPU, in the shape of one version: what its bindings do not have, the fake does not have.

The classes below hold the union of what edgead uses; `tensorrt_module` cuts them to a version with the committed facts,
and a test holds their signatures against the same facts. An "engine" is JSON; running it computes block means.
"""

from __future__ import annotations

import enum
import json
import weakref
from collections import Counter
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx

from ..facts import Release, tensorrt_facts
from .fake_gpu import FakeGpu

NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}
ONNX_TYPES = {1: "FLOAT", 2: "UINT8", 6: "INT32", 7: "INT64", 10: "HALF"}
MAGIC, CACHE = b"PLAN", b"CACHE"


@dataclass
class Scene:
    """What a test wants TensorRT to do, and what it was asked for.

    Attributes:
        dla_cores: Of the board.
        on_dla: Operators that the DLA takes.
        refused: Operator that the parser refuses.
        no_plan: Errors that TensorRT logs before it builds nothing; None = it builds.
        crash: Whether building raises.
        seen: What the last build was given.
        log: Extra messages while building.
        steps: Called before each step of a build.
        images: What the engine was given last.
        fail: Method of the execution context -> the number of the call that fails, from 1.
    """

    gpu: FakeGpu
    release: Release
    version: str
    dla_cores: int = 0
    on_dla: tuple[str, ...] = ()
    refused: str = ""
    no_plan: list[str] | None = None
    crash: bool = False
    log: list[tuple[str, str]] = field(default_factory=list)
    steps: Any = None
    seen: Any = None
    fail: dict[str, int] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    trt: Any = None
    images: Any = None

    def refuses(self, name: str) -> bool:
        self.calls[name] += 1
        return self.fail.get(name) == self.calls[name]

    def say(self, logger: Any, severity: str, text: str) -> None:
        logger.log(self.trt.ILogger.Severity[severity], text)


class Strict:
    """Takes only attributes that the real class lets one set in this version."""

    _scene: Scene
    _real = ""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            found = self._scene.release.attribute(self._real, name)
            if not (found and found.writable):
                raise AttributeError(f"{self._real}.{name} cannot be set in {self._scene.version}")
        object.__setattr__(self, name, value)

    def _put(self, **values: object) -> None:
        """Set what is read-only from outside."""
        self.__dict__.update(values)


class ILogger(Strict):
    _real = "ILogger"
    _started = False

    def __init__(self) -> None:
        self._started = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor(Strict):
    _real = "IProgressMonitor"
    _started = False

    def __init__(self) -> None:
        self._started = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None: ...


class IHostMemory(bytes):
    """The real one has the buffer protocol and no methods to read with."""


class ITensor(Strict):
    _real = "ITensor"
    name = ""
    shape: tuple[int, ...] = ()
    dtype: Any = None


class ILayer(Strict):
    _real = "ILayer"
    name = ""
    num_outputs = 1
    precision: Any = None

    def __init__(self, name: str, operator: str, output: Any) -> None:
        self._put(name=name)
        self._operator, self._output, self._output_types = operator, output, {}

    def get_output(self, index: int) -> Any:
        return self._output

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._output_types[index] = dtype


class INetworkDefinition(Strict):
    _real = "INetworkDefinition"
    num_inputs = 0
    num_layers = 0

    def __init__(self, flags: int) -> None:
        self._flags, self._inputs, self._layers, self._parser = flags, [], [], None

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_layer(self, index: int) -> Any:
        return self._layers[index]


class IOptimizationProfile(Strict):
    _real = "IOptimizationProfile"

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        assert all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True))
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class ITimingCache(Strict):
    _real = "ITimingCache"

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._content)


class IBuilderConfig(Strict):
    _real = "IBuilderConfig"
    default_device_type: Any = None
    DLA_core = -1
    profiling_verbosity: Any = None
    builder_optimization_level = 3
    hardware_compatibility_level: Any = None
    progress_monitor: Any = None

    def __init__(self) -> None:
        self._flags: set[Any] = set()
        self._pools: dict[str, int] = {}
        self._profiles: list[Any] = []
        self._devices: dict[str, str] = {}
        self._preview: set[str] = set()
        self._cache: Any = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def set_flag(self, flag: Any) -> None:
        assert type(flag) is self._scene.trt.BuilderFlag
        self._flags.add(flag.name)

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        self._preview.add(feature.name)

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def can_run_on_DLA(self, layer: Any) -> bool:  # NVIDIA's name
        return layer._operator in self._scene.on_dla

    def set_device_type(self, layer: Any, device_type: Any) -> None:
        self._devices[layer.name] = device_type.name

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return self._scene.trt.ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache._content and not cache._content.startswith(CACHE):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class Builder(Strict):
    _real = "Builder"
    num_DLA_cores = 0

    def __init__(self, logger: Any) -> None:
        assert logger._started, "the logger's base was not started"
        self._logger = logger
        self._put(num_DLA_cores=self._scene.dla_cores)

    def create_network(self, flags: int = 0) -> Any:
        known = self._scene.release.members("NetworkDefinitionCreationFlag")
        assert not flags & ~sum(1 << int(bit or 0) for bit in known.values()), "an unknown network flag"
        if "STRONGLY_TYPED" not in known and not flags & 1 << int(known["EXPLICIT_BATCH"] or 0):
            raise TypeError("create_network(): no implicit batch here")
        return self._scene.trt.INetworkDefinition(flags)

    def create_builder_config(self) -> Any:
        return self._scene.trt.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self._scene.trt.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> IHostMemory | None:
        scene = self._scene
        assert network._parser() is not None, "the parser, which holds the weights, was freed before the build"
        scene.seen = SimpleNamespace(network=network, config=config)
        for severity, text in scene.log:
            scene.say(self._logger, severity, text)
        if scene.crash:
            raise RuntimeError("internal error")
        if config.progress_monitor if hasattr(config, "progress_monitor") else None:
            if not self._report(config.progress_monitor):
                scene.say(self._logger, "ERROR", "the build was cancelled")
                return None
        elif scene.steps:
            scene.steps()
        return self._plan(network, config)

    def _report(self, monitor: Any) -> bool:
        assert monitor._started, "the monitor's base was not started"
        monitor.phase_start("Building", None, 3)
        for step in range(3):
            monitor.phase_start("Tactics", "Building", 2)
            if self._scene.steps:
                self._scene.steps()
            if not monitor.step_complete("Tactics", 1):
                return False
            monitor.phase_finish("Tactics")
            monitor.step_complete("Building", step)
        monitor.phase_finish("Building")
        return True

    def _plan(self, network: Any, config: Any) -> IHostMemory | None:
        scene = self._scene
        typed = scene.release.members("NetworkDefinitionCreationFlag").get("STRONGLY_TYPED")
        errors = list(scene.no_plan or [])
        if typed is not None and network._flags & 1 << typed and config._flags & {"FP16", "INT8"}:
            errors.append("precision flags with a strongly typed network")
        if any(tensor.shape[0] < 0 for tensor in network._inputs) and not config._profiles:
            errors.append("no optimization profile for a dynamic input")
        for text in errors:
            scene.say(self._logger, "ERROR", text)
        if errors:
            return None
        if config._cache is not None:
            config._cache._content = CACHE + b"timings"
        profile = config._profiles[0]._shapes if config._profiles else {}
        plan = {
            "version": scene.version,
            "io": network._io,
            "profile": profile,
            "may_share": "STRONGLY_TYPED" in scene.release.members("NetworkDefinitionCreationFlag")
            or "PROFILE_SHARING_0806" in config._preview,
            "dla": config.DLA_core,
            "host_code": "VERSION_COMPATIBLE" in config._flags,
            "layers": [layer.name for layer in network._layers],
        }
        return IHostMemory(MAGIC + json.dumps(plan).encode())


class ParserError(Strict):
    _real = "ParserError"

    def __init__(self, index: int, node: Any) -> None:
        self._index, self._node = index, node

    def code(self) -> Any:
        return self._scene.trt.ErrorCode.UNSUPPORTED_NODE

    def desc(self) -> str:
        return "no importer for it"

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return str(self._node.name)

    def node_operator(self) -> str:
        return str(self._node.op_type)


class OnnxParser(Strict):
    _real = "OnnxParser"
    num_errors = 0

    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._errors = network, []
        network._parser = weakref.ref(self)

    def parse(self, model: bytes, path: str | None = None) -> bool:
        graph = onnx.load_model_from_string(model).graph
        trt, network = self._scene.trt, self._network
        io = []
        for is_input, values in ((True, graph.input), (False, graph.output)):
            for value in values:
                kind = ONNX_TYPES[value.type.tensor_type.elem_type]
                shape = [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
                io.append({"name": value.name, "dtype": kind, "shape": shape, "is_input": is_input})
                if is_input:
                    tensor = trt.ITensor()
                    tensor._put(name=value.name, shape=tuple(shape), dtype=trt.DataType[kind])
                    network._inputs.append(tensor)
        for index, node in enumerate(graph.node):
            if node.op_type == self._scene.refused:
                self._errors.append(trt.ParserError(index, node))
                continue
            output = trt.ITensor()
            output._put(name=node.output[0], dtype=trt.DataType["INT32" if node.op_type == "Shape" else "FLOAT"])
            network._layers.append(trt.ILayer(node.name, node.op_type, output))
        network._put(num_inputs=len(network._inputs), num_layers=len(network._layers))
        network._io = io
        self._put(num_errors=len(self._errors))
        return not self._errors

    def get_error(self, index: int) -> Any:
        return self._errors[index]


class EngineInspector(Strict):
    _real = "EngineInspector"

    def __init__(self, layers: list[str]) -> None:
        self._layers = layers

    def get_engine_information(self, format: Any) -> str:
        assert format.name == "JSON"
        apart = self._scene.version.startswith("11")
        tensor = (
            {"Format": "Row major linear", "Datatype": "Half"}
            if apart
            else {"Format/Datatype": "Row major linear FP16"}
        )
        rows = [{"Name": name, "LayerType": "Cask", "Inputs": [tensor], "Outputs": [tensor]} for name in self._layers]
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
        for name, value in expected_outputs(views["image"], views.get("class_bias")).items():
            views[name][:] = value
        self._has_run = True

    def __del__(self) -> None:
        if hasattr(self, "_has_run"):
            self._gpu.died("execution context")
            if self._engine() is None:
                self._gpu.leaks.append("an execution context outlived its engine")


def expected_outputs(images: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None = None) -> dict[str, Any]:
    """What a fake engine computes: means of 4×4 blocks and the sum of the bias; and their maximum."""
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
        return self._scene.trt.EngineInspector(self._spec["layers"])

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
        if spec["version"] != self._scene.version:
            self._scene.say(self._logger, "ERROR", f"Version tag does not match: {spec['version']}")
            return None
        assert spec["dla"] == self.DLA_core, "the DLA core must be set before"
        assert spec["host_code"] <= self.engine_host_code_allowed
        return self._scene.trt.ICudaEngine(spec, self)


def _create_execution_context_of_8(self: Any) -> Any:
    return ICudaEngine.create_execution_context(self)


CLASSES: tuple[type, ...] = (
    ILogger, IProgressMonitor, IHostMemory, ITensor, ILayer, INetworkDefinition, IOptimizationProfile, ITimingCache,
    IBuilderConfig, Builder, ParserError, OnnxParser, EngineInspector, IExecutionContext, ICudaEngine, Runtime,
)  # fmt: skip
ENUMS = (
    "DataType", "BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "ProfilingVerbosity", "DeviceType",
    "LayerInformationFormat", "TensorIOMode", "HardwareCompatibilityLevel", "PreviewFeature", "ErrorCode",
)  # fmt: skip


def cut(cls: type, release: Release, scene: Scene | None) -> type:
    """The class with only those public names that the version has."""
    kept = {
        name: value
        for name, value in vars(cls).items()
        if name.startswith("_") or release.attribute(cls.__name__, name) is not None
    }
    kept = {name: value for name, value in kept.items() if name not in ("__dict__", "__weakref__", "__annotations__")}
    return type(cls.__name__, cls.__bases__, kept | ({"_scene": scene} if scene else {}))


def tensorrt_module(gpu: FakeGpu, version: str) -> tuple[ModuleType, Scene]:
    """The module for `sys.modules`, and the scene that a test directs."""
    release = tensorrt_facts()[version]
    trt = ModuleType("tensorrt")
    scene = Scene(gpu, release, version, trt=trt)
    trt.__version__ = version  # type: ignore[attr-defined]
    for name in ENUMS:
        setattr(trt, name, enum.IntEnum(name, {member: int(n or 0) for member, n in release.members(name).items()}))
    for cls in CLASSES:
        if cls.__name__ in release.classes:
            setattr(trt, cls.__name__, cut(cls, release, scene))
    if release.attribute("ICudaEngine", "create_execution_context").signatures[0].parameters == ():  # type: ignore[union-attr]
        trt.ICudaEngine.create_execution_context = _create_execution_context_of_8
    severities = {name: int(n or 0) for name, n in release.members("ILogger.Severity").items()}
    trt.ILogger.Severity = enum.IntEnum("Severity", severities)
    return trt, scene
