"""Engines of lower precision: calibrated, gated, with thresholds of their own; and what goes wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from edgead.builder import backends, lower_precision
from edgead.builder.gate import judge, spearman
from edgead.builder.lower_precision import LowerOptions
from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import CALIBRATION
from edgead.cli import app
from edgead.commands.build_engine import LOCK, EngineOptions, build_engine, engine_options
from edgead.commands.doctor import doctor
from edgead.engines import onnx_session
from edgead.engines.fingerprint import GateRecord, read_record
from edgead.engines.opening import open_engine, open_with_thresholds
from edgead.errors import CheckFailed, ConfigError, DataError, EngineBuildError, EngineMismatchError, StorageError
from edgead.precision.recipe import Recipe
from edgead.progress import Silent
from edgead.storage import exclusive
from tests.notes import Notes
from tests.resealing import rewrite

BundleCopy = Callable[[], Bundle]
QUICK = Recipe(images=4)
ANY = EngineOptions(LowerOptions(max_drop=1.0, recipe=QUICK))


def test_int8_engine_computes_in_integers_and_has_its_own_threshold(int8_path: Path) -> None:
    """Most multiply-adds are integer kernels, scores follow the float32 ones, and the threshold is from its scores."""
    bundle = open_bundle(int8_path)
    record = read_record(bundle.engines_path / "onnxruntime-int8")
    assert record.lower is not None
    assert record.lower.coverage >= 0.9
    assert record.lower.gate.judged_by == "pseudo-defects"
    assert record.lower.gate.score_correlation > 0.9
    operators = Counter(
        n.op_type for n in onnx.load(str(bundle.engines_path / "onnxruntime-int8/model.onnx")).graph.node
    )
    assert operators["QLinearConv"] > 5 * (operators["Conv"] + operators["FusedConv"])
    held_out = bundle.held_out()
    assert held_out is not None
    opened, own = open_with_thresholds(bundle, None, threads=1)
    with opened as runner:
        assert runner.engine_name == "onnxruntime-int8"
        scores = [float(runner.infer(image[None])["pred_score"][0]) for image in held_out[0]]
    np.testing.assert_allclose(own.thresholds().scores, scores, rtol=1e-5)
    assert own.thresholds().threshold.value != bundle.thresholds().threshold.value
    assert own.thresholds().threshold.value >= max(scores)
    with open_engine(bundle, "reference", threads=1) as reference:
        float32 = [float(reference.infer(image[None])["pred_score"][0]) for image in held_out[0]]
    np.testing.assert_allclose(bundle.thresholds().scores, float32, rtol=1e-5)


def test_doctor_holds_an_int8_engine_to_what_it_did_when_it_was_built(int8_path: Path) -> None:
    """It differs from float32 by far more than an fp32 engine may, and is right all the same."""
    diagnosis = doctor(int8_path, bundle_named=True, threads=1)
    check = next(check for check in diagnosis.checks if check.name == "engine onnxruntime-int8")
    assert check.status == "ok"
    assert "at build time" in check.detail


def test_the_same_request_is_not_built_again(int8_path: Path) -> None:
    """Nothing is computed where bundle, options and images are the same; --rebuild computes it again."""
    bundle, notes = open_bundle(int8_path), Notes()
    before = (bundle.engines_path / "onnxruntime-int8" / "model.onnx").stat().st_mtime_ns
    again = build_engine(bundle, "int8", "onnxruntime", notes, ANY)
    assert again.reused
    assert "--rebuild" in notes.texts[-1]
    assert (bundle.engines_path / "onnxruntime-int8" / "model.onnx").stat().st_mtime_ns == before
    other = lower_precision.request_of
    backend = lower_precision_backend()
    assert other(bundle, backend, ANY.lower) != other(bundle, backend, LowerOptions(max_drop=0.5, recipe=QUICK))
    assert other(bundle, backend, ANY.lower) != other(bundle, backend, LowerOptions(max_drop=1.0, recipe=Recipe()))


def lower_precision_backend():  # type: ignore[no-untyped-def]  # noqa: ANN201
    from edgead.builder.backends import OnnxRuntimeBackend

    return OnnxRuntimeBackend("int8")


@pytest.mark.parametrize(
    ("flags", "reduce_range", "weights_first"),
    [
        ("fpu avx512_vnni amx_int8", False, True),
        ("fpu avx512_vnni", False, False),
        ("fpu avx_vnni", False, False),
        ("fpu avx2", True, False),
        (None, False, False),
    ],
)
def test_the_processor_decides_the_form_of_the_integers(
    flags: str | None, reduce_range: bool, weights_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "processor : 0\n" + (f"flags\t\t: {flags}\n" if flags else "Features : asimd\n")
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_kwargs: text)
    backend = backends.OnnxRuntimeBackend("int8")
    assert backend.int8_options.reduce_range == reduce_range
    assert backend.int8_options.weights_first == weights_first
    # another form is another request: an engine of the old one is built again
    assert backend.request == {"reduce_range": reduce_range, "weights_first": weights_first, "device": "cpu"}


def test_fp16_by_name_is_built_to_be_looked_at(bundle_copy: BundleCopy) -> None:
    """On the CPU it computes in float32 with rounded values: its accuracy can be judged, its speed is said."""
    bundle, notes = bundle_copy(), Notes()
    built = build_engine(bundle, "fp16", "onnxruntime", notes, ANY)
    assert built.name == "onnxruntime-fp16"
    content = built.to_json()
    assert content["gate"]["score_correlation"] > 0.99
    assert content["coverage"] > 0.9
    assert {layer["precision"] for layer in content["layers"]} == {"fp16"}
    assert content["size_mb"] > 0
    assert json.loads(json.dumps(content))


def test_fp16_without_tensorrt_offers_int8(bundle_copy: BundleCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--fp16` alone says what is missing, offers what is faster here, and leaves a working engine."""
    monkeypatch.setattr(onnx_session, "computes_half", lambda: False)
    built = build_engine(bundle_copy(), "fp16", "auto", Silent())
    assert built.name == "onnxruntime-fp32"
    assert "TensorRT" in built.reason
    assert "--int8" in built.reason


@pytest.mark.slow
def test_missed_gate_puts_layers_back_then_fails_and_leaves_the_old_engine(
    bundle_copy: BundleCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try keeps more layers in float; when none holds, nothing is installed."""
    bundle, notes = bundle_copy(), Notes()
    old = build_engine(bundle, "int8", "onnxruntime", Silent(), ANY).record

    def always_worse(*arguments: object, **names: object) -> GateRecord:
        found = judge(*arguments, **names)  # type: ignore[arg-type]
        return found.model_copy(update={"engine_auroc": found.reference_auroc - 0.2})

    monkeypatch.setattr(lower_precision, "judge", always_worse)
    with pytest.raises(CheckFailed, match="misses the gate"):
        build_engine(bundle, "int8", "onnxruntime", notes, EngineOptions(LowerOptions(0.05, QUICK), rebuild=True))
    tries = [text for text in notes.texts if "of the multiply-adds in int8" in text]
    shares = [int(text.split("%")[0]) for text in tries]
    assert len(shares) > 3
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 50
    assert read_record(bundle.engines_path / "onnxruntime-int8") == old
    with open_engine(bundle, "onnxruntime-int8", threads=1):
        pass
    assert not list(bundle.engines_path.glob(".*.tmp"))


@pytest.mark.slow
def test_layers_are_put_back_until_the_gate_holds(bundle_copy: BundleCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try that holds is installed, with the layers that went back in its record."""
    tries = []

    def worse_twice(*arguments: object, **names: object) -> GateRecord:
        tries.append(1)
        found = judge(*arguments, **names)  # type: ignore[arg-type]
        drop = 0.2 if len(tries) < 3 else 0.0
        return found.model_copy(update={"engine_auroc": found.reference_auroc - drop})

    monkeypatch.setattr(lower_precision, "judge", worse_twice)
    built = build_engine(bundle_copy(), "int8", "onnxruntime", Silent(), EngineOptions(LowerOptions(0.05, QUICK)))
    assert len(tries) == 3
    assert built.record.lower is not None
    higher = [layer for layer in built.record.lower.layers if layer.precision == "fp32" and layer.error is not None]
    assert len(higher) >= 2 * round(0.1 * len(built.record.lower.layers))


@pytest.mark.slow
def test_labelled_images_judge(bundle_copy: BundleCopy, tiny_data: Path) -> None:
    options = EngineOptions(LowerOptions(1.0, QUICK, labelled=tiny_data))
    gate = build_engine(bundle_copy(), "int8", "onnxruntime", Silent(), options).to_json()["gate"]
    assert gate["judged_by"] == "labelled images"
    assert gate["n_good"] == 5
    assert gate["n_defective"] > 5


@pytest.mark.slow
def test_calibration_folder_with_defects_is_said(bundle_copy: BundleCopy, tiny_data: Path, tmp_path: Path) -> None:
    """One bad image among good ones is named; a folder of something else is refused; so are too few."""
    bundle, notes, folder = bundle_copy(), Notes(), tmp_path / "calib"
    folder.mkdir()
    for index, path in enumerate(sorted((tiny_data / "train" / "good").iterdir())[:9]):
        (folder / f"{index}{path.suffix}").write_bytes(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "broken.png").write_bytes(b"no image")
    options = EngineOptions(LowerOptions(1.0, QUICK.model_copy(update={"images": 40}), calib=folder))
    record = build_engine(bundle, "int8", "onnxruntime", notes, options).record
    assert any("noise.png" in text and "defect" in text for text in notes.texts)
    assert any("broken.png" in text for text in notes.texts)
    assert record.lower is not None
    assert len(record.lower.images) == 10
    assert any(name.startswith("noise.png ") for name in record.lower.images)
    for path in sorted(folder.glob("[0-8].*")):
        cv2.imwrite(str(path), noise)
    with pytest.raises(DataError, match="not good images"):
        build_engine(bundle, "int8", "onnxruntime", Silent(), options)
    for path in sorted(folder.iterdir())[4:]:
        path.unlink()
    with pytest.raises(DataError, match="at least 8"):
        build_engine(bundle, "int8", "onnxruntime", Silent(), options)


def test_a_bundle_without_held_out_images_has_no_lower_precision(bundle_copy: BundleCopy) -> None:
    """An engine whose threshold would come from training images is not built."""
    bundle = bundle_copy()
    file = bundle.path / CALIBRATION
    images = bundle.calibration_images()
    np.savez_compressed(file, images=images)
    bundle = rehashed(bundle, CALIBRATION)
    with pytest.raises(EngineBuildError, match="held-out"):
        build_engine(bundle, "int8", "onnxruntime", Silent(), ANY)


def rehashed(bundle: Bundle, name: str) -> Bundle:
    """The bundle after one of its files was replaced."""
    from edgead.bundle_files import file_digest

    digest = file_digest(bundle.path / name)
    rewrite(bundle.path / "bundle.json", lambda manifest: manifest["sha256"].update({name: digest}))
    return open_bundle(bundle.path)


def test_two_builds_at_once_do_not_meet(bundle_copy: BundleCopy) -> None:
    bundle = bundle_copy()
    with (
        exclusive(bundle.engines_path / LOCK, "builds"),
        pytest.raises(StorageError, match="Another edgead process"),
    ):
        build_engine(bundle, "fp32", "auto", Silent())
    build_engine(bundle, "fp32", "auto", Silent())


def test_a_truncated_int8_engine_is_refused(int8_path: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(int8_path, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    file = bundle.engines_path / "onnxruntime-int8" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EngineMismatchError, match="changed"):
        open_engine(bundle, "onnxruntime-int8", threads=1)


def test_command_prints_the_gate(int8_path: Path) -> None:
    """The JSON has the documented keys, the text a table."""
    words = ["build-engine", str(int8_path), "--int8", "--backend", "onnxruntime", "--max-drop", "1"]
    done = CliRunner().invoke(app, [*words, "--recipe", str(recipe_of(int8_path))])
    assert done.exit_code == 0, done.output
    assert "image AUROC" in done.output
    assert "multiply-adds in int8" in done.output
    done = CliRunner().invoke(app, [*words, "--recipe", str(recipe_of(int8_path)), "--json"])
    content = json.loads(done.stdout)
    assert content["precision"] == "int8"
    assert {"engine", "backend", "gate", "layers", "size_mb", "build_s", "thresholds"} <= content.keys()
    assert content["gate"]["drop"] <= 1.0


def recipe_of(path: Path) -> Path:
    """The quick recipe as a file, outside the bundle."""
    file = path.parent / "quick.yaml"
    file.write_text("images: 4\n")
    return file


@pytest.mark.parametrize(
    ("change", "words"),
    [({"max_drop": 1.5}, "max-drop"), ({"batch": "0x"}, "batch"), ({"batch": "1:2"}, "batch")],
)
def test_wrong_options_are_said(change: dict[str, object], words: str) -> None:
    values: dict[str, object] = {
        "calib": None, "data": None, "recipe": None, "max_drop": 0.01, "batch": "1", "workspace_mb": None,
        "dla_core": None, "version_compatible": False, "rebuild": False, "device": "auto",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=words):
        engine_options(**{**values, **change})  # type: ignore[arg-type]


def test_spearman_is_of_ranks() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    assert spearman(values, values**3) == pytest.approx(1.0)
    assert spearman(values, -values) == pytest.approx(-1.0)
    assert spearman(values, np.zeros(4, np.float32)) == 0.0
