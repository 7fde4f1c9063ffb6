"""What reaches the engine and what comes back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.imaging import resize
from edgead.prediction import Segmentation
from edgead.runner import FakeRunner, Outputs
from edgead.stream.detector import Detector
from edgead.stream.frame import Frame

from .fakes import BAD, GOOD, INPUT_SIZE, THRESHOLD, detector, plain


class KeepingRunner(FakeRunner):
    """Keeps the last batch."""

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        self.batch = batch
        return super().infer(batch)


def test_the_engine_sees_the_same_pixels_as_training() -> None:
    """A BGR frame arrives as one RGB image, resized by the one definition in `imaging`."""
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    runner = KeepingRunner(INPUT_SIZE)
    sut = detector(runner)
    sut.detect(sut.prepare(Frame(image, 0, 0.0, "x")))
    assert runner.batch.shape == (1, *INPUT_SIZE, 3)
    assert np.array_equal(runner.batch[0], resize(np.ascontiguousarray(image[:, :, ::-1]), INPUT_SIZE))


@pytest.mark.parametrize(("value", "is_anomalous"), [(GOOD, False), (BAD, True)])
def test_prediction_carries_scores_thresholds_and_times(value: int, is_anomalous: bool) -> None:
    """The prediction has the runner's map and score without the batch axis, and both thresholds."""
    sut = Detector(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE, threshold=THRESHOLD, pixel_threshold=0.3)
    detection = sut.detect(sut.prepare(Frame(plain(value), 3, 0.0, "x")))
    prediction = detection.prediction
    assert prediction.anomaly_map.shape == (2, 2)
    assert prediction.pred_score == pytest.approx(max(value / 255 - 0.5, 0), abs=1e-6)
    assert prediction.pred_label is is_anomalous
    assert (prediction.threshold, prediction.pixel_threshold) == (THRESHOLD, 0.3)
    assert detection.frame.index == 3
    assert detection.prepare_ms > 0
    assert detection.engine_ms > 0


def test_a_segmentation_of_the_bundle_makes_the_mask() -> None:
    """What `segment` says of the engine's outputs is the prediction's mask, and its time is measured apart."""
    segmentation = Segmentation(np.array([[1.0, 0.0], [0.0, 0.0]], np.float32), 0.5)
    seen: list[Outputs] = []

    def segment(outputs: Outputs) -> Segmentation:
        seen.append(outputs)
        return segmentation

    sut = Detector(
        FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE, threshold=THRESHOLD, pixel_threshold=THRESHOLD, segment=segment
    )
    detection = sut.detect(sut.prepare(Frame(plain(GOOD), 0, 0.0, "x")))
    assert detection.prediction.pred_mask.tolist() == [[True, False], [False, False]]
    assert seen[0]["anomaly_map"].shape == (1, 2, 2)
    assert detection.segment_ms > 0.0
    assert not detector().detect(sut.prepare(Frame(plain(GOOD), 0, 0.0, "x"))).prediction.pred_mask.any()
