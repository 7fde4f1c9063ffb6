"""Tool for docs/precision.md: jobs, measurements, page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from edgead.builder.gate import GateScores, image_auroc
from tests.tools.tables import TINY
from tools.precision.__main__ import main
from tools.precision.measure import separation
from tools.precision.page import render
from tools.precision.table import TABLE, Table, jobs_of, read_table, recipe_form, settings_of

DOCS = Path(__file__).parents[2] / "docs"
SMALL: dict[str, Any] = {
    "data_sets": ["disc", "cap"],
    "seed": 0,
    "budget": TINY["budget"],
    "models": {
        "usf": {"label": "USF", "settings": {"model.name": "usf"}},
        "hgad": {"label": "HGAD", "unified": True, "settings": {"model.name": "hgad"}},
    },
    "forms": {
        "fp32": {"precision": "fp32"},
        "int8-gated": {"precision": "int8", "recipe": "default", "gated": True},
    },
    "recipes": [{"layout": "tensorrt", "models": ["usf"], "recipes": ["mse"]}],
}


def make_records(table: Table, points: dict[str, float], drops: dict[str, float]) -> dict[str, Any]:
    """Records of all jobs, with the image AUROC of a form in percent and the drop of a recipe."""
    records = {}
    for job in jobs_of(table):
        recipe = job.form.rpartition("-")[2] if job.form.startswith("recipe-") else "default"
        value = {"image_auroc": points.get(job.form, 90.0) / 100, "pixel_auroc": None, "aupro_0.3": None}
        records[job.id] = {
            "id": job.id,
            "drop": drops.get(recipe, 0.0),
            "correlation": 1.0,
            "separation": 1.0,
            "test": dict.fromkeys(table.data_sets if job.data == "unified" else (job.data,), value),
            "milliseconds": [10.0, 6.0],
            "coverage": 0.95,
            "kept": ["a"],
            "n_layers": 9,
        }
    return records


def test_every_form_and_recipe_is_a_job_of_its_own() -> None:
    table = read_table()
    jobs = jobs_of(table)
    assert len({job.id for job in jobs}) == len(jobs)
    assert [recipe_form(table, part, "default") for part in table.recipes[:2]] == ["int8-gated", "int8"]  # not twice
    for part in table.recipes:
        found = {job.how.recipe for job in jobs if job.how.layout == part.layout and job.model in part.models}
        assert set(part.recipes) <= found
    assert {job.model for job in jobs if job.form == "int8-gated-tensorrt"} == {job.model for job in jobs}
    assert settings_of(table, jobs[0]) == {"train.seed": 0}  # usf as it comes


def test_a_table_of_unknown_recipes_is_refused() -> None:
    with pytest.raises(ValidationError, match="rumour"):
        Table.model_validate(
            {
                **yaml.safe_load(TABLE.read_text()),
                "recipes": [{"layout": "tensorrt", "models": ["usf"], "recipes": ["rumour"]}],
            }
        )


def test_separation_is_in_ranges_of_the_good_images() -> None:
    good = np.array([0, 1, 2, 3, 4], np.float32)
    scores = GateScores(good, good, np.array([5, 6, 7], np.float32))
    assert separation(scores) == pytest.approx((6 - 2) / (3 - 1))
    assert image_auroc(scores) == 1.0


@pytest.mark.parametrize(
    ("points", "said"), [(89.8, "-0.20 points, 95.0%: holds"), (89.6, "-0.40 points, 95.0%: missed")]
)
def test_page_judges_the_goal(points: float, said: str) -> None:
    table = read_table()
    page = render(table, make_records(table, {"int8-gated": points}, {}))
    assert f"- pcb: {said}" in page
    assert "| USF | pcb | 90.00 | 90.00 | 90.00 |" in page


def test_page_has_the_drop_of_every_recipe() -> None:
    table = read_table()
    page = render(table, make_records(table, {}, {"entropy": 0.04}))
    assert "| entropy | 3 | +4.00 | +4.00 | 1.000 | 1.0000 |" in page
    assert page.count("\n| uncorrected | 3 | +0.00 |") == len(table.recipes)


@pytest.mark.slow
def test_small_table_is_measured_resumed_and_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bundles of one and of all data sets are trained once; a second call finds everything done."""
    config = tmp_path / "table.yaml"
    config.write_text(yaml.safe_dump(SMALL))
    places = {
        "--config": config,
        "--work": tmp_path / "work",
        "--page": tmp_path / "p.md",
        "--json": tmp_path / "p.json",
    }
    arguments = [str(data), *(str(item) for pair in places.items() for item in pair)]
    assert main(arguments) == 0
    capsys.readouterr()
    records = json.loads((tmp_path / "p.json").read_text())
    table = read_table(config)
    assert set(records) == {job.id for job in jobs_of(table)}
    assert set(records["hgad-unified-int8-gated"]["test"]) == {"disc", "cap"}
    gated = records["usf-disc-int8-gated"]
    assert gated["coverage"] > 0.8
    assert gated["correlation"] > 0.7  # of a handful of images
    assert records["usf-disc-fp32"]["drop"] == 0.0
    assert records[f"usf-cap-{recipe_form(table, table.recipes[0], 'mse')}"]["kept"] == []
    page = (tmp_path / "p.md").read_bytes()
    (tmp_path / "p.md").unlink()
    assert main(arguments) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "p.md").read_bytes() == page


def test_published_page_is_made_of_the_published_json() -> None:
    """docs/precision.md is what the tool makes of its JSON, and the table has exactly the jobs in it."""
    records = json.loads((DOCS / "precision.json").read_text())
    assert (DOCS / "precision.md").read_text() == render(read_table(), records)
    assert set(records) == {job.id for job in jobs_of(read_table())}
