"""File names that are not UTF-8, as old archives and Windows shares leave them, are used like any other."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import open_bundle
from edgead.cli.console import echo
from edgead.commands.build_engine import build_engine
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.train import TrainResult, train
from edgead.commands.training.runs import RUN_FILE
from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.scan import data_digest
from edgead.data.split import split_good
from edgead.engines.opening import open_engine
from edgead.errors import StorageError
from edgead.printable import path_text
from edgead.progress import Silent
from edgead.storage import writable_name, write_json
from edgead.stream.consumers.recorder import check_recording
from edgead.stream.sources.registry import source_from_uri
from edgead.terminal import TerminalProgress
from tests.stream.fakes import SOURCE_OPTIONS
from tests.tiny_run import tiny_config

LATIN1 = os.fsdecode(b"Pr\xfcfling")


@pytest.fixture(scope="module")
def parts(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts and defects of a class, and images of them, with names in Latin-1."""
    root = tmp_path_factory.mktemp("latin1") / LATIN1
    try:
        shutil.copytree(tiny_data, root)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    for path in [*sorted((root / "train" / "good").iterdir())[:3], *sorted((root / "test" / "good").iterdir())[:2]]:
        path.rename(path.with_name(f"{LATIN1} {path.name}"))
    kind = next(path for path in sorted((root / "test").iterdir()) if path.name != "good")
    (root / "ground_truth" / kind.name).rename(root / "ground_truth" / LATIN1)
    kind.rename(kind.with_name(LATIN1))
    return root


@pytest.fixture(scope="module")
def result(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run on these parts."""
    runs = tmp_path_factory.mktemp("runs")
    with TerminalProgress() as progress:
        return train(tiny_config(parts, train__epochs=0), progress, out=runs / LATIN1, runs=runs, resume=False)


def test_training_uses_every_image(result: TrainResult, parts: Path) -> None:
    """All forty parts are used; run and bundle are read back, and say which bytes the names have."""
    images = result.bundle.manifest.provenance.n_images
    assert sum(images.values()) == 40
    assert open_bundle(result.bundle.path).manifest.classes == (r"Pr\xfcfling",)
    record = json.loads((result.run / RUN_FILE).read_text(encoding="utf-8"))
    assert Path(record["config"]["data"]["root"]) == parts
    assert any(LATIN1 in name for name in record["images"])


def test_such_images_are_evaluated(
    result: TrainResult, parts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Evaluation, report and JSON work, and the terminal shows names without bytes that it cannot."""
    with open_engine(result.bundle, "reference", threads=1) as runner, TerminalProgress() as progress:
        found = evaluate_bundle(result.bundle, runner, parts, progress, false_alarm_rate=None, report=tmp_path / LATIN1)
    assert found.report is not None
    assert r"Pr\xfcfling" in found.report.read_text(encoding="utf-8")
    write_json(tmp_path / "eval.json", found.to_json())
    (part,) = json.loads((tmp_path / "eval.json").read_bytes())["classes"].values()
    assert part["n_good"] == 5
    assert r"Pr\xfcfling" in part["defects"]
    echo(f"Report: {found.report}")
    assert "Report: " in capfd.readouterr().out


def test_names_decide_digest_and_split(parts: Path) -> None:
    """Another byte in a name gives another digest, and names without such bytes the digest and split of before."""
    samples = choose_dataset(parts, FolderRoles()).train
    odd = next(index for index, sample in enumerate(samples) if LATIN1 in sample.name)
    other = os.fsdecode(os.fsencode(samples[odd].name).replace(b"\xfc", b"\xe4"))
    changed = [*samples[:odd], replace(samples[odd], name=other), *samples[odd + 1 :]]
    assert data_digest(samples) != data_digest(changed)
    split = split_good(samples, 0.1, 0.2)
    assert len({*split.fit, *split.early_stop, *split.threshold}) == 40


@pytest.mark.parametrize("address", ["{folder}", "watch:{folder}"])
def test_folders_of_such_images_are_streamed(address: str, parts: Path) -> None:
    """A folder, and a watched one, give each image with a name that any record and page can hold."""
    folder = parts / "test" / "good"
    options = replace(SOURCE_OPTIONS, watch_settle_s=0.05, watch_existing=True)
    stop, names = threading.Event(), []
    with source_from_uri(address.format(folder=folder), options) as source:
        for frame in source.frames(stop):
            names.append(frame.source)
            if len(names) == 5:
                stop.set()
    for text in (source.name, *names):
        text.encode()
    assert sum(r"/Pr\xfcfling " in name for name in names) == 2


def test_a_video_of_such_a_name_is_read_and_written(tmp_path: Path) -> None:
    """OpenCV, which crashes on such names, never sees them: a video is read, and a recording is made in such a folder."""
    folder = tmp_path / LATIN1
    folder.mkdir()
    check_recording(folder / "out.mp4")
    with pytest.raises(StorageError, match=r"Pr\\xfcfling.* not UTF-8"):
        check_recording(folder / f"{LATIN1}.mp4")
    with writable_name(folder / "in.avi") as name:
        writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 64))
    for _ in range(3):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    video = (folder / "in.avi").rename(folder / f"{LATIN1}.avi")
    with source_from_uri(str(video), SOURCE_OPTIONS) as source:
        frames = list(source.frames(threading.Event()))
    assert len(frames) == 3
    frames[0].source.encode()


def test_an_engine_of_such_a_bundle_is_built(result: TrainResult) -> None:
    """ONNX Runtime, which refuses such names, reads the graph and writes the engine in such a folder."""
    built = build_engine(result.bundle, "fp32", "onnxruntime", Silent())
    with open_engine(result.bundle, built.name, threads=1) as runner:
        assert runner.engine_name == "onnxruntime-fp32"


def test_a_path_in_utf8_is_shown_as_it_is() -> None:
    """Only bytes that are no text are escaped."""
    assert path_text("Prüfling 検査/🙂.png") == "Prüfling 検査/🙂.png"
    assert path_text(Path(LATIN1)) == r"Pr\xfcfling"
