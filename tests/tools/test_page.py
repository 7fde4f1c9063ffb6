"""Results page, JSON and chart from hand-made records."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgead.errors import DataError
from edgead.storage import write_json
from tests.tools.tables import make_record, make_results
from tools.results.cells import TABLE, UNIFIED, Cell, expand, expand_shipped, read_table
from tools.results.chart import axis_ticks, draw_chart
from tools.results.claims import judge
from tools.results.page import render
from tools.results.results import load_results, published_records
from tools.results.show import Pace

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


def section(text: str, head: str) -> str:
    """The part of a page below a head line."""
    return text.split(f"## {head}\n")[1].split("\n## ")[0]


def test_page_has_means_and_deviations() -> None:
    """Seeds of 90, 91 and 95 are 92.00 ± 2.65 in their row and in the summary; costs stand beside them."""
    text = render(make_results(lambda cell: (90.0, 91.0, 95.0)[cell.seed]), "images/results.svg")
    row = "92.00 ± 2.65 | 90.00 ± 0.00 | 80.00 ± 0.00 | 50.00 ± 0.00 | 2.00 ± 0.00 | 31 s | 1.25 M | 2.00 G (0.50 G) |"
    assert f"| FastFlow | affine | AltUB | {row}" in section(text, "pcb")
    assert "| U-Flow | uniform | normal | 90.00 | 90.00 |" in section(text, "pcb")
    assert "| CFLOW | uniform | AltUB | 92.00 | 2.65 |" in section(text, "Over all data sets")
    assert "| HGAD | affine | class given | 92.00 ± 2.65 |" in section(text, "One model for all data sets")
    assert "96 of 96 cells are finished." in text
    assert "![Image AUROC of every detector and seed](images/results.svg)" in text
    assert "failed" not in text.lower()
    assert not any(f" of {n} " in line for n in (3, 18) for line in text.splitlines() if line.startswith("|"))


def test_means_over_data_sets_by_hand() -> None:
    """80, 90 and 94 have the mean 88.00; the spread over seeds is pooled within the data sets, not over them."""
    level = {"magnetic_tile": 90.0, "pcb": 80.0, "solar_cell_mono": 94.0, UNIFIED: 70.0}
    width = {"magnetic_tile": 1.0, "pcb": 2.0, "solar_cell_mono": 3.0, UNIFIED: 0.0}
    results = make_results(lambda cell: level[cell.data] + (cell.seed - 1) * width[cell.data] * (cell.model != "uflow"))
    summary = section(render(results, "r.svg"), "Over all data sets")
    assert "| FastFlow | affine | normal | 88.00 | 2.16 | 90.00 | 80.00 |" in summary  # sqrt((1 + 4 + 9) / 3)
    assert "| U-Flow | affine | normal | 88.00 | – |" in summary
    assert "| all with uniform couplings | 88.00 | 2.16 |" in summary


def test_data_without_masks_has_dashes(tmp_path: Path) -> None:
    """A data set without masks has no pixel metrics; with no masks anywhere the summary has none either."""
    text = render(make_results(lambda cell: 90.0 + cell.seed), "r.svg")
    assert "| FastFlow | affine | normal | 91.00 ± 1.00 | – | – | 50.00" in section(text, "solar_cell_mono")
    table = read_table(TABLE)
    cells = expand(table)
    records = {cell.id: make_record(cell, 90.0) for cell in cells}
    for record in records.values():
        for evaluation in record["evaluations"].values():
            evaluation["mean"] |= {"pixel_auroc": None, "aupro_0.3": None}
    text = render(load_results(table, cells, records), "r.svg")
    assert "| FastFlow | affine | normal | 90.00 | 0.00 | – | – | 50.00 |" in section(text, "Over all data sets")
    assert "| FastFlow | affine | normal | 90.00 ± 0.00 | – | – | 50.00" in section(text, "pcb")


def test_partial_page_says_so() -> None:
    """With some cells only, the page, every mean that lacks seeds or data sets, and the chart say so."""
    results = make_results(lambda cell: 90.0 if cell.data == "pcb" and cell.seed == 0 else None)
    text = render(results, "r.svg")
    assert "- 12 of 96 cells are finished; what follows is partial." in text
    assert "| FastFlow | affine | normal | 90.00 (1 of 3 data sets) | – |" in section(text, "Over all data sets")
    assert "| all with AltUB | 90.00 (6 of 18 rows) | – |" in section(text, "Over all data sets")
    assert "| FastFlow | affine | normal | 90.00 (1 of 3 seeds) |" in section(text, "pcb")
    assert "| U-Flow | affine | normal | 90.00 | 90.00 |" in section(text, "pcb")
    assert "| FastFlow | affine | normal | – | – |" in section(text, "magnetic_tile")
    assert "(12 of 84 cells)" in draw_chart(results)


def test_page_names_failed_cells() -> None:
    """A failed cell is counted, listed with its reason, and stands in its row, where a bar would end the column."""
    table = read_table(TABLE)
    cells = expand(table)
    first = cells[0]
    records = {first.id: {**make_record(first, 0), "error": "TrainingError: a | b\nmore"}}
    text = render(load_results(table, cells, records), "r.svg")
    assert f"- 0 of {len(cells)} cells are finished, 1 failed; what follows is partial." in text
    assert f"- `{first.id}` failed: TrainingError: a | b" in section(text, "Failed cells")
    assert "| FastFlow | affine | normal | failed: TrainingError: a \\| b |" in section(text, first.data)


def test_page_names_changed_images_and_resumed_times() -> None:
    """Cells of one data set that saw different images are pointed out, and the time of resumed cells is a lower bound."""
    table = read_table(TABLE)
    cells = expand(table)
    records = {cell.id: {**make_record(cell, 90.0), "resumed": cell.data == "pcb"} for cell in cells}
    records[next(cell.id for cell in cells if cell.data == "pcb")]["data_digest"] = "1"
    text = render(load_results(table, cells, records), "r.svg")
    assert "- pcb: 8 good images" in text
    assert text.count("The images changed between cells: 2 versions.") == 1
    assert "| ≥ 31 s |" in section(text, "pcb")
    assert "≥" not in section(text, "magnetic_tile")


def test_alignment_shows_the_worst_correlation() -> None:
    """The table of checks has the smallest Spearman correlation of likelihood and latent norm."""
    table = read_table(TABLE)
    cells = expand(table)
    records = {cell.id: make_record(cell, 90.0) for cell in cells if cell.model == "cflow"}
    for value, record in zip((0.99, 0.9123, 0.95), records.values(), strict=False):
        for part in record["evaluations"].values():
            part["alignment"] = {"spearman": value}
    text = render(load_results(table, cells, records), "r.svg")
    assert "| 0.90 to 1.10 | 0.912 | 2e-06 |" in section(text, "Checks")


def test_published_json_gives_the_same_page(tmp_path: Path) -> None:
    """The published JSON alone, failures included, gives the page that it was published with."""
    table = read_table(TABLE)
    cells = expand(table)
    records = {cell.id: make_record(cell, 90.0 + cell.seed) for cell in cells[6:]}
    records[cells[0].id] = {**make_record(cells[0], 0), "error": "TrainingError: no"}
    results = load_results(table, cells, records)
    write_json(tmp_path / "p.json", results.to_json())
    again = load_results(table, cells, published_records(tmp_path / "p.json"))
    assert render(again, "r.svg") == render(results, "r.svg")


@pytest.mark.parametrize("text", ["{", '{"id": 1}', "[1]", '[{"id": "a"}]', '[{"evaluations": {}}]', "\x00"])
def test_corrupt_json_is_a_clear_error(text: str, tmp_path: Path) -> None:
    """A file that the tool did not write is never taken for an empty one, which would be written over."""
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match=r"p\.json holds no results"):
        published_records(tmp_path / "p.json")


def test_records_of_other_settings_are_left_out() -> None:
    """A result whose settings the table no longer has is not shown."""
    table = read_table(TABLE)
    cells = expand(table)
    record = make_record(cells[0], 90.0)
    assert len(load_results(table, cells, {cells[0].id: record}).records) == 1
    other = {**record, "settings": {**record["settings"], "train.epochs": 1}}
    assert not load_results(table, cells, {cells[0].id: other}).records


def test_pace_prefers_like_cells() -> None:
    """The remaining time is that of the same model and data where known, else of the model, else of all; resumed cells do not count."""
    cells = {cell.id: cell for cell in expand(read_table(TABLE))}
    pcb, tile = cells["pcb-fastflow-affine-normal-seed0"], cells["magnetic_tile-fastflow-affine-normal-seed0"]
    slow = {**make_record(pcb, 90.0), "seconds": {"training": 100.0}}
    fast = {**make_record(cells["pcb-cflow-affine-normal-seed0"], 90.0), "seconds": {"training": 50.0}}
    pace = Pace({"a": slow, "b": fast, "c": {**slow, "resumed": True, "seconds": {"training": 1.0}}})
    assert pace.estimate([pcb]) == 100.0
    assert pace.estimate([tile]) == 100.0
    assert pace.estimate([cells["pcb-uflow-affine-normal-seed0"]]) == 75.0
    assert Pace({}).estimate([pcb]) is None


def all_seeds(cell: Cell) -> float:
    return 90.0 + cell.seed


def one_cell(cell: Cell) -> float | None:
    return 90.0 if cell.id == "pcb-cflow-affine-altub-seed1" else None


@pytest.mark.parametrize("points", [all_seeds, one_cell, lambda cell: None])
def test_chart_has_a_dot_per_record(points: Callable[[Cell], float | None]) -> None:
    """The chart parses as XML and has a dot per seed besides the legend, also when little or nothing is measured."""
    results = make_results(points)
    root = ET.fromstring(draw_chart(results))
    dots = [e for e in root.iter(f"{SVG}circle") if e.get("class") == "dot"]
    assert len(dots) == 4 + sum(record["data"] != UNIFIED for record in results.records)
    names = {e.text for e in root.iter(f"{SVG}text")}
    assert {"magnetic_tile", "pcb", "solar_cell_mono", "FastFlow", "CFLOW", "U-Flow"} <= names


def test_chart_stays_inside_its_frame() -> None:
    """Every mark lies inside the chart, the best mean of each panel is written once, and names are escaped."""
    root = ET.fromstring(draw_chart(make_results(lambda cell: 50.0 if cell.model == "uflow" else 100.0 - cell.seed)))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for dot in root.iter(f"{SVG}circle"):
        assert 0 < float(dot.get("cx", "")) < width
        assert 0 < float(dot.get("cy", "")) < height
    best = [e for e in root.iter(f"{SVG}text") if e.get("class") == "best"]
    assert {e.text for e in best} == {"99.00"}


@pytest.mark.parametrize(("low", "high"), [(90.0, 90.0), (99.7, 100.0), (50.0, 100.0), (93.3, 98.1), (0.0, 100.0)])
def test_axis_encloses_the_values(low: float, high: float) -> None:
    """Ticks are two to seven round numbers around all values."""
    ticks = axis_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 7


def test_published_page_is_made_of_the_published_json() -> None:
    """Page and chart in `docs` are what the tool makes of `docs/results.json` and the current table."""
    if not (DOCS / "results.json").is_file():
        pytest.skip("no results are published yet")
    table = read_table(TABLE)
    cells = [*expand(table), *expand_shipped(table)]
    results = load_results(table, cells, published_records(DOCS / "results.json"))
    content: list[Any] = json.loads((DOCS / "results.json").read_text())
    assert len(results.to_json()) == len(content)
    assert (DOCS / "results.md").read_text() == render(results, "images/results.svg")
    assert (DOCS / "images" / "results.svg").read_text() == draw_chart(results)


def test_variants_stand_beside_what_they_change_and_count_nowhere_else() -> None:
    plain = make_results(lambda cell: 80.0 + cell.seed)
    both = make_results(lambda cell: 99.0 if cell.variant else 80.0 + cell.seed, variants=True)
    page = render(both, "p.svg")
    assert "| FastFlow, affine | pcb | no classes | 80.00 → 99.00 | 90.00 → 90.00 | 80.00 → 80.00 | 1 |" in page
    assert "| HGAD, uniform | unified | class unknown | 80.00 → 99.00 |" in page
    before, after = (render(results, "p.svg").split("## Over all data sets")[1] for results in (plain, both))
    assert after.startswith(before.split("## Checks")[0].rstrip())
    assert judge(plain) == judge(both)
    assert draw_chart(plain) == draw_chart(both)


def test_page_without_variants_has_no_section_for_them() -> None:
    assert "single settings" not in render(make_results(lambda cell: 80.0), "p.svg")
