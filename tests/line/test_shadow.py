"""Shadow of a line: files of earlier watches, and frames that wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.config.file import load_config
from edgead.config.stream import CameraConfig
from edgead.line.readied import LineSettings
from edgead.line.shadow import KEEP, LineShadow, OpenShadow, shadow_folders
from edgead.runner import FakeRunner
from edgead.stream.camera import Camera
from edgead.stream.shadow.shadow import QUEUE

from ..commands.stream_runs import make_bundle
from ..stream.fakes import GOOD, ListSource


def test_watches_of_killed_streams_do_not_fill_the_disk(tmp_path: Path) -> None:
    """Old folders go when a watch begins, as a stream that loses its power has no end; the newest ones stay."""
    bundle, source = make_bundle(tmp_path), ListSource([GOOD])
    for n in range(2 * KEEP):
        (tmp_path / "alerts" / "shadow" / f"2026010{n}T000000000000-3f9a2c").mkdir(parents=True)
    newest = shadow_folders(tmp_path / "alerts")[1 - KEEP :]
    line = LineSettings([CameraConfig(name="line", source="x")], load_config(None, {}), alerts_dir=tmp_path / "alerts")
    watch = LineShadow(line, [Camera("line", source, (), pixel_threshold=1.0)])
    watch.begin(OpenShadow(bundle, FakeRunner((32, 32))), bundle)
    assert shadow_folders(tmp_path / "alerts") == newest
    watch.consumer.end("the test is over")


@pytest.mark.parametrize(("live", "paced", "expected"), [(True, True, QUEUE), (False, True, 2), (False, False, None)])
def test_only_files_wait_for_the_shadow(live: bool, paced: bool, expected: int | None) -> None:
    """A watched folder does not, whose frames wait in a shorter queue than those of a camera."""
    source = ListSource([GOOD], live=live)
    source.paced = paced
    watch = LineShadow(
        LineSettings([], load_config(None, {"stream.queue_size": 2})), [Camera("line", source, (), pixel_threshold=1.0)]
    )
    assert watch.consumer.limit == expected
