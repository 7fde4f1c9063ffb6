"""The programs in `examples/` run as they are printed and do what they say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import edgead
from edgead.commands.train import TrainResult
from edgead.config.families import FAMILIES
from edgead.models.zoo import BUILDERS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_every_example_is_tested() -> None:
    """No example is there that nothing below runs."""
    text = Path(__file__).read_text(encoding="utf-8")
    names = [path.stem for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb"))]
    assert names
    assert [name for name in names if name not in text] == []


def test_the_custom_source(tiny_result: TrainResult) -> None:
    """From a shell it prints a line for each of its twelve frames."""
    command = [sys.executable, str(EXAMPLES / "custom_source.py"), str(tiny_result.bundle.path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(12))
    assert all(line.endswith(("anomalous", "good")) for line in lines)


def test_the_custom_sink(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """A defect that stays turns the lamp red, and the good parts after it turn it green; a second run starts afresh."""
    with edgead.load(tiny_result.bundle.path, threads=1) as model:
        files = [path for path in sorted((tiny_data / "test").rglob("*.png"))]
        worst = max(files, key=lambda path: model.predict(model.read_image(path)).score)
    best = sorted((tiny_data / "train" / "good").glob("*.png"))[0]
    line = tmp_path / "line"
    line.mkdir()
    for index, path in enumerate([worst] * 5 + [best] * 8):
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(line / f"{index:03d}.png"), np.asarray(image))
    lamp = module("custom_sink").main(str(tiny_result.bundle.path), str(line), str(tmp_path / "alerts"))
    assert lamp.seen[0] == "stream_started"
    assert lamp.seen.count("alert_opened") == lamp.seen.count("alert_closed") == 1
    assert lamp.open_alerts == set()
    again = module("custom_sink").main(str(tiny_result.bundle.path), str(line), str(tmp_path / "alerts"))
    assert again.seen.count("alert_opened") == 1


def test_the_custom_model(tiny_data: Path, tmp_path: Path) -> None:
    """It trains, exports, is opened again by its own name, and finds what the default finds."""
    settings = {"model.image_size": 128, "train.device": "cpu", "train.pseudo_defects": 1}
    try:
        bundle = module("custom_model").main(str(tiny_data), runs=str(tmp_path / "runs"), settings=settings)
    finally:
        FAMILIES.pop("padim", None)
        BUILDERS.pop("padim", None)
    assert bundle.manifest.model == "padim"
    with edgead.load(bundle.path, threads=1) as model:
        auroc = edgead.evaluate(model, tiny_data).result.mean.image_auroc
    assert auroc is not None
    assert auroc > 0.8


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Every cell of the notebook runs, shows heatmaps, and ends with an engine that agrees with the reference."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "first_model.ipynb", as_version=4)
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert (tmp_path / "first-model" / "runs" / "latest" / "bundle" / "engines" / "onnxruntime-fp32").is_dir()
