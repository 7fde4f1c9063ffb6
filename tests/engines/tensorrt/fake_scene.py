"""Control of a fake TensorRT by a test, and the base of its classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..facts import Release
from .fake_gpu import FakeGpu

MAGIC, CACHE = b"PLAN", b"CACHE"


@dataclass
class Scene:
    """Behaviour of TensorRT in a test, and a record of its calls.

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
        distort: Changes what an engine that computes gives: `(types of its layers, outputs) -> outputs`.
        computes: Whether an engine computes its graph, in ONNX Runtime; otherwise block means, for any graph.
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
    computes: bool = False
    distort: Any = None

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
