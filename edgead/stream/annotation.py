"""Annotated frames for people: heatmap, contours and a strip with the verdict."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import cv2
import numpy as np

from edgead.heatmap import HeatmapScale, overlay
from edgead.imaging import Image, resize
from edgead.stream.notices import UnjudgedFrame, sentence
from edgead.stream.result import FrameResult, JudgedBy
from edgead.stream.zones import Polygon

# Text of a strip under 640 px wide cannot be read in a recording; drawing and encoding more than 1920 px is
# slower than the engine. Frames between the two keep their size.
MIN_WIDTH = 640
MAX_SIDE = 1920

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK, _FAINT = (240, 240, 240), (165, 165, 165)
_STRIP, _TRACK = (26, 28, 30), (66, 70, 74)
_GREEN, _AMBER, _RED, _VIOLET = (46, 160, 96), (240, 150, 0), (220, 40, 40), (130, 60, 150)
_VERDICTS = {"OK": _GREEN, "ANOMALY": _AMBER, "ALERT": _RED, "FAULT": _VIOLET}


class Annotator:
    """Draws results; the last annotated frame is cached, so that recording and window share the work.

    Args:
        scale: Colour scale of the bundle.
        opacity: Opacity of the heatmap over the frame, 0..1.
        zones: Outlines to draw: polygons of (x, y) in 0..1.
    """

    def __init__(self, scale: HeatmapScale, *, opacity: float, zones: Sequence[Polygon] = ()) -> None:
        self._scale = scale
        self._scales: dict[JudgedBy, HeatmapScale] = {}
        self._opacity = opacity
        self._zones = zones
        self._lock = threading.Lock()
        self._last: tuple[FrameResult, Image] | None = None

    def add_model(self, judged_by: JudgedBy, scale: HeatmapScale) -> None:
        """Add the colour scale of another model, before it judges the first frame."""
        self._scales[judged_by] = scale

    def draw(self, result: FrameResult) -> Image:
        """Annotate a result.

        Returns:
            `(H, W, 3)`, uint8, RGB, at least `MIN_WIDTH` wide: the strip above the frame. Not to be written to.
        """
        with self._lock:
            if self._last is None or self._last[0] is not result:
                self._last = (result, self._draw(result))
            return self._last[1]

    def draw_unjudged(self, notice: UnjudgedFrame) -> Image:
        """Annotate the frame of a notice with its fault; shape as `draw`."""
        picture = _wide(fit_to_screen(notice.frame.image))
        strip = _strip(picture.shape[1])
        badge_right = strip.shape[0] // 6 + _badge(strip, "FAULT", strip.shape[0] // 6)
        _text(strip, f"not judged: {sentence(notice)}", badge_right + strip.shape[0] // 3, 0, _INK)
        return np.vstack([strip, picture])

    def _scale_of(self, result: FrameResult) -> HeatmapScale:
        return self._scale if result.judged_by is None else self._scales.get(result.judged_by, self._scale)

    def _draw(self, result: FrameResult) -> Image:
        image = fit_to_screen(result.frame.image)
        prediction = result.prediction
        picture = overlay(
            image,
            prediction.anomaly_map,
            prediction.scale or self._scale_of(result),
            prediction.segmentation,
            opacity=self._opacity,
        )
        for polygon in self._zones:
            points = np.asarray(polygon, np.float64)
            points = points if prediction.pose is None else prediction.pose.place(points)
            corners = np.rint(points * (picture.shape[1] - 1, picture.shape[0] - 1)).astype(np.int32)
            cv2.polylines(picture, [corners], True, _INK, max(1, picture.shape[1] // 640), cv2.LINE_AA)
        picture = _wide(picture)
        verdict = _verdict(result)
        # The last frames of an alert may already show the next, good part: they get the badge but no red border.
        if verdict == "ALERT" and result.is_anomalous:
            border = max(3, picture.shape[1] // 200)
            cv2.rectangle(picture, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), _RED, 2 * border)
        return np.vstack([self._strip(result, verdict, picture.shape[1]), picture])

    def _strip(self, result: FrameResult, verdict: str, width: int) -> Image:
        strip = _strip(width)
        height = strip.shape[0]
        pad = height // 6
        badge_right = pad + _badge(strip, verdict, pad)
        clock = f"{int(result.time_s) // 60:02d}:{result.time_s % 60:04.1f}"
        facts = (f"{clock}  #{result.frame.index}", f"{result.measured_fps:.1f} fps")
        facts_left = width - pad - max(_text_width("00:00.0  #000000", height), _text_width(facts[0], height))
        for row, text in enumerate(facts):
            left = width - pad - _text_width(text, height)
            _text(strip, text, left, row, _INK if row == 0 else _FAINT)
        self._score(strip, result, verdict, (badge_right + 2 * pad, facts_left - 3 * pad))
        return strip

    def _score(self, strip: Image, result: FrameResult, verdict: str, span: tuple[int, int]) -> None:
        left, right = span
        worst = result.worst
        score, threshold = worst.score, worst.threshold
        digits = 3 if abs(threshold) < 10 else 1
        height = strip.shape[0]
        _text(strip, f"score {score:.{digits}f}", left, 0, _INK)
        limit = f"limit {threshold:.{digits}f}"
        if right - left > _text_width(f"score {score:.{digits}f}  {limit}", height):
            _text(strip, limit, right - _text_width(limit, height), 0, _FAINT)
        top, bottom = round(height * 0.62), round(height * 0.80)
        middle = (left + right) // 2
        colour = _VERDICTS[verdict] if result.is_anomalous else _GREEN
        # An ordinary good image fills an eighth of the bar, so that the bar visibly moves; its middle is the threshold.
        end = left + round((right - left) * float(np.clip(0.125 + 0.375 * worst.level, 0.0, 1.0)))
        cv2.rectangle(strip, (left, top), (right, bottom), _TRACK, cv2.FILLED)
        cv2.rectangle(strip, (left, top), (end, bottom), colour, cv2.FILLED)
        tick = max(1, height // 32)
        cv2.rectangle(strip, (middle - tick, top - 2 * tick), (middle + tick, bottom + 2 * tick), _INK, cv2.FILLED)


def fit_to_screen(image: Image) -> Image:
    """Enlarge small frames by a whole factor and shrink huge ones, within `MIN_WIDTH` and `MAX_SIDE`."""
    height, width = image.shape[:2]
    if max(height, width) > MAX_SIDE:
        factor = MAX_SIDE / max(height, width)
        return resize(image, (round(height * factor), round(width * factor)))
    times = max(1, min(-(-MIN_WIDTH // width), MAX_SIDE // 2 // height))
    return resize(image, (height * times, width * times))


def letterbox(image: Image, size: tuple[int, int]) -> Image:
    """Fit an image into `size` (height, width), keeping its aspect ratio, with black borders."""
    height, width = size
    if image.shape[:2] == size:
        return image
    factor = min(height / image.shape[0], width / image.shape[1], 1.0)
    inner = resize(image, (max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor))))
    boxed = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    boxed[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return boxed


def _verdict(result: FrameResult) -> str:
    if result.is_alert_open:
        return "ALERT"
    return "ANOMALY" if result.is_anomalous else "OK"


def _wide(picture: Image) -> Image:
    return picture if picture.shape[1] >= MIN_WIDTH else letterbox(picture, (picture.shape[0], MIN_WIDTH))


def _strip(width: int) -> Image:
    height = round(min(max(width * 0.075, 48), 96)) // 2 * 2
    return np.full((height, width, 3), _STRIP, np.uint8)


def _badge(strip: Image, verdict: str, pad: int) -> int:
    height = strip.shape[0]
    scale, thickness = height / 62, max(1, round(height / 28))
    width = max(cv2.getTextSize(text, _FONT, scale, thickness)[0][0] for text in _VERDICTS) + 3 * pad
    cv2.rectangle(strip, (pad, pad), (pad + width, height - pad), _VERDICTS[verdict], cv2.FILLED)
    (text_width, text_height), _ = cv2.getTextSize(verdict, _FONT, scale, thickness)
    origin = (pad + (width - text_width) // 2, (height + text_height) // 2)
    cv2.putText(strip, verdict, origin, _FONT, scale, _INK, thickness, cv2.LINE_AA)
    return width


def _text(strip: Image, text: str, left: int, row: int, colour: tuple[int, int, int]) -> None:
    height = strip.shape[0]
    baseline = round(height * (0.42, 0.80)[row])
    cv2.putText(strip, text, (left, baseline), _FONT, height / 100, colour, max(1, round(height / 55)), cv2.LINE_AA)


def _text_width(text: str, height: int) -> int:
    return int(cv2.getTextSize(text, _FONT, height / 100, max(1, round(height / 55)))[0][0])
