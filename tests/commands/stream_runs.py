"""Streams in a process of their own, on a bundle whose model is never opened."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from edgead.bundle import Bundle
from edgead.bundle_files import CALIBRATION, MODEL, REFERENCE, WEIGHTS
from edgead.bundle_writer import write_bundle
from edgead.evaluation.threshold import class_thresholds
from edgead.manifest import (
    POOLED,
    Cost,
    GraphIO,
    Manifest,
    Parity,
    Preprocessing,
    Provenance,
)

GOOD, BAD = 100, 250
FPS = 25.0


def n_frames_of(path: Path) -> int:
    """Number of frames that can be decoded."""
    capture, n_frames = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        n_frames += 1
    capture.release()
    return n_frames


def make_bundle(folder: Path) -> Bundle:
    """A bundle whose thresholds fit `FakeRunner`; its model is never opened."""
    thresholds = class_thresholds(np.linspace(0.0, 0.2, 99), np.linspace(0.0, 0.2, 99), 0.05, 0.01)
    manifest = Manifest(
        model="usf",
        classes=("part",),
        preprocessing=Preprocessing.current((32, 32)),
        graph=GraphIO(map_size=(2, 2)),
        thresholds={POOLED: thresholds, "part": thresholds},
        parity=Parity(folded_vs_unfolded=0, onnx_vs_unfolded=0, n_images=1, verdict_flips=0),
        cost=Cost(multiply_adds=1, flow_multiply_adds_unfolded=1, flow_multiply_adds_folded=1, parameters=1),
        provenance=Provenance(
            created_at="2026-11-22T00:00:00Z",
            data_root="data",
            data_digest="0",
            n_images={},
            seed=0,
            versions={},
            config={},
            metrics={},
        ),
        sha256={},
    )
    files = {}
    for name in (MODEL, WEIGHTS, CALIBRATION, REFERENCE):
        files[name] = folder / f"source-{name}"
        files[name].write_bytes(name.encode())
    return write_bundle(folder / "bundle", manifest, files)


def write_video(path: Path, values: list[int]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (64, 48))
    for value in values:
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    return path


# What the tests below start: a stream whose engine takes its time, so that a signal meets it at work.
SCRIPT = """
import dataclasses, json, sys, time
from pathlib import Path
from edgead.bundle import open_bundle
from edgead.commands.stream import StreamOutputs, stream
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.runner import FakeRunner

folder, engine_s = Path(sys.argv[1]), float(sys.argv[2])

class SlowRunner(FakeRunner):
    is_called = False

    def infer(self, batch, class_bias=None):
        if not self.is_called:
            self.is_called = True
            print("engine", flush=True)
        time.sleep(engine_s)
        return super().infer(batch)

outputs = StreamOutputs(folder / "alerts", folder / "out.mp4")
runner = SlowRunner((32, 32))
try:
    print("started", flush=True)
    cameras = [CameraConfig(name="line", source=str(folder / "in.mp4"))]
    summary = stream(open_bundle(folder / "bundle"), runner, cameras, outputs, config=Config())
except KeyboardInterrupt:
    sys.exit(130)
print(json.dumps(dataclasses.asdict(summary)))
"""


@contextmanager
def running(folder: Path, engine_s: float) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(engine_s)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        if is_true():
            return
        time.sleep(0.02)
    raise AssertionError("waited two minutes in vain")
