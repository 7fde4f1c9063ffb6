"""Recordings and windows as a user finds them afterwards."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.errors import ConfigError, EdgeadError, StorageError
from edgead.heatmap import HeatmapScale
from edgead.prediction import Segmentation
from edgead.stream.annotation import Annotator
from edgead.stream.consumers.recorder import CODECS, MAX_GAP_S, Recorder, check_recording
from edgead.stream.consumers.window import require_screen
from edgead.stream.result import JudgedBy

from ..fakes import BAD, GOOD, SCALE, result


def recorder(path: Path) -> Recorder:
    return Recorder(path, lambda item: item.frame.image)


def frames_of(path: Path) -> list[np.ndarray[Any, Any]]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        ok, image = capture.read()
        if not ok:
            break
        frames.append(np.asarray(image))
    capture.release()
    return frames


@pytest.mark.parametrize(("size", "expected"), [((48, 64), (48, 64)), ((47, 63), (48, 64))])
@pytest.mark.parametrize("suffix", [*CODECS, ".MP4", ".Mkv"])
def test_recording_has_every_frame(
    tmp_path: Path, suffix: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """Each frame of a file comes once, at the source's pace, with odd sizes rounded up; no temporary file stays."""
    path = tmp_path / f"out{suffix}"
    with recorder(path) as consumer:
        for index in range(20):
            consumer.accept(result(index * 10, index=index, time_s=index / 10, size=size))
        assert not path.exists()
    frames = frames_of(path)
    assert len(frames) == 20
    assert frames[0].shape == (*expected, 3)
    assert float(frames[12].mean()) == pytest.approx(120, abs=8)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 10
    assert list(tmp_path.iterdir()) == [path]


def test_recording_keeps_the_pace_of_a_live_source(tmp_path: Path) -> None:
    """Where frames were dropped the last picture stays, and a long absence is shortened."""
    times = [0.0, 0.1, 0.5, 0.6, 100.0, 100.1]
    with recorder(tmp_path / "out.mp4") as consumer:
        for index, time_s in enumerate(times):
            consumer.accept(result(index=index, time_s=time_s))
    assert len(frames_of(tmp_path / "out.mp4")) == 1 + 1 + 4 + 1 + MAX_GAP_S * 10 + 1


def test_recording_survives_a_failure_and_a_change_of_size(tmp_path: Path) -> None:
    """An exception in the stream still leaves a playable file; a larger frame is fitted into the first one's size."""
    path = tmp_path / "out.mp4"
    error = RuntimeError("broke")
    consumer = recorder(path).__enter__()
    consumer.accept(result(size=(48, 64)))
    consumer.accept(result(BAD, size=(96, 64), time_s=0.1))
    consumer.__exit__(RuntimeError, error, None)
    frames = frames_of(path)
    assert len(frames) == 2
    assert float(frames[1][:, 32].mean()) == pytest.approx(BAD, abs=8)
    assert float(frames[1][:, 4].mean()) == pytest.approx(0, abs=12)


def test_the_repeated_last_frame_is_not_recorded_again(tmp_path: Path) -> None:
    """The result that only carries the closing event is for the alerts alone."""
    item = result()
    assert recorder(tmp_path / "out.mp4").wants(item)
    assert not recorder(tmp_path / "out.mp4").wants(replace(item, is_repeat=True))


def test_a_recording_without_frames_makes_no_file(tmp_path: Path) -> None:
    """A source that gave nothing leaves an existing recording as it is."""
    (tmp_path / "out.mp4").write_bytes(b"yesterday")
    with recorder(tmp_path / "out.mp4"):
        pass
    assert (tmp_path / "out.mp4").read_bytes() == b"yesterday"


def test_a_recording_needs_a_known_suffix(tmp_path: Path) -> None:
    """`out.gif` is refused with the suffixes that work."""
    with pytest.raises(ConfigError, match=r"\.mp4"):
        recorder(tmp_path / "out.gif")


def test_a_recording_into_a_file_instead_of_a_folder_is_named(tmp_path: Path) -> None:
    """A target that cannot be written is a storage error with its name, and nothing is left behind."""
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageError, match=r"out\.mp4"):
        recorder(tmp_path / "folder" / "out.mp4").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("suffix", CODECS)
def test_a_recording_is_tried_before_it_is_needed(tmp_path: Path, suffix: str) -> None:
    """The trial passes for every suffix that the recorder takes, and leaves folder and existing recording as they are."""
    path = tmp_path / "new" / f"out{suffix}"
    check_recording(path)
    assert list(path.parent.iterdir()) == []
    path.write_bytes(b"yesterday")
    check_recording(path)
    assert path.read_bytes() == b"yesterday"
    assert list(path.parent.iterdir()) == [path]


def test_the_trial_of_a_recording_finds_what_would_fail_later(tmp_path: Path) -> None:
    """Unknown suffixes, folders, folders that cannot be made or written, and a full disk are named before the stream."""
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder.mp4").mkdir()
    for name, error, said in [
        ("out.webm", ConfigError, r"allowed: \.mp4"),
        ("out", ConfigError, "file without suffix"),
        ("folder.mp4", ConfigError, "is a folder"),
        ("file/out.mp4", StorageError, r"out\.mp4"),
    ]:
        with pytest.raises(error, match=said):
            check_recording(tmp_path / name)
    with pytest.raises(StorageError, match=r"out\.mp4"):
        check_recording(Path("/proc/out.mp4"))
    if os.path.exists("/dev/full"):
        (tmp_path / "full.avi").symlink_to("/dev/full")  # an existing target is not opened by the trial
        check_recording(tmp_path / "full.avi")


def test_a_screen_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DISPLAY left over from a screen that is gone ends in an error with its name; the process lives on."""
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(EdgeadError, match="--display") as caught:
        require_screen()
    assert "DISPLAY=:77" in caught.value.message or "opencv-python" in caught.value.message
    assert "--record" in caught.value.hint


def test_display_without_a_screen_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A headless OpenCV, or no screen, is refused before any window call, and --record is offered."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(EdgeadError, match="--display") as caught:
        require_screen()
    assert "--record" in caught.value.hint


@pytest.mark.parametrize("size", [(48, 64), (240, 240), (480, 640), (1080, 1920), (700, 200), (3000, 4000)])
def test_annotated_pictures_are_legible_and_bounded(size: tuple[int, int]) -> None:
    """Every size gives at least 640 and at most 1920 px of width with the strip on top; the frame is not painted on."""
    annotator = Annotator(SCALE, opacity=0.6)
    item = result(BAD, size=size, is_alert_open=True)
    before = item.frame.image.copy()
    picture = annotator.draw(item)
    assert 640 <= picture.shape[1] <= 1920
    assert picture.shape[0] > picture.shape[1] * size[0] / size[1] or size == (700, 200)
    assert np.array_equal(item.frame.image, before)
    assert annotator.draw(item) is picture


def test_each_model_has_its_own_colours() -> None:
    """After a change of the model a frame is drawn on the scale of the model that judged it, also one that waited."""
    before, after = JudgedBy("a", "fake-fp32"), JudgedBy("b", "fake-fp32")
    annotator = Annotator(SCALE, opacity=0.6)
    annotator.add_model(after, HeatmapScale(5.0, 6.0, 7.0))
    plain, first, second = (annotator.draw(replace(result(BAD), judged_by=one))[200:] for one in (None, before, after))
    assert np.array_equal(plain, first)
    assert not np.array_equal(first, second), "0.48 is nothing on a scale from 5 to 7"


def test_verdicts_look_different() -> None:
    """Good, anomalous and alert frames show green, amber and red."""
    annotator = Annotator(SCALE, opacity=0.6)
    colours = []
    for item in (result(GOOD), result(BAD), result(BAD, is_alert_open=True)):
        picture = annotator.draw(item)
        colours.append(tuple(int(value) for value in picture[12, 14]))
    (good_r, good_g, good_b), (amber_r, amber_g, _), (red_r, red_g, _) = colours
    assert good_g > max(good_b, good_r)
    assert amber_r > amber_g > red_g
    assert red_r > 200


def test_a_recording_outlines_the_bundles_segmentation() -> None:
    """The drawing shows the outline of the segmentation where the bundle has one, else that of the map."""
    corner = Segmentation(np.array([[1.0, 0.0], [0.0, 0.0]], np.float32), 0.5)
    first = result(BAD, is_alert_open=True)
    own = replace(first, prediction=replace(first.prediction, own_segmentation=corner))
    draw = Annotator(SCALE, opacity=0.0).draw
    red = [int((draw(each)[80:] == (255, 0, 0)).all(axis=2).sum()) for each in (first, own)]
    assert red[1] > red[0], "the outline of the whole frame lies below its border"
