"""Inputs of the engine and predictions from its outputs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.imaging import resize
from edgead.prediction import Segmentation
from edgead.runner import FakeRunner, Outputs
from edgead.stream.camera import Camera
from edgead.stream.frame import Frame

from .fakes import BAD, GOOD, INPUT_SIZE, THRESHOLD, ListSource, camera, plain, scorer, watch


class KeepingRunner(FakeRunner):
    """Keeps the last batch."""

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        self.batch = batch
        return super().infer(batch)


def test_the_engine_sees_the_same_pixels_as_training() -> None:
    """A frame arrives resized by the one definition in `imaging`, its colours as they are."""
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    runner = KeepingRunner(INPUT_SIZE)
    sut = scorer(runner)
    sut.score([sut.prepare(Frame(image, 0, 0.0, "x"))])
    assert runner.batch.shape == (1, *INPUT_SIZE, 3)
    assert np.array_equal(runner.batch[0], resize(image, INPUT_SIZE))


def test_frames_of_several_cameras_are_one_batch_in_order() -> None:
    """The engine gets the pictures stacked, and its outputs keep their order."""
    runner = KeepingRunner(INPUT_SIZE)
    sut = scorer(runner)
    outputs = sut.score([sut.prepare(Frame(plain(value), 0, 0.0, "x")) for value in (GOOD, BAD, GOOD)])
    assert runner.batch.shape == (3, *INPUT_SIZE, 3)
    assert outputs["pred_score"].tolist() == pytest.approx([0.0, BAD / 255 - 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize(("value", "is_anomalous"), [(GOOD, False), (BAD, True)])
def test_a_camera_judges_by_its_thresholds(value: int, is_anomalous: bool) -> None:
    """The prediction has the map and score of its own place in the batch, and both thresholds."""
    sut = scorer()
    outputs = sut.score([sut.prepare(Frame(plain(each), 3, 0.0, "x")) for each in (0, value)])
    judge = Camera("line", ListSource([]), [watch()], pixel_threshold=0.3).judge
    prediction, verdicts = judge(outputs, 1, frame_index=3, time_s=0.0)
    assert prediction.anomaly_map.shape == (2, 2)
    assert prediction.pred_score == pytest.approx(max(value / 255 - 0.5, 0), abs=1e-6)
    assert prediction.pred_label is is_anomalous
    assert (prediction.threshold, prediction.pixel_threshold) == (THRESHOLD, 0.3)
    assert [(verdict.zone, verdict.is_anomalous) for verdict in verdicts] == [("picture", is_anomalous)]
    assert verdicts[0].level == pytest.approx(prediction.pred_score / THRESHOLD)


def test_a_segmentation_of_the_bundle_makes_the_mask() -> None:
    """The predicted mask is the segmenter's for this frame's outputs."""
    segmentation = Segmentation(np.array([[1.0, 0.0], [0.0, 0.0]], np.float32), 0.5)
    seen: list[int] = []

    class Segmenter:
        def segment(self, outputs: Outputs, index: int = 0) -> Segmentation:
            seen.append(index)
            return segmentation

    sut = scorer()
    outputs = sut.score([sut.prepare(Frame(plain(GOOD), 0, 0.0, "x"))] * 2)
    with_own = Camera("line", ListSource([]), [watch()], pixel_threshold=0.3, segmenter=Segmenter())
    prediction, _ = with_own.judge(outputs, 1, frame_index=0, time_s=0.0)
    assert prediction.pred_mask.tolist() == [[True, False], [False, False]]
    assert seen == [1]
    prediction, _ = camera(ListSource([])).judge(outputs, 0, frame_index=0, time_s=0.0)
    assert not prediction.pred_mask.any()
