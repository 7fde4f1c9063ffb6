"""Models of many classes: settings, histograms and tables of `python -m tools.kinds`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.data.masks import read_mask
from edgead.evaluation.evaluate import ScoredImage
from tools.kinds.__main__ import main
from tools.kinds.measure import histograms
from tools.kinds.page import likelihoods, tables
from tools.kinds.rows import ROWS, cells_of

KINDS = ("cap", "disc")


def test_every_row_is_a_valid_training() -> None:
    """Each row has one cell, or one for each class, with a name of its own and settings that a training accepts."""
    cells = [cell for row in ROWS for cell in cells_of(row, KINDS, seed=2, size=128, epochs=3)]
    assert len(cells) == len({cell.id for cell in cells}) == len(ROWS) + 1
    for cell in cells:
        config = cell.config(Path("data"))
        assert (config.model.image_size, config.train.seed) == (128, 2)
        assert config.train.epochs in (3, 0) or config.model.couplings == "never"
    starts = {
        row.name: cells_of(row, KINDS, seed=0, size=128, epochs=1)[0].config(Path("data")).model.start for row in ROWS
    }
    assert (starts["hgad_closed"], starts["hgad_published"], starts["hgad_usf"]) == (
        "closed-form",
        "published",
        "published",
    )


def _scored(sample: Sample, of_mask: bool) -> ScoredImage:
    """A picture whose map is its mask, or 0.5 everywhere."""
    if not of_mask:
        values = np.full((16, 16), 0.5, np.float32)
    elif sample.mask is None:
        values = np.zeros((16, 16), np.float32)
    else:
        mask: NDArray[np.float32] = read_mask(sample.mask, (64, 64)).astype(np.float32)
        values = np.asarray(cv2.resize(mask, (16, 16), interpolation=cv2.INTER_AREA), np.float32)
    return ScoredImage(
        Path(sample.path), sample.class_name, sample.defect, sample.gt_label, 0.0, values, (64, 64), sample.mask
    )


@pytest.mark.parametrize(("of_mask", "overlap"), [(True, 0.0), (False, 1.0)])
def test_histograms_compare_good_with_defective_positions(data: Path, of_mask: bool, overlap: float) -> None:
    """A map that knows the masks has nothing in common between the two, a constant one everything."""
    samples = find_dataset(data).test
    found = histograms([_scored(sample, of_mask) for sample in samples])
    assert set(found["classes"]) == {"cap", "disc"}
    for one in found["classes"].values():
        assert one["overlap"] == overlap
        assert sum(one["normal"]) == pytest.approx(1, abs=1e-3)
        assert sum(one["defective"]) == pytest.approx(1, abs=1e-3)


def _record(
    row: str, kinds: tuple[str, ...], auroc: float, *, seed: int = 0, modes: tuple[str, ...] = ("plain",)
) -> dict[str, Any]:
    metrics = {"image_auroc": auroc, "pixel_auroc": 0.9, "detection_rate": 0.5, "false_alarm_rate": 0.01}
    defects = {"paint_dot": {"image_auroc": auroc - 0.1}}
    evaluations = {mode: {"classes": {kind: {**metrics, "defects": defects} for kind in kinds}} for mode in modes}
    for mode in modes:
        if mode != "plain":
            evaluations[mode]["class_accuracy"] = 0.75  # type: ignore[assignment]
    shares = {"normal": [0.9, 0.1], "defective": [0.2, 0.8], "overlap": 0.3}
    return {
        "id": f"{row}-{kinds[0]}-{seed}", "row": row, "seed": seed, "evaluations": evaluations, "seconds": {"fit": 30.0},
        "histograms": {"edges": [0, 1, 2], "classes": dict.fromkeys(kinds, shares)},
    }  # fmt: skip


def test_tables_and_picture_show_what_is_complete() -> None:
    """A row of one model per class counts only where no class is missing; means are over classes, then over seeds."""
    records = [
        _record("default_unified", KINDS, 0.8, modes=("plain",)),
        _record("default_unified", KINDS, 0.9, seed=1),
        _record("default_each", ("cap",), 0.95),
        _record("hgad_closed", KINDS, 0.85, modes=("given", "predicted", "none")),
        {"id": "x", "row": "fastflow", "seed": 0, "error": "DataError: gone"},
    ]
    text = tables(records, KINDS)
    assert (
        "| default, one model without classes | no classes | 2 | 85.00 ± 7.07 | 90.00 | 50.00 | 1.00 |"
        in text.replace(" ± 0.00", "")
    )
    assert "| HGAD in closed form | class unknown | 1 | 85.00 | 90.00 | 50.00 | 1.00 | 75.00 | 0.300 | 30 |" in text
    assert "| paint_dot of cap, right on gear | 75.00 ± 7.07 | 75.00 |" in text
    assert "a model per class" not in text
    assert "FastFlow" not in text
    assert "a model per class" in tables([*records, _record("default_each", ("disc",), 0.9)], KINDS)
    picture = ET.fromstring(likelihoods(records, KINDS))
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 * len(KINDS) * 2
    assert tables([], KINDS) == "Nothing is measured yet."


@pytest.mark.slow
def test_measuring_goes_on_where_it_was(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows are trained, judged and shown; the same command again trains nothing."""
    command = ["measure", str(data), "--out", str(tmp_path), "--only", "default_unified", "hgad_closed", "--size", "64"]
    command += ["--set", "train.centres=64"]
    assert main(command) == 0
    records = {path: json.loads(path.read_text()) for path in (tmp_path / "cells").iterdir()}
    assert {record["row"] for record in records.values()} == {"default_unified", "hgad_closed"}
    for record in records.values():
        for mode in record["modes"] or ["plain"]:
            assert set(record["evaluations"][mode]["classes"]) == set(KINDS)
    shown = (tmp_path / "kinds.md").read_text()
    assert "class unknown" in shown
    assert shown in capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in records}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_what_cannot_be_compared_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One class is no comparison, and a size that nothing can be drawn at is none."""
    assert main(["measure", str(data / "disc"), "--out", str(tmp_path)]) != 0
    assert "needs at least 2" in capsys.readouterr().err
    assert main(["measure", str(data), "--out", str(tmp_path), "--set", "train.centres"]) != 0
    assert "--set takes KEY=VALUE, got 'train.centres'" in capsys.readouterr().err
    assert main(["make", str(tmp_path / "new"), "--size", "20"]) != 0
    assert "--size must be at least 48, got 20" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
