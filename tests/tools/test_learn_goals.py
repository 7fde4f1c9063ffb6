"""The tool that measures learning, in its short form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgead.bundle import Bundle
from edgead.bundle_writer import write_bundle
from edgead.data.reader import read_image
from edgead.imaging import png_from_rgb
from tools.learn_goals import main

from ..teach.conftest import base as base
from ..teach.conftest import base_config as base_config
from ..teach.test_learn import bundle as bundle
from ..teach.test_learn import parts as parts
from ..teach.test_learn import score, with_speck, with_threshold


@pytest.mark.slow
def test_the_goals_of_a_small_model(
    bundle: Bundle, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory and twins as wanted; the time depends on the machine, and of two pictures the second has its probes already."""
    good = read_image(sorted((parts / "test" / "good").iterdir())[0])
    alarms = tmp_path / "alarms"
    alarms.mkdir()
    specks = [with_speck(good, place) for place in ((30, 34), (18, 20))]
    for number, image in enumerate(specks):
        (alarms / f"{number}.png").write_bytes(png_from_rgb(image))
    limit = 0.8 * float(score(bundle, *specks).min())
    files = {name: bundle.path / name for name in bundle.manifest.sha256 if name != "bundle.json"}
    manifest = with_threshold(bundle, limit).manifest.model_copy(update={"sha256": {}})
    source = write_bundle(tmp_path / "source", manifest, files)
    arguments = [str(source.path), "--alarms", str(alarms), "--count", "2", "--defects", str(alarms)]
    main([*arguments, "--json", str(tmp_path / "goals.json")])
    found = json.loads((tmp_path / "goals.json").read_text())
    learned = [one for one in found["learnings"] if one["refusal"] is None]
    assert learned
    assert all(one["alarming_after"] <= 0.1 and one["peak_mb"] < 400 for one in learned)
    assert [one["has_probes"] for one in found["learnings"]][:1] == [False]
    assert [one["sure"] for one in found["clicks"]] == [False, True]
    assert "at least 90% of the twins silent" in capsys.readouterr().out
