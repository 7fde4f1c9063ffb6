"""Stopping `edgead stream` from outside: by signals to one or all of its processes, and by closing its terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.commands.stream import stop_on_signals

from ..stream.servers import MjpegRequest, at_pace, jpeg, mjpeg_camera, part
from .stream_runs import n_frames_of, wait_until

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundle-schema-1"
NOISE = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)


def watching(serve_frames: int) -> Any:
    """An answer of a camera: this many frames, then silence on an open connection."""

    def serve(request: MjpegRequest, number: int) -> None:
        request.begin()
        for index in at_pace(20, serve_frames):
            request.send(part(jpeg(np.roll(NOISE, index, axis=1))))
        with suppress(OSError):
            request.connection.recv(1)

    return serve


@contextmanager
def started(folder: Path, source: str, *options: str, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """The command as a process that leads a session of its own."""
    command = [
        sys.executable, "-m", "edgead", "stream", str(BUNDLE), "--source", source, "--alerts", str(folder / "alerts"),
        "--engine", "reference", "--set", "stream.check_pictures=false", "--set", "clips.seconds_after=0.5", *options,
    ]  # fmt: skip
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **settings}
    process = subprocess.Popen(command, start_new_session=True, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def the_record(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "alerts").glob("2*.json")
    return dict(json.loads(path.read_text()))


def children(pid: int) -> list[int]:
    """Processes that the threads of a process have started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def test_a_signal_to_every_process_leaves_the_clip_whole(tmp_path: Path) -> None:
    """SIGTERM to the stream and to the encoder, as systemd and a terminal send it, ends the stream with its clip."""
    with mjpeg_camera(watching(1000)) as (address, _), started(tmp_path, f"http://{address}/") as process:
        wait_until(lambda: bool(children(process.pid)))
        for pid in (*children(process.pid), process.pid):
            os.kill(pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    record = the_record(tmp_path)
    assert (record["state"], record["pictures_missing"]) == ("closed", {})
    assert n_frames_of(tmp_path / "alerts" / record["pictures"]["clip"]) > 3
    assert "clip" not in output


@pytest.mark.slow
def test_closing_the_terminal_is_a_normal_stop(tmp_path: Path) -> None:
    """SIGHUP, with a terminal that can no longer be written, finishes the recording and closes the alert."""
    master, terminal = pty.openpty()
    with (
        mjpeg_camera(watching(1000)) as (address, _),
        started(
            tmp_path, f"http://{address}/", "--record", str(tmp_path / "out.avi"), stdin=terminal, stdout=terminal,
            stderr=terminal, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        ) as process,
    ):  # fmt: skip
        os.close(terminal)
        hang_up = threading.Event()
        reader = threading.Thread(target=show, args=(master, hang_up))
        reader.start()
        wait_until(lambda: bool(list((tmp_path / "alerts").glob("2*.json"))))
        time.sleep(0.5)
        hang_up.set()
        reader.join()
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(120) == 0
    assert the_record(tmp_path)["ended_by"] == "end_of_stream"
    assert n_frames_of(tmp_path / "out.avi") > 3


def show(master: int, hang_up: threading.Event) -> None:
    """A terminal that is closed when told."""
    while not hang_up.is_set():
        if select.select([master], [], [], 0.02)[0]:
            os.read(master, 4096)
    os.close(master)


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", [0, 10])
def test_a_silent_camera_does_not_hold_up_the_stop(tmp_path: Path, n_frames: int) -> None:
    """Before its first frame and later, a stop ends the stream at once and normally, far within the time limits."""
    patient = ["--set", "stream.read_timeout_s=60", "--set", "stream.open_timeout_s=60"]
    with mjpeg_camera(watching(n_frames)) as (address, _), started(tmp_path, f"http://{address}/", *patient) as process:
        wait_for_stream(tmp_path, n_frames)
        began_s = time.monotonic()
        process.terminate()
        output, _ = process.communicate(timeout=120)
        assert time.monotonic() - began_s < 30, output
    assert process.returncode == 0, output
    assert "Traceback" not in output


def test_a_camera_that_never_answers_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """A connection that FFmpeg is still waiting for is left alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"rtsp://127.0.0.1:{server.getsockname()[1]}/"
        with started(tmp_path, address, "--set", "stream.open_timeout_s=60") as process:
            connection, _ = server.accept()
            with connection:
                time.sleep(0.5)
                began_s = time.monotonic()
                process.terminate()
                output, _ = process.communicate(timeout=120)
                assert time.monotonic() - began_s < 30, output
    assert process.returncode == 0, output
    assert "No frame was judged" in output


def wait_for_stream(folder: Path, n_frames: int) -> None:
    """Wait until the stream runs, and for an alert where frames come."""
    wait_until(lambda: (folder / "alerts" / "spool.sqlite").exists())
    if n_frames:
        wait_until(lambda: bool(list((folder / "alerts").glob("2*.json"))))
    time.sleep(1.0)


def test_copies_of_one_signal_are_one_stop() -> None:
    """`timeout` signals a process and its group, and a closed terminal hangs up twice: neither interrupts the end."""
    stop = threading.Event()
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        time.sleep(0.3)
        signal.raise_signal(signal.SIGHUP)


def test_nohup_is_respected() -> None:
    """A stream that ignores SIGHUP from its start is not stopped by it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = threading.Event()
        with stop_on_signals(stop):
            signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
