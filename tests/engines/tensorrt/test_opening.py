"""Engines of TensorRT in a bundle: opened where they were built, refused with a reason anywhere else."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.bundle_files import REFERENCE, file_digest
from edgead.engines.fingerprint import EngineRecord, Fingerprint, TensorRTRecord, machine_id, read_record, write_record
from edgead.engines.opening import open_engine, preferred_engines
from edgead.engines.tensorrt import available, versions
from edgead.engines.tensorrt.cuda import find_gpu
from edgead.engines.tensorrt.decision import decide
from edgead.engines.tensorrt.opening import build_tensorrt_plan, machine_state, record_of, runner_of, version
from edgead.engines.tensorrt.options import BuildOptions
from edgead.errors import EdgeadError, EngineBuildError, EngineMismatchError

from ...resealing import rewrite
from ...tiny import make_manifest
from .conftest import SIDE, World, make_graph, make_images
from .fake_engine import expected_outputs
from .test_runner import ALL, assert_right

NAME = "tensorrt-fp16"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The parts of a bundle that opening an engine uses: folder, manifest, reference and digest, no graph."""
    manifest = make_manifest()
    preprocessing = manifest.preprocessing.model_copy(update={"image_size": (SIDE, SIDE)})
    folder = tmp_path / "bundle"
    folder.mkdir()
    images = make_images(2)
    np.savez_compressed(folder / REFERENCE, images=images, **expected_outputs(images))
    return Bundle(folder, manifest.model_copy(update={"preprocessing": preprocessing}), "b" * 64)


def install(bundle: Bundle, world: World, name: str = NAME, built_at: str = "2026-01-01T00:00:00+00:00") -> Path:
    """Install an engine as a command does after the gate."""
    options = BuildOptions()
    built = build_tensorrt_plan(make_graph(), decide("fp16"), options, kept=(), progress=world.progress)
    folder = bundle.engines_path / name
    folder.mkdir(parents=True)
    (folder / "model.plan").write_bytes(built.plan)
    fingerprint = Fingerprint(
        backend="tensorrt",
        backend_version=version(),
        precision="fp16",
        bundle_digest=bundle.digest,
        machine=machine_id(),
        gpu=find_gpu().identity,
    )
    record = EngineRecord(
        fingerprint=fingerprint,
        file="model.plan",
        sha256=file_digest(folder / "model.plan"),
        built_at=built_at,
        build_s=built.build_s,
        size_mb=0.1,
        max_relative_difference=0.0,
        verdict_flips=0,
        n_images=1,
        tensorrt=record_of(options),
    )
    write_record(folder, record)
    return folder


@ALL
def test_an_installed_engine_is_opened_first(world: World, bundle: Bundle) -> None:
    """By name, by path, and before any of ONNX Runtime's when none is named."""
    folder = install(bundle, world)
    for name in (NAME, str(folder), None):
        with open_engine(bundle, name, threads=1) as runner:
            assert runner.engine_name == NAME
            assert_right(runner.infer(make_images(3)), make_images(3))


def test_the_precision_built_last_comes_first(world: World, bundle: Bundle) -> None:
    """Among TensorRT's engines the newest, whatever its name."""
    install(bundle, world, "tensorrt-fp32", "2026-01-02T00:00:00+00:00")
    install(bundle, world, "tensorrt-int8", "2026-01-01T00:00:00+00:00")
    newest = install(bundle, world, "tensorrt-fp16", "2026-01-03T00:00:00+00:00")
    assert [path.name for path in preferred_engines(bundle)] == ["tensorrt-fp16", "tensorrt-fp32", "tensorrt-int8"]
    shutil.rmtree(newest)
    with open_engine(bundle, None, threads=1) as runner:
        assert runner.engine_name == "tensorrt-fp32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["fingerprint"].update(gpu="Thor, compute capability 11.0"), "another GPU: Thor"),
        (lambda r: r["fingerprint"].update(gpu=None), "another GPU: none"),
        (lambda r: r["fingerprint"].update(backend_version="8.6.1"), "another backend version: 8.6.1"),
        (lambda r: r["fingerprint"].update(machine="0" * 24), "another machine"),
        (lambda r: r["fingerprint"].update(bundle_digest="0" * 64), "another bundle"),
        (lambda r: r.update(sha256="1" * 64), "was changed"),
        (lambda r: r.update(tensorrt=None), "not by TensorRT"),
        (lambda r: r["fingerprint"].update(backend="onnxruntime"), "another"),
    ],
)
def test_a_foreign_engine_is_never_deserialized(
    world: World, bundle: Bundle, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """Named, it is refused with what differs; unnamed, it is passed over."""
    folder = install(bundle, world)
    rewrite(folder / "engine.json", change)
    loaded: list[object] = []
    monkey = world.scene.trt.Runtime
    world.scene.trt.Runtime = lambda logger: loaded.append(logger) or monkey(logger)
    with pytest.raises(EngineMismatchError, match=message):
        open_engine(bundle, NAME, threads=1)
    assert not loaded
    with pytest.raises(EdgeadError):  # all that is left is the bundle's own graph, which is missing here
        open_engine(bundle, None, threads=1)


def test_a_record_from_before_is_still_read(world: World, bundle: Bundle) -> None:
    """Without the fields that TensorRT brought."""
    folder = install(bundle, world)
    rewrite(folder / "engine.json", lambda record: (record.pop("tensorrt"), record["fingerprint"].pop("gpu")))
    assert read_record(folder).tensorrt is None


def test_without_tensorrt_the_engine_is_a_mismatch(
    world: World, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason; building says the same."""
    install(bundle, world)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]
    with pytest.raises(EngineMismatchError, match="JetPack"):
        open_engine(bundle, NAME, threads=1)
    with pytest.raises(EngineBuildError, match="JetPack"):
        build_tensorrt_plan(b"", None, BuildOptions(), kept=(), progress=world.progress)  # type: ignore[arg-type]


def test_it_says_why_tensorrt_cannot_be_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reason; no GPU; no pycuda; no TensorRT: each its own, and none raises."""
    assert available() is None
    world.gpu.fail = {"init": world.gpu.calls["init"] + 1}
    assert "GPU 0 cannot be used" in str(available())
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    monkeypatch.delitem(sys.modules, "pycuda")
    monkeypatch.setattr(sys, "path", [])
    assert "edgead[jetson]" in str(available())
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]
    assert "JetPack" in str(available())


def test_versions_name_what_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT, GPU, driver and power mode; what is missing is left out."""
    found = versions()
    assert found["tensorrt"] == "10.3.0"
    assert found["gpu"] == "Orin (fake), compute capability 8.7"
    assert found["cuda driver"] == "12.6"
    assert machine_state(find_gpu())["gpu"] == found["gpu"]
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]
    world.gpu.fail = {"init": world.gpu.calls["init"] + 1}
    assert not {"tensorrt", "gpu"} & set(versions())
    assert importlib.metadata.version("numpy") == np.__version__


def test_a_plan_can_be_run_before_it_is_installed(world: World) -> None:
    """The gate can run a plan straight from memory."""
    options = BuildOptions()
    built = build_tensorrt_plan(make_graph(), decide("fp16"), options, kept=(), progress=world.progress)
    with runner_of(built.plan, engine_name=NAME, record=record_of(options)) as runner:
        assert_right(runner.infer(make_images(2)), make_images(2))
    assert isinstance(record_of(options), TensorRTRecord)
