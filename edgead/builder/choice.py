"""Choice of backend, precision and device, from the request and the capabilities of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgead.engines.fingerprint import ONNXRUNTIME, TENSORRT, Device, Precision
from edgead.engines.opening import DeviceChoice
from edgead.errors import ConfigError, EngineBuildError

BackendName = Literal["auto", "tensorrt", "onnxruntime"]


@dataclass(frozen=True)
class Choice:
    """The engine to build.

    Attributes:
        backend: `tensorrt` or `onnxruntime`.
        precision: Precision of the engine.
        device: Device the engine runs on.
        reason: Why the precision differs from the request; empty if it does not.
        note: Remark for the user; may be empty.
    """

    backend: str
    precision: Precision
    device: Device
    reason: str = ""
    note: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it is the float32 graph on ONNX Runtime's CPU provider."""
        return (self.backend, self.precision, self.device) == (ONNXRUNTIME, "fp32", "cpu")


def choose(precision: Precision, backend: BackendName, device: DeviceChoice) -> Choice:
    """Choose TensorRT if it can be used, else ONNX Runtime on the GPU, else ONNX Runtime on the CPU.

    On a CPU without float16 arithmetic, `auto` takes fp32 instead of fp16; an explicit request that cannot be met is an
    error.

    Raises:
        ConfigError: If TensorRT is requested on the CPU.
        EngineBuildError: If the GPU is requested and cannot be used, or not in this precision.
    """
    from edgead.engines.tensorrt import available

    if backend == TENSORRT:
        if device == "cpu":
            raise ConfigError("--backend tensorrt needs the GPU, got --device cpu. Leave out one of them.")
        return Choice(TENSORRT, precision, "cuda")
    missing = available() if backend == "auto" and device != "cpu" else ""
    if missing is None:
        return Choice(TENSORRT, precision, "cuda")
    if device != "cpu":
        chosen, note = _on_gpu(precision, device)
        return chosen or _on_cpu(precision, backend, missing, note)
    return _on_cpu(precision, backend, missing, "")


def _on_gpu(precision: Precision, device: DeviceChoice) -> tuple[Choice | None, str]:
    """ONNX Runtime on the GPU, or None with a note on the reason."""
    from edgead.engines import onnx_session

    if device == "auto" and not onnx_session.has_cuda_provider():
        return None, ""  # the usual CPU package: not worth a note
    problem = onnx_session.cuda_problem()
    if problem is not None and device == "cuda":
        raise EngineBuildError(f"No GPU engine can be built here: {problem.message}.", hint=problem.hint)
    if problem is not None:
        return None, f"Not on the GPU: {problem.message}. {problem.hint}"
    if precision != "int8":
        return Choice(ONNXRUNTIME, precision, "cuda"), ""
    why = "ONNX Runtime's CUDA provider has no int8 convolutions"
    if device == "cuda":
        raise EngineBuildError(
            f"No int8 engine for the GPU: {why}, and an int8 graph would be slower there than float32.",
            hint="Use --fp16 --device cuda, or --int8 --device cpu.",
        )
    return None, f"{why}: this engine runs on the CPU. --fp16 runs on the GPU."


def _on_cpu(precision: Precision, backend: BackendName, no_tensorrt: str, note: str) -> Choice:
    from edgead.engines import onnx_session

    if precision != "fp16" or onnx_session.computes_half():
        return Choice(ONNXRUNTIME, precision, "cpu", note=note)
    slow = "ONNX Runtime runs fp16 graphs in float32 on this processor"
    if backend == "auto":
        why = f"{no_tensorrt}. " if no_tensorrt else ""
        reason = (
            f"No fp16 engine: {why}{slow}, so it would be no faster; building the fp32 engine for ONNX Runtime instead. "
            "--int8 is faster on this processor."
        )
        return Choice(ONNXRUNTIME, "fp32", "cpu", reason, note)
    said = f"{slow}: this engine shows the accuracy of fp16, not its speed. --int8 is faster on this processor."
    return Choice(ONNXRUNTIME, precision, "cpu", note=f"{note} {said}".strip())
