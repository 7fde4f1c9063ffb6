"""Comparison with anomalib, as far as it goes without anomalib."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edgead.data.chosen import FolderRoles, choose_dataset
from tests.english import PHRASES
from tools.bench_peer import rows as rows_module
from tools.bench_peer.__main__ import QUICK, main, once
from tools.bench_peer.chart import draw
from tools.bench_peer.judging import judge
from tools.bench_peer.page import render
from tools.bench_peer.plan import NAMES, ROWS, Images, Plan, link_images
from tools.bench_peer.rows import Places, measure_row
from tools.bench_peer.running import last_json, run

DOCS = Path(__file__).parents[2] / "docs"
MEASURED = {
    "status": "measured", "training_s": 61.2, "training_mb": 2345.0, "input": "256 px", "image_auroc": 0.9876, "found": 50,
    "n_defective": 77, "false_alarms": 3, "n_good": 50, "seg_f1": None,
    "engines": {"fp32": {"image_auroc": 0.9871, "found": 49, "n_defective": 77, "false_alarms": 3, "n_good": 50}},
}  # fmt: skip


def test_time_and_memory_of_a_process(tmp_path: Path) -> None:
    """Memory is that of the process itself, and its last line is its result."""
    code = "import json; x = bytearray(200_000_000); print('noise'); print(json.dumps({'n': len(x)}))"
    ran = run([sys.executable, "-c", code], tmp_path / "a.log", 60)
    assert last_json(ran) == {"n": 200_000_000}
    assert 200 < ran.peak_mb < 300
    assert 0 < ran.seconds < 60


def test_processor_time_is_not_wall_time(tmp_path: Path) -> None:
    """A process that works and then sleeps took less processor time than wall time, but some; its child's counts too."""
    work = "import time\nwhile time.process_time() < 0.4: pass"
    code = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {work!r}]); time.sleep(1)"
    ran = run([sys.executable, "-c", code], tmp_path / "a.log", None)
    assert 0.4 < ran.processor_s < ran.seconds - 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_ends_with_its_starter(tmp_path: Path) -> None:
    """Killing the starter of a command ends the command and the process that measures it."""
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(120)"
    starter = (
        f"import sys; from pathlib import Path; from tools.bench_peer.running import run; "
        f"run([sys.executable, '-c', {code!r}], Path({str(tmp_path / 'a.log')!r}), None)"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], cwd=Path(__file__).parents[2])
    until = time.monotonic() + 60
    try:
        while not (pid_file.is_file() and pid_file.read_text().endswith(" ")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    child = Path(f"/proc/{int(pid_file.read_text())}/stat")
    while child.is_file() and child.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_process_over_its_budget_is_ended_with_its_children(tmp_path: Path) -> None:
    """Neither the process nor the child that it waits for is left."""
    code = "import subprocess, sys; print(1, flush=True); subprocess.run(['sleep', '600'])"
    ran = run([sys.executable, "-c", code], tmp_path / "a.log", 0.5)
    assert ran.code is None
    with pytest.raises(RuntimeError, match="used up its budget"):
        last_json(ran)


def test_a_peer_over_its_budget_is_reported_as_such(tiny_data: Path, tmp_path: Path) -> None:
    """A peer that never ends, one that fails, and EfficientAD without its files are no numbers."""
    plan = replace(QUICK, budget_minutes=0.005)
    images = Images("disc", tiny_data, (), 40)
    places = Places(script(tmp_path, "sleep 600"), Path("device"), Path("weights"), None, tmp_path / "work")
    assert measure_row("padim", images, plan, places)["status"] == "over its budget of 0.005 minutes"
    failing = replace(
        places, peer=script(tmp_path, "echo 'error: no such layer' >&2; echo 'hint: another' >&2; exit 3")
    )
    assert measure_row("padim", images, replace(plan, budget_minutes=1), failing)["status"] == (
        "failed with status 3: error: no such layer"
    )
    assert measure_row("efficientad", images, plan, places)["status"].startswith("not run: ")


def test_a_peer_whose_engine_fails_keeps_its_other_results(tiny_data: Path, tmp_path: Path) -> None:
    """A failed engine leaves the training's results in the row, and a note with the reason."""
    test = choose_dataset(tiny_data, FolderRoles()).test
    scores = np.array([float(sample.gt_label) for sample in test])
    np.savez(tmp_path / "raw.npz", scores=scores, maps=np.zeros((len(test), 8, 8), np.float32))
    stages = {name: {"seconds": 3.0, "peak_mb": 900.0} for name in ("import", "fit", "score", "export-fp32")}
    result = {"stages": stages, "thresholds": [0.5, 0.5], "notes": ["int8 export failed: two"]}
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    places = Places(
        script(tmp_path, "echo 'the batch is two' >&2; exit 1"), Path("device"), Path("weights"), None, tmp_path
    )
    found = rows_module.judge_peer(0, Images("disc", tiny_data, test, 40), QUICK, places, tmp_path)
    assert (found["status"], found["training_s"], found["engines"]) == ("measured", 9.0, {})
    assert found["found"] == sum(sample.gt_label for sample in test)
    assert found["notes"] == [
        "int8 export failed: two",
        "the fp32 engine, one image at a time: failed with status 1: the batch is two",
    ]


def script(folder: Path, body: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_some_images_are_linked_with_their_masks(tiny_data: Path, tmp_path: Path) -> None:
    """Both sides read the links as a data set; a second call keeps them."""
    for _ in range(2):
        images = link_images(tiny_data, tmp_path / "linked", 4, seed=0)
    assert images.n_train == 4
    bad = [sample for sample in images.test if sample.gt_label]
    assert (len(bad), len(images.test)) == (4, 8)
    assert all(sample.mask_path is not None for sample in bad)
    names = {path.name for path in (tmp_path / "linked" / "train" / "good").iterdir()}
    assert names <= {sample.path.name for sample in choose_dataset(tiny_data, FolderRoles()).train}
    whole = link_images(tiny_data, tmp_path / "whole", None, seed=0)
    assert (whole.n_train, len(whole.test)) == (40, len(choose_dataset(tiny_data, FolderRoles()).test))


def test_peers_are_judged_by_the_metrics_of_edgead(tiny_data: Path, tmp_path: Path) -> None:
    """Scores that are the labels, but for one of each, and maps that mark everything."""
    test = choose_dataset(tiny_data, FolderRoles()).test
    scores = np.array([float(sample.gt_label) for sample in test])
    good, bad = int(np.flatnonzero(scores == 0)[0]), int(np.flatnonzero(scores == 1)[0])
    scores[good], scores[bad] = 1, 0
    np.savez(tmp_path / "raw.npz", scores=scores, maps=np.ones((len(test), 8, 8), np.float32))
    found = judge(test, tmp_path / "raw.npz", [0.5, 0.5])
    n_bad = sum(sample.gt_label for sample in test)
    assert (found["found"], found["false_alarms"]) == (n_bad - 1, 1)
    assert (found["n_defective"], found["n_good"]) == (n_bad, len(test) - n_bad)
    assert 0.5 < found["image_auroc"] < 1
    assert 0 < found["seg_f1"] < 0.2
    assert judge(test, tmp_path / "raw.npz", [0.5, 2.0])["seg_f1"] == 0


def test_what_is_finished_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With other settings it is, and a failure is told and tried again."""
    calls: list[int] = []

    def measure() -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no disk")
        return {"status": "measured"}

    for settings in ({"a": 1}, {"a": 1}, {"a": 1}, {"a": 2}):
        once(tmp_path / "row.json", settings, measure)
    assert len(calls) == 3
    assert "no disk" in capsys.readouterr().err


def content(**rows: dict[str, Any]) -> dict[str, Any]:
    latency = {"fp32": {"ms": 12.0, "start_s": 0.2, "mb": 200.0, "rounds_ms": [11.0, 13.0]}}
    return {
        "made": "2026-01-02", "machine": "a processor, 2 cores", "plan": Plan().to_json(),
        "sets": {"pcb": {"rows": rows, "latency": {row: latency for row in rows if rows[row].get("engines")}}},
        "footprint": {name: {"install_mb": 435.0, "packages": 29, "help_s": 0.09, "help_mb": 17.0} for name in ("edgead", "anomalib")},
    }  # fmt: skip


def test_the_page_says_what_was_not_measured() -> None:
    """Measured, over its budget, not run and not asked for are told apart, and no row is left out."""
    over = {"status": "over its budget of 30 minutes"}
    found = content(
        **{"edgead-same-size": MEASURED, "edgead-same-size-again": {**MEASURED, "training_s": 70.0}}, padim=over
    )
    page = render(found, "images/peers.svg")
    lines = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
    assert "61 and 70 s" in page
    assert "| 0.988 | 50 of 77 | 3 of 50 | – |" in page
    assert "12.0 (11.0 to 13.0)" in page
    assert "- anomalib PaDiM: over its budget of 30 minutes." in page
    assert "not measured" in lines[NAMES["patchcore"]]
    assert "What is not comparable" in page
    assert "compares nothing" not in page
    assert not PHRASES.search(" ".join(page.split()))
    found["plan"]["n_images"] = 4
    assert "compares nothing" in render(found, "images/peers.svg")


def test_the_picture_has_a_bar_for_each_value() -> None:
    drawing = ElementTree.fromstring(draw(content(padim=MEASURED, fastflow={"status": "over its budget"})))
    bars = [one.get("class") for one in drawing.findall("{*}rect")]
    assert bars == ["card", *["peer"] * 7]


def test_the_published_page_is_that_of_the_published_numbers(tmp_path: Path) -> None:
    """Page and picture follow from the JSON beside them."""
    file = DOCS / "peers.json"
    if not file.is_file():
        pytest.skip("not measured yet")
    (tmp_path / "images").mkdir()
    stored = tmp_path / "peers.json"
    stored.write_bytes(file.read_bytes())
    places = ["--json", stored, "--page", tmp_path / "peers.md", "--picture", tmp_path / "images" / "peers.svg"]
    assert main(["root", "--only-page", *map(str, places)]) == 0
    assert (tmp_path / "peers.md").read_text(encoding="utf-8") == (DOCS / "peers.md").read_text(encoding="utf-8")
    assert (tmp_path / "images" / "peers.svg").read_bytes() == (DOCS / "images" / "peers.svg").read_bytes()
    assert json.loads(stored.read_bytes()) == json.loads(file.read_bytes())


@pytest.mark.parametrize("name", ["peer_train.py", "peer_engine.py"])
def test_what_runs_beside_anomalib_needs_nothing_of_edgead(name: str) -> None:
    """The environment of anomalib has no edgead, and the code of edgead no anomalib."""
    tree = ast.parse((Path(rows_module.__file__).parent / name).read_text(encoding="utf-8"))
    found = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    found += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert "json" in found
    assert not [module for module in found if module.split(".")[0] in ("edgead", "tools")]


def test_every_row_has_a_name() -> None:
    assert {row.removesuffix("-again") for row in ROWS} == set(NAMES)
