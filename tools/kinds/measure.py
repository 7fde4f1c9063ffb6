"""Train and judge the rows, one cell after the other, and keep what each found."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.commands.scored_images import ImageScorer, score_images
from edgead.data.layouts import find_dataset
from edgead.data.masks import read_mask
from edgead.engines.opening import open_engine
from edgead.evaluation.evaluate import ScoredImage, evaluate
from edgead.evaluation.marking import marking_at
from edgead.manifest import POOLED
from edgead.progress import Progress
from edgead.runner import REFERENCE, Runner
from edgead.storage import write_json
from tools.results.cells import PLAIN, Cell, Mode, data_folder, resolved_settings
from tools.results.run import Record, Workplace, git_revision, train_or_resume

N_BINS = 60


def run_cell(cell: Cell, place: Workplace, digest: str, progress: Progress) -> Record:
    """Train a cell, or resume a training that was killed, judge it in each class mode, and write its JSON.

    Args:
        cell: What to train.
        place: Folders of data and results.
        digest: Digest of the data.
        progress: Receives notes and progress.
    """
    import torch

    torch.set_num_threads(max(1, place.threads))
    record: Record = {
        "id": cell.id, "row": cell.variant, "data": cell.data, "seed": cell.seed, "settings": cell.settings,
        "modes": list(cell.modes), "data_digest": digest, "git": git_revision(),
    }  # fmt: skip
    try:
        folder = data_folder(place.root, cell)
        config = cell.config(folder, place.cache)
        result, _ = train_or_resume(config, place.run(cell), progress)
        started = time.monotonic()
        judged: dict[str, Any] = {}
        normal_and_defective: Record = {}
        with open_engine(result.bundle, REFERENCE, threads=place.threads) as runner:
            for mode in cell.modes or (None,):
                images, judged[mode or PLAIN] = judge(result.bundle, runner, folder, mode, progress)
                normal_and_defective = normal_and_defective or histograms(images)
        record |= {
            "resolved": resolved_settings(config),
            "evaluations": judged,
            "histograms": normal_and_defective,
            "n_images": result.bundle.manifest.provenance.n_images,
            "seconds": {**result.seconds, "evaluation": round(time.monotonic() - started, 2)},
        }
    except Exception as error:  # whatever a cell dies of, the next one is done
        record["error"] = f"{type(error).__name__}: {error}"
        progress.note(f"{cell.id}: {record['error']}")
    record["finished_at"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    write_json(place.result(cell), record)
    return record


def judge(
    bundle: Bundle, runner: Runner, folder: Path, mode: Mode | None, progress: Progress
) -> tuple[list[ScoredImage], Record]:
    """Scored test images, and metrics per class and in the mean at the shipped threshold.

    Args:
        bundle: Bundle of the engine.
        runner: Open engine.
        folder: Data set.
        mode: Class information that the model is given; None for a model without classes.
        progress: Receives progress.
    """
    thresholds = bundle.manifest.thresholds
    markings = {
        name: marking_at(bundle.manifest, one, None if name == POOLED else name) for name, one in thresholds.items()
    }
    scorer = ImageScorer(bundle, runner, mode, thresholds, markings)
    images, _, _ = score_images(scorer, find_dataset(folder).test, progress)
    values = {name: one.threshold.value for name, one in thresholds.items() if mode != "none" or name == POOLED}
    found = evaluate(images, values, read_mask, engine=runner.engine_name).to_json()
    return images, found if mode is None else {**found, "class_accuracy": scorer.n_right / len(images)}


def histograms(images: Sequence[ScoredImage]) -> Record:
    """Histograms of the anomaly map per class, at positions of good images and at defective positions.

    The map of a flow grows with the negative log-likelihood of a position, so these are the histograms of normal and abnormal
    log-likelihoods of HGAD (Yao et al., 2024), mirrored. Good positions of defective images are in neither of them.

    Returns:
        `edges` `(N_BINS + 1,)`, which all classes share, and for each class `normal` and `defective`, shares `(N_BINS,)`,
        and `overlap`, the area that both have in common, 0 to 1. Values beyond the edges count in the outermost bins.
    """
    values: dict[str, tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]] = {}
    for image in images:
        normal, defective = values.setdefault(image.class_name, ([], []))
        if not image.gt_label:
            normal.append(image.anomaly_map.ravel())
        elif image.mask is not None:
            defective.append(image.anomaly_map[_cells(read_mask(image.mask, image.size), image.anomaly_map.shape)])
    joined = {
        name: tuple(np.concatenate(part or [np.zeros(0, np.float32)]) for part in both) for name, both in values.items()
    }
    everything = np.concatenate([part for both in joined.values() for part in both])
    low, high = np.percentile(everything, (0.1, 99.5))
    edges = np.linspace(low, max(high, low + 1e-6), N_BINS + 1)
    classes = {}
    for name, both in sorted(joined.items()):
        normal_share, defective_share = (_shares(part, edges) for part in both)
        overlap = float(np.minimum(normal_share, defective_share).sum())
        classes[name] = {
            "normal": _rounded(normal_share), "defective": _rounded(defective_share), "overlap": round(overlap, 4),
        }  # fmt: skip
    return {"edges": [float(f"{edge:.6g}") for edge in edges], "classes": classes}


def _cells(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Cells of a map of which a defect covers at least a fifth; the most covered one of a defect that is too small for that."""
    share = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(share >= min(0.2, float(share.max())), np.bool_)


def _shares(values: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(1, len(values))


def _rounded(shares: NDArray[np.float64]) -> list[float]:
    return [round(float(share), 5) for share in shares]
