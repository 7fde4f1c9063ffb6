"""Cells: trained, evaluated, skipped, resumed, repeated and recorded as failed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgead.progress import Silent
from tests.tools.tables import TINY, call, write_table
from tools.results.cells import PLAIN, expand, read_table
from tools.results.run import Workplace, is_finished, known_records, read_records, run_cell

# every cell is a training
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FAILS = {"settings": {"model.backbone": "no_such_backbone"}}
ONE_FAILS: dict[str, Any] = {
    "models": {**TINY["models"], "cflow": FAILS},
    "data_sets": ["disc"],
    "per_class": {**TINY["per_class"], "models": ["cflow", "fastflow"]},
    "unified": [],
}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which all cells of the tiny table are finished; do not change its files."""
    work = tmp_path_factory.mktemp("finished")
    assert call(write_table(work), work, str(data)) == 0
    return work


def n_finished(capsys: pytest.CaptureFixture[str], table: Path, work: Path, *arguments: str) -> int:
    """Number of finished cells, as counted by a call without time to run any."""
    capsys.readouterr()
    assert call(table, work, *arguments, "--limit-hours", "-1") == 0
    return int(capsys.readouterr().out.split("cells, ")[1].split(" of them")[0])


def test_cells_are_trained_exported_and_evaluated(finished: Path) -> None:
    """Every cell leaves its metrics, parity, costs, times, machine and settings, and no bundle."""
    cells = expand(read_table(finished / "table.yaml"))
    records = read_records(finished)
    assert sorted(records) == sorted(cell.id for cell in cells)
    one = records["disc-fastflow-affine-normal-seed0"]
    assert 0 <= one["evaluations"][PLAIN]["mean"]["image_auroc"] <= 1
    assert one["evaluations"][PLAIN]["mean"]["aupro_0.3"] is not None
    assert -1 <= one["evaluations"][PLAIN]["alignment"]["spearman"] <= 1
    assert one["parity"]["onnx_vs_unfolded"] <= 1e-4
    assert one["cost"]["multiply_adds"] > one["cost"]["flow_multiply_adds_folded"] > 0
    assert one["parameters"]["flow"] == one["parameters"]["trainable"] > 0
    assert {"features", "training", "export", "evaluation"} <= one["seconds"].keys()
    assert one["machine"]["threads"] == 1
    assert one["settings"]["train.seed"] == 0
    assert not one["resumed"]
    assert "train.cache_dir" not in one["resolved"]
    assert set(records["unified-hgad-uniform-normal-seed0"]["evaluations"]) == {"given", "none"}
    assert not list((finished / "runs").glob("*-seed0"))


def test_page_json_and_picture_are_written(finished: Path, data: Path) -> None:
    """The three files exist, are well-formed, and name no folder of this machine."""
    assert "- 3 of 3 cells are finished." in (finished / "p.md").read_text()
    assert len(json.loads((finished / "p.json").read_text())) == 3
    ET.parse(finished / "p.svg")
    for name in ("p.md", "p.json", "p.svg"):
        text = (finished / name).read_text()
        assert not any(str(place) in text for place in (finished, data, ROOT, Path.home()))


def test_finished_cells_are_skipped(finished: Path, data: Path) -> None:
    """Another start does nothing but write the page."""
    before = {path: path.stat().st_mtime_ns for path in (finished / "cells").iterdir()}
    assert call(finished / "table.yaml", finished, str(data)) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "cells").iterdir()}


def test_changed_settings_or_data_open_cells_again(
    finished: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another budget opens every cell; another image those that see it; `--again` all."""
    work = shutil.copytree(finished, tmp_path / "work", symlinks=True)
    assert n_finished(capsys, work / "table.yaml", work, str(data)) == 3
    assert n_finished(capsys, work / "table.yaml", work, str(data), "--again") == 0
    longer = write_table(tmp_path, budget={**TINY["budget"], "train.epochs": 2})
    assert n_finished(capsys, longer, work, str(data)) == 0
    other = shutil.copytree(data, tmp_path / "data")
    assert n_finished(capsys, work / "table.yaml", work, str(other)) == 3
    (other / "cap" / "test" / "good" / "000.png").unlink()
    assert n_finished(capsys, work / "table.yaml", work, str(other)) == 1


def test_changed_defaults_open_cells_again(finished: Path) -> None:
    """A default that edgead has changed since counts as another setting, a key that it has gained does not."""
    cell = expand(read_table(finished / "table.yaml"))[0]
    record = read_records(finished)[cell.id]
    resolved = record["resolved"]
    assert is_finished(record, cell, record["data_digest"])
    changed = {**record, "resolved": {**resolved, "train.altub_interval": 7}}
    assert not is_finished(changed, cell)
    gained = {**record, "resolved": {key: v for key, v in resolved.items() if key != "train.altub_interval"}}
    assert is_finished(gained, cell)


def test_published_records_count_as_finished(
    finished: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On another machine, the published JSON is what is finished; a damaged one stops the tool and stays as it was."""
    table = finished / "table.yaml"
    (tmp_path / "p.json").write_bytes((finished / "p.json").read_bytes())
    assert n_finished(capsys, table, tmp_path, str(data)) == 3
    assert call(table, tmp_path, str(data)) == 0
    assert (tmp_path / "p.json").read_bytes() == (finished / "p.json").read_bytes()
    (tmp_path / "p.json").write_text("[{")
    assert call(table, tmp_path, str(data)) == 1
    assert "p.json holds no results" in capsys.readouterr().err
    assert (tmp_path / "p.json").read_text() == "[{"


def test_finished_record_wins_over_one_that_is_not(finished: Path) -> None:
    """A failed or outdated local record does not hide a published result; of two results the local one is taken."""
    cells = expand(read_table(finished / "table.yaml"))
    published = read_records(finished)
    first = cells[0].id
    failed = {**published[first], "error": "no"}
    outdated = {**published[first], "settings": {}}
    assert known_records(cells, published, {first: failed}) == published
    assert known_records(cells, published, {first: outdated}) == published
    assert known_records(cells, {}, {first: failed}) == {first: failed}
    local = {**published[first], "git": "here"}
    assert known_records(cells, published, {first: local})[first] == local


class Interrupting(Silent):
    """Interrupts the training after its second of three epochs, as Ctrl-C does."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Raise."""
        if task == "Training" and done > total * 2 // 3:
            raise KeyboardInterrupt


def test_killed_cell_goes_on(data: Path, tmp_path: Path) -> None:
    """A cell interrupted in training resumes there and records it; the result equals that of an uninterrupted run."""
    cell = expand(read_table(write_table(tmp_path, budget={**TINY["budget"], "train.epochs": 3})))[0]
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


def test_failed_cell_is_recorded_and_the_others_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backbone that does not exist fails its cells with exit code 1; page and JSON say so, and it is tried again."""
    table = write_table(tmp_path, **ONE_FAILS)
    assert call(table, tmp_path, str(data)) == 1
    records = read_records(tmp_path)
    assert "no_such_backbone" in records["disc-cflow-affine-normal-seed0"]["error"]
    assert "evaluations" in records["disc-fastflow-affine-normal-seed0"]
    page = (tmp_path / "p.md").read_text()
    assert "- 1 of 2 cells are finished, 1 failed; what follows is partial." in page
    assert "| CFLOW | affine | normal | failed: " in page
    assert ["error" in record for record in json.loads((tmp_path / "p.json").read_text())] == [False, True]
    assert n_finished(capsys, table, tmp_path, str(data)) == 1
    assert call(table, tmp_path, str(data)) == 1
    assert "disc-cflow-affine-normal-seed0" in capsys.readouterr().out


@pytest.mark.parametrize("relative", [False, True])
def test_errors_name_no_folder_of_the_machine(relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors replace the paths of data and working folders by names, however given, and change nothing else."""
    monkeypatch.chdir(tmp_path)
    base = Path() if relative else tmp_path
    cell = expand(read_table(write_table(tmp_path)))[0]
    (tmp_path / "data" / "disc").mkdir(parents=True)
    record = run_cell(cell, Workplace(base / "data", base, threads=1), "0", Silent())
    assert record["error"].startswith("DataError: ")
    assert str(tmp_path) not in record["error"]
    assert "data" in record["error"].replace("DATA_ROOT", "")
    assert not is_finished(read_records(tmp_path)[cell.id], cell, "0")


@pytest.mark.slow
def test_cells_side_by_side_are_the_same(finished: Path, data: Path, tmp_path: Path) -> None:
    """Two worker processes do what one process does."""
    assert call(finished / "table.yaml", tmp_path, str(data), "--workers", "2") == 0
    two, one = read_records(tmp_path), read_records(finished)
    assert {k: v["evaluations"] for k, v in two.items()} == {k: v["evaluations"] for k, v in one.items()}


@contextmanager
def started(table: Path, work: Path, data: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The tool and its two workers, once both are training; nothing of them is left afterwards."""
    places = ("--config", table, "--work", work, "--page", work / "p.md", "--json", work / "p.json")
    command = [sys.executable, "-m", "tools.results", data, *places, "--picture", work / "p.svg"]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "2", "--threads", "1"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    workers = []
    try:
        until = time.monotonic() + 120
        while len(list((work / "runs").glob("*/checkpoint.safetensors"))) < 2:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.1)
        workers = workers_of(process.pid)
        assert len(workers) == 2
        yield process, workers
    finally:
        for pid in filter(is_running, workers):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate(timeout=120)


def workers_of(parent: int) -> list[int]:
    """Process ids of the workers, without the tracker of their resources."""
    found = []
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found.append(int(child))
    return found


def long_table(folder: Path) -> Path:
    """Two cells that train for minutes."""
    return write_table(folder, budget={**TINY["budget"], "train.epochs": 2000}, unified=[])


def is_running(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_tool(how: signal.Signals, data: Path, tmp_path: Path) -> None:
    """Interrupted or killed, the tool leaves no worker behind that would share a run with the next start."""
    with started(long_table(tmp_path), tmp_path, data) as (process, workers):
        process.send_signal(how)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == (130 if how == signal.SIGINT else -9)
        assert how == signal.SIGKILL or said.strip().endswith("Interrupted; the same command continues from here.")
        until = time.monotonic() + 120
        while any(map(is_running, workers)):
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_worker_takes_its_own_cell_only(data: Path, tmp_path: Path) -> None:
    """A worker that the system kills, as for lack of memory, is a failed cell whose run can be resumed; the other worker continues."""
    table = long_table(tmp_path)
    with started(table, tmp_path, data) as (process, (first, second)):
        os.kill(first, signal.SIGKILL)
        until = time.monotonic() + 120
        while not (records := read_records(tmp_path)):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert is_running(second)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    (record,) = records.values()
    assert (
        record["error"] == "ProcessError: Its process was ended by signal 9 (out of memory?). Its run can be resumed."
    )
    cell = next(cell for cell in expand(read_table(table)) if cell.id == record["id"])
    assert (Workplace(data, tmp_path).run(cell) / "run.json").is_file()
