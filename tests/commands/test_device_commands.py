"""Engines, evaluation, export, bench, doctor and bundle, from the command's point of view."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgead.bundle import Bundle, open_bundle
from edgead.commands.bench import bench
from edgead.commands.build_engine import build_engine
from edgead.commands.bundle import bundle_facts, first_facts
from edgead.commands.doctor import doctor
from edgead.commands.doctor.model import check_model
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.export import export
from edgead.commands.train import TrainResult
from edgead.data.chosen import FolderRoles
from edgead.engines.opening import open_engine
from edgead.engines.operator_times import by_operator
from edgead.errors import BundleError, ConfigError, DataError, EngineBuildError, EngineMismatchError
from edgead.progress import Silent
from edgead.terminal import show_evaluation
from edgead.terminal_bench import show_bench
from tests.notes import Notes
from tests.resealing import rewrite

BundleCopy = Callable[[], Bundle]
METRICS = {
    "image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "aupro_0.3", "aupro_0.05", "threshold",
    "false_alarm_rate", "detection_rate", "n_good", "n_defective",
}  # fmt: skip


def test_graph_has_only_what_uniform_flows_need(tiny_result: TrainResult) -> None:
    """The exported graph holds no Exp, Tanh or Gather, and one MatMul: the per-position layer."""
    operators = [node.op_type for node in onnx.load(str(tiny_result.bundle.model_path)).graph.node]
    assert not {"Exp", "Tanh", "Gather", "Pad", "Shape"} & set(operators)
    assert operators.count("MatMul") == 1


def test_engine_is_built_checked_and_preferred(bundle_copy: BundleCopy) -> None:
    """build-engine leaves an engine that reproduces the reference and is opened by default afterwards."""
    bundle = bundle_copy()
    with open_engine(bundle, None, threads=1) as runner:
        assert runner.engine_name == "reference"
    built = build_engine(bundle, "fp32", "auto", Silent())
    assert built.name == "onnxruntime-fp32"
    assert built.reason == ""
    assert built.to_json()["gate"]["max_relative_difference"] <= 1e-4
    with open_engine(bundle, None, threads=1) as runner:
        assert runner.engine_name == "onnxruntime-fp32"


def test_tensorrt_by_name_is_refused(bundle_copy: BundleCopy) -> None:
    """A backend that was named is never replaced by another."""
    with pytest.raises(EngineBuildError, match="TensorRT"):
        build_engine(bundle_copy(), "fp16", "tensorrt", Silent())


def test_engine_of_another_bundle_is_refused(bundle_copy: BundleCopy, tmp_path: Path) -> None:
    """An engine copied beside another bundle does not open; with no engine named the reference is used."""
    bundle = bundle_copy()
    build_engine(bundle, "fp32", "auto", Silent())
    rewrite(bundle.path / "bundle.json", lambda manifest: manifest["provenance"].update(seed=12345))
    changed = open_bundle(bundle.path)
    with pytest.raises(EngineMismatchError, match="another bundle"):
        open_engine(changed, "onnxruntime-fp32", threads=1)
    with open_engine(changed, None, threads=1) as runner:
        assert runner.engine_name == "reference"


def test_evaluation_has_the_documented_keys(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """Eval gives every documented metric per class and mean, and a report with images."""
    with open_engine(tiny_result.bundle, None, threads=1) as runner:
        result = evaluate_bundle(
            tiny_result.bundle, runner, tiny_data, Silent(), false_alarm_rate=None, report=tmp_path / "report"
        )
    content = result.result.to_json()
    assert content["classes"].keys() == {"disc"}
    assert METRICS <= content["mean"].keys()
    assert METRICS <= content["classes"]["disc"].keys()
    assert content["mean"]["n_good"] == 5
    assert 0.5 < content["mean"]["image_auroc"] <= 1.0
    assert result.report is not None
    assert "data:image/" in result.report.read_text()


def test_training_images_are_left_out_of_the_false_alarm_rate(
    tiny_result: TrainResult, tiny_data: Path, tmp_path: Path
) -> None:
    """Of a folder good/ with training images, renamed, and one new image, only the new one counts for false alarms."""
    data = tmp_path / "parts"
    shutil.copytree(tiny_data / "test", data)
    for path in sorted((data / "good").iterdir())[1:]:
        path.unlink()
    for path in (tiny_data / "train" / "good").iterdir():
        shutil.copy(path, data / "good" / f"renamed-{path.name}")
    wrong = next(path for path in data.iterdir() if path.name != "good")
    shutil.copy(tiny_data / "train" / "good" / "000.png", wrong / "labelled.png")
    notes = Notes()
    with open_engine(tiny_result.bundle, None, threads=1) as runner:
        found = evaluate_bundle(
            tiny_result.bundle, runner, data, notes, false_alarm_rate=None, report=tmp_path / "report"
        )
    (part,) = found.result.classes.values()
    assert (part.metrics.n_good, part.metrics.n_trained_on, part.false_alarms.n) == (41, 40, 1)
    said = " ".join(notes.texts)
    assert "trained on 40 of the 41 good test images" in said
    assert "trained on 1 of the test images that are labelled defective" in said
    assert found.report is not None
    assert "leave out 40 good images" in found.report.read_text()


def test_a_bundle_without_digests_says_nothing_of_its_training(bundle_copy: BundleCopy, tiny_data: Path) -> None:
    """Bundles of before do not know their training images: every image counts, as it did."""
    bundle = bundle_copy()
    assert len(bundle.manifest.provenance.image_digests) == 40
    rewrite(bundle.path / "bundle.json", lambda manifest: manifest["provenance"].pop("image_digests"))
    notes = Notes()
    with open_engine(open_bundle(bundle.path), None, threads=1) as runner:
        found = evaluate_bundle(open_bundle(bundle.path), runner, tiny_data, notes, false_alarm_rate=None, report=None)
    assert found.result.mean.n_trained_on == 0
    assert not [text for text in notes.texts if "trained on" in text]


def test_rate_changes_the_threshold_without_images(tiny_result: TrainResult, tiny_data: Path) -> None:
    """A looser false-alarm rate lowers the threshold, from the bundle's scores alone."""
    with open_engine(tiny_result.bundle, None, threads=1) as runner:
        loose, shipped = (
            evaluate_bundle(tiny_result.bundle, runner, tiny_data, Silent(), false_alarm_rate=rate, report=None)
            for rate in (0.3, None)
        )
    assert loose.result.mean.threshold is not None
    assert shipped.result.mean.threshold is not None
    assert loose.result.mean.threshold < shipped.result.mean.threshold


def test_evaluation_without_masks_or_labels(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """A test folder without masks gives null pixel metrics; a folder without labels is an error that says so."""
    shutil.copytree(tiny_data / "test", tmp_path / "test")
    with open_engine(tiny_result.bundle, None, threads=1) as runner:
        result = evaluate_bundle(
            tiny_result.bundle, runner, tmp_path / "test", Silent(), false_alarm_rate=None, report=None
        )
        assert result.result.mean.pixel_auroc is None
        assert result.result.mean.image_auroc is not None
        with pytest.raises(DataError, match="no labelled test images"):
            evaluate_bundle(
                tiny_result.bundle, runner, tiny_data / "train" / "good", Silent(), false_alarm_rate=None, report=None
            )
        for path in (tmp_path / "test").rglob("*.png"):
            path.write_bytes(b"no image")
        with pytest.raises(
            DataError, match=r"can be judged: \d+ cannot be read\. The first reason: .*cannot be decoded"
        ):
            evaluate_bundle(tiny_result.bundle, runner, tmp_path / "test", Silent(), false_alarm_rate=None, report=None)


def test_a_bad_mask_is_left_out_and_named(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """A mask that does not fit its image is named before anything is scored, and its image counts as without a mask."""
    import cv2

    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    mask = next((data / "ground_truth").rglob("*.png"))
    assert cv2.imwrite(str(mask), np.full((50, 60), 255, np.uint8))
    notes = Notes()
    with open_engine(tiny_result.bundle, None, threads=1) as runner:
        before = evaluate_bundle(tiny_result.bundle, runner, tiny_data, Silent(), false_alarm_rate=None, report=None)
        result = evaluate_bundle(
            tiny_result.bundle, runner, data, notes, false_alarm_rate=None, report=tmp_path / "report"
        )
    assert [name for name, _ in result.bad_masks] == [str(mask)]
    assert result.to_json()["bad_masks"][0]["mask"] == str(mask)
    assert result.result.mean.n_without_mask == before.result.mean.n_without_mask + 1
    assert result.result.mean.n_defective == before.result.mean.n_defective
    assert any("Left out a mask" in note and mask.name in note for note in notes.texts)


def test_rejects_alone_are_evaluated(tiny_result: TrainResult, tiny_data: Path) -> None:
    """A folder of rejects alone gives the share that is detected, and null where good images are needed."""
    kind = next(part for part in sorted((tiny_data / "test").iterdir()) if part.name != "good")
    with open_engine(tiny_result.bundle, None, threads=1) as runner:
        result = evaluate_bundle(
            tiny_result.bundle, runner, tiny_data, Silent(), false_alarm_rate=None, report=None,
            roles=FolderRoles(bad=(kind,)),
        )  # fmt: skip
    mean = result.result.mean
    assert (mean.n_good, mean.n_defective, mean.image_auroc) == (0, len(list(kind.iterdir())), None)
    assert mean.detection_rate is not None
    show_evaluation(result)


def test_export_again_gives_the_same_scores(bundle_copy: BundleCopy) -> None:
    """`export` rewrites the graph from the weights: the same reference scores, thresholds untouched."""
    bundle = bundle_copy()
    result = export(bundle.path, Silent())
    before, after = bundle.manifest, result.bundle.manifest
    assert after.thresholds == before.thresholds
    assert np.allclose(result.bundle.reference()["pred_score"], bundle.reference()["pred_score"], rtol=1e-4)
    assert result.operators["Conv"] > 40


def test_reference_images_hold_both_verdicts_worth_comparing(tiny_result: TrainResult) -> None:
    """The reference images with a pseudo-defect score above the good ones on average."""
    scores = tiny_result.bundle.reference()["pred_score"]
    assert scores[1::2].mean() > scores[0::2].mean()


def test_bench_says_which_operators_take_the_time(tiny_result: TrainResult, capsys: pytest.CaptureFixture[str]) -> None:
    """Every node of the graph that computes is listed once, convolutions among them; not of an engine of another kind."""
    bundle = tiny_result.bundle
    with open_engine(bundle, "reference", threads=1) as runner:
        result = bench(bundle, runner, Silent(), n_frames=5, frame_size=(100, 120), startup_s=0.1, operators=True)
        assert result.operators is not None
        kinds = {name: count for name, count, _ in by_operator(result.operators)}
        assert kinds["Conv"] > 10
        assert len({one.node for one in result.operators}) == len(result.operators)
        assert sum(one.milliseconds for one in result.operators) < 3 * result.to_json()["engine_ms"]["p50"] + 5
        assert set(result.to_json()["operators"][0]) == {"node", "operator", "milliseconds"}
        show_bench(result)
        shown = capsys.readouterr().out
        assert "slowest" in shown
        assert "Conv" in shown
    with pytest.raises(ConfigError, match="ONNX Runtime on the CPU, not reference on cpu"):
        bench(
            bundle,
            _Other(),
            Silent(),
            n_frames=1,
            frame_size=(100, 120),
            startup_s=0.1,
            operators=True,  # type: ignore[arg-type]
        )


class _Other:
    """A runner of another kind."""

    engine_name = "reference"
    device = "cpu"


def test_bench_has_the_documented_keys(tiny_result: TrainResult) -> None:
    """Bench measures the engine alone and end to end, with every documented key."""
    with open_engine(tiny_result.bundle, None, threads=1) as runner:
        result = bench(tiny_result.bundle, runner, Silent(), n_frames=5, frame_size=(100, 120), startup_s=0.1).to_json()
    keys = {
        "engine",
        "device",
        "engine_ms",
        "end_to_end_ms",
        "stages_ms",
        "fps",
        "rss_mb",
        "startup_s",
        "multiply_adds",
        "inputs_per_frame",
        "gpu",
        "operators",
        "cameras",
        "roofline",
    }
    assert result.keys() == keys
    assert set(result["engine_ms"]) == {"p50", "p95", "p99"}
    assert result["end_to_end_ms"]["p50"] > 0
    assert result["gpu"] is None


def test_doctor_is_content_with_a_good_bundle(bundle_copy: BundleCopy) -> None:
    """Every engine of the bundle reproduces the reference images, and doctor says so."""
    bundle = bundle_copy()
    build_engine(bundle, "fp32", "auto", Silent())
    diagnosis = doctor(bundle.path, bundle_named=True, threads=1)
    assert diagnosis.ok
    names = {check.name for check in diagnosis.checks}
    assert {"engine reference", "engine onnxruntime-fp32", "cameras", "bundle"} <= names


def test_what_was_compared_already_is_opened_only(bundle_copy: BundleCopy) -> None:
    """An installation has compared its engine when it built it; a changed engine still fails."""
    bundle = bundle_copy()
    build_engine(bundle, "fp32", "onnxruntime", Silent())
    engine = "engine onnxruntime-fp32"

    def details(*compared: str) -> dict[str, tuple[str, str]]:
        return {one.name: (one.status, one.detail) for one in check_model(bundle.path, True, 1, compared=compared)}

    every, few = details(), details("reference", "onnxruntime-fp32")
    assert every.keys() - few.keys() == {"engine reference"}
    assert "verdicts flip" in every[engine][1]
    n = len(bundle.reference()["images"])
    assert f"opens; {n} reference images when it was built" in few[engine][1]
    assert few[engine][0] == "ok"
    with (bundle.engines_path / "onnxruntime-fp32" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert details("reference", "onnxruntime-fp32")[engine][0] == "failed"


def test_doctor_finds_a_flipped_byte_and_a_missing_bundle(bundle_copy: BundleCopy, tmp_path: Path) -> None:
    """A changed bundle fails the check; a missing one fails only when it was named."""
    bundle = bundle_copy()
    content = bytearray(bundle.model_path.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.model_path.write_bytes(content)
    assert not doctor(bundle.path, bundle_named=True, threads=1).ok
    assert not doctor(tmp_path / "none", bundle_named=True, threads=1).ok
    assert doctor(tmp_path / "none", bundle_named=False, threads=1).ok


def test_bundle_info_verifies_first(bundle_copy: BundleCopy) -> None:
    """`bundle info` shows the thresholds of an intact bundle and refuses a changed one."""
    bundle = bundle_copy()
    facts = dict(bundle_facts(bundle.path))
    assert "extrapolated" in facts["threshold all"]
    first = dict(first_facts(list(facts.items())))
    assert list(first) == ["path", "input", "images", "threshold all", "size"]
    assert first.items() < facts.items()
    bundle.weights_path.write_bytes(b"x")
    with pytest.raises(BundleError, match="was changed"):
        bundle_facts(bundle.path)
