"""`edgead compare`: verdicts at equal promises, changed images, left-out ones, page and JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from edgead.cli import app
from edgead.commands.compare import PAGE, Side, _auroc_sentence, bundle_of, compare
from edgead.commands.train import TrainResult
from edgead.engines.opening import open_engine
from edgead.errors import DataError, EngineError
from edgead.evaluation.compare_page import KINDS
from edgead.evaluation.paired import AurocDifference
from edgead.progress import Silent
from edgead.runner import Outputs, Runner


class Changed:
    """An engine that gives the outputs of another one, with other scores."""

    engine_name = "changed"

    def __init__(self, runner: Runner, factor: float) -> None:
        self._runner = runner
        self._factor = factor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        outputs = self._runner.infer(batch, class_bias)
        return {**outputs, "pred_score": outputs["pred_score"] * np.float32(self._factor)}


@pytest.fixture(scope="module")
def runner(tiny_result: TrainResult) -> Iterator[Runner]:
    with open_engine(tiny_result.bundle, None, threads=1) as opened:
        yield opened


def test_a_blind_model_loses_every_defect(
    tiny_result: TrainResult, tiny_data: Path, runner: Runner, tmp_path: Path
) -> None:
    """Each defect that A finds and B misses is listed and drawn with both heatmaps, and the test of verdicts says so."""
    a = Side(tiny_result.bundle, runner)
    b = Side(tiny_result.bundle, Changed(runner, 0.0))  # type: ignore[arg-type]
    found = compare(a, b, tiny_data, Silent(), false_alarm_rate=0.3, confidence=None, report=tmp_path / "page")
    lost = [change for change in found.changes if change.kind == "defect lost"]
    assert found.found.only_a == len(lost) == found.found.rate_a.k > 3
    assert found.found.only_b == found.found.both == 0
    assert found.found.p_value == pytest.approx(2.0 ** (1 - len(lost)))
    assert found.auroc is not None
    assert found.auroc.b == 0.5
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["found"]["only_a"] == len(lost)
    assert {change["change"] for change in content["changes"]} <= set(KINDS)
    assert content["false_alarm_rate"] == 0.3
    html = (tmp_path / "page" / PAGE).read_text(encoding="utf-8")
    assert html.count("data:image/") == 3 * len(found.changes)
    assert "Defects that A finds and B misses" in html


def test_both_keep_the_promise_of_a(tiny_result: TrainResult, tiny_data: Path, runner: Runner) -> None:
    """Without a rate, B is judged at A's rate from its own good images, not at the threshold that it was shipped with."""
    bundle = tiny_result.bundle
    lax = {
        name: record.model_copy(update={"threshold": record.threshold.model_copy(update={"value": -1.0, "false_alarm_rate": 0.4})})
        for name, record in bundle.manifest.thresholds.items()
    }  # fmt: skip
    b = Side(bundle.with_thresholds(lax, None), runner)
    found = compare(Side(bundle, runner), b, tiny_data, Silent(), false_alarm_rate=None, confidence=None, report=None)
    assert found.false_alarm_rate == bundle.thresholds().threshold.false_alarm_rate
    assert found.changes == ()
    assert found.auroc is not None
    assert found.auroc.interval is None
    assert "Verdicts that differ, from A to B: none." in found.lines


def test_images_that_one_cannot_judge_or_was_trained_on(
    tiny_result: TrainResult, tiny_data: Path, runner: Runner, tmp_path: Path
) -> None:
    """They are in no number of false alarms, and counted."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data / "test", data)
    shutil.copy(tiny_data / "train" / "good" / "000.png", data / "good" / "seen.png")
    (data / "good" / "broken.png").write_bytes(b"no image")
    side = Side(tiny_result.bundle, runner)
    found = compare(side, side, data, Silent(), false_alarm_rate=None, confidence=None, report=None)
    assert (found.n_trained_on, found.false_alarms.n) == (1, 5)
    assert "1 good images that A or B was trained on are left out of the false alarms and the AUROC." in found.lines
    assert [(path.name, name) for path, name, _ in found.left_out] == [("broken.png", "A"), ("broken.png", "B")]
    with pytest.raises(DataError, match="no labelled test images"):
        compare(side, side, tiny_data / "train" / "good", Silent(), false_alarm_rate=None, confidence=None, report=None)
    for path in data.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"judged by both A and B\. The first reason, of A: .*cannot be decoded"
    ) as caught:
        compare(side, side, data, Silent(), false_alarm_rate=None, confidence=None, report=None)
    assert "--data DIR" in caught.value.hint


def test_the_auroc_is_of_new_images(tiny_result: TrainResult, tiny_data: Path, runner: Runner, tmp_path: Path) -> None:
    """Good images that a model was trained on change no AUROC, however low they score."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data / "test", data)
    side = Side(tiny_result.bundle, runner)
    new = compare(side, side, data, Silent(), false_alarm_rate=None, confidence=None, report=None)
    for path in sorted((tiny_data / "train" / "good").iterdir())[:5]:
        shutil.copy(path, data / "good" / f"seen-{path.name}")
    seen = compare(side, side, data, Silent(), false_alarm_rate=None, confidence=None, report=None)
    assert new.auroc is not None
    assert seen.auroc is not None
    assert seen.n_trained_on == 5
    assert (seen.auroc.a, seen.auroc.b) == (new.auroc.a, new.auroc.b)


def test_a_score_that_is_no_number_is_refused(tiny_result: TrainResult, tiny_data: Path, runner: Runner) -> None:
    """An engine that gives NaN is named, as in `edgead eval`."""
    a, b = Side(tiny_result.bundle, runner), Side(tiny_result.bundle, Changed(runner, np.nan))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="changed gave a score that is not finite"):
        compare(a, b, tiny_data, Silent(), false_alarm_rate=None, confidence=None, report=None)


def test_a_difference_without_interval_is_said_as_it_is() -> None:
    """Equal rankings are not said of two models whose AUROC differs."""
    assert "both rank all images alike" in _auroc_sentence(AurocDifference(1.0, 1.0, None))
    differs = _auroc_sentence(AurocDifference(1.0, 0.0, None))
    assert "alike" not in differs
    assert "it is the same for every image" in differs


def test_a_run_is_named_like_its_bundle(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """The command line takes the folder of a run or of a bundle, and writes JSON alone to stdout."""
    path = tiny_result.bundle.path
    assert bundle_of(path.parent) == bundle_of(path) == path
    arguments = ["compare", str(path.parent), str(path), "--data", str(tiny_data), "--json", "-"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["a"]["digest"] == tiny_result.bundle.digest
