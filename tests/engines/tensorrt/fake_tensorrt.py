"""`tensorrt` on a fake GPU, in the shape of one version: what its bindings do not have, the fake does not have.

`fake_builder` and `fake_engine` hold the union of what edgead uses; here it is cut to a version with the committed facts,
and a test holds the signatures against the same facts. An "engine" is JSON, with the graph in it where the scene says
that engines compute (`fake_arithmetic`).
"""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

from ..facts import Release, tensorrt_facts
from .fake_builder import (
    Builder,
    IBuilderConfig,
    ILayer,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    ITimingCache,
    OnnxParser,
    ParserError,
)
from .fake_engine import EngineInspector, ICudaEngine, IExecutionContext, Runtime
from .fake_gpu import FakeGpu
from .fake_scene import IHostMemory, ILogger, IProgressMonitor, Scene


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
