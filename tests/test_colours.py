"""Images are RGB everywhere: what a person reads, draws, records or is shown has the colours that it had."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.data.reader import read_image
from edgead.heatmap import HeatmapScale, heatmap_from_map, overlay
from edgead.imaging import Image, bgr_from_rgb, jpeg_from_rgb, png_from_rgb, rgb_from_array, rgb_from_bgr
from edgead.prediction import Prediction
from edgead.stream.annotation import Annotator
from edgead.stream.consumers.recorder import Recorder
from edgead.stream.frame import Frame
from edgead.stream.monitoring.live_pictures import LivePictures
from edgead.stream.monitoring.monitor import Monitor
from edgead.stream.result import FrameResult
from edgead.stream.sources.iterable import IterableSource
from edgead.stream.sources.registry import source_from_uri

from .stream.fakes import SOURCE_OPTIONS, verdict

ORANGE = (230, 120, 20)
SCALE = HeatmapScale(1.0, 2.0, 3.0)
GOOD, BAD = np.zeros((4, 4), np.float32), np.full((4, 4), 9.0, np.float32)


def orange(size: tuple[int, int] = (48, 64)) -> Image:
    return np.full((*size, 3), ORANGE, np.uint8)


def decoded(content: bytes) -> Image:
    """Image as any viewer shows it, decoded with OpenCV alone."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image[:, :, ::-1], np.uint8)


def is_orange(image: NDArray[np.uint8]) -> bool:
    return bool(np.allclose(np.median(image.reshape(-1, 3), axis=0), ORANGE, atol=6))


def judged(image: Image, anomaly_map: NDArray[np.float32]) -> FrameResult:
    prediction = Prediction(anomaly_map, float(anomaly_map.max()), 2.0, 2.0)
    return FrameResult(
        "line", Frame(image, 0, 0.0, "x"), prediction, 0.0, 10.0, 10.0, (verdict(float(anomaly_map.max())),)
    )


def test_conversions_undo_each_other() -> None:
    """Red and blue change places and come back; an encoded image is decoded as it was."""
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(bgr_from_rgb(image), image[:, :, ::-1])
    assert np.array_equal(rgb_from_bgr(bgr_from_rgb(image)), image)
    assert np.array_equal(decoded(png_from_rgb(image)), image)
    assert is_orange(decoded(jpeg_from_rgb(orange(), 90)))


def test_an_overlay_on_an_image_that_was_read(tmp_path: Path) -> None:
    """Normal areas keep the file's colours, the strongest anomaly is dark red, and its outline is red."""
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), orange()[:, :, ::-1])
    image = read_image(path)
    assert np.array_equal(overlay(image, GOOD, SCALE), orange())
    anomaly_map = GOOD.copy()
    anomaly_map[1, 1] = 9.0
    drawn = overlay(image, anomaly_map, SCALE)
    assert (drawn[-8:] == ORANGE).all()
    assert (drawn.reshape(-1, 3) == (255, 0, 0)).all(axis=1).any()
    red, green, blue = heatmap_from_map(BAD, SCALE)[0, 0]
    assert red > 100 > max(green, blue)
    _, _, blue = heatmap_from_map(GOOD, SCALE)[0, 0]
    assert blue > heatmap_from_map(GOOD, SCALE)[0, 0, 0]


def write_video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(3):
        writer.write(orange()[:, :, ::-1])
    writer.release()


@pytest.mark.parametrize("kind", ["folder", "watched folder", "video"])
def test_frames_of_sources(tmp_path: Path, kind: str) -> None:
    """A frame has the colours of its file, whichever library decoded it."""
    import threading

    uri = str(tmp_path)
    if kind == "video":
        uri = str(tmp_path / "line.avi")
        write_video(Path(uri))
    else:
        cv2.imwrite(str(tmp_path / "a.png"), orange()[:, :, ::-1])
    options = SOURCE_OPTIONS
    if kind == "watched folder":
        from dataclasses import replace

        uri, options = f"watch:{tmp_path}", replace(SOURCE_OPTIONS, watch_existing=True, watch_settle_s=0.01)
    with source_from_uri(uri, options) as source:
        assert is_orange(next(iter(source.frames(threading.Event()))).image)


def test_frames_of_arrays_are_copies() -> None:
    """An array is taken as it is, and changing it afterwards changes no frame."""
    import threading

    buffer = orange()
    (frame,) = IterableSource([buffer]).frames(threading.Event())
    buffer[:] = 0
    assert (frame.image == ORANGE).all()


def test_what_people_are_shown(tmp_path: Path) -> None:
    """The recording, the page's live picture and the annotation keep the colours; the badge of an alert is red."""
    annotator = Annotator(SCALE, opacity=0.6)
    picture = annotator.draw(judged(orange((480, 640)), GOOD))
    assert is_orange(picture[-100:])
    alert = Annotator(SCALE, opacity=0.6).draw(judged(orange((480, 640)), BAD))
    amber = alert[: alert.shape[0] - 480].reshape(-1, 3)
    assert (amber == (240, 150, 0)).all(axis=1).any(), "the badge of an anomaly is amber"
    with Recorder(tmp_path / "out.avi", lambda result: result.frame.image) as recorder:
        recorder.accept(judged(orange(), GOOD))
    capture = cv2.VideoCapture(str(tmp_path / "out.avi"))
    found, frame = capture.read()
    capture.release()
    assert found
    assert is_orange(np.asarray(frame)[:, :, ::-1])
    monitor = Monitor({"line": ["picture"]})
    monitor.accept(judged(orange(), GOOD))
    live = LivePictures(monitor, {"line": SCALE}, opacity=0.6).picture("line", heatmap=True, width=64)
    assert live is not None
    assert is_orange(decoded(live.jpeg))


def test_opencv_arrays_of_any_depth() -> None:
    """A decoded array of OpenCV, 8 or 16 bits, with or without alpha, becomes RGB."""
    bgr = orange()[:, :, ::-1]
    for array in (bgr, np.dstack([bgr, bgr[:, :, :1]]), bgr.astype(np.uint16) * 257):
        assert np.array_equal(rgb_from_array(array, 65535), orange())
