"""Measure what known defects change: `python -m tools.known_defects DATA_SET WORK --count 20 --json FILE`.

`--count` defects of the test folder, drawn at random, become the known ones. A model is trained with them and another one without,
and both judge the same remaining test images at both rates. Settings are those of `edgead train`, and the two trainings share
their features in WORK. Known defects are drawn once: nothing is tuned by what remains.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import edgead
from edgead.commands.train import TrainResult
from edgead.commands.training.closed_form import CHOICES
from edgead.commands.training.known_report import N_FOUND, N_KNOWN, found_text
from edgead.data.dataset import Dataset, Sample
from edgead.data.layouts import find_dataset
from edgead.storage import write_json

RATES = (0.005, 0.05)
KNOWN, REST = "known", "rest"


def drawn_defects(dataset: Dataset, count: int, seed: int) -> list[Sample]:
    """Defects of the test part, drawn with `random.Random(seed)` from their list by name."""
    defects = sorted((sample for sample in dataset.test if sample.gt_label), key=lambda sample: sample.name)
    return random.Random(seed).sample(defects, count)


def write_folders(dataset: Dataset, known: Sequence[Sample], work: Path) -> None:
    """Link the known defects into `work/known`, and all other images into `work/rest`, both with masks.

    Args:
        dataset: Data set with a test part.
        known: Some of its defects.
        work: Folder for both.
    """
    chosen = set(known)
    for sample in dataset.train:
        _link(sample.path, work / REST / "train" / "good" / sample.path.name)
    for sample in dataset.test:
        root = work / KNOWN if sample in chosen else work / REST / "test"
        _link(sample.path, root / sample.defect / sample.path.name)
        if sample.mask_path is not None:
            masks = work / (KNOWN if sample in chosen else REST) / "ground_truth" / sample.defect
            _link(sample.mask_path, masks / f"{sample.path.stem}_mask{sample.mask_path.suffix}")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source.resolve(), target)


def measure(dataset: Path, work: Path, count: int, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train with known defects and without, and judge the remaining test images with both.

    Args:
        dataset: Data set with a test part.
        work: New or empty folder for images, features and runs.
        count: Number of known defects.
        seed: Seed of their draw.
        settings: Value per dotted key of both trainings.
    """
    found = find_dataset(dataset)
    known = drawn_defects(found, count, seed)
    write_folders(found, known, work)
    results: dict[str, Any] = {"data": dataset.name, "known": [sample.name for sample in known]}
    for name in ("without", "with"):
        extra = {"data.known_defects": [str(work / KNOWN)]} if name == "with" else {}
        shared = {"train.cache_dir": str(work / "cache"), **settings, **extra}
        started = time.monotonic()
        result = edgead.train_bundle(work / REST, settings=shared, out=work / name, runs=work, progress=print)
        results[name] = {"seconds": round(time.monotonic() - started, 1), **judged(result, work / REST)}
    shutil.rmtree(work / "cache", ignore_errors=True)
    return results


def judged(result: TrainResult, data: Path) -> dict[str, Any]:
    """The form of a model, and its figures on the test images of a folder."""
    (chosen,) = [one for one in json.loads((result.run / CHOICES).read_text(encoding="utf-8")) if one["chosen"]]
    metrics = result.bundle.manifest.provenance.metrics
    values: dict[str, Any] = {"chosen": chosen, "known": None}
    if N_KNOWN in metrics:
        values["known"] = found_text(round(metrics[N_KNOWN]), round(metrics[N_FOUND]))
    for rate in RATES:
        with edgead.load(result.bundle.path, engine="reference", false_alarm_rate=rate) as model:
            one = edgead.evaluate(model, data).result
        (part,) = one.classes.values()
        values[f"{rate:g}"] = {
            "found": [part.detections.k, part.detections.n],
            "false_alarms": [part.false_alarms.k, part.false_alarms.n],
            "threshold": part.metrics.threshold,
            "image_auroc": part.metrics.image_auroc,
            "seg_f1": part.metrics.seg_f1,
        }
    return values


def table(results: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table."""
    lines = []
    for name in ("without", "with"):
        one, chosen = results[name], results[name]["chosen"]
        rates = [one[f"{rate:g}"] for rate in RATES]
        cells = [
            "{} of {} ({:.0%}), {} of {}".format(
                *rate["found"], rate["found"][0] / rate["found"][1], *rate["false_alarms"]
            )
            for rate in rates
        ]
        form = f"{chosen['image_size']} px, {chosen['form']}, shrinkage {chosen['shrinkage']}, {chosen['top_fraction']:g} of the map"
        lines.append(f"| {results['data']}, {name} | {form} | {' | '.join(cells)} | {rates[0]['image_auroc']:.4f} |")
    return [*lines, str(results["with"]["known"])]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="data set with a test part")
    parser.add_argument("work", type=Path, help="new or empty folder")
    parser.add_argument("--count", type=int, default=20, help="number of known defects")
    parser.add_argument("--seed", type=int, default=0, help="seed of their draw")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    results = measure(options.dataset, options.work, options.count, options.seed, {})
    if options.json is not None:
        write_json(options.json, results)
    for line in table(results):
        print(line)


if __name__ == "__main__":
    main()
