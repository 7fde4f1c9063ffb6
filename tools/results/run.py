"""Run of one cell: train, export, evaluate the exported graph on the test images, write one JSON file."""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.bundle import Bundle
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.train import TrainResult, train
from edgead.commands.training.runs import BUNDLE, RUN_FILE, package_versions
from edgead.config.root import Config
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError, EdgeadError
from edgead.progress import Progress, Silent
from edgead.runner import REFERENCE
from edgead.storage import write_json
from tools.results.cells import PLAIN, Cell, Mode, ShippedCell, data_folder, is_same_work, resolved_settings
from tools.results.shipped_run import measure_shipped

Record = dict[str, Any]
Evaluate = Callable[[Bundle, Path, Mode | None, int, Progress], Record]
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Workplace:
    """Where cells are worked on.

    Attributes:
        root: Folder of the data sets.
        work: Results, unfinished runs and the shared features.
        threads: Of torch and ONNX Runtime; 0 = one per core.
        keep_bundles: Whether a bundle stays after its evaluation.
    """

    root: Path
    work: Path
    threads: int = 0
    keep_bundles: bool = False

    def result(self, cell: Cell) -> Path:
        """The cell's JSON file."""
        return self.work / "cells" / f"{cell.id}.json"

    def run(self, cell: Cell) -> Path:
        """The folder that the cell trains in."""
        return self.work / "runs" / cell.id

    @property
    def cache(self) -> Path:
        """Features shared between the cells."""
        return self.work / "cache"


def read_records(work: Path) -> dict[str, Record]:
    """Records of earlier runs, by cell id; unreadable files are skipped."""
    records = {}
    for path in sorted((work / "cells").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if is_record(record):
            records[path.stem] = record
    return records


def is_record(value: Any) -> bool:
    """Whether a value read from JSON is what a cell writes, finished or failed."""
    return isinstance(value, dict) and isinstance(value.get("id"), str) and ("evaluations" in value or "error" in value)


def known_records(
    cells: Iterable[Cell], published: Mapping[str, Record], local: Mapping[str, Record]
) -> dict[str, Record]:
    """Best record of each cell, by id: finished before unfinished, then working folder before published."""
    known = {}
    for cell in cells:
        candidates = [records[cell.id] for records in (local, published) if cell.id in records]
        if candidates:
            known[cell.id] = next((record for record in candidates if is_finished(record, cell)), candidates[0])
    return known


def is_finished(record: Record | None, cell: Cell, digest: str | None = None) -> bool:
    """Whether a record is the result of this cell as the table and the data are now."""
    return record is not None and "error" not in record and is_same_work(record, cell, digest)


def evaluate_cell(
    bundle: Bundle, data: Path, mode: Mode | None, threads: int, progress: Progress | None = None
) -> Record:
    """Measure a bundle's exported graph in ONNX Runtime on the test images, at the shipped threshold.

    Args:
        bundle: Just trained.
        data: Folder of test images.
        mode: Class information given to the model; None for a model without classes, whose likelihood is
            then also compared with its latent norm.
        threads: Number of threads of ONNX Runtime.
        progress: Receiver of notes and progress.

    Returns:
        The metrics per class and in the mean, as `edgead eval --json` gives them.
    """
    options: dict[str, Any] = {"alignment": True} if mode is None else {"class_mode": mode}
    with open_engine(bundle, REFERENCE, threads=threads) as runner:
        evaluation = evaluate_bundle(
            bundle, runner, data, progress or Silent(), false_alarm_rate=None, report=None, **options
        )
    content = evaluation.to_json()
    for part in content["classes"].values():
        part.pop("defects", None)  # kinds of defect are no columns of any table
    return content


def run_cell(
    cell: Cell, place: Workplace, digest: str, progress: Progress, evaluate: Evaluate = evaluate_cell
) -> Record:
    """Do a cell and write its JSON; an exception of the cell becomes its `error`, to be tried again next time.

    Args:
        cell: Cell to run. A run that was killed before resumes from its last epoch.
        place: Folders of data and results.
        digest: Digest of the data.
        progress: Receiver of notes and progress.
        evaluate: Measures the trained bundle, once for each of the cell's label modes; a cell as shipped has its own way.
    """
    record = _new_record(cell, digest)
    try:
        if isinstance(cell, ShippedCell):
            record |= _measure_shipped(cell, place, record, progress)
        else:
            record |= _measure(cell, place, progress, evaluate)
    except Exception as error:  # whatever a cell dies of, the next one is done
        record["error"] = _without_places(f"{type(error).__name__}: {error}", place)
        shutil.rmtree(place.run(cell), ignore_errors=True)
        progress.note(record["error"])
    _finish(record, place.result(cell))
    if "error" not in record:
        _tidy(place.run(cell), place.keep_bundles)
    gc.collect()
    return record


def fail_cell(cell: Cell, place: Workplace, digest: str, error: str) -> Record:
    """Write the JSON of a cell that could not do so itself; its run stays, to be gone on with."""
    record = {**_new_record(cell, digest), "error": error}
    _finish(record, place.result(cell))
    return record


def _new_record(cell: Cell, digest: str) -> Record:
    return {
        "id": cell.id,
        "data": cell.data,
        "model": cell.model,
        **({} if isinstance(cell, ShippedCell) else {"coupling": cell.coupling, "base": cell.base}),
        **({"variant": cell.variant} if cell.variant else {}),
        "seed": cell.seed,
        "modes": list(cell.modes),
        "settings": cell.settings,
        "data_digest": digest,
        "command": cell.command,
        "git": git_revision(),
    }


def _finish(record: Record, path: Path) -> None:
    record["finished_at"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    write_json(path, record)


def _measure(cell: Cell, place: Workplace, progress: Progress, evaluate: Evaluate) -> Record:
    import torch

    from edgead.models.zoo import load_model

    threads = place.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    folder = data_folder(place.root, cell)
    config = cell.config(folder, place.cache)
    result, resumed = train_or_resume(config, place.run(cell), progress)
    bundle = result.bundle
    started = time.monotonic()
    modes: tuple[Mode | None, ...] = cell.modes or (None,)
    evaluations = {mode or PLAIN: evaluate(bundle, folder, mode, threads, progress) for mode in modes}
    seconds = {**result.seconds, "evaluation": round(time.monotonic() - started, 2)}
    model = load_model(bundle)
    manifest = bundle.manifest
    return {
        "resolved": resolved_settings(config),
        "evaluations": evaluations,
        "metrics": manifest.provenance.metrics,
        "parity": manifest.parity.model_dump(mode="json"),
        "cost": manifest.cost.model_dump(mode="json"),
        "parameters": {
            "flow": _count([*model.flow.parameters(), *model.bases.parameters()]),
            "trainable": _count(p for p in model.parameters() if p.requires_grad),
        },
        "n_images": manifest.provenance.n_images,
        "seconds": seconds,
        "resumed": resumed,
        "machine": _machine(config.train.device, threads),
        "versions": package_versions(),
    }


def _measure_shipped(cell: ShippedCell, place: Workplace, begun: Record, progress: Progress) -> Record:
    threads = place.threads or len(os.sched_getaffinity(0))
    folder = data_folder(place.root, cell)
    config = cell.config(folder)
    same = {**begun, "resolved": resolved_settings(config)}
    return {
        "resolved": same["resolved"],
        **measure_shipped(cell, folder, place.run(cell), same, threads, progress),
        "machine": _machine(config.train.device, threads),
        "versions": package_versions(),
    }


def train_or_resume(config: Config, run: Path, progress: Progress) -> tuple[TrainResult, bool]:
    """Train, going on with a run that was killed, if that run had these settings; also whether it went on."""
    if (run / RUN_FILE).is_file():
        try:
            return train(config, progress, out=run, runs=run.parent, resume=True), True
        except ConfigError as error:
            progress.note(f"The unfinished run cannot be used: {error}")
    shutil.rmtree(run, ignore_errors=True)
    return train(config, progress, out=run, runs=run.parent, resume=False), False


def git_revision() -> str | None:
    """Commit of this repository, with `+` where tracked files differ from it; None outside of one."""
    command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _machine(device: str, threads: int) -> Record:
    from edgead.commands.training.device import choose_device

    chosen = choose_device(device)
    name = platform.machine()
    if chosen.type == "cuda":
        import torch

        name = torch.cuda.get_device_name(chosen)
    return {
        "device": chosen.type,
        "processor": name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "system": platform.system(),
    }


def _count(parameters: Iterable[Any]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _without_places(text: str, place: Workplace) -> str:
    for folder, name in ((place.work, "WORK"), (place.root, "DATA_ROOT"), (REPOSITORY, "."), (Path.home(), "~")):
        for written in {folder.resolve(), folder.absolute()} - {Path("/")}:
            text = text.replace(str(written), name)
    return text


def _tidy(run: Path, keep_bundle: bool) -> None:
    """Leave the bundle alone, or nothing."""
    if not keep_bundle:
        shutil.rmtree(run, ignore_errors=True)
        return
    for path in run.iterdir():
        if path.name != BUNDLE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def error_text(error: EdgeadError) -> str:
    """An expected failure as a person reads it."""
    return f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else "")
