"""The programs in `examples/` run as they are printed and do what they say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

import edgead
from edgead.commands.train import TrainResult

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
    names = [path.stem for path in EXAMPLES.glob("*.py")]
    assert names
    assert [name for name in names if f'"{name}' not in text] == []


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
