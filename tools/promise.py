"""Compare promised and realised false-alarm rates on real images: `python -m tools.promise DATA_SET WORK --images 60 150 --draws 3`.

Of all good images, training and test part together, `--images` are drawn at random and trained on with the settings of
`edgead train`; the others are unseen, and say which share of them really alarms. With `--mislabelled 0.02`, that share of
drawn defects of the test part lies among the good images too, as a careless collection would have them; the defects that
were not drawn say what is still found. A draw that is finished is skipped by the next call.

Draws share images, so that they are not independent: no interval is given for all of them together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgead
from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.evaluation.threshold import at_rate, smallest_rate
from edgead.manifest import POOLED
from edgead.storage import write_json

RATES = (0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Draw:
    """Images of one training, and those that judge it.

    Attributes:
        good: Good images to train on.
        mislabelled: Defects to train on as if they were good.
        unseen: All other good images.
        defects: All other defects.
    """

    good: tuple[Sample, ...]
    mislabelled: tuple[Sample, ...]
    unseen: tuple[Sample, ...]
    defects: tuple[Sample, ...]


def drawn(good: Sequence[Sample], defects: Sequence[Sample], n_images: int, share: float, seed: int) -> Draw:
    """Draw `n_images` to train on, of which `share` are defects.

    Raises:
        ValueError: If there are too few images to leave some unseen.
    """
    n_wrong = round(share * n_images)
    if n_images - n_wrong >= len(good) or n_wrong > len(defects):
        raise ValueError(
            f"{n_images} images with {n_wrong} defects cannot be drawn from {len(good)} good images and {len(defects)} defects "
            "with some of them left."
        )
    chance = random.Random(seed)
    chosen, wrong = set(chance.sample(list(good), n_images - n_wrong)), set(chance.sample(list(defects), n_wrong))
    return Draw(
        tuple(one for one in good if one in chosen), tuple(one for one in defects if one in wrong),
        tuple(one for one in good if one not in chosen), tuple(one for one in defects if one not in wrong),
    )  # fmt: skip


def measure(draw: Draw, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train on a draw, and judge the images that are left.

    Args:
        draw: The images.
        work: Folder for links and the run; made new.
        settings: Value per dotted key of the training.
    """
    shutil.rmtree(work, ignore_errors=True)
    folder = work / "train" / "good"
    folder.mkdir(parents=True)
    for number, sample in enumerate((*draw.good, *draw.mislabelled)):
        os.symlink(sample.path.resolve(), folder / f"{number:05d}{sample.path.suffix}")
    n_images = len(draw.good) + len(draw.mislabelled)
    result = edgead.train_bundle(work, settings=settings, out=work / "run", runs=work, progress=print)
    thresholds = result.bundle.manifest.thresholds[POOLED]
    with edgead.load(result.bundle.path, engine="reference") as model:
        good, bad = (
            [model.predict(model.read_image(one.path)).score for one in part] for part in (draw.unseen, draw.defects)
        )
    found: dict[str, Any] = {
        "n_images": n_images,
        "n_mislabelled": len(draw.mislabelled),
        "n_left_out": n_images - len(thresholds.scores),
        "rates": {},
    }
    for rate in sorted({max(rate, smallest_rate(len(thresholds.scores))) for rate in RATES}):
        value = at_rate(thresholds, rate).threshold.value
        found["rates"][f"{rate:.4g}"] = {
            "false_alarms": [sum(score > value for score in good), len(good)],
            "found": [sum(score > value for score in bad), len(bad)],
        }
    return found


def table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table: one for each number of images and promised rate."""
    lines = [
        "| images | mislabelled | left out | promised | realised, by draw | mean | defects found |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = sorted({(one["n_images"], one["n_mislabelled"]) for one in results})
    for n_images, n_wrong in groups:
        own = [one for one in results if (one["n_images"], one["n_mislabelled"]) == (n_images, n_wrong)]
        left_out = ", ".join(str(one["n_left_out"]) for one in own)
        for place in range(min(len(one["rates"]) for one in own)):
            # the smallest rate depends on how many images count
            promised = statistics.mean(float(list(one["rates"])[place]) for one in own)
            rates = [list(one["rates"].values())[place] for one in own]
            realised = [rate["false_alarms"][0] / rate["false_alarms"][1] for rate in rates]
            found = [rate["found"][0] / rate["found"][1] for rate in rates if rate["found"][1]]
            lines.append(
                f"| {n_images} | {n_wrong} | {left_out} | {promised:.2%} | {', '.join(f'{one:.1%}' for one in realised)} | "
                f"{statistics.mean(realised):.2%} | {', '.join(f'{one:.0%}' for one in found) or '–'} |"
            )
    return lines


def main(arguments: Sequence[str] | None = None, settings: dict[str, Any] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.promise", description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset", type=Path, help="data set with a test part, one class")
    parser.add_argument("work", type=Path, help="folder for runs and finished draws")
    parser.add_argument("--images", type=int, nargs="+", default=[60, 150], help="numbers of images to train on")
    parser.add_argument("--draws", type=int, default=3, help="draws of each number, with the seeds 0, 1, ...")
    parser.add_argument("--mislabelled", type=float, default=0.0, help="share of these that are defects")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    found = find_dataset(options.dataset)
    good = sorted((one for one in (*found.train, *found.test) if not one.gt_label), key=lambda one: str(one.path))
    defects = sorted((one for one in found.test if one.gt_label), key=lambda one: str(one.path))
    results = []
    for n_images in options.images:
        for seed in range(options.draws):
            work = options.work / f"{options.dataset.name}-{n_images}-{options.mislabelled:g}-{seed}"
            file = work.with_suffix(".json")
            if not file.is_file():
                draw = drawn(good, defects, n_images, options.mislabelled, seed)
                write_json(file, measure(draw, work, {"train.seed": seed, **(settings or {})}))
                shutil.rmtree(work)
            results.append(json.loads(file.read_text(encoding="utf-8")))
    if options.json is not None:
        write_json(options.json, {"data": options.dataset.name, "draws": results})
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
