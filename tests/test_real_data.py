"""The default detector on a real data set; skipped where it is not beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.progress import Silent
from edgead.commands.train import train
from edgead.config import load_config
from edgead.engines.build import open_engine

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "solar_cell_mono"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
def test_defaults_on_solar_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default training detects defective cells, keeps its false-alarm promise, and every backend agrees on every image."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import parity

    result = train(
        load_config(None, {"data.root": str(DATA)}), Silent(), out=tmp_path / "run", runs=tmp_path, resume=False
    )
    with open_engine(result.bundle, None, threads=0) as runner:
        mean = evaluate_bundle(result.bundle, runner, DATA, Silent(), false_alarm_rate=0.05, report=None).result.mean
    assert mean.image_auroc is not None
    assert mean.image_auroc > 0.93, "measured 0.95; the nearest-neighbour floor is 0.93"
    assert mean.false_alarm_rate is not None
    assert mean.false_alarm_rate <= 0.05 + 0.08, "84 good test images: twice the standard error above the promise"
    assert parity.main(result.bundle.path, DATA) == 0
