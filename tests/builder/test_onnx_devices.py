"""ONNX Runtime on the GPU: when it is used, what is said when it is not, and what an engine for it is made of.

No CUDA provider was run: ONNX Runtime's list of providers and its sessions are replaced by ones that claim to have it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from edgead.builder.choice import Choice, choose
from edgead.bundle import Bundle, open_bundle
from edgead.cli import app
from edgead.commands.build_engine import EngineOptions, build_engine
from edgead.commands.doctor import doctor
from edgead.engines import onnx_session, tensorrt
from edgead.engines.fingerprint import Fingerprint, read_record
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.onnx_session import CUDA_OPTIONS, CudaProviderError, open_session, session_options
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError, EngineBuildError, EngineMismatchError

from ..commands.test_build_engine import ANY, Notes
from ..resealing import rewrite

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
NAME = "onnxruntime-fp32"
# ONNX Runtime's page "CUDA Execution Provider", Configuration Options, and the values it allows for the search
DOCUMENTED_OPTIONS = {
    "device_id", "gpu_mem_limit", "arena_extend_strategy", "cudnn_conv_algo_search", "do_copy_in_default_stream",
    "cudnn_conv_use_max_workspace",
}  # fmt: skip
DOCUMENTED_SEARCHES = {"EXHAUSTIVE", "HEURISTIC", "DEFAULT"}

BundleCopy = Callable[[], Bundle]


class ClaimedSession:
    """A session on the CPU that says which providers it has."""

    def __init__(self, session: onnxruntime.InferenceSession, providers: Sequence[str]) -> None:
        self._session, self._providers = session, providers

    def get_providers(self) -> list[str]:
        return list(self._providers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class Gpu:
    """Fake outcome for sessions that ask for the GPU: they get it, silently get the CPU, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = "works"
        self.asked: list[dict[str, Any]] = []
        self._open = onnxruntime.InferenceSession
        monkeypatch.setattr(onnxruntime, "get_available_providers", self._available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", self._session)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("noise about libraries"), raising=False)
        monkeypatch.setattr(tensorrt, "available", lambda: "TensorRT's Python package is not installed")

    def _available(self) -> list[str]:
        return [CPU] if self.state == "absent" else [CUDA, CPU]

    def _session(self, graph: Any, options: Any, *, providers: Sequence[Any], **others: Any) -> Any:
        if providers == [CPU]:
            return self._open(graph, options, providers=[CPU], **others)
        self.asked.append({"providers": providers, **others})
        if self.state == "fails":
            raise RuntimeError("CUDA failure 35: driver version is insufficient\nat line 1")
        session = self._open(graph, options, providers=[CPU], disabled_optimizers=others["disabled_optimizers"])
        return ClaimedSession(session, [CUDA, CPU] if self.state == "works" else [CPU])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


# what an engine is built for


CHOICES = [  # GPU, precision, backend, device; what comes out, and words of what is said
    ("works", "fp32", "auto", "auto", Choice("onnxruntime", "fp32", "cuda"), ""),
    ("works", "fp16", "auto", "auto", Choice("onnxruntime", "fp16", "cuda"), ""),
    ("works", "fp16", "onnxruntime", "auto", Choice("onnxruntime", "fp16", "cuda"), ""),
    ("works", "fp32", "auto", "cpu", Choice("onnxruntime", "fp32", "cpu"), ""),
    ("works", "int8", "auto", "auto", Choice("onnxruntime", "int8", "cpu"), "no int8 convolutions.*--fp16"),
    ("works", "int8", "auto", "cpu", Choice("onnxruntime", "int8", "cpu"), ""),
    ("silent", "fp32", "auto", "auto", Choice("onnxruntime", "fp32", "cpu"), "did not start.*cuDNN"),
    ("fails", "fp32", "auto", "auto", Choice("onnxruntime", "fp32", "cpu"), "CUDA failure 35"),
    ("absent", "fp32", "auto", "auto", Choice("onnxruntime", "fp32", "cpu"), ""),
    ("absent", "int8", "onnxruntime", "auto", Choice("onnxruntime", "int8", "cpu"), ""),
]


@pytest.mark.parametrize(("state", "precision", "backend", "device", "expected", "said"), CHOICES)
def test_the_gpu_is_used_where_it_works(
    gpu: Gpu, state: str, precision: Any, backend: Any, device: Any, expected: Choice, said: str
) -> None:
    """Automatically if it works, never for int8; a provider that does not start gives a note."""
    import re

    gpu.state = state
    found = choose(precision, backend, device)
    assert (found.backend, found.precision, found.device) == (expected.backend, expected.precision, expected.device)
    assert found.reason == ""
    assert re.search(said, found.note) if said else found.note == ""


@pytest.mark.parametrize(
    ("state", "precision", "words", "hint"),
    [
        ("absent", "fp32", "no CUDA provider, only CPUExecutionProvider", "onnxruntime-gpu"),
        ("silent", "fp16", "did not start: the session would run on the CPU", "cuDNN"),
        ("fails", "fp32", "CUDA failure 35", "cuDNN"),
        ("works", "int8", "no int8 convolutions", "--fp16 --device cuda"),
    ],
)
def test_a_gpu_that_was_named_and_cannot_be_had_is_an_error(
    gpu: Gpu, state: str, precision: Any, words: str, hint: str
) -> None:
    """No engine for the CPU is built in its place."""
    gpu.state = state
    with pytest.raises(EngineBuildError, match=words) as caught:
        choose(precision, "onnxruntime", "cuda")
    assert hint in caught.value.hint
    assert "line 1" not in caught.value.message


def test_tensorrt_comes_first_and_never_for_the_cpu(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both can use the GPU TensorRT does; `--device cpu` leaves it out, and with its name it is a contradiction."""
    monkeypatch.setattr(tensorrt, "available", lambda: None)
    assert choose("fp16", "auto", "auto").backend == "tensorrt"
    assert choose("fp16", "auto", "cuda").backend == "tensorrt"
    assert choose("fp32", "auto", "cpu") == Choice("onnxruntime", "fp32", "cpu")
    with pytest.raises(ConfigError, match="--device cpu"):
        choose("fp16", "tensorrt", "cpu")


def test_fp16_of_the_cpu_depends_on_its_arithmetic(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it, an fp16 engine; without, fp32 or by name fp16, either way saying so and offering int8."""
    gpu.state = "absent"
    monkeypatch.setattr(onnx_session, "computes_half", lambda: True)
    assert choose("fp16", "auto", "auto") == Choice("onnxruntime", "fp16", "cpu")
    monkeypatch.setattr(onnx_session, "computes_half", lambda: False)
    instead, named = choose("fp16", "auto", "auto"), choose("fp16", "onnxruntime", "auto")
    assert (instead.precision, named.precision) == ("fp32", "fp16")
    for text in (instead.reason, named.note):
        assert "in float32 on this processor" in text
        assert "--int8 is faster" in text


def test_float16_arithmetic_is_found_in_what_onnx_runtime_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of float16 that stays one is arithmetic; one between casts is none."""
    seen = []

    def written(with_cast: bool) -> Callable[[bytes, Path], None]:
        def write(source: bytes, target: Path) -> None:
            model = onnx.load_from_string(source)
            seen.append(model.graph.input[0].type.tensor_type.elem_type)
            if with_cast:
                model.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["c"], to=1))
            onnx.save(model, str(target))

        return write

    for with_cast in (True, False):
        monkeypatch.setattr(onnx_session, "write_optimised", written(with_cast))
        assert onnx_session.computes_half() is not with_cast
    assert seen == [onnx.TensorProto.FLOAT16] * 2
    monkeypatch.undo()
    assert onnx_session.computes_half() in (True, False)  # the real one answers


# what the session is asked for


def test_the_session_asks_for_documented_options_and_no_silent_fallback(gpu: Gpu, capsys: Any) -> None:
    """The GPU first, the CPU for what it lacks, ONNX Runtime's own retry off, and its prints kept off stdout."""
    graph = onnx_session._one_convolution(np.dtype(np.float32))
    open_session(graph, 1, "cuda")
    (asked,) = gpu.asked
    assert asked["providers"] == [(CUDA, CUDA_OPTIONS), CPU]
    assert asked["enable_fallback"] == 0
    assert set(CUDA_OPTIONS) <= DOCUMENTED_OPTIONS
    assert CUDA_OPTIONS["cudnn_conv_algo_search"] in DOCUMENTED_SEARCHES
    assert capsys.readouterr().out == ""
    open_session(graph, 1)
    assert len(gpu.asked) == 1


def test_onnx_runtime_without_a_gpu_is_refused_for_real() -> None:
    """The ONNX Runtime of this environment, if it has no CUDA provider, gives no session for one."""
    if onnx_session.has_cuda_provider():
        pytest.skip("this ONNX Runtime has a CUDA provider")
    with pytest.raises(CudaProviderError, match="no CUDA provider"):
        open_session(onnx_session._one_convolution(np.dtype(np.float32)), 1, "cuda")


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_reach_the_session(threads: int, bundle_copy: BundleCopy) -> None:
    """The session uses the requested threads, runs operators in sequence and does not spin; 0 = one thread per core."""
    with OnnxRunner(bundle_copy().model_path, threads=threads, engine_name="reference") as runner:
        assert runner._session is not None
        options = runner._session.get_session_options()
        assert options.intra_op_num_threads == threads
        assert options.inter_op_num_threads == 1
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session_options(0).intra_op_num_threads == onnx_session.available_cores()


# engines


def images(bundle: Bundle) -> Any:
    return bundle.reference()["images"][:2]


def test_the_optimised_file_gives_the_same_scores(bundle_copy: BundleCopy) -> None:
    """The stored optimised graph gives bit for bit the outputs of a graph optimised at start-up."""
    bundle = bundle_copy()
    build_engine(bundle, "fp32", "onnxruntime", Notes(), EngineOptions(device="cpu"))
    outputs = []
    for name in ("reference", NAME):
        with open_engine(bundle, name, threads=1) as runner:
            outputs.append(runner.infer(images(bundle)))
    for name in outputs[0]:
        np.testing.assert_array_equal(outputs[0][name], outputs[1][name])


def test_an_engine_for_the_gpu_is_the_graph_itself_and_says_so(gpu: Gpu, bundle_copy: BundleCopy) -> None:
    """No kernels or copies of one device are in its file; record, runner and bench name the device."""
    bundle = bundle_copy()
    for precision, options in (("fp32", EngineOptions()), ("fp16", ANY)):
        built = build_engine(bundle, precision, "auto", Notes(), options)  # type: ignore[arg-type]
        assert built.to_json()["device"] == "cuda"
        assert read_record(bundle.engines_path / built.name).fingerprint.device == "cuda"
        model = onnx.load(str(bundle.engines_path / built.name / "model.onnx"))
        assert {node.domain for node in model.graph.node} == {""}
        with open_engine(bundle, built.name, threads=1) as runner:
            assert runner.device == "cuda"
    before = len(gpu.asked)
    done = CliRunner().invoke(
        app, ["bench", str(bundle.path), "--engine", NAME, "--frames", "1", "--json", "-"], catch_exceptions=False
    )
    assert json.loads(done.stdout)["device"] == "cuda"
    assert len(gpu.asked) == before + 1


def test_device_reaches_the_build(gpu: Gpu, bundle_copy: BundleCopy) -> None:
    """`--device cpu` builds for the CPU on a machine with a GPU; an unknown word is refused."""
    bundle = bundle_copy()
    words = ["build-engine", str(bundle.path), "--device", "cpu", "--json"]
    assert json.loads(CliRunner().invoke(app, words).stdout)["device"] == "cpu"
    assert gpu.asked == []
    refused = CliRunner().invoke(app, ["build-engine", str(bundle.path), "--device", "gpu"])
    assert isinstance(refused.exception, ConfigError)
    assert "auto, cpu, cuda" in refused.exception.message


@pytest.mark.slow
def test_a_gpu_that_is_gone_is_said_and_the_cpu_goes_on(gpu: Gpu, bundle_copy: BundleCopy) -> None:
    """With the same scores; forced, it is an error, and doctor warns."""
    bundle = bundle_copy()
    build_engine(bundle, "fp32", "auto", Notes())
    with open_engine(bundle, NAME, threads=1) as runner:
        expected = runner.infer(images(bundle))
    for state in ("silent", "fails", "absent"):
        gpu.state = state
        notes: list[str] = []
        with open_engine(bundle, None, threads=1, on_note=notes.append) as runner:
            assert (runner.engine_name, runner.device) == (NAME, "cpu")
            np.testing.assert_array_equal(runner.infer(images(bundle))["pred_score"], expected["pred_score"])
        (note,) = notes
        assert "runs on the CPU" in note
        for name in (NAME, None):
            with pytest.raises(CudaProviderError):
                open_engine(bundle, name, threads=1, device="cuda")
    diagnosis = doctor(bundle.path, bundle_named=True, threads=1)
    check = next(check for check in diagnosis.checks if check.name == f"engine {NAME}")
    assert check.status == "warning"
    assert check.detail.startswith("on cpu")
    assert "onnxruntime-gpu" in check.advice
    done = CliRunner().invoke(app, ["bench", str(bundle.path), "--frames", "1", "--json", "-"])
    assert "note: onnxruntime-fp32 was built for the GPU" in done.stderr
    assert json.loads(done.stdout)["device"] == "cpu"


def test_a_named_device_is_kept_to(gpu: Gpu, bundle_copy: BundleCopy) -> None:
    """`cpu` runs an engine of the GPU on the CPU; `cuda` runs neither the reference nor an engine of the CPU."""
    bundle = bundle_copy()
    build_engine(bundle, "fp32", "auto", Notes())
    with open_engine(bundle, NAME, threads=1, device="cpu") as runner:
        assert runner.device == "cpu"
    build_engine(bundle, "fp32", "auto", Notes(), EngineOptions(device="cpu"))
    asked = len(gpu.asked)
    for name in (NAME, None, "reference"):
        with pytest.raises(EngineMismatchError) as caught:
            open_engine(bundle, name, threads=1, device="cuda")
        assert "--device cuda" in caught.value.hint
    assert len(gpu.asked) == asked


def test_the_settings_reach_the_engine(gpu: Gpu, bundle_copy: BundleCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--set engine.device=cuda` and `engine.threads=3`, in front of a command that runs an engine."""
    bundle, threads = bundle_copy(), []

    def options(count: int) -> onnxruntime.SessionOptions:
        threads.append(count)
        return session_options(count)

    monkeypatch.setattr(onnx_session, "session_options", options)
    words = ["bench", str(bundle.path), "--frames", "1", "--json", "-"]
    assert isinstance(CliRunner().invoke(app, [*words, "--set", "engine.device=cuda"]).exception, EngineMismatchError)
    assert threads == []
    assert CliRunner().invoke(app, [*words, "--set", "engine.threads=3"]).exit_code == 0
    assert threads == [3]


def test_records_from_before_there_was_a_device_are_of_the_cpu(bundle_copy: BundleCopy) -> None:
    """Engines built by an older edgead are still opened."""
    bundle = bundle_copy()
    build_engine(bundle, "fp32", "onnxruntime", Notes(), EngineOptions(device="cpu"))
    file = bundle.engines_path / NAME / "engine.json"
    record = json.loads(file.read_text())
    assert Fingerprint(**record["fingerprint"]).device == "cpu"
    rewrite(file, lambda record: record["fingerprint"].pop("device"))
    with open_engine(open_bundle(bundle.path), NAME, threads=1) as runner:
        assert runner.device == "cpu"
