"""Time of a backbone on this machine, or on the board that the detector is to run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgead.commands.train import train
from edgead.commands.training.backbone_session import session_on
from edgead.commands.training.backbone_time import BoardTimes, backbone_milliseconds, read_board_times
from edgead.commands.training.closed_form import CHOICES
from edgead.commands.training.dry_run import dry_run
from edgead.errors import ConfigError
from edgead.models.backbone import Backbone
from edgead.progress import Silent

from ...tiny_run import SIDE
from .test_closed_form import Notes, settings
from .test_presets import LITE0


def result(path: Path, **changes: Any) -> Path:
    """A result of `edgead bench --json`, with what is read of it."""
    content = {
        "engine": "tensorrt-int8",
        "device": "Orin",
        "engine_ms": {"p50": 4.0, "p95": 5.0, "p99": 6.0},
        "multiply_adds": 800_000_000,
        "inputs_per_frame": 1,
    }
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return path


def test_times_are_interpolated_between_engines_and_proportional_outside_their_range() -> None:
    times = BoardTimes((100, 300), (2.0, 3.0), "an engine")
    assert times.estimate(100) == 2.0
    assert times.estimate(200) == 2.5
    assert times.estimate(50) == 1.0
    assert times.estimate(600) == 6.0


def test_results_of_one_engine_are_read_together(tmp_path: Path) -> None:
    """A frame in tiles has several inputs, and the time of one counts."""
    large = result(tmp_path / "b.json", multiply_adds=3_200_000_000, engine_ms={"p50": 90.0}, inputs_per_frame=6)
    times = read_board_times([large, result(tmp_path / "a.json")])
    assert times == BoardTimes((800_000_000, 3_200_000_000), (4.0, 15.0), "tensorrt-int8 on Orin")
    assert "4.0 ms for 800 million, 15.0 ms for 3200 million" in str(times)
    assert read_board_times([]) is None


def test_results_of_different_engines_are_refused(tmp_path: Path) -> None:
    files = [result(tmp_path / "a.json"), result(tmp_path / "b.json", device="Nano")]
    with pytest.raises(ConfigError, match="tensorrt-int8 on Nano, tensorrt-int8 on Orin"):
        read_board_times(files)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("not JSON", "is no result of `edgead bench --json`"),
        ("[]", "is no result of `edgead bench --json`"),
        ('{"engine": "reference"}', "is no result of `edgead bench --json`"),
        (
            '{"engine": "a", "device": "b", "multiply_adds": 0, "engine_ms": {"p50": 1}}',
            "0 multiply-adds in 1 ms; both must be above 0",
        ),
        (
            '{"engine": "a", "device": "b", "multiply_adds": 9, "engine_ms": {"p50": NaN}}',
            "9 multiply-adds in nan ms; both must be above 0",
        ),
    ],
)
def test_a_file_that_is_no_result_is_refused_before_images_are_read(
    tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "bench.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    config = settings(tmp_path / "nowhere", train__budget_bench=[str(path)])
    with pytest.raises(ConfigError) as caught:
        train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "edgead bench BUNDLE --json FILE" in (caught.value.hint or "")


def test_the_time_is_that_of_the_board(tiny_data: Path, tmp_path: Path) -> None:
    """Without one it is measured here, and does not follow from the multiply-adds."""
    backbone, device = Backbone(LITE0, None, ["16"], (SIDE, SIDE)), torch.device("cpu")
    own = result(tmp_path / "a.json", multiply_adds=backbone.multiply_adds(SIDE), engine_ms={"p50": 1234.5})
    config = settings(tiny_data, train__budget_bench=[str(own)])
    session = session_on(device, backbone, (SIDE, SIDE))
    assert backbone_milliseconds(config, backbone, SIDE, device, session) == pytest.approx(1234.5)
    assert backbone_milliseconds(config, backbone, 2 * SIDE, device, session) == pytest.approx(4 * 1234.5)
    assert 0 < backbone_milliseconds(settings(tiny_data), backbone, SIDE, device, session) < 1000


def test_the_budget_is_that_of_the_board(tiny_data: Path, tmp_path: Path) -> None:
    """A larger input that this machine computes in time is not tried if the board needs longer."""
    slow = result(tmp_path / "slow.json", engine_ms={"p50": 1e6})
    config = settings(
        tiny_data,
        train__budget_bench=[str(slow)],
        train__budget_ms=100.0,
        train__backbones=["tf_efficientnet_lite1"],
        train__forms=["centres"],
        train__variation=0.0,
        train__larger_sizes=[],
    )
    notes = Notes()
    run = train(config, notes, out=tmp_path / "run", runs=tmp_path, resume=False).run
    assert any(note.startswith("Backbone times are those of tensorrt-int8 on Orin") for note in notes.texts)
    assert any(note.startswith(f"tf_efficientnet_lite1 at {SIDE} px is not tried") for note in notes.texts)
    (tried,) = json.loads((run / CHOICES).read_text())
    assert tried["milliseconds"] > 1000
    facts = dict(dry_run(config, Silent(), out=None, runs=tmp_path).facts)
    assert facts["times"].startswith("Backbone times are those of tensorrt-int8 on Orin")
