"""Training of one class in a process of its own, whose result is a record beside the run."""

from __future__ import annotations

import datetime
import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import cv2

from edgead.bundle import open_bundle
from edgead.commands.train import TrainResult, train
from edgead.commands.training.class_folders import ClassFolder, refuse_several
from edgead.commands.training.runs import BUNDLE, RUN_FILE
from edgead.errors import ConfigError, EdgeadError
from edgead.progress import Silent
from edgead.storage import storage_error, write_json

RECORD = "class.json"
LOG = "training.log"


@dataclass(frozen=True)
class ClassResult:
    """Result of the training of a class.

    Attributes:
        name: Name of the class.
        status: `trained` in this call, `finished` before it, or `failed`.
        run: Folder of the run.
        bundle: Folder of the bundle; None if there is none.
        verdict: `good`, `fair` or `weak`; None if it is not known.
        false_alarm_rate: Promised share of good images above the threshold, 0..1; None without a bundle.
        seconds: Wall time of the training that finished or failed last; None if it is not known.
        error: Message of the error that it failed with; empty otherwise.
        hint: Advice about the error.
    """

    name: str
    status: Literal["trained", "finished", "failed"]
    run: Path
    bundle: Path | None = None
    verdict: str | None = None
    false_alarm_rate: float | None = None
    seconds: float | None = None
    error: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Values for JSON; paths are text."""
        content = {**asdict(self), "run": str(self.run), "bundle": None if self.bundle is None else str(self.bundle)}
        return {"class": content.pop("name"), **content}


class _Log(Silent):
    """Progress of which the notes go to a file, with the time of each."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def note(self, text: str) -> None:
        self._file.write(f"{datetime.datetime.now().isoformat(sep=' ', timespec='seconds')} {text}\n")
        self._file.flush()


def train_class(one: ClassFolder, threads: int) -> ClassResult:
    """Train a class, continuing a run that was interrupted; whatever goes wrong is in the result.

    Args:
        one: Class to train.
        threads: Number of CPU threads.

    Raises:
        StorageError: If the folder of the run cannot be written.
    """
    import torch

    if one.state == "finished":  # the worker was lost when its work was done
        found = finished_class(one)
        return found if found.error else replace(found, status="trained")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    started = time.monotonic()
    with _opened_log(one.run) as log:
        try:
            result = _train(one, log)
        except EdgeadError as error:
            log.note(f"error: {error.message}")
            return ClassResult(
                one.name, "failed", one.run, error=error.message, hint=error.hint, seconds=_since(started)
            )
        except Exception as error:
            log.note(traceback.format_exc())
            return ClassResult(
                one.name, "failed", one.run, error=f"{type(error).__name__}: {error}", seconds=_since(started),
                hint=f"This is a bug in edgead; its traceback is in {one.run / LOG}.",
            )  # fmt: skip
        seconds = _since(started)
        grade = None if result.verdict is None else result.verdict.grade
        for line in result.verdict.lines() if result.verdict is not None else ():
            log.note(line)
        write_json(one.run / RECORD, {"verdict": grade, "seconds": seconds})
        rate = result.bundle.thresholds().threshold.false_alarm_rate
        return ClassResult(one.name, "trained", one.run, one.run / BUNDLE, grade, rate, seconds)


def finished_class(one: ClassFolder) -> ClassResult:
    """Result of a class that was trained before, with `failed` for a bundle that does not verify."""
    try:
        bundle = open_bundle(one.run / BUNDLE)
    except EdgeadError as error:
        return ClassResult(
            one.name, "failed", one.run, error=error.message, hint=f"Remove {one.run} to train this class again."
        )
    record = _record(one.run)
    rate = bundle.thresholds().threshold.false_alarm_rate
    return ClassResult(
        one.name, "finished", one.run, one.run / BUNDLE, record.get("verdict"), rate, record.get("seconds")
    )


def _train(one: ClassFolder, log: _Log) -> TrainResult:
    resume = (one.run / RUN_FILE).is_file()
    if resume:
        log.note("The interrupted run continues.")
    else:
        refuse_several(one.config)
    try:
        return train(one.config, log, out=one.run, runs=one.run.parent, resume=resume)
    except ConfigError as error:
        if resume:
            raise ConfigError(
                error.message, hint=f"{error.hint} Remove {one.run} to start this class again."
            ) from error
        raise


def _record(run: Path) -> dict[str, Any]:
    """Record that the training left beside the bundle; empty where it left none."""
    try:
        record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@contextmanager
def _opened_log(run: Path) -> Iterator[_Log]:
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / LOG).open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise storage_error(run / LOG, error) from error
    with file:
        yield _Log(file)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)
