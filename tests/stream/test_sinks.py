"""Alert records, recordings and windows as a user finds them afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.errors import ConfigError, EdgeadError, StorageError
from edgead.prediction import Segmentation
from edgead.stream.alerts import Alert, AlertEvent, Ending
from edgead.stream.annotation import Annotator
from edgead.stream.result import Result
from edgead.stream.sinks.alert_folder import AlertContext, AlertFolder
from edgead.stream.sinks.recorder import MAX_GAP_S, Recorder
from edgead.stream.sinks.window import require_screen

from .fakes import BAD, GOOD, SCALE, THRESHOLD, result

pytestmark = pytest.mark.timeout(30)

CONTEXT = AlertContext("rtsp://***@cam/live", "d" * 64, "fake-fp32", None)
RECORD_KEYS = {
    "schema_version", "edgead_version", "id", "state", "opened_at", "closed_at", "duration_s", "ended_by", "source",
    "origin", "frame_index", "time_s", "score", "threshold", "pixel_threshold", "peak_score", "peak_frame_index",
    "segmentation", "image_size", "regions", "pictures", "bundle", "engine", "class",
}  # fmt: skip


def alert_folder(folder: Path, at: str = "2026-11-22T10:11:12") -> AlertFolder:
    moment = datetime.fromisoformat(at).replace(tzinfo=timezone.utc)
    return AlertFolder(folder, SCALE, CONTEXT, opacity=0.6, utc_from_monotonic=lambda _: moment)


def opened(number: int = 1, index: int = 5) -> Result:
    alert = Alert(number, opened_s=0.5, opened_frame=index, peak_score=0.48, peak_frame=index)
    return result(BAD, index=index, time_s=0.5, event=AlertEvent("opened", alert), is_alert_open=True)


def later(first: Result, kind: str, *, ended_by: Ending | None = None) -> Result:
    assert first.event is not None
    alert = replace(first.event.alert, peak_score=0.5, peak_frame=7)
    if kind == "peak":
        return result(255, index=7, time_s=0.7, event=AlertEvent("peak", alert), is_alert_open=True)
    closed = replace(alert, closed_s=2.0, ended_by=ended_by)
    return result(GOOD, index=20, time_s=2.0, event=AlertEvent("closed", closed))


def read_record(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text())
    assert path.stem == record["id"]
    return dict(record)


def test_record_is_complete_while_the_alert_is_open(tmp_path: Path) -> None:
    """As soon as an alert opens, its record and both pictures are there, whole, with every documented key."""
    with alert_folder(tmp_path / "alerts") as sink:
        sink.accept(opened())
        record = read_record(tmp_path / "alerts")
    assert record.keys() == RECORD_KEYS
    assert record["id"] == "20261122T101112Z-0001"
    assert record["state"] == "open"
    assert record["opened_at"] == "2026-11-22T10:11:12.000Z"
    assert record["closed_at"] is record["duration_s"] is record["ended_by"] is None
    assert record["source"] == CONTEXT.source
    assert record["threshold"] == THRESHOLD
    assert record["score"] == pytest.approx(BAD / 255 - 0.5)
    assert record["image_size"] == [48, 64]
    assert record["regions"] == [
        {"x": 0, "y": 0, "width": 64, "height": 48, "area_px": 48 * 64, "peak": pytest.approx(BAD / 255 - 0.5)}
    ]
    snapshot = cv2.imread(str(tmp_path / "alerts" / record["pictures"]["snapshot"]))
    heatmap = cv2.imread(str(tmp_path / "alerts" / record["pictures"]["heatmap"]))
    assert snapshot is not None
    assert heatmap is not None
    assert snapshot.shape == heatmap.shape == (48, 64, 3)
    assert abs(float(snapshot.mean()) - BAD) < 2
    assert np.abs(snapshot.astype(int) - heatmap).max() > 50


def test_closing_completes_the_record(tmp_path: Path) -> None:
    """The closed record keeps what it said when it opened and adds end, duration and peak with its picture."""
    first = opened()
    with alert_folder(tmp_path) as sink:
        sink.accept(first)
        before = read_record(tmp_path)
        sink.accept(later(first, "peak"))
        sink.accept(later(first, "closed", ended_by="quiet"))
    after = read_record(tmp_path)
    changed = {key for key in RECORD_KEYS if before[key] != after[key]}
    assert changed == {"state", "closed_at", "duration_s", "ended_by", "peak_score", "peak_frame_index", "pictures"}
    assert (after["state"], after["ended_by"], after["duration_s"]) == ("closed", "quiet", 1.5)
    assert (after["peak_score"], after["peak_frame_index"]) == (0.5, 7)
    assert {path.name for path in tmp_path.iterdir()} == {f"{after['id']}.json", *after["pictures"].values()}
    assert set(after["pictures"]) == {"snapshot", "heatmap", "peak"}


def test_no_record_names_a_picture_that_is_not_there(tmp_path: Path) -> None:
    """Pictures come first: where one cannot be written, there is no record."""
    (tmp_path / "20261122T101112Z-0001-heatmap.jpg").mkdir()
    with pytest.raises(StorageError, match="heatmap"):
        alert_folder(tmp_path).accept(opened())
    assert list(tmp_path.glob("*.json")) == []


def test_two_runs_in_one_second_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """A record of an earlier run with the same time and number stays."""
    for _ in range(2):
        with alert_folder(tmp_path) as sink:
            sink.accept(opened())
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["20261122T101112Z-0001", "20261122T101112Z-0002"]


def test_an_alert_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is an error before the first alert."""
    (tmp_path / "alerts").write_text("a file")
    with pytest.raises(StorageError, match="alerts"):
        alert_folder(tmp_path / "alerts").__enter__()


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
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_recording_has_every_frame(
    tmp_path: Path, suffix: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """Each frame of a file comes once, at the source's pace, with odd sizes rounded up; no temporary file stays."""
    path = tmp_path / f"out{suffix}"
    with recorder(path) as sink:
        for index in range(20):
            sink.accept(result(index * 10, index=index, time_s=index / 10, size=size))
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
    with recorder(tmp_path / "out.mp4") as sink:
        for index, time_s in enumerate(times):
            sink.accept(result(index=index, time_s=time_s))
    assert len(frames_of(tmp_path / "out.mp4")) == 1 + 1 + 4 + 1 + MAX_GAP_S * 10 + 1


def test_recording_survives_a_failure_and_a_change_of_size(tmp_path: Path) -> None:
    """An exception in the stream still leaves a playable file; a larger frame is fitted into the first one's size."""
    path = tmp_path / "out.mp4"
    error = RuntimeError("broke")
    sink = recorder(path).__enter__()
    sink.accept(result(size=(48, 64)))
    sink.accept(result(BAD, size=(96, 64), time_s=0.1))
    sink.__exit__(RuntimeError, error, None)
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
    annotator = Annotator(SCALE, typical_score=0.0, opacity=0.6)
    item = result(BAD, size=size, is_alert_open=True)
    before = item.frame.image.copy()
    picture = annotator.draw(item)
    assert 640 <= picture.shape[1] <= 1920
    assert picture.shape[0] > picture.shape[1] * size[0] / size[1] or size == (700, 200)
    assert np.array_equal(item.frame.image, before)
    assert annotator.draw(item) is picture


def test_verdicts_look_different() -> None:
    """Good, anomalous and alert frames show green, amber and red."""
    annotator = Annotator(SCALE, typical_score=0.0, opacity=0.6)
    colours = []
    for item in (result(GOOD), result(BAD), result(BAD, is_alert_open=True)):
        picture = annotator.draw(item)
        colours.append(tuple(int(value) for value in picture[12, 14]))
    (good_b, good_g, good_r), (_, amber_g, amber_r), (_, red_g, red_r) = colours
    assert good_g > max(good_b, good_r)
    assert amber_r > amber_g > red_g
    assert red_r > 200


def test_pictures_outline_the_bundles_segmentation(tmp_path: Path) -> None:
    """Recording and alert show the outline of the segmentation where the bundle has one, else that of the map."""
    corner = Segmentation(np.array([[1.0, 0.0], [0.0, 0.0]], np.float32), 0.5)
    first = opened()
    own = replace(first, prediction=replace(first.prediction, own_segmentation=corner))
    draw = Annotator(SCALE, typical_score=0.0, opacity=0.0).draw
    red = [int((draw(each)[80:] == (0, 0, 255)).all(axis=2).sum()) for each in (first, own)]
    pictures = []
    for name, each in (("map", first), ("own", own)):
        with alert_folder(tmp_path / name) as sink:
            sink.accept(each)
        record = read_record(tmp_path / name)
        assert record["segmentation"] == ("threshold" if name == "map" else "nfa")
        assert (record["regions"][0]["area_px"] < 48 * 64) is (name == "own")
        pictures.append((tmp_path / name / record["pictures"]["heatmap"]).read_bytes())
    assert red[1] > red[0], "the outline of the whole frame lies below its border"
    assert pictures[0] != pictures[1]
