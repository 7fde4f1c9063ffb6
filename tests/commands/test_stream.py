"""`edgead stream` on a real bundle record, also when it is interrupted or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.commands.stream import StreamOutputs, stop_on_signals, stream
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.errors import BundleError, ConfigError, EdgeadError, SourceError, StorageError
from edgead.runner import FakeRunner

from .stream_runs import BAD, GOOD, make_bundle, n_frames_of, running, wait_until, write_video


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path)


def watching(source: str | Path, **changes: Any) -> list[CameraConfig]:
    return [CameraConfig.model_validate({"name": "line", "source": str(source), **changes})]


def test_video_to_alerts_and_recording(bundle: Bundle, tmp_path: Path) -> None:
    """A video with two defects gives two closed alerts at the right times and a recording of every frame."""
    video = write_video(tmp_path / "in.mp4", ([GOOD] * 20 + [BAD] * 15) * 2 + [GOOD] * 20)
    outputs = StreamOutputs(tmp_path / "alerts", tmp_path / "out.mp4")
    with FakeRunner((32, 32)) as runner:
        summary = stream(bundle, runner, watching(video), outputs, config=Config())
    assert (summary.n_processed, summary.n_anomalous, summary.n_alerts) == (90, 30, 2)
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "alerts").glob("*.json"))]
    assert [record["frame_index"] for record in records] == [22, 57]
    assert [record["time_s"] for record in records] == [0.88, 2.28]
    assert [record["ended_by"] for record in records] == ["quiet", "quiet"]
    assert {record["bundle"] for record in records} == {bundle.digest}
    assert {record["engine"] for record in records} == {"fake-fp32"}
    assert n_frames_of(tmp_path / "out.mp4") == 90


class Unused(FakeRunner):
    """An engine that must not be asked."""

    def infer(self, batch: np.ndarray[Any, Any], class_bias: np.ndarray[Any, Any] | None = None) -> Any:
        raise AssertionError("a frame was judged before the outputs were checked")


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ({"record": "out.webm"}, ConfigError),
        ({"record": "in.mp4/out.mp4"}, StorageError),
        ({"display": True}, EdgeadError),
    ],
)
def test_outputs_are_checked_before_the_first_frame(
    bundle: Bundle, tmp_path: Path, outputs: dict[str, Any], error: type[EdgeadError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that cannot be written and a screen that does not answer end the stream before the engine runs."""
    monkeypatch.setenv("DISPLAY", ":77")
    video = write_video(tmp_path / "in.mp4", [GOOD] * 5)
    if "record" in outputs:
        outputs = {"record": tmp_path / outputs["record"]}
    with pytest.raises(error):
        stream(bundle, Unused((32, 32)), watching(video), StreamOutputs(**outputs), config=Config())


def test_an_alert_that_is_open_at_the_end_is_closed(bundle: Bundle, tmp_path: Path) -> None:
    """A video that ends with a defect leaves a closed record that says why."""
    video = write_video(tmp_path / "in.mp4", [GOOD] * 5 + [BAD] * 10)
    outputs = StreamOutputs(alerts_dir=tmp_path / "alerts")
    stream(bundle, FakeRunner((32, 32)), watching(video), outputs, config=Config())
    (path,) = (tmp_path / "alerts").glob("*.json")
    record = json.loads(path.read_text())
    assert (record["state"], record["ended_by"]) == ("closed", "end_of_stream")


@pytest.mark.parametrize("engine", ["fake-fp32", "fake-int8"])
def test_a_held_alert_of_another_engine_keeps_its_peak(bundle: Bundle, tmp_path: Path, engine: str) -> None:
    """After a restart it resumes; a higher score replaces its peak only if the engine is the one that opened it."""
    outputs = StreamOutputs(alerts_dir=tmp_path / "alerts")
    config = load_config(None, {"alerts.latch": True})
    for value, name in ((200, "fake-fp32"), (BAD, engine)):
        runner = FakeRunner((32, 32))
        runner.engine_name = name
        video = write_video(tmp_path / f"{value}.mp4", [GOOD] * 5 + [value] * 10)
        stream(bundle, runner, watching(video), outputs, config=config)
    (path,) = (tmp_path / "alerts").glob("*.json")
    record = json.loads(path.read_text())
    assert record["state"] == "held"
    expected = 200 if engine == "fake-int8" else BAD
    assert record["peak_score"] == pytest.approx(expected / 255 - 0.5, abs=0.02)


def test_missing_source_and_class_are_reported(bundle: Bundle, tmp_path: Path) -> None:
    """A missing file and an unknown class fail before anything is written."""
    outputs = StreamOutputs(tmp_path / "alerts", tmp_path / "out.mp4")
    runner = FakeRunner((32, 32))
    with pytest.raises(SourceError, match="nothing-here"):
        stream(bundle, runner, watching("nothing-here"), outputs, config=Config())
    with pytest.raises(BundleError, match="teapot"):
        stream(bundle, runner, watching(tmp_path, **{"class": "teapot"}), outputs, config=Config())
    assert not (tmp_path / "alerts").exists()
    assert not (tmp_path / "out.mp4").exists()


def test_signal_handlers_come_back() -> None:
    """One signal sets the stop, a second one interrupts, and afterwards the old handlers are in place."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = threading.Event()
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        time.sleep(0.3)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def whole_records(folder: Path) -> list[dict[str, Any]]:
    """Every record, after checking that its pictures are there and can be read; hidden names are unfinished writes."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("2*.json"))]
    for record in records:
        for kind, name in record["pictures"].items():
            if kind == "clip":
                assert n_frames_of(folder / name) > 0
            else:
                assert cv2.imread(str(folder / name)) is not None
    return records


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_complete_outputs(bundle: Bundle, tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT and SIGTERM end the stream within seconds: the open alert is closed, the video plays to its end."""
    write_video(tmp_path / "in.mp4", [GOOD] * 20 + [BAD] * 4000)
    with running(tmp_path, 0.01) as process:
        wait_until(lambda: bool(list((tmp_path / "alerts").glob("2*.json"))))
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    summary = json.loads(output.splitlines()[-1])
    (record,) = whole_records(tmp_path / "alerts")
    assert (record["state"], record["ended_by"]) == ("closed", "end_of_stream")
    assert 20 < summary["n_processed"] < 4000
    assert n_frames_of(tmp_path / "out.mp4") == summary["n_processed"]


def test_kill_leaves_whole_alert_records(bundle: Bundle, tmp_path: Path) -> None:
    """After `kill -9` the opened alert is on disk with its pictures, and no recording pretends to be whole."""
    write_video(tmp_path / "in.mp4", ([GOOD] * 20 + [BAD] * 20) * 60)
    with running(tmp_path, 0.003) as process:
        wait_until(lambda: len(list((tmp_path / "alerts").glob("2*.json"))) >= 3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    records = whole_records(tmp_path / "alerts")
    assert len(records) >= 3
    assert {record["state"] for record in records[:-1]} == {"closed"}
    assert not (tmp_path / "out.mp4").exists()


def test_a_second_signal_does_not_wait_for_a_hanging_engine(bundle: Bundle, tmp_path: Path) -> None:
    """With an engine that never answers, the first SIGINT waits and the second one ends the process."""
    write_video(tmp_path / "in.mp4", [GOOD] * 20)
    with running(tmp_path, 600.0) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "engine\n"]
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        # of signals that a busy machine hands over together the second is a copy of the first
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
                break
        assert process.poll() == 130
