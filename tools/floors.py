"""Compare default training with two training-free detectors: `python tools/floors.py DATA_ROOT --seeds 0 1 2`.

Prints the table of docs/measured.md: image and pixel AUROC over several seeds on the same backbone features, last state of every
run, no choice by test labels. Finished runs are kept in `--work` and not repeated; `--json` also writes all numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.train import train
from edgead.commands.training.data import TrainingData, prepare_data
from edgead.config.file import load_config, parse_override
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.engines.opening import open_engine
from edgead.evaluation.metrics import auroc
from edgead.models.backbone import Backbone
from edgead.models.gaussian import fit_position_gaussians
from edgead.models.packaged_weights import LITE0
from edgead.progress import Silent

RIDGE = 0.01
BANK = 12_000
CHUNK = 2_000


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path, help="folder of data sets in MVTec layout")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/floors"))
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="a setting of both"
    )
    arguments = parser.parse_args()
    rows = {}
    for folder in sorted(path for path in arguments.root.iterdir() if (path / "train").is_dir()):
        rows[folder.name] = _row(folder, arguments.seeds, arguments.work, arguments.settings)
        print(_line(folder.name, rows[folder.name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


def _row(folder: Path, seeds: list[int], work: Path, settings: list[str]) -> dict[str, object]:
    row: dict[str, object] = {"floors": _cached(work / folder.name / "floors.json", lambda: _floors(folder, settings))}
    runs = []
    for seed in seeds:
        place = work / folder.name / f"seed{seed}"
        runs.append(_cached(place / "metrics.json", lambda place=place, seed=seed: _run(folder, place, seed, settings)))
    row["runs"] = runs
    return row


def _cached(path: Path, compute) -> dict[str, float]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    if not path.is_file():
        value = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def _run(folder: Path, place: Path, seed: int, settings: list[str]) -> dict[str, float | bool | None]:
    config = _config(folder, [*settings, f"train.seed={seed}"])
    started = time.monotonic()
    result = train(config, Silent(), out=place / "run", runs=place, resume=(place / "run" / "run.json").is_file())
    seconds = time.monotonic() - started
    with open_engine(result.bundle, "reference", threads=0) as runner:
        evaluation = evaluate_bundle(result.bundle, runner, folder, Silent(), false_alarm_rate=None, report=None)
    mean = evaluation.result.mean
    return {
        "image_auroc": mean.image_auroc,
        "pixel_auroc": mean.pixel_auroc,
        "aupro_0.3": mean.aupro_0_3,
        "aupro_0.05": mean.aupro_0_05,
        "false_alarm_rate": mean.false_alarm_rate,
        "detection_rate": mean.detection_rate,
        "train_s": round(seconds, 1),
        "pseudo_auroc_start": (result.pseudo_auroc or (None, None))[0],
        "pseudo_auroc_trained": (result.pseudo_auroc or (None, None))[1],
        "couplings_kept": result.couplings_kept,
        "held_out_loss_start": result.state.held_out_loss[0],
        "held_out_loss": result.state.kept_loss,
        "onnx_vs_unfolded": result.bundle.manifest.parity.onnx_vs_unfolded,
    }


def _config(folder: Path, settings: list[str]) -> Config:
    return load_config(None, {"data.root": str(folder), **dict(parse_override(text) for text in settings)})


@torch.no_grad()
def _floors(folder: Path, settings: list[str]) -> dict[str, float]:
    config = _config(folder, settings)
    data = prepare_data(config, Silent())
    size = data.image_size
    backbone = Backbone(LITE0, "lite0", ("8", "16", "32"), size)
    split = data.split
    test = find_dataset(folder).test
    fit = _features(backbone, (*split.fit, *split.early_stop), data)
    rest = _features(backbone, split.threshold, data)
    unseen = _features(backbone, test, data)
    labels = [sample.gt_label for sample in test]
    every = {stride: torch.cat([fit[stride], rest[stride]]) for stride in fit}
    return {
        "gaussian_same_images": _auroc(_gaussian(fit, unseen), labels),
        "gaussian_all_images": _auroc(_gaussian(every, unseen), labels),
        "nearest_same_images": _auroc(_nearest(fit, unseen), labels),
        "nearest_all_images": _auroc(_nearest(every, unseen), labels),
    }


def _features(backbone: Backbone, samples: tuple[Sample, ...], data: TrainingData) -> dict[int, Tensor]:
    parts: dict[int, list[Tensor]] = {int(key): [] for key in backbone.keys}
    for start in range(0, len(samples), 16):
        images = np.stack([data.read(sample) for sample in samples[start : start + 16]])
        for key, features in backbone(torch.from_numpy(images)).items():
            parts[int(key)].append(features.half())
    return {stride: torch.cat(batches) for stride, batches in parts.items()}


def _joint(features: dict[int, Tensor], strides: tuple[int, int], rows: slice) -> Tensor:
    fine, coarse = (features[stride][rows].float() for stride in strides)
    return torch.cat([fine, F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)], dim=1)


def _gaussian(train_features: dict[int, Tensor], test_features: dict[int, Tensor]) -> NDArray[np.float64]:
    """PaDiM-like: one Gaussian per position on strides 16 and 32, all channels; image score = largest distance."""
    n = len(train_features[16])
    gaussians = fit_position_gaussians(_joint(train_features, (16, 32), slice(i, i + 16)) for i in range(0, n, 16))
    covariance = gaussians.covariance.float()
    covariance.diagonal(dim1=1, dim2=2).add_(RIDGE)
    factor = torch.linalg.cholesky(covariance)
    mean = gaussians.mean.float()
    scores = []
    for i in range(0, len(test_features[16]), 16):
        columns = _joint(test_features, (16, 32), slice(i, i + 16)).flatten(2).permute(2, 1, 0) - mean[:, :, None]
        distance = torch.linalg.solve_triangular(factor, columns, upper=False).square().sum(dim=1)
        scores.append(distance.max(dim=0).values.numpy())
    return np.concatenate(scores).astype(np.float64)


def _nearest(train_features: dict[int, Tensor], test_features: dict[int, Tensor]) -> NDArray[np.float64]:
    """PatchCore-like: nearest of a random bank of locally averaged patches on strides 8 and 16; largest distance."""
    generator = torch.Generator().manual_seed(0)
    n = len(train_features[8])
    positions = train_features[8].shape[2] * train_features[8].shape[3]
    per_image = max(1, BANK // n)
    bank = []
    for i in range(0, n, 16):
        patches = _patches(train_features, slice(i, i + 16))
        chosen = torch.randint(positions, (len(patches), per_image), generator=generator)
        bank.append(patches.gather(1, chosen[:, :, None].expand(-1, -1, patches.shape[2])).flatten(0, 1))
    memory = torch.cat(bank)
    squares = memory.square().sum(dim=1)
    scores = []
    for i in range(len(test_features[8])):
        patches = _patches(test_features, slice(i, i + 1))[0]
        nearest = torch.full((len(patches),), torch.inf)
        for start in range(0, len(memory), CHUNK):
            part = memory[start : start + CHUNK]
            distance = squares[start : start + CHUNK] - 2 * patches @ part.T
            nearest = torch.minimum(nearest, distance.min(dim=1).values)
        scores.append(float((nearest + patches.square().sum(dim=1)).max()))
    return np.array(scores)


def _patches(features: dict[int, Tensor], rows: slice) -> Tensor:
    smoothed = {s: F.avg_pool2d(features[s][rows].float(), 3, stride=1, padding=1) for s in (8, 16)}
    return _joint(smoothed, (8, 16), slice(None)).flatten(2).permute(0, 2, 1)


def _auroc(scores: NDArray[np.float64], labels: list[bool]) -> float:
    value = auroc(scores, labels)
    assert value is not None
    return value


def _line(name: str, row: dict) -> str:  # type: ignore[type-arg]
    floors, runs = row["floors"], row["runs"]
    image = [run["image_auroc"] for run in runs]
    spread = statistics.stdev(image) if len(image) > 1 else float("nan")
    pixel = [run["pixel_auroc"] for run in runs if run["pixel_auroc"] is not None]
    return (
        f"| {name} | {floors['nearest_same_images']:.4f} / {floors['nearest_all_images']:.4f} "
        f"| {floors['gaussian_same_images']:.4f} / {floors['gaussian_all_images']:.4f} "
        f"| {statistics.mean(image):.4f} ± {spread:.4f} | {statistics.mean(pixel) if pixel else float('nan'):.4f} "
        f"| {statistics.mean(run['false_alarm_rate'] for run in runs):.3f} "
        f"| {statistics.mean(run['detection_rate'] for run in runs):.3f} "
        f"| {statistics.mean(run['train_s'] for run in runs):.0f} s |"
    )


if __name__ == "__main__":
    main()
