"""`build-engine --backend tensorrt` and what uses its engines, end to end on fakes of TensorRT and CUDA that compute."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgead.bundle import Bundle, open_bundle
from edgead.cli import main
from edgead.engines.fingerprint import EngineRecord, TensorRTRecord, read_record
from edgead.engines.opening import open_engine, open_with_thresholds, present_engines
from edgead.engines.tensorrt import power
from edgead.engines.tensorrt.cuda_graph import INSTALL
from edgead.engines.tensorrt.runner import TensorRTRunner
from edgead.errors import EngineMismatchError
from edgead.precision.fp16 import WEIGHTED
from tests.engines.tensorrt.fake_gpu import FakeGpu
from tests.engines.tensorrt.fake_machine import install
from tests.engines.tensorrt.fake_scene import Scene

BundleCopy = Callable[[], Bundle]
WEAK, TYPED, TYPED_ONLY = "8.6.1", "10.3.0", "11.4.0.106"


class Desk:
    """A machine with a fake TensorRT, and commands typed on it."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.gpu = FakeGpu(integrated=True)
        self._monkeypatch, self._capfd = monkeypatch, capfd
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        self.recipe = tmp_path / "quick.yaml"
        self.recipe.write_text("images: 4\n")
        self.out = self.err = ""

    def install(self, version: str) -> Scene:
        """Put a version of TensorRT in the place of the one before."""
        self.scene = install(self.gpu, version, self._monkeypatch)
        self.scene.computes = True
        return self.scene

    def type(self, *words: object) -> int:
        """Run `edgead WORDS`; what it wrote is in `out` and `err` then."""
        self._monkeypatch.setattr(sys, "argv", ["edgead", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capfd.readouterr()
        return int(ended.value.code or 0)

    def build(self, bundle: Bundle, precision: str, *words: object) -> dict[str, Any]:
        """`edgead build-engine` that must go well; its JSON."""
        assert self.try_build(bundle, precision, *words) == 0, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found

    def doctor(self, bundle: Bundle) -> dict[str, dict[str, str]]:
        """The checks of `edgead doctor` by name."""
        self.type("doctor", bundle.path, "--json")
        return {check["name"]: check for check in json.loads(self.out)["checks"]}

    def try_build(self, bundle: Bundle, precision: str, *words: object) -> int:
        drop = () if "--max-drop" in words else ("--max-drop", 0.1)
        return self.type(
            "build-engine", bundle.path, f"--{precision}", "--backend", "tensorrt", "--recipe", self.recipe,
            "--json", *drop, *words,
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    found = Desk(tmp_path, monkeypatch, capfd)
    yield found
    found.gpu.check_clean()


def record_of(bundle: Bundle, name: str) -> EngineRecord:
    return read_record(bundle.engines_path / name)


@pytest.mark.parametrize(
    ("precision", "version"),
    [
        *(("fp16", version) for version in (WEAK, TYPED, TYPED_ONLY)),
        ("fp32", TYPED_ONLY),
        ("int8", TYPED),
        *(pytest.param("fp32", version, marks=pytest.mark.slow) for version in (WEAK, TYPED)),
        *(pytest.param("int8", version, marks=pytest.mark.slow) for version in (WEAK, TYPED_ONLY)),
    ],
)
def test_an_engine_is_built_judged_installed_and_used(
    desk: Desk, bundle_copy: BundleCopy, tiny_data: Path, version: str, precision: str
) -> None:
    """From the bundle to `eval` and `stream`: near float32, with what TensorRT said and what it takes to load it again."""
    bundle, name = bundle_copy(), f"tensorrt-{precision}"
    scene = desk.install(version)
    content = desk.build(bundle, precision)
    assert_asked_for(scene, precision)
    assert (content["engine"], content["precision"], content["reused"]) == (name, precision, False)
    record = record_of(bundle, name)
    assert record.fingerprint.backend_version == version
    assert record.fingerprint.gpu == "Orin (fake), compute capability 8.7"
    assert record.tensorrt == TensorRTRecord(
        dla_core=None, version_compatible=False, driver_version=12060, power_mode="unknown"
    )
    assert {path.name for path in (bundle.engines_path / name).iterdir()} == {"model.plan", "build.log", "engine.json"}
    assert desk.type("eval", bundle.path, "--data", tiny_data, "--engine", name, "--json", "-") == 0, desk.err
    measured = json.loads(desk.out)["mean"]
    assert measured["image_auroc"] > 0.9
    assert desk.type(
        "stream", bundle.path, "--source", "synthetic:disc", "--max-frames", 4, "--engine", name, "--json"
    ) == 0, desk.err  # fmt: skip
    assert json.loads(desk.out)["n_processed"] == 4
    shipped = bundle.thresholds().threshold.value
    if precision == "fp32":
        assert record.lower is None
        assert measured["threshold"] == pytest.approx(shipped)
    else:
        assert record.lower is not None
        own = record.lower.thresholds["disc"].threshold.value
        assert measured["threshold"] == pytest.approx(own)
        assert own != shipped
        # from five images: an engine whose scores are ranked alike still has another tail
        assert shipped / 2 < own < 2 * shipped
        assert record.lower.gate.score_correlation > 0.9
        assert content["gate"]["score_correlation"] > (0.999 if precision == "fp16" else 0.8)
        assert_precisions(content, bundle, version, precision)
        assert_own_scores(bundle)


def assert_asked_for(scene: Scene, precision: str) -> None:
    """8.6 by flags, with pins obeyed; from 10 on by the graph's own types alone."""
    flags, is_typed = types_of(scene)
    if scene.version != WEAK:
        assert (flags, is_typed) == (set(), scene.version == TYPED)
    elif precision == "fp32":
        assert flags == set()
    else:
        assert flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"} | ({"INT8"} if precision == "int8" else set())


def types_of(scene: Scene) -> tuple[set[str], bool]:
    """Precision flags that the last build was given, and whether its network was strongly typed."""
    flags, network = scene.seen.config._flags, scene.seen.network._flags
    bit = scene.release.members("NetworkDefinitionCreationFlag").get("STRONGLY_TYPED")
    return flags & {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}, bit is not None and bool(network & 1 << bit)


def assert_precisions(content: dict[str, Any], bundle: Bundle, version: str, precision: str) -> None:
    """The result lists the precisions that TensorRT reports, and the layers of the score are always float32."""
    layers = {layer["name"]: layer["precision"] for layer in content["layers"]}
    found = Counter(layers.values())
    assert {layers[name] for name in score_nodes(bundle)} == {"fp32"}
    assert (found["int8"] > 10) == (precision == "int8")
    assert found["fp16"] > 10


def assert_own_scores(bundle: Bundle) -> None:
    """The reopened engine reproduces the scores that its threshold was computed from."""
    held_out = bundle.held_out()
    assert held_out is not None
    opened, own = open_with_thresholds(bundle, None, threads=1)
    with opened as runner:
        assert isinstance(runner, TensorRTRunner)
        scores = [float(runner.infer(image[None])["pred_score"][0]) for image in held_out[0]]
    np.testing.assert_allclose(own.thresholds().scores, scores, rtol=1e-4)


def score_nodes(bundle: Bundle) -> set[str]:
    """Nodes from the last weighted layer on: sums of squares, of which half precision has too little range."""
    nodes = list(onnx.load(str(bundle.model_path)).graph.node)
    last = max(i for i, node in enumerate(nodes) if node.op_type in WEIGHTED)
    return {node.name for node in nodes[last + 1 :] if node.op_type in ("ReduceMean", "ReduceSum", "Mul", "TopK")}


def test_the_same_request_is_built_once(desk: Desk, bundle_copy: BundleCopy) -> None:
    """An engine is reused unless an option or the TensorRT version differs or --rebuild is given."""
    bundle = bundle_copy()
    for precision in ("fp32", "fp16"):
        scene = desk.install(TYPED)
        desk.build(bundle, precision)
        before, scene.seen = record_of(bundle, f"tensorrt-{precision}"), None
        again = desk.build(bundle, precision)
        assert again["reused"]
        assert "--rebuild" in desk.err
        assert scene.seen is None
        assert record_of(bundle, f"tensorrt-{precision}") == before
    for words in (("--rebuild",), ("--workspace-mb", 100), ("--batch", "1:2:4"), ("--version-compatible",)):
        assert not desk.build(bundle, "fp32", *words)["reused"], words
    desk.install("10.13.3.9")
    assert not desk.build(bundle, "fp32", "--version-compatible")["reused"]


@pytest.mark.slow
def test_a_missed_gate_puts_layers_back_then_fails_and_leaves_the_old_engine(
    desk: Desk, bundle_copy: BundleCopy
) -> None:
    """Kernels that compute nonsense in integers: fewer of them each time until the gate holds, else exit 4."""
    bundle, scene = bundle_copy(), desk.install(TYPED)
    integers: list[int] = []
    scene.distort = upside_down(integers, until=30)
    content = desk.build(bundle, "int8")
    tried = list(dict.fromkeys(integers))
    assert [count > 30 for count in tried] == [True] * (len(tried) - 1) + [False]
    assert len(tried) > 1
    assert sum(layer["precision"] == "int8" for layer in content["layers"]) == tried[-1]
    assert desk.err.count("Returned to higher precision") == len(tried) - 1
    assert content["gate"]["engine_auroc"] > 0.9

    before, files = record_of(bundle, "tensorrt-int8"), contents(bundle.engines_path)
    integers.clear()
    scene.distort = upside_down(integers, until=0)
    assert desk.try_build(bundle, "int8", "--rebuild") == 4
    assert "misses the gate" in desk.err
    assert "Nothing was installed" in desk.err
    assert "hint: Allow more with --max-drop" in desk.err
    tried = list(dict.fromkeys(integers))
    assert len(tried) > 2
    assert tried == sorted(tried, reverse=True)
    assert contents(bundle.engines_path) == files
    assert record_of(bundle, "tensorrt-int8") == before
    scene.distort = None
    with open_engine(bundle, "tensorrt-int8", threads=1) as runner:
        assert runner.engine_name == "tensorrt-int8"


def upside_down(integers: list[int], until: int) -> Callable[[list[str], dict[str, Any]], dict[str, Any]]:
    """A fault of kernels: with more than `until` integer layers the best parts score highest. Notes their number."""

    def distort(types: list[str], outputs: dict[str, Any]) -> dict[str, Any]:
        integers.append(types.count("INT8"))
        if types.count("INT8") <= until:
            return outputs
        return {**outputs, "pred_score": 100.0 / (1.0 + outputs["pred_score"])}

    return distort


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but its lock."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_engine_of_another_gpu_or_tensorrt_is_refused(desk: Desk, bundle_copy: BundleCopy, tiny_data: Path) -> None:
    """Both are named with what to do; with no engine named the bundle's own graph runs instead."""
    bundle = bundle_copy()
    words = ("eval", bundle.path, "--data", tiny_data, "--json", "-")
    desk.install(TYPED)
    desk.build(bundle, "fp16")
    desk.gpu.name = "Thor (fake)"
    assert desk.type(*words, "--engine", "tensorrt-fp16") == 1
    assert "built for another GPU: Orin (fake), compute capability 8.7; here it is Thor (fake)" in desk.err
    assert "hint: Rebuild it here: edgead build-engine" in desk.err
    desk.gpu.name = "Orin (fake)"
    desk.install("10.13.3.9")
    assert desk.type(*words, "--engine", "tensorrt-fp16") == 1
    assert "another backend version: 10.3.0; here it is 10.13.3.9" in desk.err
    assert desk.type(*words) == 0, desk.err
    with open_engine(bundle, None, threads=1) as runner:
        assert runner.engine_name == "reference"


@pytest.mark.parametrize(
    ("built", "installed", "loads"),
    [
        ("8.6.1", "10.3.0", True),
        ("10.3.0", "10.13.3.9", True),
        ("10.16.1.11", "11.4.0.106", True),
        ("8.6.1", "11.4.0.106", False),
        ("10.13.3.9", "10.3.0", False),
        ("11.4.0.106", "10.16.1.11", False),
    ],
)
def test_a_version_compatible_engine_outlives_an_upgrade(
    desk: Desk, bundle_copy: BundleCopy, built: str, installed: str, loads: bool
) -> None:
    """Where NVIDIA says that it does; elsewhere it is refused before TensorRT sees it."""
    bundle = bundle_copy()
    desk.install(built)
    desk.build(bundle, "fp32", "--version-compatible")
    assert record_of(bundle, "tensorrt-fp32").tensorrt.version_compatible  # type: ignore[union-attr]
    desk.install(installed)
    image = bundle.reference()["images"][:1]
    if loads:
        with open_engine(bundle, "tensorrt-fp32", threads=1) as runner:
            score = float(runner.infer(image)["pred_score"][0])
        assert score == pytest.approx(float(bundle.reference()["pred_score"][0]), rel=1e-3)
    else:
        with pytest.raises(EngineMismatchError, match=f"another backend version: {built}"):
            open_engine(bundle, "tensorrt-fp32", threads=1)


@pytest.mark.slow
def test_out_of_memory_names_the_option_that_helps(desk: Desk, bundle_copy: BundleCopy) -> None:
    """TensorRT gives no engine and says why: the error quotes it, names --workspace-mb, and keeps the whole log."""
    bundle, scene = bundle_copy(), desk.install(TYPED)
    desk.build(bundle, "fp16")
    before = contents(bundle.engines_path)
    scene.log = [("INFO", "Tactic 1 of 2")]
    scene.no_plan = ["[allocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)"]
    assert desk.try_build(bundle, "fp16", "--rebuild") == 1
    assert "Cuda Runtime (out of memory)" in desk.err
    assert "--workspace-mb" in desk.err
    after = contents(bundle.engines_path)
    (log,) = after.keys() - before.keys()
    assert b"Tactic 1 of 2" in after.pop(log)
    assert log in desk.err
    assert after == before
    assert present_engines(bundle) == ["tensorrt-fp16"]
    scene.no_plan = None
    assert not desk.build(bundle, "fp16", "--rebuild")["reused"]


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_a_disk_that_fills_up_during_a_build(
    desk: Desk, bundle_copy: BundleCopy, small_disk: Path, fails: bool
) -> None:
    """The error says what is full and what is free; of a build that failed itself it is only a remark about the log."""
    shutil.copytree(bundle_copy().path, small_disk / "bundle")
    bundle, scene = open_bundle(small_disk / "bundle"), desk.install(TYPED)
    desk.build(bundle, "fp32")
    before, fill = contents(bundle.engines_path), small_disk / "fill"
    scene.steps = lambda: fill.write_bytes(bytes(shutil.disk_usage(small_disk).free)) if not fill.exists() else None
    scene.no_plan = ["out of memory"] if fails else None
    assert desk.try_build(bundle, "fp32", "--rebuild") == 1
    assert "0.0 MB are free" in desk.err
    assert ("error: TensorRT 10.3.0 built no engine. TensorRT said: [ERROR] out of memory" in desk.err) == fails
    assert ("error: The disk is full" in desk.err) == (not fails)
    assert ("log could not be written" in desk.err) == fails
    assert contents(bundle.engines_path) == before
    with open_engine(bundle, "tensorrt-fp32", threads=1):
        pass


def test_a_cut_or_swapped_engine_is_refused(desk: Desk, bundle_copy: BundleCopy) -> None:
    """Before TensorRT sees a byte of it; building again repairs it."""
    bundle = bundle_copy()
    desk.install(TYPED)
    for precision in ("fp32", "fp16"):
        desk.build(bundle, precision)
    plans = {p: bundle.engines_path / f"tensorrt-{p}" / "model.plan" for p in ("fp32", "fp16")}
    whole = plans["fp16"].read_bytes()
    for content in (whole[:-100], b"", plans["fp32"].read_bytes()):
        plans["fp16"].write_bytes(content)
        with pytest.raises(EngineMismatchError, match="is missing or was changed after the build") as caught:
            open_engine(bundle, "tensorrt-fp16", threads=1)
        assert "edgead build-engine" in caught.value.hint
        assert desk.type("stream", bundle.path, "--source", "synthetic:disc", "--engine", "tensorrt-fp16") == 1
        assert "is missing or was changed after the build" in desk.err
    assert not desk.build(bundle, "fp16")["reused"]
    with open_engine(bundle, "tensorrt-fp16", threads=1):
        pass


@pytest.mark.slow
def test_bench_and_doctor_tell_what_the_gpu_does(desk: Desk, bundle_copy: BundleCopy) -> None:
    """Both report the GPU time and the use of one CUDA graph, as text and as JSON."""
    bundle = bundle_copy()
    desk.install(TYPED)
    desk.build(bundle, "fp16")
    bench = ("bench", bundle.path, "--frames", 5)
    assert desk.type(*bench, "--json", "-") == 0, desk.err
    content = json.loads(desk.out)
    assert content["engine"] == "tensorrt-fp16"
    # the fake GPU's clock advances by one per entry of a stream: the graph, and the event after it
    assert content["gpu"] == {
        "gpu_ms": {"p50": 2.0, "p95": 2.0, "p99": 2.0}, "cuda_graph": True, "cuda_graph_note": None, "power_note": None,
    }  # fmt: skip
    assert desk.type(*bench) == 0, desk.err
    assert re.search(r"on the GPU +2\.00 +2\.00 +2\.00", desk.out)
    assert "launched as one CUDA graph" in desk.out

    checks = desk.doctor(bundle)
    assert checks["tensorrt engines"]["status"] == "ok"
    for seen in (
        "tensorrt 10.3.0",
        "gpu Orin (fake), compute capability 8.7",
        "cuda driver 12.6",
        "power mode unknown",
    ):
        assert seen in checks["tensorrt engines"]["detail"]
    speed = checks["speed tensorrt-fp16"]
    assert (speed["status"], speed["advice"]) == ("ok", "")
    assert re.fullmatch(r"\d+\.\d ms per image, of which the GPU computes 2\.0 ms; one CUDA graph", speed["detail"])
    assert desk.type("doctor", bundle.path) == 0
    assert "one CUDA graph" in desk.out


@pytest.mark.slow
def test_bench_and_doctor_say_why_no_graph_is_used(
    desk: Desk, bundle_copy: BundleCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without cuda-bindings every kernel is launched by itself; what to install is said."""
    bundle = bundle_copy()
    desk.install(TYPED)
    desk.build(bundle, "fp32")
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    assert desk.type("bench", bundle.path, "--frames", 3, "--json", "-") == 0, desk.err
    gpu = json.loads(desk.out)["gpu"]
    assert (gpu["cuda_graph"], gpu["cuda_graph_note"]) == (False, INSTALL)
    assert desk.type("bench", bundle.path, "--frames", 3) == 0, desk.err
    assert f"no CUDA graph: {INSTALL}" in desk.out
    speed = desk.doctor(bundle)["speed tensorrt-fp32"]
    assert speed["status"] == "info"
    assert speed["detail"].endswith(f"no CUDA graph: {INSTALL}")


@pytest.mark.slow
def test_another_power_mode_than_at_the_build_is_told(
    desk: Desk, bundle_copy: BundleCopy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mode is in the record; in another one bench and doctor say so until the engine is built again."""
    bundle, status = bundle_copy(), tmp_path / "status"
    monkeypatch.setattr(power, "STATUS", status)
    status.write_text("pmode:0002 fmode:fanNull\n")
    desk.install(TYPED)
    desk.build(bundle, "fp16")
    record = record_of(bundle, "tensorrt-fp16")
    assert record.tensorrt is not None
    assert record.tensorrt.power_mode == "2"
    bench = ("bench", bundle.path, "--frames", 2, "--json", "-")
    assert desk.type(*bench) == 0
    assert json.loads(desk.out)["gpu"]["power_note"] is None
    assert desk.doctor(bundle)["speed tensorrt-fp16"]["status"] == "ok"

    status.write_text("pmode:0000 fmode:fanNull\n")
    assert desk.type(*bench) == 0
    assert "built in power mode 2, but the board is now in 0" in json.loads(desk.out)["gpu"]["power_note"]
    assert desk.type(*bench[:-2]) == 0
    assert "Note: the engine was built in power mode 2" in desk.out
    speed = desk.doctor(bundle)["speed tensorrt-fp16"]
    assert speed["status"] == "warning"
    assert "built in power mode 2, but the board is now in 0" in speed["detail"]
    assert "edgead build-engine --fp16 --rebuild" in speed["advice"]

    desk.build(bundle, "fp16", "--rebuild")
    assert desk.doctor(bundle)["speed tensorrt-fp16"]["status"] == "ok"
    status.unlink()
    assert desk.doctor(bundle)["speed tensorrt-fp16"]["status"] == "ok"


def test_doctor_says_why_the_tensorrt_that_is_there_cannot_be_used(
    desk: Desk, bundle_copy: BundleCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_copy()
    desk.install(TYPED)
    monkeypatch.setattr(FakeGpu, "call", always_fails("init", FakeGpu.call))
    check = desk.doctor(bundle)["tensorrt engines"]
    assert check["status"] == "warning"
    assert "cannot be built or run here: The GPU 0 cannot be used" in check["detail"]


def always_fails(name: str, call: Callable[..., None]) -> Callable[..., None]:
    """A driver call that fails every time."""

    def calls(gpu: FakeGpu, called: str, *arguments: Any) -> None:
        if called == name:
            gpu.fail[name] = gpu.calls[name] + 1
        call(gpu, called, *arguments)

    return calls
