"""Engines run where and from what they were built, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import MODEL
from edgead.bundle_writer import write_bundle
from edgead.engines.fingerprint import RECORD, machine_id, read_record
from edgead.engines.installing import build_onnxruntime
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.onnx_session import available_cores
from edgead.engines.opening import open_engine, present_engines
from edgead.engines.parity import compare_to_reference
from edgead.errors import CheckFailed, EngineError, EngineMismatchError, ShapeError
from edgead.runner import Runner

pytest.importorskip("torch")
from edgead.export.onnx_graph import DeployedModel, onnx_from_model

from ..resealing import rewrite
from ..tiny import SIDE, fit, make_files, make_images, make_manifest, make_model

NAME = "onnxruntime-fp32"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a real graph and the outputs that ONNX Runtime gave for its reference images."""
    folder = tmp_path_factory.mktemp("engines")
    model = fit(make_model(), folder)
    graph = folder / "graph.onnx"
    onnx.save(onnx_from_model(DeployedModel(model), (SIDE, SIDE)), str(graph))
    with OnnxRunner(graph, threads=1, engine_name="reference") as runner:
        outputs = runner.infer(make_images(2))
    files = make_files(folder / "sources", model=graph.read_bytes(), outputs=outputs)
    write_bundle(folder / "bundle", make_manifest(model.head.size), files)
    return folder / "bundle"


@pytest.fixture
def bundle(template: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(template, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


@pytest.fixture(scope="module")
def built(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an engine."""
    path = tmp_path_factory.mktemp("built") / "bundle"
    shutil.copytree(template, path)
    build_onnxruntime(open_bundle(path))
    return path


@pytest.fixture
def with_engine(built: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(built, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


def edit(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite(bundle.engines_path / NAME / RECORD, change)


def test_the_reference_reproduces_its_own_outputs(bundle: Bundle) -> None:
    """The bundle's graph on ONNX Runtime gives the stored maps and keeps the contract of a Runner."""
    with open_engine(bundle, "reference", threads=1) as runner:
        assert isinstance(runner, Runner)
        assert runner.input_spec.shape == (None, SIDE, SIDE, 3)
        assert runner.input_spec.dtype == "uint8"
        assert {spec.name: spec.shape for spec in runner.output_specs} == {
            "anomaly_map": (None, 8, 8),
            "pred_score": (None,),
        }
        comparison = compare_to_reference(bundle, runner)
    assert comparison.n_images == 2
    assert comparison.max_relative_difference < 1e-5


def test_a_built_engine_is_opened_first(bundle: Bundle) -> None:
    """Without an engine `None` is the reference; once one is built, `None` is that one, with the same numbers."""
    with open_engine(bundle, None, threads=1) as runner:
        assert runner.engine_name == "reference"
        expected = runner.infer(make_images(3, seed=4))
    record = build_onnxruntime(bundle)
    assert present_engines(bundle) == [NAME]
    assert record.n_images == 2
    assert record.verdict_flips == 0
    assert record == read_record(bundle.engines_path / NAME)
    with open_engine(bundle, None, threads=1) as runner:
        assert runner.engine_name == NAME
        np.testing.assert_allclose(
            runner.infer(make_images(3, seed=4))["anomaly_map"], expected["anomaly_map"], rtol=1e-3, atol=1e-3
        )
    build_onnxruntime(bundle)
    assert [path.name for path in bundle.engines_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["fingerprint"].update(bundle_digest="0" * 64), "another bundle"),
        (lambda r: r["fingerprint"].update(machine="0" * 24), "another machine"),
        (lambda r: r["fingerprint"].update(backend_version="0.1"), "another backend version: 0.1"),
        (lambda r: r["fingerprint"].update(backend="tensorrt"), "tensorrt"),
        (lambda r: r.update(sha256="1" * 64), "is missing or was changed after the build"),
        (lambda r: r.update(file="../../weights.safetensors"), "was changed|missing"),
        (lambda r: r.update(file=".."), "was changed|missing"),
        (lambda r: r.pop("sha256"), "does not contain an engine"),
        (lambda r: r.update(more=1), "does not contain an engine"),
    ],
)
def test_an_engine_that_does_not_belong_here_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, with_engine: Bundle
) -> None:
    """Another bundle, machine, version or content: named, it is refused with the reason; unnamed, it is passed over."""
    edit(with_engine, change)
    with pytest.raises(EngineMismatchError, match=message):
        open_engine(with_engine, NAME, threads=1)
    with open_engine(with_engine, None, threads=1) as runner:
        assert runner.engine_name == "reference"


def test_a_changed_engine_file_is_refused(with_engine: Bundle) -> None:
    """A flipped byte, a link and a missing file are each refused before the backend sees them."""
    file = with_engine.engines_path / NAME / "model.onnx"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EngineMismatchError, match="changed"):
        open_engine(with_engine, NAME, threads=1)
    file.unlink()
    with pytest.raises(EngineMismatchError, match="missing"):
        open_engine(with_engine, NAME, threads=1)
    elsewhere = with_engine.path / "elsewhere.onnx"
    elsewhere.write_bytes(content)
    file.symlink_to(elsewhere)
    with pytest.raises(EngineMismatchError):
        open_engine(with_engine, NAME, threads=1)


def test_the_engine_of_an_older_bundle_is_not_used(with_engine: Bundle, template: Path) -> None:
    """An engine folder copied into another bundle is refused: the digest of the manifest differs."""
    rewrite(with_engine.path / "bundle.json", lambda manifest: manifest["provenance"].update(seed=12345))
    with pytest.raises(EngineMismatchError, match="another bundle"):
        open_engine(open_bundle(with_engine.path), NAME, threads=1)


@pytest.mark.parametrize("name", ["tensorrt-int8", "", "..", "./nowhere", "a/b"])
def test_an_engine_that_is_not_there_is_a_mismatch(name: str, with_engine: Bundle) -> None:
    """A name without an engine says which there are, or that the folder holds none."""
    with pytest.raises(EngineMismatchError) as caught:
        open_engine(with_engine, name, threads=1)
    assert "edgead build-engine" in caught.value.hint


def test_an_engine_may_be_named_by_its_path(with_engine: Bundle) -> None:
    """A path to an engine folder of this bundle opens it."""
    with open_engine(with_engine, str(with_engine.engines_path / NAME), threads=1) as runner:
        assert runner.engine_name == NAME


def test_an_engine_that_does_not_reproduce_the_reference_is_not_installed(template: Path, tmp_path: Path) -> None:
    """Stored maps that are 1 % off fail the gate with exit code 4, and no engine folder appears."""
    with OnnxRunner(template / MODEL, threads=1, engine_name="reference") as runner:
        outputs = runner.infer(make_images(2))
    outputs["anomaly_map"] = outputs["anomaly_map"] * np.float32(1.01)
    files = make_files(tmp_path / "sources", model=(template / MODEL).read_bytes(), outputs=outputs)
    bundle = write_bundle(tmp_path / "bundle", make_manifest((8, 8)), files)
    with pytest.raises(CheckFailed, match="does not reproduce") as caught:
        build_onnxruntime(bundle)
    assert caught.value.exit_code == 4
    assert present_engines(bundle) == []
    assert list(bundle.engines_path.iterdir()) == []


def test_the_runner_refuses_what_it_cannot_run(bundle: Bundle, tmp_path: Path) -> None:
    """Wrong sizes are a ShapeError; wrong types, a closed runner and a damaged file are EngineErrors."""
    runner = OnnxRunner(bundle.model_path, threads=1, engine_name="reference")
    for shape in ((1, 32, 64, 3), (64, 64, 3), (1, 3, 64, 64)):
        with pytest.raises(ShapeError):
            runner.infer(np.zeros(shape, np.uint8))
    with pytest.raises(EngineError, match="batch of 1"):
        runner.infer(np.zeros((1, SIDE, SIDE, 3), np.float32))  # type: ignore[arg-type]
    with runner:
        pass
    with pytest.raises(EngineError, match="closed"):
        runner.infer(make_images(1))
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="is not a graph"):
        OnnxRunner(tmp_path / "bad.onnx", threads=1, engine_name="x")


def test_outputs_belong_to_the_caller(bundle: Bundle) -> None:
    """A later call does not change what an earlier one gave."""
    with OnnxRunner(bundle.model_path, threads=1, engine_name="reference") as runner:
        first = runner.infer(make_images(1))["anomaly_map"]
        copy = first.copy()
        runner.infer(255 - make_images(1))
        np.testing.assert_array_equal(first, copy)


def test_the_machine_id_is_stable_and_says_nothing() -> None:
    """Two calls agree, and the id does not contain the host's name."""
    import platform

    assert machine_id() == machine_id()
    assert len(machine_id()) == 24
    assert platform.node() not in machine_id()
    assert available_cores() >= 1


def test_an_engine_that_is_skipped_is_named() -> None:
    """Without a named engine the reference takes over, and a note says which engine is not used, why and what to do."""
    notes: list[str] = []
    path = Path(__file__).parents[1] / "fixtures" / "bundle-schema-1"
    with open_engine(open_bundle(path), None, threads=1, on_note=notes.append) as runner:
        assert runner.engine_name == "reference"
    (note,) = notes
    assert note.startswith("The engine onnxruntime-int8 is not used. ")
    assert note.endswith("Rebuild it here: edgead build-engine")
