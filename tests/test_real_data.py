"""The default detector on a real data set; skipped where it is not beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.bundle import Bundle
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.train import train
from edgead.config.file import load_config
from edgead.engines.opening import open_engine
from edgead.evaluation.pace import Pace
from edgead.progress import Silent
from tools import alarm_rate
from tools.alarm_rate import hour_of, replay, score_images

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "solar_cell_mono"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Bundle of a default training on the solar cells."""
    runs = tmp_path_factory.mktemp("runs")
    config = load_config(None, {"data.root": str(DATA)})
    return train(config, Silent(), out=runs / "run", runs=runs, resume=False).bundle


def test_defaults_on_solar_cells(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default training detects defective cells, keeps its false-alarm promise, and every backend agrees on every image."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import parity

    with open_engine(bundle, None, threads=0) as runner:
        mean = evaluate_bundle(bundle, runner, DATA, Silent(), false_alarm_rate=0.05, report=None).result.mean
    assert mean.image_auroc is not None
    assert mean.image_auroc > 0.93, "measured 0.95; the nearest-neighbour floor is 0.93"
    assert mean.false_alarm_rate is not None
    assert mean.false_alarm_rate <= 0.05 + 0.08, "84 good test images: twice the standard error above the promise"
    assert parity.main(bundle.path, DATA) == 0


def test_false_alarms_per_hour_on_solar_cells(bundle: Bundle) -> None:
    """Good cells replayed past a camera keep every certified number of alarms per hour, and where noise makes the frames
    unlike the images the meter tells it, and a watched line keeps its promise all the same.
    """
    with open_engine(bundle, "reference", threads=0) as runner:
        like, unlike = (score_images(bundle, runner, DATA, 2, noise) for noise in (0.5, 4.0))
    rules = {(name, wanted): rule for name, rule, wanted in alarm_rate.threshold_rules({"any stream": Pace(25.0, 3)})}
    for key in (("any stream", 1000.0), ("any stream", 500.0), ("watched line", 500.0)):
        row = replay(like, rules[key], 25.0, 60)
        assert row.n_certified == 60
        assert 0.02 * key[1] < row.alarms_per_hour <= key[1] + 3 * row.error
    assert any(level.is_unlike for level in hour_of(unlike, 25.0).levels)
    row = replay(unlike, rules["watched line", 500.0], 25.0, 60)
    assert row.alarms_per_hour <= 500.0 + 3 * row.error
