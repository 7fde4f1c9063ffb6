"""Inputs of a closed form of several classes: good images and pseudo-defective copies, their features, and their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead.commands.training.backbone_session import BackboneSession
from edgead.commands.training.data import DRAWING, TrainingData
from edgead.commands.training.device import choose_device
from edgead.commands.training.form_inputs import count_pseudo
from edgead.commands.training.needs import feature_folder, memory_limit
from edgead.commands.training.together import together
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.imaging import Image
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.models.backbone import Backbone
    from edgead.train.distributed import World
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Rows

# Row of features that belong to no image any more.
LEFT_OUT = -1


@dataclass(frozen=True)
class ClassImages:
    """Good images of some classes and their pseudo-defective copies; rows number the good images and then the copies.

    Attributes:
        names: Names of the classes.
        good: Good images, class by class.
        members: Rows of the good images of each class.
        pseudo: Row of the good image behind each copy, and of the image that it borrows from.
    """

    names: tuple[str, ...]
    good: tuple[Sample, ...]
    members: tuple[tuple[int, ...], ...]
    pseudo: tuple[tuple[int, int], ...]

    def rows_of(self, classes: Sequence[int]) -> list[int]:
        """Rows of some classes, given by index, and of their copies."""
        good = [row for index in classes for row in self.members[index]]
        known = set(good)
        return good + [len(self.good) + number for number, (origin, _) in enumerate(self.pseudo) if origin in known]

    def without(self, rows: Collection[int]) -> ClassImages:
        """The images but some good ones, given by row, and without the copies of these or with parts of them."""
        kept = [row for row in range(len(self.good)) if row not in rows]
        place = {row: number for number, row in enumerate(kept)}
        return ClassImages(
            self.names,
            tuple(self.good[row] for row in kept),
            tuple(tuple(place[row] for row in own if row in place) for own in self.members),
            tuple((place[origin], place[donor]) for origin, donor in self.pseudo if origin in place and donor in place),
        )


@dataclass(frozen=True)
class ClassFeatures:
    """Features of some rows of the images of some classes.

    Attributes:
        images: The images.
        store: Features.
        rows: Row of each of them.
    """

    images: ClassImages
    store: FeatureStore
    rows: tuple[int, ...]

    def of_class(self, index: int, groups: Sequence[int]) -> Rows:
        """Rows of the store for the fit of a class.

        Args:
            index: Index of the class.
            groups: Group of each good image.
        """
        from edgead.train.left_out import Rows

        place, n_good = {row: number for number, row in enumerate(self.rows)}, len(self.images.good)
        members = self.images.members[index]
        in_class = {row: number for number, row in enumerate(members)}
        copies = [
            (place[n_good + number], in_class[origin])
            for number, (origin, _) in enumerate(self.images.pseudo)
            if origin in in_class
        ]
        return Rows(
            tuple(place[row] for row in members),
            tuple(copy for copy, _ in copies),
            tuple(origin for _, origin in copies),
            tuple(groups[row] for row in members),
        )

    def without(self, rows: Collection[int]) -> ClassFeatures:
        """The features but those of some good images, given by row, and of their copies; see `ClassImages.without`."""
        images, n_good = self.images.without(rows), len(self.images.good)
        good = [row for row in range(n_good) if row not in rows]
        copies = [n for n, pair in enumerate(self.images.pseudo) if not any(row in rows for row in pair)]
        new = {row: number for number, row in enumerate((*good, *(n_good + n for n in copies)))}
        return ClassFeatures(images, self.store, tuple(new.get(row, LEFT_OUT) for row in self.rows))


def class_images(config: Config, data: TrainingData, names: tuple[str, ...]) -> ClassImages:
    """All good images of some classes, however they are split, and which of them get pseudo-defective copies."""
    split = data.split
    good = tuple(
        sorted(
            (*split.fit, *split.early_stop, *split.threshold),
            key=lambda sample: (names.index(sample.class_name), sample.name),
        )
    )
    members = [tuple(row for row, sample in enumerate(good) if sample.class_name == name) for name in names]
    pseudo = tuple(pair for own in members for pair in _pseudo_origins(config, own))
    return ClassImages(names, good, tuple(members), pseudo)


def read_features(
    config: Config, data: TrainingData, images: ClassImages, rows: Sequence[int], backbone: Backbone,
    session: BackboneSession | None, run: Path, progress: Progress, world: World | None = None,
) -> ClassFeatures:  # fmt: skip
    """Features of some rows.

    Args:
        config: All settings.
        data: Reader of images at the input size of the backbone.
        images: Images of the classes.
        rows: Rows to read, as `ClassImages` numbers them.
        backbone: Backbone.
        session: Backbone in ONNX Runtime; None for one on a GPU.
        run: Folder of the run.
        progress: Receiver of progress.
        world: Processes that compute them together; None = this one alone.
    """
    import torch

    from edgead.train.features import FeatureStore, extract_features, feature_key

    n, seed = len(images.good), config.train.seed

    def read(place: int) -> Image:
        row = rows[place]
        if row < n:
            return data.read(images.good[row])
        origin, donor = images.pseudo[row - n]
        return data.read_pseudo(images.good[origin], images.good[donor], (seed, origin, row - n))

    device = choose_device(config.train.device)
    which = [name for name, own in zip(images.names, images.members, strict=True) if own[0] in set(rows)]
    content = f"{data.digest}/{seed}/classes/{DRAWING}/{len(images.pseudo)}/{'|'.join(which)}/{len(rows)}"
    task = f"Features at {data.image_size[0]} px"
    found = extract_features(
        session or backbone.to(device),
        read,
        len(rows),
        device=device,
        memory_limit=0 if config.train.cache_dir else memory_limit(config, 1),
        folder=feature_folder(config, run),
        key=feature_key(backbone, content, data.preprocessing),
        progress=lambda done, total: progress.update(task, done, total),
        **together(world),
    )
    backbone.cpu()
    store = FeatureStore(found.arrays, torch.device("cpu"))
    return ClassFeatures(images, store, tuple(rows))


def count_class_pseudo(config: Config, data: TrainingData) -> int:
    """Number of pseudo-defective copies of all classes."""
    split = data.split
    counts = Counter(sample.class_name for sample in (*split.fit, *split.early_stop, *split.threshold))
    return sum(count_pseudo(config, count) for count in counts.values())


def _pseudo_origins(config: Config, members: Sequence[int]) -> list[tuple[int, int]]:
    """Images of a class that get a pseudo-defective copy, spread over all of them, and the image each borrows from."""
    n = len(members)
    wanted = count_pseudo(config, n)
    random = np.random.default_rng(config.train.seed)
    order = [int(i) for _ in range(-(-wanted // n)) for i in random.permutation(n)][:wanted]
    return [(members[i], members[(i + 1) % n]) for i in order]
