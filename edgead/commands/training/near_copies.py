"""Near-copies among the images held out for the threshold: a picture stored or taken twice is no independent image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.data.copies import are_near_copies
from edgead.data.dataset import Sample
from edgead.data.split import MIN_THRESHOLD_IMAGES, Split
from edgead.imaging import Image

if TYPE_CHECKING:
    from edgead.models.detector import Detector

BATCH = 8
# Whitened features of different parts have a cosine below 0.3. Those of several photographs of a part, or of images of one
# lot, have more (up to 0.94 on solar cells), and so the pictures themselves are compared too.
SIMILAR = 0.3


@dataclass(frozen=True)
class Independent:
    """Held-out images that count for the threshold.

    Attributes:
        kept: Images of the threshold, without near-copies of each other or of any other image of the training.
        copies: Near-copies, each with the image that it is a copy of.
        too_few: Classes that have near-copies in `kept` because fewer than 5 images are independent, with their number.
    """

    kept: tuple[Sample, ...]
    copies: tuple[tuple[Sample, Sample], ...]
    too_few: dict[str, int]

    def notes(self) -> Iterator[str]:
        """Sentences for the user; none without near-copies."""
        if not self.copies:
            return
        copy, original = self.copies[0]
        n_all = len({*self.kept, *(sample for sample, _ in self.copies)})
        yield (
            f"{len(self.copies)} of {n_all} images behind the threshold are near-copies (encoded again, "
            f"resized or taken twice), such as {copy.name} of {original.name}: {n_all - len(self.copies)} independent ones remain."
        )
        for name, count in self.too_few.items():
            yield (
                f"Warning: class {name} has {count} independent images for its threshold, which needs "
                f"{MIN_THRESHOLD_IMAGES}: near-copies make up the number, and the threshold holds for these images only."
            )


def independent_images(
    split: Split,
    read: Callable[[Sample], Image],
    own: NDArray[np.float16],
    others: Sequence[NDArray[np.float16]],
) -> Independent:
    """Leave out near-copies from the threshold images of a split.

    Args:
        split: Split whose threshold images are examined.
        read: Function that reads an image at input size.
        own: Whitened features of the threshold images, one row each.
        others: Whitened features `(n, ...)` of each level for the images to fit and to stop by, in this order.
    """
    known = (*split.fit, *split.early_stop)
    candidates = _similar(own, others, len(known))
    cache: dict[Sample, Image] = {}

    def image(sample: Sample) -> Image:
        if sample not in cache:
            cache[sample] = read(sample)
        return cache[sample]

    every = (*known, *split.threshold)
    copies: dict[Sample, Sample] = {}
    for sample, similar in zip(split.threshold, candidates, strict=True):
        for other in (every[index] for index in similar):
            if other not in copies and are_near_copies(image(sample), image(other)):
                copies[sample] = other
                break
    return _with_enough(split.threshold, copies)


def whitened_features(
    model: Detector, samples: Sequence[Sample], read: Callable[[Sample], Image]
) -> NDArray[np.float16]:
    """Whitened features of images in all levels, one row each."""
    import torch

    device = next(model.parameters()).device
    rows = []
    with torch.no_grad():
        for start in range(0, len(samples), BATCH):
            images = np.stack([read(sample) for sample in samples[start : start + BATCH]])
            features = model.features(torch.from_numpy(images).to(device))
            levels = [level.whitened(features).flatten(1) for level in model.levels]
            rows.append(torch.cat(levels, dim=1).half().cpu().numpy())
    return np.concatenate(rows)


def _similar(own: NDArray[np.float16], others: Sequence[NDArray[np.float16]], n_others: int) -> list[list[int]]:
    """Rows similar to each row of `own`: indices below `n_others` are rows of `others`, the rest earlier rows of `own`."""
    mine = _unit(own)
    found: list[list[int]] = [[] for _ in mine]
    for start in range(0, n_others, BATCH):
        rows = [
            array[start : start + BATCH][: n_others - start].reshape(-1, int(np.prod(array.shape[1:])))
            for array in others
        ]
        for i, j in np.argwhere(mine @ _unit(np.concatenate(rows, axis=1)).T > SIMILAR):
            found[i].append(start + int(j))
    for i, j in np.argwhere(np.tril(mine @ mine.T, -1) > SIMILAR):
        found[i].append(n_others + int(j))
    return found


def _unit(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    values = rows.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)  # type: ignore[no-any-return]


def _with_enough(threshold: Sequence[Sample], copies: dict[Sample, Sample]) -> Independent:
    """Keep near-copies where a class would otherwise have fewer images than a threshold needs."""
    counts = Counter({sample.class_name: 0 for sample in threshold})
    counts.update(sample.class_name for sample in threshold if sample not in copies)
    too_few = {name: count for name, count in sorted(counts.items()) if count < MIN_THRESHOLD_IMAGES}
    missing = {name: MIN_THRESHOLD_IMAGES - count for name, count in too_few.items()}
    kept = []
    for sample in threshold:
        if sample in copies:
            if missing.get(sample.class_name, 0) == 0:
                continue
            missing[sample.class_name] -= 1
        kept.append(sample)
    return Independent(tuple(kept), tuple(copies.items()), too_few)
