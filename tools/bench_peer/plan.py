"""What is measured: rows, settings and the images of a set."""

from __future__ import annotations

import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.dataset import Sample

# before and after the peers, so that a machine that slows down in between shows
ROWS = ("edgead-same-size", "padim", "patchcore", "edgead", "fastflow", "efficientad", "edgead-same-size-again")
NAMES = {
    "edgead-same-size": "edgead at the same size",
    "edgead": "edgead, its own size",
    "padim": "anomalib PaDiM",
    "patchcore": "anomalib PatchCore",
    "fastflow": "anomalib FastFlow",
    "efficientad": "anomalib EfficientAD",
}
QUICK_IMAGES = 40  # fewer have too few positions at 128 px for edgead's centres


@dataclass(frozen=True)
class Plan:
    """Settings that change results; a row measured with others is measured again.

    Attributes:
        size: Side of the peers' square input and of edgead's first row, in px.
        held_out: Share of the good images that anomalib's threshold is made of.
        batch: Images per batch of the peers.
        coreset: Share of the patches that PatchCore keeps.
        epochs: Epochs of FastFlow; None = until its time is over.
        train_minutes: Time after which FastFlow and EfficientAD stop training.
        budget_minutes: Time after which a row is ended.
        threads: CPU threads.
        seed: Random seed.
        rounds: Rounds of the latency measurement.
        runs: Calls per round.
        n_images: Most training, good test and defective test images; None = all.
    """

    size: int = 256
    held_out: float = 0.1
    batch: int = 32
    coreset: float = 0.01
    epochs: int | None = None
    train_minutes: float = 10
    budget_minutes: float = 30
    threads: int = 2
    seed: int = 0
    rounds: int = 5
    runs: int = 50
    n_images: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Settings as stored with each row."""
        return asdict(self)


@dataclass(frozen=True)
class Images:
    """Images of one set, linked in a folder of the form that both sides read."""

    name: str
    folder: Path
    test: tuple[Sample, ...]
    n_train: int


def link_images(root: Path, folder: Path, n_images: int | None, seed: int) -> Images:
    """Link the images of a set into `train/good`, `test/KIND` and `ground_truth/KIND`.

    Args:
        root: Data set with a training and a test part.
        folder: Folder to make; links of an earlier run are kept.
        n_images: Most images of each part, drawn at random; None = all.
        seed: Random seed of the draw.
    """
    source = choose_dataset(root, FolderRoles())
    good = [sample for sample in source.test if not sample.gt_label]
    bad = [sample for sample in source.test if sample.gt_label]
    chosen = [_some(list(source.train), n_images, seed), _some(good, n_images, seed), _some(bad, n_images, seed)]
    for sample in (sample for part in chosen for sample in part):
        part = "train" if sample in chosen[0] else "test"
        _link(sample.path, folder / part / sample.defect / sample.path.name)
        if sample.mask_path is not None:
            _link(sample.mask_path, folder / "ground_truth" / sample.defect / sample.mask_path.name)
    linked = choose_dataset(folder, FolderRoles())
    return Images(root.name, folder, linked.test, len(linked.train))


def _some(samples: list[Sample], n: int | None, seed: int) -> list[Sample]:
    return samples if n is None else random.Random(seed).sample(samples, min(n, len(samples)))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        os.symlink(source.resolve(), target)
