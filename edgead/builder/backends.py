"""Backends: from a graph to an engine file and a runner for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgead.engines.fingerprint import ONNXRUNTIME, TENSORRT, Device, LayerRecord, TensorRTRecord
from edgead.errors import EngineBuildError, StorageError
from edgead.precision.int8 import Int8Options
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.storage import write_bytes

if TYPE_CHECKING:
    from edgead.engines.tensorrt.options import BuildOptions

LOG = "build.log"


class Backend(Protocol):
    """A backend for one precision: ONNX Runtime or TensorRT."""

    name: str
    precision: str

    @property
    def version(self) -> str: ...

    @property
    def gpu(self) -> str | None:
        """Identity of the GPU the engine is bound to; None for the CPU."""
        ...

    @property
    def device(self) -> Device:
        """Device its engines run on."""
        ...

    @property
    def graph(self) -> str:
        """Form of the graph it builds from: `fp32`, `fp16` or `int8`."""
        ...

    @property
    def int8_options(self) -> Int8Options: ...

    @property
    def file(self) -> str:
        """File name of the engine."""
        ...

    @property
    def request(self) -> dict[str, object]:
        """Everything that changes the engine, except graph and version."""
        ...

    def build(self, graph: bytes, kept: frozenset[str], folder: Path) -> Runner:
        """Build the engine of a graph in `folder` and open it."""
        ...

    def layers(self) -> list[LayerRecord]:
        """Layers of the engine built last, as reported by the backend; empty if it reports none."""
        ...

    def record(self) -> TensorRTRecord | None: ...


@dataclass
class OnnxRuntimeBackend:
    """ONNX Runtime on the CPU, or on the GPU through its CUDA provider."""

    precision: str
    device: Device = "cpu"
    name: str = ONNXRUNTIME
    file: str = "model.onnx"
    gpu: str | None = None

    @property
    def version(self) -> str:
        from edgead.engines import onnx_session

        return onnx_session.version()

    @property
    def graph(self) -> str:
        return self.precision

    @property
    def int8_options(self) -> Int8Options:
        return Int8Options("onnxruntime", reduce_range=saturates_in_int8(), weights_first=has_amx())

    @property
    def request(self) -> dict[str, object]:
        options = self.int8_options
        return {"reduce_range": options.reduce_range, "weights_first": options.weights_first, "device": self.device}

    def build(self, graph: bytes, kept: frozenset[str], folder: Path) -> Runner:
        from edgead.engines import onnx_runner, onnx_session

        file = folder / self.file
        if self.device == "cpu":
            onnx_session.write_optimised(graph, file)
        else:
            # not optimised: a graph that ONNX Runtime optimised for the GPU contains copy nodes that it cannot load again
            # (microsoft/onnxruntime issues 11348 and 17837); the plain graph also runs on the CPU
            write_bytes(file, graph)
        engine_name = f"{self.name}-{self.precision}"
        return onnx_runner.OnnxRunner(file, threads=0, engine_name=engine_name, device=self.device)

    def layers(self) -> list[LayerRecord]:
        return []

    def record(self) -> TensorRTRecord | None:
        return None


@dataclass
class TensorRTBackend:
    """TensorRT on this machine's GPU; see `engines/tensorrt`.

    Raises:
        EngineBuildError: On construction, if TensorRT cannot be used here.
    """

    precision: str
    options: BuildOptions
    progress: Progress
    device: Device = "cuda"
    name: str = TENSORRT
    file: str = "model.plan"
    _layers: list[LayerRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        from edgead.engines.tensorrt.decision import decide
        from edgead.engines.tensorrt.opening import require_tensorrt

        self._gpu = require_tensorrt()
        if self.precision not in ("fp32", "fp16", "int8"):
            raise EngineBuildError(f"TensorRT engines are fp32, fp16 or int8, not {self.precision!r}.")
        self._how = decide(self.precision, for_dla=self.options.dla_core is not None)  # type: ignore[arg-type]

    @property
    def version(self) -> str:
        from edgead.engines.tensorrt.opening import version

        return version()

    @property
    def gpu(self) -> str | None:
        return self._gpu.identity

    @property
    def graph(self) -> str:
        return self._how.variant

    @property
    def int8_options(self) -> Int8Options:
        return Int8Options("tensorrt", half_scales=self._how.scale_type == "float16")

    @property
    def request(self) -> dict[str, object]:
        options = self.options
        batch = (options.batch.least, options.batch.tuned, options.batch.most)
        return {
            "batch": batch,
            "workspace": options.workspace_bytes,
            "dla_core": options.dla_core,
            "optimization_level": options.optimization_level,
            "compatible": (options.version_compatible, options.hardware_compatible),
        }

    def build(self, graph: bytes, kept: frozenset[str], folder: Path) -> Runner:
        from edgead.engines.tensorrt.builder import LoggedBuildError
        from edgead.engines.tensorrt.opening import build_tensorrt_plan, record_of, runner_of

        try:
            built = build_tensorrt_plan(graph, self._how, self.options, kept=kept, progress=self.progress)
        except LoggedBuildError as error:
            # beside the engines, because the scratch folder is deleted after a failure
            log = folder.parent / f"{self.name}-{self.precision}-{time.strftime('%Y%m%d-%H%M%S')}.failed.log"
            try:
                write_bytes(log, "\n".join(error.log).encode())
                where = f"Full TensorRT log: {log}"
            except StorageError as unwritten:
                where = f"The full TensorRT log could not be written: {unwritten.message}"
            raise EngineBuildError(error.message, hint=f"{error.hint} {where}") from error
        for text in built.notes:
            self.progress.note(text)
        write_bytes(folder / LOG, "\n".join(built.log).encode())
        write_bytes(folder / self.file, built.plan)
        self._layers = [LayerRecord(name=layer.name, precision=layer.precision) for layer in built.layers]
        return runner_of(built.plan, engine_name=f"{self.name}-{self.precision}", record=record_of(self.options))

    def layers(self) -> list[LayerRecord]:
        return self._layers

    def record(self) -> TensorRTRecord | None:
        from edgead.engines.tensorrt.opening import record_of

        return record_of(self.options)


def saturates_in_int8() -> bool:
    """Whether this x86 processor adds pairs of 8-bit products in 16 bits (no VNNI), where 8-bit weights overflow."""
    flags = _x86_flags()
    return bool(flags) and not {"avx512_vnni", "avx_vnni"} & flags


def has_amx() -> bool:
    """Whether this x86 processor multiplies tiles of 8-bit integers (AMX)."""
    return "amx_int8" in _x86_flags()


def _x86_flags() -> set[str]:
    """Feature flags of this x86 processor; empty on others."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return next((set(line.split(":")[1].split()) for line in text.splitlines() if line.startswith("flags")), set())
