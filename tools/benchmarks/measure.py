"""Evaluation of a cell of a benchmark."""

from __future__ import annotations

from pathlib import Path

from edgead.bundle import Bundle
from edgead.commands.evaluate import evaluate_bundle
from edgead.engines.opening import open_engine
from edgead.progress import Progress
from edgead.runner import REFERENCE
from tools.results.cells import Mode
from tools.results.run import Record


def evaluate(bundle: Bundle, folder: Path, mode: Mode | None, threads: int, progress: Progress) -> Record:
    """Metrics per class, with those of each kind of defect, of the exported graph in ONNX Runtime; see `run_cell`."""
    with open_engine(bundle, REFERENCE, threads=threads) as runner:
        found = evaluate_bundle(
            bundle, runner, folder, progress, false_alarm_rate=None, report=None, class_mode=mode or "none"
        )
    return found.to_json()
