"""Measurement of a cell as shipped: the commands that a user types, each in a process of its own with its time and memory."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.bundle import open_bundle
from edgead.command_failure import failure_of
from edgead.commands.training.closed_form import CHOICES
from edgead.commands.training.runs import BUNDLE
from edgead.errors import EdgeadError
from edgead.launch.local import THREADS
from edgead.progress import Progress
from edgead.storage import write_json
from tools.bench_peer.running import run
from tools.results.cells import PLAIN, Mode, Settings, ShippedCell

LENIENT_RATE = 0.05
LENIENT = f"{LENIENT_RATE:g}"
TRAIN, BUILD, BENCH, STARTED = "train", "build-engine", "bench", "started.json"
_ROOT = Path(__file__).parents[2]
_OPTIONS = {"train.seed": "--seed", "model.name": "--model"}
Record = dict[str, Any]


def train_options(settings: Settings) -> list[str]:
    """Options of `edgead train` for the settings of a cell."""
    words = []
    for key, value in settings.items():
        words += [_OPTIONS[key], str(value)] if key in _OPTIONS else ["--set", f"{key}={json.dumps(value)}"]
    return words


def counts_of(part: Mapping[str, Any]) -> Record:
    """Images found and false alarms of one class in the JSON of `edgead eval`, with the numbers of images."""
    n_defective, n_good = part["n_defective"], part["n_good"] - part.get("n_trained_on", 0)
    return {
        "found": round((part["detection_rate"] or 0.0) * n_defective),
        "n_defective": n_defective,
        "false_alarms": round((part["false_alarm_rate"] or 0.0) * n_good),
        "n_good": n_good,
    }


def measure_shipped(
    cell: ShippedCell, data: Path, folder: Path, begun: Record, threads: int, progress: Progress
) -> Record:
    """Train, evaluate at the promise and at `LENIENT_RATE`, build the fp32 engine, and time it.

    Commands that finished before an interruption are not run again, if the cell was begun with the same settings, images
    and revision; a training starts from the beginning, as half of one has no time.

    Args:
        cell: Cell to measure.
        data: Training and test images.
        folder: Folder of the run, with the logs of all commands.
        begun: What the finished commands of an interrupted cell have to agree with.
        threads: Number of threads; the number of cores leaves it to the commands.
        progress: Receives the command at work.

    Returns:
        `evaluations` at the promise by label mode; `counts` by rate, label mode and class; `forms` that were chosen;
        `usage` of the commands; `bench`, and facts of the bundle.

    Raises:
        EdgeadError: If a command fails.
    """
    _begin(folder, json.loads(json.dumps({**begun, "threads": threads})))
    commands = _Commands(folder, threads if threads < len(os.sched_getaffinity(0)) else None, progress)
    bundle = folder / BUNDLE
    usage = {TRAIN: commands.run(TRAIN, TRAIN, data, "--out", folder, *train_options(cell.settings))}
    evaluations: dict[str, Record] = {}
    lenient: dict[str, Record] = {}
    for mode in cell.modes or (None,):
        name = mode or PLAIN
        evaluations[name], usage[f"eval {name}"] = commands.evaluate(bundle, data, mode, None)
        content, usage[f"eval {name} {LENIENT}"] = commands.evaluate(bundle, data, mode, LENIENT_RATE)
        lenient[name] = {key: counts_of(part) for key, part in content["classes"].items()}
    usage[BUILD] = commands.run(BUILD, BUILD, bundle, "--fp32", "--backend", "onnxruntime", "--device", "cpu")
    bench, usage[BENCH] = commands.measured(
        BENCH, BENCH, bundle, "--engine", "onnxruntime-fp32", *commands.engine_threads
    )
    manifest = open_bundle(bundle).manifest
    seconds = {name: part["seconds"] for name, part in usage.items()}
    return {
        "evaluations": evaluations,
        "counts": {LENIENT: lenient},
        "promise": max(one.threshold.false_alarm_rate for one in manifest.thresholds.values()),
        "forms": _forms(folder / CHOICES),
        "usage": usage,
        "bench": {key: bench[key] for key in ("engine", "device", "engine_ms", "end_to_end_ms", "rss_mb")},
        "parity": manifest.parity.model_dump(mode="json"),
        "cost": manifest.cost.model_dump(mode="json"),
        "n_images": manifest.provenance.n_images,
        "seconds": seconds,
    }


def _begin(folder: Path, begun: Record) -> None:
    """Empty the folder, unless what finished in it belongs to this cell and its training is finished."""
    try:
        is_same = json.loads((folder / STARTED).read_text(encoding="utf-8")) == begun
    except (OSError, ValueError):
        is_same = False
    if not is_same or not (folder / f"{TRAIN}.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / STARTED, begun)


@dataclass(frozen=True)
class _Commands:
    """Commands of edgead in one folder; `threads` None leaves the number to them."""

    folder: Path
    threads: int | None
    progress: Progress

    @property
    def engine_threads(self) -> list[str]:
        return [] if self.threads is None else ["--set", f"engine.threads={self.threads}"]

    def evaluate(self, bundle: Path, data: Path, mode: Mode | None, rate: float | None) -> tuple[Record, Record]:
        """JSON of `edgead eval`, and what the command took."""
        name = "-".join(["eval", mode or PLAIN, *([] if rate is None else [f"{rate:g}"])])
        words = [*([] if mode is None else ["--class-mode", mode]), *self.engine_threads]
        if rate is not None:
            words += ["--false-alarm-rate", f"{rate:g}"]
        content, usage = self.measured(name, "eval", bundle, "--data", data, *words)
        for part in content["classes"].values():
            part.pop("defects", None)  # kinds of defect are no columns of any table
        return content, usage

    def measured(self, name: str, *words: str | Path) -> tuple[Record, Record]:
        """JSON that a command writes, and what the command took."""
        result = self.folder / f"{name}.result"
        usage = self.run(name, *words, "--json", result)
        content: Record = json.loads(result.read_text(encoding="utf-8"))
        return content, usage

    def run(self, name: str, *words: str | Path) -> Record:
        """Wall and processor time in s and the largest memory in MB of a command; one that is finished is not run again.

        Raises:
            EdgeadError: If it fails.
        """
        done = self.folder / f"{name}.json"
        if done.is_file():
            usage: Record = json.loads(done.read_text(encoding="utf-8"))
            return usage
        self.progress.update(name, 0, 1)
        search = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        variables = {
            "PYTHONPATH": search,
            **({} if self.threads is None else dict.fromkeys(THREADS, str(self.threads))),
        }
        log = self.folder / f"{name}.log"
        ran = run([sys.executable, "-m", "edgead", *words], log, None, variables)
        if ran.code != 0:
            code = -9 if ran.code is None else ran.code
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            error, hint = failure_of(lines, code, f"ran `edgead {words[0]}`")
            raise EdgeadError(f"edgead {words[0]}: {error}", hint=hint)
        usage = {
            "seconds": round(ran.seconds, 2),
            "processor_s": round(ran.processor_s, 2),
            "peak_mb": round(ran.peak_mb, 1),
        }
        write_json(done, usage)
        return usage


def _forms(file: Path) -> list[Record]:
    """The forms that training chose: one, or one of each class."""
    choices: list[Record] = json.loads(file.read_text(encoding="utf-8"))
    keys = ("class_name", "image_size", "form", "shrinkage", "top_fraction", "variation")
    return [{key: choice[key] for key in keys if key in choice} for choice in choices if choice["chosen"]]
