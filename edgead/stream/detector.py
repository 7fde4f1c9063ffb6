"""From a frame to a prediction, with the time that each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.errors import EngineError
from edgead.imaging import resize
from edgead.prediction import Prediction, Segmentation
from edgead.runner import Outputs, Runner
from edgead.stream.frame import Frame


@dataclass(frozen=True)
class PreparedFrame:
    """A frame with the batch that the engine gets: `(1, h, w, 3)`, uint8, RGB."""

    frame: Frame
    batch: NDArray[np.uint8]
    prepare_ms: float


@dataclass(frozen=True)
class Detection:
    """A frame's prediction; the times leave out any waiting between the stages."""

    frame: Frame
    prediction: Prediction
    prepare_ms: float
    engine_ms: float
    segment_ms: float = 0.0


class Detector:
    """Runs the model on single frames.

    `prepare` and `detect` are apart so that the next frame can be prepared on the capture thread while the engine works
    on this one: shrinking a 1920×1080 frame costs 5 ms, which an fp16 engine does not have to spare.

    Args:
        runner: An open engine.
        image_size: Of its input, `(height, width)`.
        threshold: Score above which a frame is anomalous.
        pixel_threshold: Map value above which a position is.
        class_bias: `(1, K)`, for an engine that takes one.
        segment: The bundle's own segmentation of the engine's outputs for one frame; None goes by the pixel threshold.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        image_size: tuple[int, int],
        threshold: float,
        pixel_threshold: float,
        class_bias: NDArray[np.float32] | None = None,
        segment: Callable[[Outputs], Segmentation] | None = None,
    ) -> None:
        self._runner = runner
        self._image_size = image_size
        self._threshold = threshold
        self._pixel_threshold = pixel_threshold
        self._class_bias = class_bias
        self._segment = segment

    @property
    def engine_name(self) -> str:
        return self._runner.engine_name

    def warm_up(self) -> None:
        """Run once on a black image, so that the first frame does not pay for lazy set-up."""
        self._runner.infer(np.zeros((1, *self._image_size, 3), np.uint8), self._class_bias)

    def prepare(self, frame: Frame) -> PreparedFrame:
        start = time.perf_counter()
        small = resize(frame.image, self._image_size)
        batch = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)[None]
        return PreparedFrame(frame, batch, _ms_since(start))

    def detect(self, prepared: PreparedFrame) -> Detection:
        """Run the engine and segment its map.

        Raises:
            EngineError: If the engine answers with a score that is not a number. Comparing it would always say "good".
        """
        start = time.perf_counter()
        outputs = self._runner.infer(prepared.batch, self._class_bias)
        engine_ms = _ms_since(start)
        score = float(outputs["pred_score"][0])
        if not np.isfinite(score):
            raise EngineError(
                f"The engine {self.engine_name} gave the score {score} for frame {prepared.frame.index} "
                f"of {prepared.frame.source}; a score is a finite number.",
                hint="Run `edgead doctor`; if its reference images fail too, build the engine again.",
            )
        start = time.perf_counter()
        segmentation = None if self._segment is None else self._segment(outputs)
        segment_ms = 0.0 if segmentation is None else _ms_since(start)
        prediction = Prediction(outputs["anomaly_map"][0], score, self._threshold, self._pixel_threshold, segmentation)
        return Detection(prepared.frame, prediction, prepared.prepare_ms, engine_ms, segment_ms)


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
