"""A bundle with a segmentation of its own, from training through engine, evaluation, stream and bench."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from edgead.bundle import Bundle, open_bundle
from edgead.commands.bench import bench
from edgead.commands.bundle import bundle_facts
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.export import export
from edgead.commands.stream import StreamOutputs, stream
from edgead.commands.train import TrainResult, train
from edgead.config.root import Config
from edgead.config.stream import AlertConfig, CameraConfig
from edgead.data.reader import read_image
from edgead.engines.installing import build_onnxruntime
from edgead.engines.opening import open_engine
from edgead.engines.parity import compare_to_reference
from edgead.errors import ConfigError
from edgead.evaluation.segmentation import SegmentationKind, segmenter_of
from edgead.heatmap import find_regions
from edgead.manifest import POOLED
from edgead.models.zoo import load_model
from edgead.progress import Silent
from tests.tiny import BACKBONE
from tests.tiny_run import tiny_config


@pytest.fixture(scope="module")
def nfa_result(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A U-Flow with the NFA as its segmentation; do not change its files."""
    folder = tmp_path_factory.mktemp("nfa")
    torch.manual_seed(0)
    save_file(timm.create_model(BACKBONE, pretrained=False).state_dict(), folder / "w.safetensors")
    config = tiny_config(
        tiny_data, model__name="uflow", model__backbone=BACKBONE, model__weights=str(folder / "w.safetensors"),
        model__levels=["8", "16"], model__segmentation="nfa", train__epochs=20, train__batch_size=8,
        train__false_alarm_rate=0.1,
    )  # fmt: skip
    return train(config, Silent(), out=folder / "run", runs=folder, resume=False)


@pytest.fixture(scope="module")
def nfa_bundle(nfa_result: TrainResult) -> Bundle:
    return nfa_result.bundle


def test_the_manifest_says_how_to_segment(nfa_bundle: Bundle) -> None:
    """Levels, sizes and channels are the model's, every class has its limit, and a person can read the promise."""
    record = open_bundle(nfa_bundle.path).manifest.nfa
    assert record is not None
    model = load_model(nfa_bundle)
    assert [level.output for level in record.levels] == ["level_norm_0", "level_norm_1"]
    assert [(level.channels, level.size) for level in record.levels] == list(
        zip(model.flow.latent_channels, model.head.sizes, strict=True)
    )
    assert record.thresholds.keys() == {POOLED, "disc"}
    limit = record.thresholds[POOLED].log_epsilon
    assert (limit.false_alarm_rate, limit.n_images) == (0.1, len(record.thresholds[POOLED].smallest))
    assert "10.00% good images with any marked region" in dict(bundle_facts(nfa_bundle.path))["regions all"]


def test_a_bundle_of_the_pixel_threshold_has_no_segmentation_of_its_own(tiny_result: TrainResult) -> None:
    """Without the setting the graph has two outputs and the manifest no record."""
    assert tiny_result.bundle.manifest.nfa is None
    assert tiny_result.bundle.reference().keys() == {"images", "anomaly_map", "pred_score"}
    with open_engine(tiny_result.bundle, "reference", threads=1) as runner:
        assert [spec.name for spec in runner.output_specs] == ["anomaly_map", "pred_score"]


def test_engines_must_reproduce_the_norms(nfa_bundle: Bundle) -> None:
    """The reference holds the norms, the built engine gives them, and one that does not is no parity."""
    record = build_onnxruntime(nfa_bundle)
    assert record.max_relative_difference < 1e-4
    reference = nfa_bundle.reference()
    assert reference["level_norm_1"].shape == (len(reference["images"]), 8, 8)
    with open_engine(nfa_bundle, "onnxruntime-fp32", threads=1) as runner:
        assert compare_to_reference(nfa_bundle, runner).is_parity
        found = runner.infer(reference["images"])
    np.testing.assert_allclose(found["level_norm_0"], reference["level_norm_0"], rtol=1e-3)


def test_evaluation_measures_either_segmentation(nfa_bundle: Bundle, tiny_data: Path, tmp_path: Path) -> None:
    """The bundle's own by default, the pixel threshold on demand; only the metrics of marked pixels differ."""
    choices: tuple[tuple[SegmentationKind | None, float | None], ...] = (
        (None, None), ("nfa", None), ("threshold", None), (None, 0.4),
    )  # fmt: skip
    with open_engine(nfa_bundle, None, threads=1) as runner:
        own, nfa, threshold, loose = (
            evaluate_bundle(
                nfa_bundle, runner, tiny_data, Silent(), false_alarm_rate=rate, report=tmp_path, segmentation=kind
            )
            for kind, rate in choices
        )
    assert own.to_json() == nfa.to_json()
    assert [result.segmentation for result in (own, threshold)] == ["nfa", "threshold"]
    first, second = own.to_json()["mean"], threshold.to_json()["mean"]
    assert "mask_iou" in (differ := {key for key in first if first[key] != second[key]})
    assert differ <= {"mask_iou", "seg_f1", "region_recall", "marked_good_rate"}
    assert 0.0 <= first["mask_iou"] < 1.0
    assert loose.result.mean.mask_iou != first["mask_iou"]
    assert own.report is not None
    assert {f'<th scope="col">{name}</th>' for name in ("SegF1", "best SegF1", "region recall", "marked good")} <= set(
        re.findall("<th scope=.col.>[^<]*</th>", own.report.read_text())
    )


def test_a_bundle_without_nfa_cannot_be_measured_by_it(tiny_result: TrainResult, tiny_data: Path) -> None:
    """Asking for a segmentation that the bundle has not is an error that says how to get it."""
    with (
        open_engine(tiny_result.bundle, None, threads=1) as runner,
        pytest.raises(ConfigError, match="number of false"),
    ):
        evaluate_bundle(
            tiny_result.bundle, runner, tiny_data, Silent(), false_alarm_rate=None, report=None, segmentation="nfa"
        )


def test_the_stream_marks_by_the_bundles_segmentation(nfa_bundle: Bundle, tiny_data: Path, tmp_path: Path) -> None:
    """An alert's regions are those of the NFA on its frame, not of the map above the pixel threshold."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((tiny_data / "test").glob("*/*.png")):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    config = Config(alerts=AlertConfig(open_frames=1, window_frames=1, close_frames=1))
    with open_engine(nfa_bundle, "reference", threads=1) as runner:
        summary = stream(
            nfa_bundle, runner, [CameraConfig(name="line", source=str(folder))],
            StreamOutputs(tmp_path / "alerts", tmp_path / "out.mp4"), config=config, false_alarm_rate=0.45,
        )  # fmt: skip
        assert summary.n_alerts > 0
        record = nfa_bundle.manifest.nfa
        assert record is not None
        areas: dict[str, list[list[int]]] = {"alert": [], "nfa": [], "shipped": [], "map": []}
        for path in sorted((tmp_path / "alerts").glob("*.json")):
            alert = json.loads(path.read_text())
            assert alert["segmentation"] == "nfa"
            outputs = runner.infer(nfa_bundle.preprocess(read_image(Path(alert["origin"])))[None])
            found = {
                "nfa": segmenter_of(record, None, 0.45).segment(outputs),
                "shipped": segmenter_of(record, None).segment(outputs),
                "map": None,
            }
            size = (alert["image_size"][0], alert["image_size"][1])
            areas["alert"].append([region["area_px"] for region in alert["regions"]])
            for name, segmentation in found.items():
                regions = find_regions(outputs["anomaly_map"][0], alert["pixel_threshold"], size, segmentation)
                areas[name].append([region.area_px for region in regions])
    for shown, marked in zip(areas["alert"], areas["nfa"], strict=True):
        assert shown == marked if marked else len(shown) == 1, "an alert without a marked region outlines its peak"
    assert any(areas["nfa"])
    assert areas["alert"] != areas["shipped"]
    assert areas["alert"] != areas["map"]


def test_bench_counts_the_segmentation(nfa_bundle: Bundle, tiny_result: TrainResult) -> None:
    """It is a stage of its own inside end to end, where the bundle has one."""
    for bundle, has_stage in ((nfa_bundle, True), (tiny_result.bundle, False)):
        with open_engine(bundle, "reference", threads=1) as runner:
            result = bench(bundle, runner, Silent(), n_frames=5, frame_size=(120, 160), startup_s=0.0)
        assert ("segment" in result.stages_ms) is has_stage
        if has_stage:
            assert min(result.stages_ms["segment"]) > 0.0
            assert all(
                whole > part for whole, part in zip(result.end_to_end_ms, result.stages_ms["segment"], strict=True)
            )


def test_a_new_export_keeps_the_segmentation(nfa_result: TrainResult, tmp_path: Path) -> None:
    """The graph exported again gives the same norms, and the record stays."""
    run = tmp_path / "run"
    shutil.copytree(nfa_result.run, run)
    exported = export(run, Silent()).bundle
    assert exported.manifest.nfa == nfa_result.bundle.manifest.nfa
    before, after = nfa_result.bundle.reference(), exported.reference()
    np.testing.assert_allclose(after["level_norm_0"], before["level_norm_0"], rtol=1e-4)
