"""Inputs of a closed form of several classes: features of good images and pseudo-defective copies, and their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead.commands.training.backbone_session import BackboneSession
from edgead.commands.training.data import TrainingData
from edgead.commands.training.device import choose_device
from edgead.commands.training.form_search import count_pseudo
from edgead.commands.training.needs import feature_folder, memory_limit
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.imaging import Image
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.models.backbone import Backbone
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Rows


def rows_of_class(members: Sequence[int], n_good: int, origins: Sequence[int], groups: Sequence[int]) -> Rows:
    """Rows of a class for its fit.

    Args:
        members: Rows of its good images.
        n_good: Number of good images of all classes, which are followed by the pseudo-defective copies.
        origins: Good image behind each copy.
        groups: Group of each good image.
    """
    from edgead.train.left_out import Rows

    place = {row: index for index, row in enumerate(members)}
    copies = [index for index, origin in enumerate(origins) if origin in place]
    return Rows(
        tuple(members),
        tuple(n_good + index for index in copies),
        tuple(place[origins[index]] for index in copies),
        tuple(groups[row] for row in members),
    )


def read_features(
    config: Config,
    data: TrainingData,
    good: Sequence[Sample],
    pseudo: Sequence[tuple[int, int]],
    backbone: Backbone,
    session: BackboneSession | None,
    run: Path,
    progress: Progress,
) -> FeatureStore:
    """Features of good images, followed by those of pseudo-defective copies.

    Args:
        config: All settings.
        data: Reader of images.
        good: Good images.
        pseudo: Index in `good` of the image behind each copy, and of the image that it borrows from.
        backbone: Backbone.
        session: Backbone in ONNX Runtime; None for one on a GPU.
        run: Folder of the run.
        progress: Receiver of progress.
    """
    import torch

    from edgead.train.features import FeatureStore, extract_features, feature_key

    n, seed = len(good), config.train.seed

    def read(index: int) -> Image:
        if index < n:
            return data.read(good[index])
        origin, donor = pseudo[index - n]
        return data.read_pseudo(good[origin], good[donor], (seed, origin, index - n))

    device = choose_device(config.train.device)
    content = f"{data.digest}/{seed}/classes/{len(pseudo)}"
    found = extract_features(
        session or backbone.to(device),
        read,
        n + len(pseudo),
        device=device,
        memory_limit=0 if config.train.cache_dir else memory_limit(config, 1),
        folder=feature_folder(config, run),
        key=feature_key(backbone, content, data.preprocessing),
        progress=lambda done, total: progress.update("Features", done, total),
    )
    backbone.cpu()
    return FeatureStore(found.arrays, torch.device("cpu"))


def pseudo_origins(config: Config, members: Sequence[int]) -> list[tuple[int, int]]:
    """Images of a class that get a pseudo-defective copy, spread over all of them, and the image each borrows from."""
    n = len(members)
    wanted = count_pseudo(config, n)
    random = np.random.default_rng(config.train.seed)
    order = [int(i) for _ in range(-(-wanted // n)) for i in random.permutation(n)][:wanted]
    return [(members[i], members[(i + 1) % n]) for i in order]


def count_class_pseudo(config: Config, data: TrainingData) -> int:
    """Number of pseudo-defective copies of all classes."""
    split = data.split
    counts = Counter(sample.class_name for sample in (*split.fit, *split.early_stop, *split.threshold))
    return sum(count_pseudo(config, count) for count in counts.values())
