"""Cells as shipped: declared, shown on the page, and measured by the real commands on small images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgead.config import defaults
from edgead.errors import ConfigError
from edgead.progress import Silent
from edgead.storage import write_json
from tests.tools.tables import call, make_results, make_shipped_record, make_shipped_results, write_table
from tools.results.as_shipped import spanned
from tools.results.cells import TABLE, UNIFIED, expand, expand_shipped, read_table
from tools.results.chart import draw_chart
from tools.results.claims import judge
from tools.results.page import render
from tools.results.results import load_results, published_records
from tools.results.run import Workplace, is_finished, read_records, run_cell
from tools.results.shipped_run import counts_of

# too small for the defaults; one kind of form, few copies
SMALL: dict[str, Any] = {
    "model.image_size": 64,
    "model.levels": ["16:8"],
    "train.forms": ["positions"],
    "train.larger_sizes": [],
    "train.pseudo_limit": 20,
    "train.variation_limit": 10,
    "train.calibration_images": 2,
    "train.reference_images": 2,
}
DISC = {"model": "usf", "data": ["disc"], "seeds": [0], "settings": SMALL}
BOTH = {"model": "hgad", "data": [UNIFIED], "seeds": [0], "modes": ["given"], "settings": SMALL}


def test_shipped_cells_set_nothing_but_the_seed() -> None:
    """The real table has the default model of every set with three seeds and hgad on all of them, and changes no default."""
    table = read_table(TABLE)
    cells = expand_shipped(table)
    usf = {(cell.data, cell.seed) for cell in cells if cell.model == defaults.MODEL}
    assert usf == {(data, seed) for data in table.data_sets for seed in (0, 1, 2)}
    assert (UNIFIED, "hgad", 0, ("none", "given")) in {(c.data, c.model, c.seed, c.modes) for c in cells}
    for cell in cells:
        named = {} if cell.model == defaults.MODEL else {"model.name": cell.model}
        assert cell.settings == {"train.seed": cell.seed, **named}
        assert cell.config(Path("data")).model.name == cell.model
        assert cell.config(Path("data")).model.couplings == "never"
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert not {cell.id for cell in cells} & {cell.id for cell in expand(table)}


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({**DISC, "data": ["bottle"]}, "shipped usf in .* names bottle"),
        ({**DISC, "settings": {"train.seed": 3}}, "shipped usf in .* sets train.seed"),
        ({**DISC, "seeds": [1, 1]}, "disc-usf-shipped-seed1 more than once"),
        ({**DISC, "seeds": []}, "seeds"),
    ],
)
def test_wrong_part_says_what_is_wrong(part: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        read_table(write_table(tmp_path, shipped=[part]))


def test_section_has_means_ranges_and_counts() -> None:
    """AUROC of 90, 91 and 92 % and 13, 14 and 17 of 20 found stand with their ranges, in a row for each set and label mode."""
    text = render(make_shipped_results(lambda cell: (13, 14, 17)[cell.seed]), "r.svg")
    section = text.split("## As shipped\n")[1].split("\n## ")[0]
    costs = "61 s (60 to 62) | 1,234 MB | 9.9 ms |"
    found = "14.7 of 20 (13 to 17) | 1 of 10 | 15.7 of 20 (14 to 18) | 2 of 10"
    assert f"| pcb | USF | 3 | 91.00 (90.00 to 92.00) | 80.00 | 40.00 | {found} | {costs}" in section
    assert f"| solar_cell_mono | USF | 3 | 91.00 (90.00 to 92.00) | – | – | {found} | {costs}" in section
    for mode in ("class unknown", "class given"):
        assert (
            f"| pcb | HGAD, {mode} | 1 | 90.00 | 80.00 | 40.00 | 13 of 20 | 1 of 10 | 14 of 20 | 2 of 10 | 60 s |"
            in section
        )
    assert (
        "| pcb | USF | 320 px, positions, shrinkage 0.05, 0.25 % of the map, light at weight 1 | 2.00 G | 100 s |"
        in section
    )
    assert "| magnetic_tile | HGAD | 320 px, positions, shrinkage 0.05 | 2.00 G | 100 s |" in section
    assert "- 10 of 10 cells are finished." in section
    assert "- USF: `edgead train DATA_ROOT/SET` with `--seed` 0, 1, 2." in section
    assert "- HGAD: `edgead train DATA_ROOT --model hgad` with `--seed` 0." in section
    assert "`model.image_size=320`" in section
    assert "found at 0.5 %" in section
    assert "changed since" not in section
    assert "(engines.md#int8-measured)" in section


def test_partial_and_failed_cells_say_so() -> None:
    """Missing seeds are counted, forms that differ name their seeds, and a failed cell stands in its row and below."""
    table = read_table(TABLE)
    cells = expand_shipped(table)
    records = {cell.id: make_shipped_record(cell, 10) for cell in cells if cell.data == "pcb" and cell.seed < 2}
    records["pcb-usf-shipped-seed1"]["forms"][0]["image_size"] = 640
    failed = next(cell for cell in cells if cell.data == "magnetic_tile")
    records[failed.id] = {**make_shipped_record(failed, 0), "error": "EdgeadError: a | b\nmore"}
    text = render(load_results(table, [*expand(table), *cells], records), "r.svg")
    assert "- 2 of 10 cells are finished, 1 failed; what follows is partial." in text
    assert "| pcb | USF | 2 of 3 | 90.50 (90.00 to 91.00) |" in text
    assert "map, light at weight 1 (seed 0); 640 px" in text
    assert "| magnetic_tile | USF | 0 of 3 | failed: EdgeadError: a \\| b |" in text
    assert f"- `{failed.id}` failed: EdgeadError: a | b" in text.split("## Failed cells")[1]


def test_rest_of_the_page_is_the_same_with_and_without() -> None:
    """Cells as shipped are in no claim, mean or chart, and a page without any has no section for them."""
    with_them, without = make_shipped_results(lambda cell: 10), make_results(lambda cell: None, variants=True)
    page = render(without, "r.svg")
    assert "shipped\n" not in page
    assert render(with_them, "r.svg").split("## Detectors under one small budget\n")[1] == page.split("# Results\n")[1]
    assert judge(with_them) == judge(without)
    assert draw_chart(with_them) == draw_chart(without)


def test_published_json_gives_the_same_section(tmp_path: Path) -> None:
    results = make_shipped_results(lambda cell: 10 + cell.seed)
    write_json(tmp_path / "p.json", results.to_json())
    cells = [*expand(results.table), *expand_shipped(results.table)]
    again = load_results(results.table, cells, published_records(tmp_path / "p.json"))
    assert render(again, "r.svg") == render(results, "r.svg")


def test_default_that_changed_since_is_named_and_opens_the_cell() -> None:
    """A record of other defaults stays on the page, which says so, and is measured again by the next run."""
    table = read_table(TABLE)
    cells = expand_shipped(table)
    record = make_shipped_record(cells[0], 10)
    record["resolved"]["train.centres"] = 7
    text = render(load_results(table, cells, {cells[0].id: record}), "r.svg")
    assert "- Defaults that have changed since: `train.centres` was `7`." in text
    assert "| 1 of 3 | 90.00 |" in text
    assert not is_finished(record, cells[0])
    assert is_finished(make_shipped_record(cells[0], 10), cells[0])


@pytest.mark.parametrize(
    ("values", "text"), [((), "–"), ((2.04,), "2.0 s"), ((1.0, 4.0), "2.5 s (1.0 to 4.0)"), ((2.01, 2.04), "2.0 s")]
)
def test_range_is_shown_where_it_can_be_seen(values: tuple[float, ...], text: str) -> None:
    assert spanned(values, "{:.1f}".format, " s") == text


@pytest.mark.slow
def test_cell_is_measured_by_the_commands(data: Path, tmp_path: Path) -> None:
    """The tool trains, evaluates and times a model in processes of their own, and a second start does nothing."""
    table = write_table(tmp_path, shipped=[BOTH])
    arguments = (str(data), "--only", "*-shipped-*")
    assert call(table, tmp_path, *arguments) == 0
    (record,) = read_records(tmp_path).values()
    assert record["id"] == "unified-hgad-shipped-seed0"
    assert [form["class_name"] for form in record["forms"]] == ["cap", "disc"]
    assert record["resolved"]["model.image_size"] == 64
    # 30 images certify no half percent
    assert defaults.FALSE_ALARM_RATE < record["promise"] < 0.05
    given = record["evaluations"]["given"]
    assert (given["class_mode"], sorted(given["classes"])) == ("given", ["cap", "disc"])
    assert given["classes"]["disc"]["seg_f1"] is not None
    assert counts_of(given["classes"]["disc"])["n_good"] == 3
    lenient = record["counts"]["0.05"]["given"]["disc"]
    assert lenient["n_good"] == 3
    assert counts_of(given["classes"]["disc"])["found"] <= lenient["found"] <= lenient["n_defective"] > 0
    train = record["usage"]["train"]
    assert 0 < train["processor_s"] < 100 * train["seconds"]
    assert train["peak_mb"] > 50
    assert record["bench"]["engine"] == "onnxruntime-fp32"
    assert record["bench"]["engine_ms"]["p50"] > 0
    assert str(tmp_path) not in json.dumps(record)
    assert not list((tmp_path / "runs").glob("*-shipped-*"))
    page = (tmp_path / "p.md").read_text()
    assert "- 1 of 1 cells are finished." in page
    assert "| disc | HGAD, class given | 1 | " in page
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert call(table, tmp_path, *arguments) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert len(json.loads((tmp_path / "p.json").read_text())) == 1


class Interrupting(Silent):
    """Interrupts at the first command that is not finished, as Ctrl-C does."""

    def __init__(self) -> None:
        self.command = ""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Raise."""
        self.command = task
        raise KeyboardInterrupt


def test_interrupted_cell_keeps_its_finished_commands(tmp_path: Path) -> None:
    """After an interruption a finished training counts, but half a one, or one on other images, is done again."""
    (cell,) = expand_shipped(read_table(write_table(tmp_path, shipped=[DISC])))
    place = Workplace(tmp_path, tmp_path / "work", threads=1)
    folder = place.run(cell)

    def next_command(digest: str) -> str:
        progress = Interrupting()
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell, place, digest, progress)
        return progress.command

    assert next_command("0") == "train"
    (folder / "run.json").write_text("{}")
    assert next_command("0") == "train"
    assert not (folder / "run.json").exists()
    write_json(folder / "train.json", {"seconds": 1.0})
    assert next_command("0") == "eval-plain"
    assert (folder / "train.json").is_file()
    assert next_command("1") == "train"
    assert not (folder / "train.json").exists()


@pytest.mark.slow
def test_failed_command_says_why(tmp_path: Path) -> None:
    """The error of a command becomes that of the cell, without folders of this machine."""
    (cell,) = expand_shipped(read_table(write_table(tmp_path, shipped=[DISC])))
    record = run_cell(cell, Workplace(tmp_path / "nowhere", tmp_path / "work", threads=1), "0", Silent())
    assert record["error"].startswith("EdgeadError: edgead train: ")
    assert "DATA_ROOT/disc" in record["error"]
    assert str(tmp_path) not in record["error"]
