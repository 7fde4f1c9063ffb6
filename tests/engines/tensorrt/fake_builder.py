"""The building half of a fake TensorRT: parser, network, configuration, builder."""

from __future__ import annotations

import json
import weakref
from types import SimpleNamespace
from typing import Any

import onnx

from .fake_arithmetic import compiled, output_types
from .fake_scene import CACHE, MAGIC, IHostMemory, Strict

ONNX_TYPES = {1: "FLOAT", 2: "UINT8", 6: "INT32", 7: "INT64", 10: "HALF"}


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
        self._cache: Any = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def set_flag(self, flag: Any) -> None:
        assert type(flag) is self._scene.trt.BuilderFlag
        self._flags.add(flag.name)

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
        plan: dict[str, Any] = {
            "version": scene.version,
            "io": network._io,
            "profile": profile,
            "may_share": "STRONGLY_TYPED" in scene.release.members("NetworkDefinitionCreationFlag"),
            "dla": config.DLA_core,
            "host_code": "VERSION_COMPATIBLE" in config._flags,
            "layers": [layer.name for layer in network._layers],
        }
        if scene.computes:
            plan |= compiled(network, config)
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
        types = output_types(model) if self._scene.computes else {}
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
            kind = types.get(node.output[0], "INT32" if node.op_type == "Shape" else "FLOAT")
            output._put(name=node.output[0], dtype=trt.DataType[kind])
            network._layers.append(trt.ILayer(node.name, node.op_type, output))
        network._put(num_inputs=len(network._inputs), num_layers=len(network._layers))
        network._io, network._model = io, model
        self._put(num_errors=len(self._errors))
        return not self._errors

    def get_error(self, index: int) -> Any:
        return self._errors[index]
