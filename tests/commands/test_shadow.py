"""`edgead stream --shadow`: another bundle beside the one that decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.commands.stream import StreamOutputs, stream
from edgead.config.file import load_config
from edgead.config.sinks import sink_from_url
from edgead.config.stream import CameraConfig
from edgead.errors import BundleError, EngineError
from edgead.runner import FakeRunner

from .stream_runs import GOOD, make_bundle


def folder_of(bundle: Bundle, path: Path, n: int) -> Path:
    """Reference images of a bundle, over and over, as image files."""
    path.mkdir()
    images = np.asarray(bundle.reference()["images"])
    for index in range(n):
        cv2.imwrite(str(path / f"{index:04d}.png"), images[index % len(images)][..., ::-1])
    return path


def test_a_shadow_reports_what_it_would_change(bundle_copy: Callable[[], Bundle], tmp_path: Path) -> None:
    """A real engine in a process of its own beside another model: counts, pictures, report, one event; alerts as without it."""
    other = bundle_copy()
    (tmp_path / "active").mkdir()
    bundle = make_bundle(tmp_path / "active")
    images = folder_of(other, tmp_path / "images", 40)
    config = load_config(None, {"shadow.share": 1.0, "shadow.pictures": 3, "stream.folder_fps": 0.5})
    config = config.model_copy(update={"sinks": (sink_from_url(f"file:{tmp_path}/events.jsonl"),)})
    alerts = tmp_path / "alerts"
    with FakeRunner((32, 32)) as runner:
        summary = stream(
            bundle, runner, [CameraConfig(name="line", source=str(images))], StreamOutputs(alerts), config=config, shadow=(other.path, None)
        )  # fmt: skip
    report = summary.shadow
    assert report is not None
    assert (report["judged"], report["frames"]) == (40, 40)
    assert report["shadow"]["bundle"] == other.digest
    assert report["active"]["bundle"] == bundle.digest
    assert report["cost"]["memory_mb"] > 20
    assert report["cost"]["cpu_share"] > 0
    assert report["forecast"]["low"] <= report["forecast"]["per_hour"] <= report["forecast"]["high"]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["kind"] == "shadow_report"]
    assert event["detail"] == report["text"]
    assert event["values"]["only_shadow"] == report["only_shadow"]
    (folder,) = (alerts / "shadow").iterdir()
    stored = json.loads((folder / "report.json").read_text())
    assert stored["judged"] == 40
    assert {path.name for path in folder.glob("*.jpg")} == {one["picture"] for one in stored["differences"]}


def test_a_shadow_that_cannot_judge_these_cameras_is_named(bundle_copy: Callable[[], Bundle], tmp_path: Path) -> None:
    """Before the first frame: a folder that is no bundle, and a bundle without the camera's kind of part."""
    (tmp_path / "active").mkdir()
    bundle = make_bundle(tmp_path / "active")
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.full((32, 32, 3), GOOD, np.uint8))
    cameras = [CameraConfig.model_validate({"name": "line", "source": str(images), "class": "part"})]
    other = bundle_copy()
    assert "part" not in other.manifest.classes
    for path, error, words in ((tmp_path / "no", BundleError, "no"), (other.path, (BundleError, EngineError), "part")):
        with FakeRunner((32, 32)) as runner, pytest.raises(error, match=words):
            stream(
                bundle,
                runner,
                cameras,
                StreamOutputs(tmp_path / "alerts"),
                config=load_config(None, {}),
                shadow=(path, None),
            )
