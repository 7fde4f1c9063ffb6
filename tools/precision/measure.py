"""Measurement of one job: build the form of a trained bundle; score good, pseudo-defective and test images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgead.builder.backends import OnnxRuntimeBackend
from edgead.builder.gate import GateScores, image_auroc, score_images, spearman, time_in_turns
from edgead.builder.images import calibration_images, gate_images
from edgead.builder.lower_precision import LowerOptions, build_lower
from edgead.bundle import Bundle, open_bundle
from edgead.commands.evaluate import evaluate_bundle
from edgead.config.file import load_config
from edgead.engines.opening import open_engine, open_with_thresholds
from edgead.precision.int8 import Int8Options
from edgead.precision.quantiser import Quantiser
from edgead.precision.recipe import read_recipe
from edgead.progress import Progress
from edgead.runner import REFERENCE, Runner
from tools.precision.table import UNIFIED, Job, Table, recipe_path, settings_of
from tools.results.run import train_or_resume

Record = dict[str, Any]
METRICS = ("image_auroc", "pixel_auroc", "aupro_0.3", "false_alarm_rate", "detection_rate")


@dataclass
class TensorRTLayout(OnnxRuntimeBackend):
    """TensorRT's INT8 form, which ONNX Runtime computes too: for its scores, not for its speed."""

    @property
    def int8_options(self) -> Int8Options:
        return Int8Options("tensorrt")


def bundle_of(table: Table, job: Job, root: Path, work: Path, progress: Progress) -> Bundle:
    """The job's trained bundle, trained now if it is not there."""
    run = work / "bundles" / job.bundle
    path = run / "bundle"
    if path.is_dir():
        return open_bundle(path)
    folder = root if job.data == UNIFIED else root / job.data
    config = load_config(
        None, {"data.root": str(folder), "train.cache_dir": str(work / "cache"), **settings_of(table, job)}
    )
    return train_or_resume(config, run, progress)[0].bundle


def measure(job: Job, bundle: Bundle, root: Path, progress: Progress) -> Record:
    """Build the form and score it.

    Returns:
        `drop`, `correlation` and `separation` on held-out good images and pseudo-defects, the metrics on the test
        images of each data set, `coverage`, and for gated forms the layers kept and the time against float32.
    """
    images = gate_images(bundle, None, progress)
    with open_engine(bundle, REFERENCE, threads=0) as reference:
        truth = score_images(reference, images)
        with _form(job, bundle, reference, progress) as (runner, own, facts):
            scores = score_images(runner, images)
            evaluations = _evaluate(own, runner, root if job.data == UNIFIED else root / job.data, progress)
            times = time_in_turns(reference, runner, images.held_out[0])
    return {
        "id": job.id,
        "bundle": bundle.digest,
        "how": job.how.model_dump(mode="json"),
        "pseudo_auroc": image_auroc(scores),
        "drop": image_auroc(truth) - image_auroc(scores),
        "correlation": spearman(_all(truth), _all(scores)),
        "separation": separation(scores) / separation(truth),
        "test": evaluations,
        "milliseconds": [round(value, 3) for value in times],
        **facts,
    }


def separation(scores: GateScores) -> float:
    """How far the median pseudo-defect lies above the median good image, in interquartile ranges of the good ones."""
    low, middle, high = np.percentile(scores.good, [25, 50, 75])
    return float((np.median(scores.defective) - middle) / max(high - low, 1e-12))


def _all(scores: GateScores) -> NDArray[np.float32]:
    return np.concatenate([scores.good, scores.defective])


@contextmanager
def _form(job: Job, bundle: Bundle, reference: Runner, progress: Progress) -> Iterator[tuple[Runner, Bundle, Record]]:
    """An open engine of the form, the bundle with its thresholds, and what is to be said of it."""
    how = job.how
    if how.precision == "fp32":
        yield reference, bundle, {"coverage": 1.0}
        return
    backend = (TensorRTLayout if how.layout == "tensorrt" else OnnxRuntimeBackend)(how.precision)
    if how.gated or how.precision == "fp16":
        started = time.monotonic()
        recipe = read_recipe(recipe_path(how.recipe)) if how.recipe else read_recipe(None)
        record = build_lower(bundle, backend, LowerOptions(recipe=recipe), progress)
        assert record.lower is not None
        runner, own = open_with_thresholds(bundle, f"{backend.name}-{backend.precision}", threads=0)
        kept = [layer.name for layer in record.lower.layers if layer.precision != backend.precision]
        with runner:
            yield runner, own, {
                "coverage": record.lower.coverage,
                "kept": kept,
                "n_layers": len(record.lower.layers),
                "build_s": round(time.monotonic() - started, 1),
            }  # fmt: skip
        return
    recipe = read_recipe(recipe_path(how.recipe) if how.recipe else None)
    master = onnx.load(str(bundle.model_path))
    ranges = calibration_images(bundle, None, recipe.images, reference, progress)
    quantiser = Quantiser(master, ranges.images, recipe, backend.int8_options, progress.update)
    with tempfile.TemporaryDirectory() as folder:
        with backend.build(quantiser.graph().SerializeToString(), frozenset(), Path(folder)) as runner:
            yield runner, bundle, {"coverage": quantiser.coverage(), "kept": [], "n_layers": len(quantiser.costs)}


def _evaluate(bundle: Bundle, runner: Runner, data: Path, progress: Progress) -> dict[str, Record]:
    """Metrics by data set."""
    options: dict[str, Any] = {"class_mode": "given"} if bundle.manifest.graph.class_bias is not None else {}
    found = evaluate_bundle(bundle, runner, data, progress, false_alarm_rate=None, report=None, **options)
    classes = found.to_json()["classes"]
    if len(classes) == 1:
        classes = {data.name: next(iter(classes.values()))}
    return {name: {key: values[key] for key in METRICS} for name, values in classes.items()}
