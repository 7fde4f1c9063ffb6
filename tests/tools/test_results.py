"""The tool that makes the results page: what it does, what it does again, and what it says about it."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgead.commands.progress import Silent
from edgead.data.synthetic.make import write_dataset
from edgead.errors import ConfigError, DataError
from edgead.storage import write_json
from tools.results.__main__ import main
from tools.results.cells import PLAIN, TABLE, UNIFIED, Cell, Table, check_data, data_digest, expand, read_table, select
from tools.results.chart import axis_ticks, draw_chart
from tools.results.claims import CONFIRMED, NOISE, OPEN, REFUTED, Claim, judge, sign_flip_p
from tools.results.page import render
from tools.results.results import Results, load_results, pooled_spread, published_records
from tools.results.run import Record, Workplace, is_finished, read_records, run_cell
from tools.results.show import Pace

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SIDE = 96
SPREAD = (-1.0, 0.0, 1.0)
TINY: dict[str, Any] = {
    "about": "Tiny.",
    "budget": {
        "model.image_size": SIDE,
        "model.levels": ["16:8"],
        "model.blocks": 2,
        "model.couplings": "always",
        "model.positions": False,
        "train.epochs": 3,
        "train.device": "cpu",
        "train.calibration_images": 2,
        "train.reference_images": 2,
    },
    "data_sets": ["disc", "cap"],
    "seeds": [0],
    "models": {"fastflow": {}, "hgad": {"modes": ["given", "none"]}},
    "per_class": {"models": ["fastflow"], "couplings": ["affine"], "bases": ["normal"]},
    "unified": [{"model": "hgad", "coupling": "uniform"}],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small data sets."""
    root = tmp_path_factory.mktemp("data")
    for name in ("disc", "cap"):
        write_dataset(root / name, name, n_train=30, n_test_good=3, n_test_per_defect=1, seed=1, size=(SIDE, SIDE))
    return root


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    """The YAML file of a tiny table."""
    return write_table(tmp_path)


def write_table(folder: Path, **changes: Any) -> Path:
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(TINY), **changes}))
    return path


def call(table: Path, work: Path, *arguments: str) -> int:
    places = {"--config": table, "--work": work, "--page": work / "p.md", "--json": work / "p.json"}
    flat = [str(item) for pair in {**places, "--picture": work / "p.svg"}.items() for item in pair]
    return main([*arguments, *flat, "--threads", "1"])


def measures(image: float, masked: bool = True) -> dict[str, float | None]:
    return {
        "image_auroc": image,
        "pixel_auroc": 0.9 if masked else None,
        "aupro_0.3": 0.8 if masked else None,
        "detection_rate": 0.5,
        "false_alarm_rate": 0.02,
    }


def make_record(cell: Cell, points: float) -> Record:
    """What a finished cell writes, with the same image AUROC in percent for every class and mode."""
    classes = read_table(TABLE).data_sets if cell.data == UNIFIED else (cell.data,)
    value = measures(points / 100, masked=cell.data != "solar_cell_mono")
    evaluation = {"mean": value, "classes": dict.fromkeys(classes, value)}
    return {
        **{name: getattr(cell, name) for name in ("id", "data", "model", "coupling", "base", "seed", "settings")},
        "modes": list(cell.modes),
        "data_digest": "0",
        "command": cell.command,
        "git": "abc",
        "evaluations": dict.fromkeys(cell.modes or (PLAIN,), evaluation),
        "metrics": {"held_out_loss": 1.0, "latent_mean": 0.1, "latent_square_min": 0.9, "latent_square_max": 1.1},
        "parity": {"onnx_vs_unfolded": 2e-6},
        "cost": {"multiply_adds": 2_000_000_000, "flow_multiply_adds_folded": 500_000_000},
        "parameters": {"flow": 1_250_000, "trainable": 1_250_000},
        "n_images": {"fit": 8, "early_stop": 1, "calibration": 1},
        "seconds": {"features": 9.0, "closed form": 1.0, "training": 30.0, "export": 2.0, "evaluation": 3.0},
        "resumed": False,
        "machine": {"device": "cpu", "processor": "x86_64", "cores": 2, "threads": 1},
        "versions": {"python": "3", "torch": "2"},
        "finished_at": "2026-01-02T03:04:05",
    }


def make_results(points: Any) -> Results:
    """The real table with image AUROC `points(cell)` in percent; None leaves a cell out."""
    table = read_table(TABLE)
    cells = expand(table)
    values = {cell: points(cell) for cell in map(Hashable, cells)}
    records = {c.cell.id: make_record(c.cell, value) for c, value in values.items() if value is not None}
    return load_results(table, cells, records)


class Hashable:
    """A cell that can be a key, and whose attributes are at hand."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cell, name)


def verdicts(results: Results) -> dict[str, Claim]:
    return {claim.name: claim for claim in judge(results)}


def test_table_expands_to_every_cell_once() -> None:
    """3 sets x 2 couplings x 2 bases x (3 + 3 + 1) seeds, and 4 unified models of 3 seeds, each with an id of its own."""
    cells = expand(read_table(TABLE))
    assert len(cells) == 3 * 2 * 2 * 7 + 4 * 3
    assert len({cell.id for cell in cells}) == len(cells)
    assert all(cell.modes == (("given", "predicted", "none") if cell.model == "hgad" else ()) for cell in cells)


def test_every_cell_has_the_same_budget() -> None:
    """Image size, passes, batches, steps and regularisation agree over all cells, in the settings that edgead resolves."""
    configs = [cell.config(Path("data")) for cell in expand(read_table(TABLE))]
    train = ("epochs", "batch_size", "learning_rate", "schedule", "noise", "weight_decay", "gradient_clip", "keep")
    budgets = {
        (c.model.backbone, c.model.image_size, c.model.couplings, *(getattr(c.train, name) for name in train))
        for c in configs
    }
    assert len(budgets) == 1
    assert {c.train.keep for c in configs} == {"last"}


def test_first_seed_comes_first() -> None:
    """An interrupted table has every detector of seed 0 before any of seed 1."""
    seeds = [cell.seed for cell in expand(read_table(TABLE))]
    assert seeds == sorted(seeds)
    assert [cell.data for cell in expand(read_table(TABLE))][:3] == list(read_table(TABLE).data_sets)


def test_first_line_of_the_table_runs_it() -> None:
    """The YAML file begins with its command."""
    assert TABLE.read_text().startswith("# python -m tools.results DATA_ROOT")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": {**TINY["models"], "hgad": {"settings": {"train.epochs": 9}}}}, "train.epochs"),
        ({"models": {"cflow": {}}}, "fastflow, hgad"),
        ({"sedes": [0]}, "sedes"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_wrong_table_says_what_is_wrong(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A model that changes the budget, a model that is not listed, an unknown key and no seeds are named."""
    with pytest.raises(ConfigError, match=said):
        read_table(write_table(tmp_path, **change))


def test_pattern_selects_and_says_when_it_does_not() -> None:
    """`--only` takes wildcards, and no match is an error that shows an id."""
    cells = expand(read_table(TABLE))
    assert {cell.data for cell in select(cells, "pcb-*-seed0")} == {"pcb"}
    with pytest.raises(ConfigError, match="magnetic_tile-fastflow-affine-normal-seed0"):
        select(cells, "nothing")


def test_missing_and_foreign_data_are_named(table_file: Path, data: Path, tmp_path: Path) -> None:
    """A data set that is not there, and one that a unified model would wrongly learn from, are errors; `--only` helps."""
    table = read_table(table_file)
    cells = expand(table)
    check_data(data, table, cells)
    with pytest.raises(DataError, match="no data folder"):
        check_data(tmp_path / "nowhere", table, cells)
    for name in ("disc", "other"):
        (tmp_path / name / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"does not hold cap; it has: disc, other"):
        check_data(tmp_path, table, cells)
    (tmp_path / "cap" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="also holds other"):
        check_data(tmp_path, table, cells)
    check_data(tmp_path, table, select(cells, "disc-*"))


def test_data_digest_sees_content_and_names(tmp_path: Path) -> None:
    """A changed byte and a renamed file change the digest; a new time stamp does not."""
    file = tmp_path / "train" / "a.png"
    file.parent.mkdir()
    file.write_bytes(b"1")
    before = data_digest(tmp_path)
    file.write_bytes(b"1")
    assert data_digest(tmp_path) == before
    file.rename(file.with_name("b.png"))
    assert data_digest(tmp_path) != before


def test_cells_run_resume_and_run_again(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All cells of a tiny table are trained, exported and evaluated; then they are skipped until settings or data change."""
    table, work = write_table(tmp_path), tmp_path / "work"
    only = ("--only", "disc-fastflow-*")
    assert call(table, work, str(data), *only) == 0
    assert call(table, work, str(data)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "1 cells, 0 of them finished."
    assert said[1].startswith("disc-fastflow-affine-normal-seed0")
    assert said[2] == "3 cells, 1 of them finished."
    records = read_records(work)
    cells = expand(read_table(table))
    assert sorted(records) == sorted(cell.id for cell in cells)
    one = records["disc-fastflow-affine-normal-seed0"]
    assert 0 <= one["evaluations"][PLAIN]["mean"]["image_auroc"] <= 1
    assert one["evaluations"][PLAIN]["mean"]["aupro_0.05"] is not None
    assert one["parity"]["onnx_vs_unfolded"] <= 1e-4
    assert one["cost"]["multiply_adds"] > one["cost"]["flow_multiply_adds_folded"] > 0
    assert one["parameters"]["flow"] == one["parameters"]["trainable"] > 0
    assert {"features", "training", "export", "evaluation"} <= one["seconds"].keys()
    assert one["machine"]["threads"] == 1
    assert one["settings"]["train.seed"] == 0
    assert "train.cache_dir" not in one["resolved"]
    assert set(records["unified-hgad-uniform-normal-seed0"]["evaluations"]) == {"given", "none"}
    assert not list((work / "runs").glob("*-seed0"))  # bundles are gone
    assert all(str(tmp_path) not in (work / name).read_text() for name in ("p.md", "p.json"))

    stamps = {path: path.stat().st_mtime_ns for path in (work / "cells").iterdir()}
    assert call(table, work, str(data)) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (work / "cells").iterdir()}
    shorter = {**TINY["budget"], "train.epochs": 1}
    changed = expand(read_table(write_table(tmp_path, budget=shorter)))
    assert not any(is_finished(records[cell.id], cell) for cell in changed)
    digest = one["data_digest"]
    first = next(cell for cell in cells if cell.id == one["id"])
    assert is_finished(one, first, digest)
    assert not is_finished(one, first, "another")
    defaults = {**one, "resolved": {**one["resolved"], "train.altub_interval": 7}}
    assert not is_finished(defaults, first, digest)
    gained = {**one, "resolved": {key: v for key, v in one["resolved"].items() if key != "train.altub_interval"}}
    assert is_finished(gained, first, digest)


@pytest.mark.slow
def test_cells_side_by_side_are_the_same(data: Path, tmp_path: Path) -> None:
    """Two worker processes do what one process does."""
    table = write_table(tmp_path)
    assert call(table, tmp_path / "two", str(data), "--only", "*-fastflow-*", "--workers", "2") == 0
    assert call(table, tmp_path / "one", str(data), "--only", "*-fastflow-*") == 0
    two, one = read_records(tmp_path / "two"), read_records(tmp_path / "one")
    assert len(one) == 2
    assert {k: v["evaluations"] for k, v in two.items()} == {k: v["evaluations"] for k, v in one.items()}


class Interrupting(Silent):
    """Interrupts the training after its first epoch, as Ctrl-C does."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        if task == "Training" and done > total * 2 // 3:
            raise KeyboardInterrupt


def test_killed_cell_goes_on(table_file: Path, data: Path, tmp_path: Path) -> None:
    """A cell that was interrupted in its training continues there and says so; the result is that of an unbroken one."""
    cell = expand(read_table(table_file))[0]
    place = Workplace(data, tmp_path / "work", threads=1)
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, place, "0", Interrupting())
    assert (place.run(cell) / "run.json").is_file()
    assert not place.result(cell).exists()
    resumed = run_cell(cell, place, "0", Silent())
    whole = run_cell(cell, Workplace(data, tmp_path / "other", threads=1), "0", Silent())
    assert resumed["resumed"]
    assert not whole["resumed"]
    assert resumed["evaluations"] == whole["evaluations"]
    assert resumed["metrics"] == pytest.approx(whole["metrics"])


def test_failed_cell_is_recorded_and_tried_again(table_file: Path, data: Path, tmp_path: Path) -> None:
    """An exception becomes the cell's error, without machine paths, and does not count as finished."""
    cell = next(cell for cell in expand(read_table(table_file)) if cell.data == "disc")
    place = Workplace(tmp_path / "nowhere", tmp_path / "work", threads=1)
    record = run_cell(cell, place, "0", Silent())
    assert record["error"].startswith("DataError: ")
    assert "DATA_ROOT" in record["error"]
    assert str(tmp_path) not in record["error"]
    assert not is_finished(read_records(tmp_path / "work")[cell.id], cell, "0")


def test_command_line_lists_and_refuses(
    table_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--list` prints a command per cell; a wrong pattern, a missing root and a page of nothing are errors that say so."""
    assert call(table_file, tmp_path, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("open")
    assert lines[0].endswith("python -m tools.results DATA_ROOT --only disc-fastflow-affine-normal-seed0 --again")
    assert call(table_file, tmp_path, str(data), "--only", "nothing") == 2
    assert "No cell fits" in capsys.readouterr().err
    assert call(table_file, tmp_path) == 2
    assert call(table_file, tmp_path, "--only-page") == 1
    assert "There are no results" in capsys.readouterr().err
    assert call(table_file, tmp_path, str(data), "--limit-hours", "-1") == 0
    assert "3 cells remain" in capsys.readouterr().out


def test_page_has_means_and_deviations() -> None:
    """Seeds of 90, 91 and 95 are 92.00 ± 2.65 in their row; costs and undefined metrics stand beside them."""
    results = make_results(lambda cell: (90.0, 91.0, 95.0)[cell.seed])
    text = render(results, "images/results.svg")
    row = "92.00 ± 2.65 | 90.00 ± 0.00 | 80.00 ± 0.00 | 50.00 ± 0.00 | 2.00 ± 0.00 | 31 s | 1.25 M | 2.00 G (0.50 G) |"
    assert f"| FastFlow | affine | AltUB | {row}" in text.split("## pcb")[1]
    assert "| FastFlow | affine | normal | 92.00 ± 2.65 | – | – | 50.00" in text.split("## solar_cell_mono")[1]
    assert "| U-Flow | uniform | normal | 90.00 | – |" in text.split("## solar_cell_mono")[1]
    assert "| CFLOW | uniform | AltUB | 92.00 | 2.65 |" in text
    assert "96 of 96 cells are finished." in text
    assert "![Image AUROC of every detector and seed](images/results.svg)" in text
    assert "failed" not in text.lower()


def test_partial_page_says_so() -> None:
    """With some cells only, the page says that it is partial, of how many sets a mean is, and what is not known."""
    results = make_results(lambda cell: 90.0 if cell.data == "pcb" and cell.seed == 0 else None)
    text = render(results, "r.svg")
    assert "12 of 96 cells are finished; the tables below are partial." in text
    assert "| FastFlow | affine | normal | 90.00 (1 of 3) | – |" in text
    assert verdicts(results)["uniform-spread"].verdict == OPEN
    assert verdicts(make_results(lambda cell: None))["uniform-mean"].verdict == OPEN


def test_page_shows_failures_and_stays_the_same_from_its_json(tmp_path: Path) -> None:
    """A failed cell is named with its reason, and the published JSON alone gives the same page."""
    table = read_table(TABLE)
    cells = expand(table)
    records = {cell.id: make_record(cell, 90.0 + cell.seed) for cell in cells[6:]}
    first = cells[0]
    records[first.id] = {**make_record(first, 0), "error": "TrainingError: a | b\nmore"}
    results = load_results(table, cells, records)
    text = render(results, "r.svg")
    assert f"- `{first.id}` failed: TrainingError: a | b" in text
    write_json(tmp_path / "p.json", results.to_json())
    again = load_results(table, cells, published_records(tmp_path / "p.json"))
    assert render(again, "r.svg") == text
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(DataError, match="holds no results"):
        published_records(tmp_path / "p.json")


def test_records_of_other_settings_are_left_out() -> None:
    """A result whose settings the table no shorter has is not shown."""
    table = read_table(TABLE)
    cells = expand(table)
    record = make_record(cells[0], 90.0)
    assert len(load_results(table, cells, {cells[0].id: record}).records) == 1
    other = {**record, "settings": {**record["settings"], "train.epochs": 1}}
    assert not load_results(table, cells, {cells[0].id: other}).records


def test_clear_differences_are_confirmed() -> None:
    """Uniform cells that spread less and score higher, and a unified HGAD far ahead, confirm their claims."""
    small = {"affine": 2.0, "uniform": 0.2}
    lead = {"hgad": 5.0}

    def points(cell: Any) -> float:
        jump = SPREAD[cell.seed] * (small[cell.coupling] + 0.01 * len(cell.data))
        better = (cell.coupling == "uniform") + (cell.base == "altub") * 0.5
        return 85.0 + 0.1 * jump + better + lead.get(cell.model, 0.0)

    found = verdicts(make_results(points))
    for name in ("uniform-spread", "uniform-mean", "altub-mean", "hgad-affine-given-gain", "hgad-affine-none-loss"):
        assert found[name].verdict == CONFIRMED, name
    assert found["altub-spread"].verdict == NOISE
    assert "(+5.00), 95 % interval" in found["hgad-affine-given-gain"].numbers


def test_clear_differences_the_other_way_are_refuted() -> None:
    """Uniform cells that spread more and score lower, and a unified HGAD that falls behind, refute their claims."""
    large = {"affine": 0.1, "uniform": 1.0}

    def points(cell: Any) -> float:
        worse = (cell.coupling == "uniform") + 3.0 * (cell.model == "hgad")
        return 85.0 + SPREAD[cell.seed] * large[cell.coupling] * (1 + 0.01 * len(cell.data)) - worse

    found = verdicts(make_results(points))
    for name in ("uniform-spread", "uniform-mean", "hgad-affine-given-gain", "hgad-affine-predicted-loss"):
        assert found[name].verdict == REFUTED, name


def test_unclear_differences_are_noise() -> None:
    """A gain of three points with seeds that differ by ten neither confirms nor refutes."""
    found = verdicts(make_results(lambda cell: 80.0 + 10.0 * SPREAD[cell.seed] + 3.0 * (cell.model == "hgad")))
    assert found["hgad-affine-given-gain"].verdict == NOISE


def test_explanations_stand_beside_their_claims() -> None:
    """What the YAML says about a claim is printed under the table of claims."""
    results = make_results(lambda cell: 90.0)
    table = Table.model_validate({**results.table.model_dump(), "explanations": {"altub-mean": "Because."}})
    text = render(Results(table, results.groups, results.records, []), "r.svg")
    assert "*AltUB has no worse mean than a standard normal base* — Because." in text


@pytest.mark.parametrize(
    ("changes", "p"), [((1.0, 1.0, 1.0), 0.25), ((1.0, -1.0), 1.0), ((0.0, 0.0), 1.0), ((3.0, 1.0, -1.0), 0.75)]
)
def test_sign_flip_p_by_hand(changes: Sequence[float], p: float) -> None:
    """The share of the sign patterns whose sum is at least as far from 0, counted by hand."""
    assert sign_flip_p(changes) == pytest.approx(p)


def test_pooled_spread_by_hand() -> None:
    """Variances 1 (3 seeds) and 8 (2 seeds) pool to (2 * 1 + 1 * 8) / 3; single seeds say nothing."""
    assert pooled_spread([(1.0, 2.0, 3.0), (0.0, 4.0), (7.0,)]) == pytest.approx((10 / 3) ** 0.5)
    assert pooled_spread([(7.0,)]) is None


def test_pace_prefers_like_cells() -> None:
    """The remaining time is that of the same model and data where known, else of the model, else of all; resumed cells lie."""
    cells = {cell.id: cell for cell in expand(read_table(TABLE))}
    pcb, tile = cells["pcb-fastflow-affine-normal-seed0"], cells["magnetic_tile-fastflow-affine-normal-seed0"]
    slow = {**make_record(pcb, 90.0), "seconds": {"training": 100.0}}
    fast = {**make_record(cells["pcb-cflow-affine-normal-seed0"], 90.0), "seconds": {"training": 50.0}}
    pace = Pace({"a": slow, "b": fast, "c": {**slow, "resumed": True, "seconds": {"training": 1.0}}})
    assert pace.estimate([pcb]) == 100.0
    assert pace.estimate([tile]) == 100.0
    assert pace.estimate([cells["pcb-uflow-affine-normal-seed0"]]) == 75.0
    assert Pace({}).estimate([pcb]) is None


@pytest.mark.parametrize("known", [lambda cell: 90.0 + cell.seed, lambda cell: None])
def test_chart_is_well_formed(known: Any) -> None:
    """The picture parses as XML and has a dot per seed besides the legend, also when nothing is measured."""
    results = make_results(known)
    root = ET.fromstring(draw_chart(results))
    dots = [e for e in root.iter("{http://www.w3.org/2000/svg}circle") if e.get("class") == "dot"]
    assert len(dots) == 4 + sum(record["data"] != UNIFIED for record in results.records)
    names = {e.text for e in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"magnetic_tile", "pcb", "solar_cell_mono", "FastFlow", "CFLOW", "U-Flow"} <= names


@pytest.mark.parametrize(("low", "high"), [(90.0, 90.0), (99.7, 100.0), (50.0, 100.0), (93.3, 98.1), (0.0, 100.0)])
def test_axis_encloses_the_values(low: float, high: float) -> None:
    """Ticks are two to seven round numbers around all values."""
    ticks = axis_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 7


def test_published_page_is_made_of_the_published_json() -> None:
    """Page and picture in `docs` are what the tool makes of `docs/results.json` and its table now."""
    if not (DOCS / "results.json").is_file():
        pytest.skip("no results are published yet")
    table = read_table(TABLE)
    results = load_results(table, expand(table), published_records(DOCS / "results.json"))
    assert len(results.to_json()) == len(json.loads((DOCS / "results.json").read_text()))
    assert (DOCS / "results.md").read_text() == render(results, "images/results.svg")
    assert (DOCS / "images" / "results.svg").read_text() == draw_chart(results)
