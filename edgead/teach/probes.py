"""What a model found before it learned a false alarm: artificial defects as inputs of its levels, carried from version to version.

The inputs of the levels do not change when a picture is learned. They are computed once and stored in the bundle, so that each
further picture is judged in a moment, and always against what the first version found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgead.arrays import DamagedArraysError, load_arrays
from edgead.data.pseudo_defects import make_pseudo_defect
from edgead.errors import BundleError
from edgead.imaging import Image
from edgead.teach.closed_form import ClosedForm
from edgead.teach.form import Doubles, Floats

PROBES = "probes.npz"
GOOD, COPIES = 16, 3
# Places to which what a picture shows is moved.
MOVES = 32
# Pictures at a time, so that no array holds all of them in float32.
_AT_ONCE = 16
Halves = NDArray[np.float16]


@dataclass(frozen=True)
class Probes:
    """Good pictures and artificial defects, as inputs of the levels.

    Attributes:
        good: Inputs `(n, P, C)` of the good pictures, of each level.
        defects: Inputs `(m, P, C)` of their copies with an artificial defect.
        origin: Index of the picture that each copy was made from, `(m,)`.
        first_found: Which copies the first version found, `(m,)`.
        first_shares: Share of the moved defects (see `moved`) that the first version found at each position, `(P,)` of each
            level.
        kinds: What each learned picture adds to good ones where it differs, `(k, P, C)` of each level; elsewhere zero.
        kind_shares: Share of the places at which the model found that before it learned the picture, `(k,)`.
        reference: Inputs `(r, P, C)` of the bundle's reference images, of each level, on which every changed graph is
            compared with the scores computed without it; none as yet = `r` is 0.
    """

    good: Sequence[Halves]
    defects: Sequence[Halves]
    origin: NDArray[np.int64]
    first_found: NDArray[np.bool_]
    first_shares: Sequence[Floats]
    kinds: Sequence[Halves] = ()
    kind_shares: Sequence[float] = ()
    reference: Sequence[Floats] = ()

    def save(self, path: Path | BinaryIO) -> None:
        """Write the arrays to a temporary file, given by a path that ends with `.npz`, or open."""
        arrays = {
            "origin": self.origin, "first_found": self.first_found, "kind_shares": np.array(self.kind_shares, np.float32)
        }  # fmt: skip
        for name in ("good", "defects", "first_shares", "kinds", "reference"):
            arrays |= {f"{name}_{index}": value for index, value in enumerate(getattr(self, name))}
        np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub forbids any dict here

    def found(self, model: ClosedForm, threshold: float) -> NDArray[np.bool_]:
        """Which artificial defects `(m,)` score above a threshold."""
        return self.scores(model) > threshold

    def scores(self, model: ClosedForm) -> Doubles:
        """Scores `(m,)` of the artificial defects."""
        return model.scores(model.energies(self.defects))

    def share_found(self, model: ClosedForm, index: int, positions: Sequence[int], limit: float) -> Floats:
        """Share of the moved defects at each of some positions of a level whose map value there exceeds `limit`, `(p,)`."""
        added = moved(self.defects[index], self.good[index][self.origin])
        level, places = model.levels[index], np.asarray(positions, np.int64)
        inputs = self.good[index][:, places].astype(np.float32)[self.origin] + added[:, None]
        values = (level.energies(inputs, places) - level.mean.ravel()[places]) * level.gain.ravel()[places]
        return np.asarray((values > limit / len(model.levels)).mean(axis=0), np.float32)

    def kind_found(self, model: ClosedForm, kinds: Sequence[NDArray[Any]], threshold: float) -> Floats:
        """Share of the places at which something that looks like a learned picture would be found, `(k,)`.

        Args:
            model: The model.
            kinds: What each picture adds, `(k, P, C)` of each level.
            threshold: Image threshold.
        """
        shares = []
        for number in range(len(kinds[0])):
            # every place of the map is as likely
            places = np.random.default_rng(number).random((MOVES, 2))
            scores = [
                model.scores(model.energies(self._moved_kind(model, [kind[number] for kind in kinds], places, start)))
                for start in range(0, MOVES, _AT_ONCE)
            ]
            shares.append(float(np.mean(np.concatenate(scores) > threshold)))
        return np.asarray(shares, np.float32)

    def _moved_kind(self, model: ClosedForm, kind: Sequence[NDArray[Any]], places: Doubles, start: int) -> list[Floats]:
        """Inputs `(m, P, C)` of each level: good pictures with what a picture adds, at some of the places from `start` on."""
        found = []
        numbers = np.arange(start, min(start + _AT_ONCE, len(places)))
        for level, good, added in zip(model.levels, self.good, kind, strict=True):
            height, width = level.mean.shape
            field = added.astype(np.float32).reshape(height, width, -1)
            inputs = good[numbers % len(good)].astype(np.float32)
            for own, (y, x) in zip(inputs, places[numbers], strict=True):
                own += np.roll(field, (int(y * height), int(x * width)), axis=(0, 1)).reshape(own.shape)
            found.append(inputs)
        return found


def moved(changed: NDArray[Any], good: NDArray[Any]) -> Floats:
    """What changed pictures `(m, P, C)` add to good ones at the position where it is largest, `(m, C)`.

    Added to a good picture at another position, it stands for the same defect there, without a run of the backbone.
    """
    added = changed.astype(np.float32) - good.astype(np.float32)
    largest = np.square(added).sum(axis=2).argmax(axis=1)
    return np.asarray(added[np.arange(len(added)), largest], np.float32)


def make_probes(
    model: ClosedForm,
    inputs_of: Callable[[Image], list[Floats]],
    images: Sequence[Image],
    threshold: float,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Probes:
    """Probes from good pictures.

    Args:
        model: The model.
        inputs_of: Function from a picture `(h, w, 3)` at input size to the inputs `(1, P, C)` of the levels.
        images: Good pictures, 2 or more, of which the first 16 are used.
        threshold: Image threshold.
        on_step: Called with the number of pictures done and the total.
    """
    used = list(images[:GOOD])
    origin = np.array([index for index in range(len(used)) for _ in range(COPIES)], np.int64)
    total = len(used) + len(origin)
    good, defects = [], []
    for index, image in enumerate(used):
        good.append(_half(inputs_of(image)))
        for number in range(COPIES):
            random = np.random.default_rng((index, number))
            changed, _ = make_pseudo_defect(image, used[(index + 1) % len(used)], random)
            defects.append(_half(inputs_of(changed)))
            on_step(len(good) + len(defects), total)
    n = len(model.levels)
    probes = Probes(_joined(good, n), _joined(defects, n), origin, np.zeros(len(origin), bool), ())
    shares = [
        probes.share_found(model, index, range(level.mean.size), threshold) for index, level in enumerate(model.levels)
    ]
    none = [np.zeros((0, level.mean.size, level.channels), np.float16) for level in model.levels]
    no_reference = [one.astype(np.float32) for one in none]
    first_found = probes.found(model, threshold)
    return Probes(probes.good, probes.defects, origin, first_found, shares, none, (), no_reference)


def load_probes(path: Path, model: ClosedForm) -> Probes | None:
    """Probes of a bundle; None if it has none yet.

    Raises:
        BundleError: If they do not fit the model.
    """
    if not path.is_file():
        return None
    n = len(model.levels)
    lists = {name: [f"{name}_{index}" for index in range(n)] for name in ("good", "defects", "first_shares", "kinds")}
    sizes = [(level.mean.size, level.channels) for level in model.levels]
    # earlier versions have none
    references = [f"reference_{index}" for index in range(n)]
    try:
        arrays = load_arrays(
            path,
            ["origin", "first_found", "kind_shares", *(one for names in lists.values() for one in names)],
            optional=references,
        )
        found = {name: [arrays[one] for one in names] for name, names in lists.items()}
        found["reference"] = [
            arrays.get(name, np.zeros((0, *size), np.float32)) for name, size in zip(references, sizes, strict=True)
        ]
        fits = all(
            g.shape[1:] == d.shape[1:] == r.shape[1:] == size
            and s.shape == size[:1]
            and len(d) == len(arrays["origin"])
            and len(r) == len(found["reference"][0])
            for g, d, s, r, size in zip(
                found["good"], found["defects"], found["first_shares"], found["reference"], sizes, strict=True
            )
        )
        if not fits:
            raise DamagedArraysError("they do not fit the model")
    except DamagedArraysError as error:
        raise BundleError(f"{path} cannot be used: {error.message}", hint="Copy the bundle again.") from error
    return Probes(
        found["good"], found["defects"], arrays["origin"], arrays["first_found"], found["first_shares"],
        found["kinds"], arrays["kind_shares"].tolist(), found["reference"],
    )  # fmt: skip


def _half(inputs: Sequence[Floats]) -> list[Halves]:
    return [x[0].astype(np.float16) for x in inputs]


def _joined(pictures: Sequence[Sequence[Halves]], n_levels: int) -> list[Halves]:
    return [np.stack([picture[index] for picture in pictures]) for index in range(n_levels)]
