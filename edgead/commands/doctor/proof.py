"""Test of a backend with a tiny graph of known results, for machines without a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.commands.doctor.check import Check
from edgead.engines.parity import GPU_LIMIT
from edgead.errors import EdgeadError
from edgead.evaluation.compare import PARITY_LIMIT, compare_outputs
from edgead.runner import Outputs, Runner

SIDE = 32
CHANNELS = 8
HIGHEST = 4  # elements of the map whose mean is the score
OPSET = 17
_SEED = 20
_SCALE, _SHIFT = np.float32(1 / 64), np.float32(-2.0)


@dataclass(frozen=True)
class ProofTarget:
    """A backend to test.

    Attributes:
        name: Name of the check.
        is_present: Returns whether this machine has the backend; absent backends are skipped.
        open: Opens the graph, given its file, an empty folder for the engine, and the number of CPU threads.
        limit: Largest allowed relative difference from the float64 results.
    """

    name: str
    is_present: Callable[[], bool]
    open: Callable[[Path, Path, int], Runner]
    limit: float


def _onnxruntime(graph: Path, folder: Path, threads: int) -> Runner:
    from edgead.engines.onnx_runner import OnnxRunner

    return OnnxRunner(graph, threads=threads, engine_name="onnxruntime-fp32")


def _has_cuda_provider() -> bool:
    from edgead.engines.onnx_session import has_cuda_provider

    return has_cuda_provider()


def _onnxruntime_cuda(graph: Path, folder: Path, threads: int) -> Runner:
    from edgead.engines.onnx_runner import OnnxRunner

    return OnnxRunner(graph, threads=threads, engine_name="onnxruntime-fp32", device="cuda")


def _has_tensorrt() -> bool:
    from edgead.engines.tensorrt import available

    return available() is None


def _tensorrt(graph: Path, folder: Path, threads: int) -> Runner:
    """Build and open an engine; never run on TensorRT so far, see `engines/tensorrt`."""
    from edgead.engines.tensorrt.decision import decide
    from edgead.engines.tensorrt.opening import build_tensorrt_plan, record_of, runner_of
    from edgead.engines.tensorrt.options import BuildOptions
    from edgead.progress import Silent

    options = BuildOptions()
    built = build_tensorrt_plan(graph.read_bytes(), decide("fp32"), options, kept=(), progress=Silent())
    return runner_of(built.plan, engine_name="tensorrt-fp32", record=record_of(options))


TARGETS = (
    ProofTarget("onnxruntime", lambda: True, _onnxruntime, PARITY_LIMIT),
    ProofTarget("onnxruntime cuda", _has_cuda_provider, _onnxruntime_cuda, GPU_LIMIT),
    ProofTarget("tensorrt", _has_tensorrt, _tensorrt, GPU_LIMIT),
)


def check_backends(threads: int, backends: tuple[ProofTarget, ...] = TARGETS) -> Iterator[Check]:
    """Run the tiny graph on every backend of this machine."""
    with tempfile.TemporaryDirectory(prefix="edgead-") as name:
        graph = Path(name) / "tiny.onnx"
        write_graph(graph)
        for backend in backends:
            if not backend.is_present():
                continue
            folder = Path(name) / backend.name
            folder.mkdir()
            try:
                yield _proof(backend, graph, folder, threads)
            except EdgeadError as error:
                yield Check(f"proof {backend.name}", "failed", error.message, error.hint)


def _proof(backend: ProofTarget, graph: Path, folder: Path, threads: int) -> Check:
    expected = expected_outputs(images())
    threshold = float(expected["pred_score"].mean())
    with backend.open(graph, folder, threads) as runner:
        comparison = compare_outputs(expected, runner.infer(images()), threshold)
    seen = max(comparison.max_relative_difference, comparison.score_relative_difference)
    holds = seen <= backend.limit and not comparison.verdict_flips
    return Check(
        f"proof {backend.name}",
        "ok" if holds else "failed",
        f"a tiny graph gives the expected results: largest relative difference {seen:.1e} (allowed {backend.limit:.0e})"
        if holds
        else f"a tiny graph gives wrong results: largest relative difference {seen:.1e} (allowed "
        f"{backend.limit:.0e}), {comparison.verdict_flips} of {comparison.n_images} verdicts flip",
        "" if holds else "Reinstall the backend; if that does not help, report it with `edgead doctor --report FILE`.",
    )


def images() -> NDArray[np.uint8]:
    """Two images `(2, SIDE, SIDE, 3)`: noise, and the same noise with a bright square."""
    plain = np.random.default_rng(_SEED).integers(96, 160, (SIDE, SIDE, 3)).astype(np.uint8)
    marked = plain.copy()
    marked[10:18, 6:14] = 255
    return np.stack([plain, marked])


def _weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(_SEED)
    first = generator.normal(0, 0.3, (CHANNELS, 3, 3, 3)).astype(np.float32)
    second = generator.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    return first, second


def expected_outputs(batch: NDArray[np.uint8]) -> Outputs:
    """Expected outputs of the graph for images `(N, SIDE, SIDE, 3)`, computed in float64."""
    first, second = _weights()
    values = batch.astype(np.float64).transpose(0, 3, 1, 2) * np.float64(_SCALE) + np.float64(_SHIFT)
    values = _convolve(np.maximum(_convolve(values, first), 0.0), second)
    anomaly_map = (values**2).mean(axis=1)
    highest = np.sort(anomaly_map.reshape(len(batch), -1), axis=1)[:, -HIGHEST:]
    return {
        "anomaly_map": anomaly_map.astype(np.float32),
        "pred_score": highest.mean(axis=1).astype(np.float32),
    }


def _convolve(values: NDArray[np.float64], kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    """Convolution 3 x 3 with stride 2 and zero padding of 1."""
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    return np.asarray(np.einsum("nchwij,ocij->nohw", windows, kernel.astype(np.float64)), np.float64)


def write_graph(path: Path) -> None:
    """Write a graph like those in bundles: uint8 images in, normalisation and scoring inside, any batch size."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    first, second = _weights()
    constants = {
        "scale": np.array(_SCALE), "shift": np.array(_SHIFT), "first": first, "second": second,
        "highest": np.array([HIGHEST], np.int64),
    }  # fmt: skip
    convolution: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normal"]),
        helper.make_node("Conv", ["normal", "first"], ["features"], **convolution),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("Conv", ["positive", "second"], ["latents"], **convolution),
        helper.make_node("Mul", ["latents", "latents"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["anomaly_map"], axes=[1], keepdims=0),
        helper.make_node("Flatten", ["anomaly_map"], ["elements"], axis=1),
        helper.make_node("TopK", ["elements", "highest"], ["top", "where"], axis=1, largest=1, sorted=1),
        helper.make_node("ReduceMean", ["top"], ["pred_score"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["batch", SIDE // 4, SIDE // 4]),
            helper.make_tensor_value_info("pred_score", TensorProto.FLOAT, ["batch"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
