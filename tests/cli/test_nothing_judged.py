"""`edgead stream` on sources that end without a judged frame, on a trained bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edgead.bundle import Bundle

from ..stream.servers import ROOT, MjpegRequest, jpeg, mjpeg_camera


def stream(bundle: Bundle, source: object, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgead", "stream", str(bundle.path), "--source", str(source), *options],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_stream_without_a_judged_frame_is_a_failure(bundle_copy: Callable[[], Bundle], tmp_path: Path) -> None:
    """A video that cannot be decoded ends with exit code 1, names its codec, and does not say that no alert was raised."""
    done = stream(bundle_copy(), ROOT / "tests" / "fixtures" / "av1.mp4", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "AV01" in done.stderr
    assert "No alert" not in done.stdout


def test_black_frames_alone_are_a_failure(bundle_copy: Callable[[], Bundle], tmp_path: Path) -> None:
    """A watched folder whose frames are all camera faults judges nothing: exit code 1, with the number of frames, and JSON."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros((128, 128, 3), np.uint8))
    # Ctrl-C when the third frame was left out
    script = """
import itertools, os, signal, threading
import edgead.cli as cli, edgead.stream.inference as inference
usual, number = inference.UnjudgedFrame, itertools.count(1)
def left_out(*arguments, **named):
    if next(number) == 3:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    return usual(*arguments, **named)
inference.UnjudgedFrame = left_out
cli.main()
"""
    arguments = [
        "stream",
        str(bundle_copy().path),
        "--source",
        f"watch:{folder}",
        "--set",
        "stream.watch_existing=true",
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--json"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "No frame was judged: 3 frames came, and 3 were left out because of a camera fault" in done.stderr
    assert json.loads(done.stdout)["n_processed"] == 0


def test_an_image_address_is_watched(bundle_copy: Callable[[], Bundle], tmp_path: Path) -> None:
    """The address of a single image is polled until --max-frames instead of ending after one frame."""
    image = np.random.default_rng(0).integers(90, 160, (128, 128, 3)).astype(np.uint8)

    def serve(request: MjpegRequest, connection: int) -> None:
        content = jpeg(image)
        request.send_response(200)
        request.send_header("Content-Type", "image/jpeg")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.send(content)

    options = ["--set", "stream.snapshot_fps=20", "--set", "stream.check_pictures=false", "--max-frames", "4", "--json"]
    with mjpeg_camera(serve) as (place, _):
        done = stream(bundle_copy(), f"http://{place}/snap.jpg", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_processed"] == 4
