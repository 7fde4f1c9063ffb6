"""From the settings of cameras and zones to what judges their frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.commands.stream import StreamOutputs, stream
from edgead.commands.train import TrainResult
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError
from edgead.evaluation.threshold import threshold_from_scores
from edgead.line.cameras import make_cameras
from edgead.progress import Progress, Silent
from edgead.runner import FakeRunner
from edgead.stream.camera import Camera
from edgead.stream.zones import zone_score
from tests.notes import Notes

LEFT = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]


def configured(**camera: Any) -> CameraConfig:
    return CameraConfig.model_validate({"name": "line", "source": "synthetic", **camera})


def made(
    result: TrainResult,
    camera: CameraConfig,
    config: Config | None = None,
    rate: float | None = None,
    progress: Progress | None = None,
) -> Camera:
    with open_engine(result.bundle, "reference", threads=1) as runner:
        (one,) = make_cameras(
            [camera], result.bundle, runner, config or Config(), progress or Silent(), false_alarm_rate=rate
        )  # fmt: skip
    return one


def test_without_zones_the_whole_picture_has_the_bundles_threshold(tiny_result: TrainResult) -> None:
    """The default zone is called picture; a rate of the camera comes before the one for all."""
    (watch,) = made(tiny_result, configured()).zones
    thresholds = tiny_result.bundle.thresholds()
    assert (watch.name, watch.threshold, watch.mask) == ("picture", thresholds.threshold, None)
    (watch,) = made(tiny_result, configured(false_alarm_rate=0.2), rate=0.4).zones
    assert watch.threshold == threshold_from_scores(thresholds.scores, 0.2)
    (watch,) = made(tiny_result, configured(threshold=7.5)).zones
    assert (watch.threshold.value, watch.rules.threshold, watch.threshold.certified) == (7.5, 7.5, False)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"threshold": 1e9}, "line, picture: Careful: With a threshold of 1e+09 nothing could alarm any more"),
        ({"threshold": -5.0}, "line, picture: Careful: With a threshold of -5 every good picture would alarm"),
        (
            {"zones": [{"name": "left", "include": [LEFT], "threshold": 1e9}, {"name": "all"}]},
            "line, left: Careful: With a threshold of 1e+09 nothing",
        ),
    ],
)
def test_a_threshold_in_the_settings_that_cannot_be_meant_is_told(
    tiny_result: TrainResult, settings: dict[str, Any], what: str
) -> None:
    """It holds, since a file is written with care, and perhaps to try out the alarms; one that can be meant is not told."""
    notes = Notes()
    made(tiny_result, configured(**settings), progress=notes)
    (note,) = notes.texts
    assert note.startswith(what)
    usual = Notes()
    made(tiny_result, configured(threshold=tiny_result.bundle.thresholds().threshold.value * 1.1), progress=usual)
    assert usual.texts == []


def test_a_zone_has_the_threshold_of_its_own_scores_on_held_out_images(tiny_result: TrainResult) -> None:
    """Scores inside the zone on the engine's maps of the bundle's held-out images, at the wanted rate."""
    zones = [{"name": "left", "include": [LEFT], "false_alarm_rate": 0.2}, {"name": "right", "exclude": [LEFT]}]
    left, right = made(tiny_result, configured(zones=zones)).zones
    held_out = tiny_result.bundle.held_out()
    assert held_out is not None
    with open_engine(tiny_result.bundle, "reference", threads=1) as runner:
        maps = runner.infer(held_out[0])["anomaly_map"]
    for watch, rate in ((left, 0.2), (right, tiny_result.bundle.thresholds().threshold.false_alarm_rate)):
        assert watch.mask is not None
        scores = [zone_score(one, watch.mask) for one in maps]
        assert watch.good_scores == pytest.approx(scores, rel=1e-5)
        assert watch.threshold.value == pytest.approx(threshold_from_scores(scores, rate).value, rel=1e-5)
    assert left.mask is not None
    assert right.mask is not None
    assert np.array_equal(left.mask, ~right.mask)


def test_zones_and_cameras_change_the_shared_alert_settings(tiny_result: TrainResult) -> None:
    """A zone's alert settings override its camera's, which override the shared ones."""
    config = Config.model_validate({"alerts": {"open_frames": 2, "window_frames": 9, "latch": True}})
    camera = configured(
        alerts={"close_frames": 7, "latch": False}, zones=[{"name": "a", "alerts": {"close_frames": 8}}]
    )
    (watch,) = made(tiny_result, camera, config).zones
    rules = watch.rules
    assert (rules.open_frames, rules.window_frames, rules.close_frames, rules.latch) == (2, 9, 8, False)
    assert [band.name for band in rules.severities] == ["minor", "major", "critical"]
    assert rules.severities[0].level == pytest.approx(rules.threshold)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cameras: [{name: a, source: x}, {name: a, source: y}]", "twice: a"),
        ("cameras: [{name: '../a', source: x}]", "letters, digits"),
        ("cameras: [{name: a}]", "source"),
        ("cameras: [{name: a, source: x, zones: [{name: z, include: [[[0, 0], [1, 1]]]}]}]", "3 corners"),
        ("cameras: [{name: a, source: x, zones: [{name: z, include: [[[0, 0], [1, 1], [2, 0]]]}]}]", "between 0 and 1"),
        ("cameras: [{name: a, source: x, alerts: {open_frames: 9}}]", "open_frames must not exceed"),
        ("cameras: [{name: a, source: x, alerts: {colour: red}}]", "colour"),
        ("cameras: [{name: a, source: x, stream: {queue_size: 0}}]", "queue_size"),
        ("cameras: [{name: a, source: x, zones: [{name: z}, {name: z}]}]", "twice: z"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_place(tmp_path: Path, text: str, said: str) -> None:
    """Each mistake is named; none gets as far as a source."""
    path = tmp_path / "line.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(path, {})


def test_a_recording_of_several_cameras_is_refused(tiny_result: TrainResult, tmp_path: Path) -> None:
    """A video and a window show one camera; the error says what shows several."""
    cameras = [configured(), configured(name="other")]
    with pytest.raises(ConfigError, match="show one camera") as caught:
        stream(
            tiny_result.bundle, FakeRunner((64, 64)), cameras, StreamOutputs(record=tmp_path / "out.mp4"),
            config=Config(),
        )  # fmt: skip
    assert "--web HOST:PORT" in caught.value.hint
