"""Groups of good images that are left out together: near-copies, and several photographs of one part."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.near_copies import independent_images
from edgead.data.dataset import Sample
from edgead.data.split import Split
from edgead.errors import ConfigError
from edgead.imaging import Image
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.features import FeatureStore

BATCH = 16
ALIKE = 0.3
SHRINKAGE = 0.2
MEMORY = 1_000_000_000
RIDGE = 0.01


@dataclass(frozen=True)
class Groups:
    """Groups of images.

    Attributes:
        of_image: Group of each image: the index of its first member.
        counted: Images that count for the threshold, rising: the first of each group, and further near-copies where a class
            would otherwise have fewer than a threshold needs.
    """

    of_image: tuple[int, ...]
    counted: tuple[int, ...]

    def mates(self, images: Collection[int]) -> set[int]:
        """All images of the groups of some images."""
        names = {self.of_image[index] for index in images}
        return {index for index, name in enumerate(self.of_image) if name in names}

    def without(self, images: Collection[int]) -> Groups:
        """The groups without some images, which are whole groups; those after them move up."""
        kept = [index for index in range(len(self.of_image)) if index not in images]
        place = {index: number for number, index in enumerate(kept)}
        return Groups(
            tuple(place[self.of_image[index]] for index in kept),
            tuple(place[index] for index in self.counted if index in place),
        )


def image_groups(
    model: Detector,
    store: FeatureStore,
    samples: Sequence[Sample],
    read: Callable[[Sample], Image],
    pattern: str | None,
    progress: Progress,
    rows: Sequence[int] | None = None,
) -> Groups:
    """Find the images that are left out together.

    Args:
        model: Detector whose levels say which features tell images apart.
        store: Features of the images.
        samples: Good images.
        read: Function that reads an image at input size.
        pattern: Regular expression on names; images of a class with the same match, or first group of it, show one part.
        progress: Receives notes.
        rows: Row of the store for each image; None = the first ones.

    Raises:
        ConfigError: If the pattern is not a regular expression or matches no name.
    """
    groups = list(range(len(samples)))
    split = Split(fit=(), early_stop=(), threshold=tuple(samples))
    whitened = _whitened(model, store, range(len(samples)) if rows is None else rows)
    found = independent_images(split, read, whitened, [])
    for note in found.notes():
        progress.note(note)
    index_of = {sample: index for index, sample in enumerate(samples)}
    for copy, original in found.copies:
        _join(groups, index_of[copy], index_of[original])
    needed = {index_of[sample] for sample in found.kept if groups[index_of[sample]] != index_of[sample]}
    if pattern:
        _join_by_name(groups, samples, pattern, progress)
    of_image = tuple(_root(groups, index) for index in range(len(samples)))
    return Groups(of_image, tuple(sorted(set(of_image) | needed)))


def warn_of_twins(
    model: Detector, store: FeatureStore, fit: Sequence[int], others: Sequence[int], folder: Path, progress: Progress
) -> None:
    """Warn if single images resemble others: several photographs of each part.

    Only features that are whitened at each position tell, by a fit that has not seen the images it judges.

    Args:
        model: Detector with a linear map per position, which is set here.
        store: Features of the images.
        fit: Rows to fit.
        others: Rows that are compared with them.
        folder: Folder of arrays that do not fit in memory.
        progress: Receives the warning.
    """
    import torch

    from edgead.flows.linear import PositionLinear
    from edgead.models.gaussian import fit_position_gaussians, inverse_factor
    from edgead.train.start import Indices, resemblance, whitened_arrays

    with torch.no_grad():
        for level in model.levels:
            assert isinstance(level.start, PositionLinear)
            gaussians = fit_position_gaussians(level.inputs(batch) for batch in store.batches(fit, BATCH))
            level.start.weight.copy_(inverse_factor(gaussians.shrunk(SHRINKAGE, RIDGE)))
            level.start.mean.copy_(gaussians.mean)
    rows = (*fit, *others)
    arrays = whitened_arrays(model, store, rows, memory_limit=MEMORY, folder=folder)
    alike = resemblance(arrays, Indices(tuple(range(len(fit))), tuple(range(len(fit), len(rows))), ()))
    if alike > ALIKE:
        progress.note(
            f"Warning: good images closely resemble single others (median similarity {alike:.2f}; different parts give under "
            f"{ALIKE}). If each part was photographed several times, the threshold holds for these parts and may be too "
            "low for new ones: tell the parts apart with data.group_pattern, or add more different ones."
        )


def _whitened(model: Detector, store: FeatureStore, places: Sequence[int]) -> NDArray[np.float16]:
    """Features of each image whitened alike at all positions, without their mean at each position, one row each."""
    import torch

    from edgead.models.gaussian import inverse_factor
    from edgead.train.centre_fits import pooled_gaussian

    parts = []
    with torch.no_grad():
        for level in model.levels:
            _, covariance = pooled_gaussian(level, store, places)
            covariance.diagonal().add_(RIDGE * float(covariance.diagonal().mean()) + 1e-12)
            factor = inverse_factor(covariance[None])[0].float()
            rows = []
            for batch in store.batches(places, BATCH):
                x = level.inputs(batch).cpu().flatten(2)
                rows.append((factor @ x).half().flatten(1))
            values = torch.cat(rows)
            parts.append((values - values.float().mean(dim=0).half()).numpy())
    return np.concatenate(parts, axis=1)


def _join_by_name(groups: list[int], samples: Sequence[Sample], pattern: str, progress: Progress) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"data.group_pattern {pattern!r} is not a regular expression: {error}.", hint=r"For example part(\d+)_."
        ) from error
    first: dict[tuple[str, str], int] = {}
    matched = 0
    for index, sample in enumerate(samples):
        match = compiled.search(sample.name)
        if match is None:
            continue
        matched += 1
        _join(groups, index, first.setdefault((sample.class_name, match[1] if compiled.groups else match[0]), index))
    if not matched:
        raise ConfigError(
            f"data.group_pattern {pattern!r} matches no name; the first one is {samples[0].name}.",
            hint=r"For example part(\d+)_ for part12_a.png and part12_b.png.",
        )
    progress.note(
        f"{matched} images show {len(first)} parts by data.group_pattern: those of one part are left out together."
    )


def _root(groups: Sequence[int], index: int) -> int:
    while groups[index] != index:
        index = groups[index]
    return index


def _join(groups: list[int], one: int, other: int) -> None:
    first, second = sorted((_root(groups, one), _root(groups, other)))
    groups[second] = first
