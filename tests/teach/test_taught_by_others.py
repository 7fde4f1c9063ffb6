"""Few pictures: each is scored by a model that the others teach, so that the promise holds with ten."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.teach import centres, positions
from edgead.teach.base import Base, FormName
from edgead.teach.features import FeatureNet, Features, LevelInputs, fit_projections
from edgead.teach.form import Floats, LevelEnergies
from edgead.teach.scoring import Standardised, anomaly_maps, pooled, standardise
from edgead.teach.taught_by_others import maps_by_others

AMOUNT, RIDGE, SEED, N_CENTRES, FRACTION = 0.8, 1e-3, 0, 20, 0.05


def model_of(
    base: Base, pictures: list[Features], form: FormName, own_share: float = 1.0
) -> tuple[Standardised, list[Floats]]:
    """Head of a model of these pictures, and the maps `(n, h, w)` by the fast left-out formula."""
    inputs = LevelInputs(base, fit_projections(base, pictures))
    levels = [list(level) for level in zip(*(inputs(picture) for picture in pictures), strict=True)]
    found: list[LevelEnergies] = []
    for level in levels:
        if form == "positions":
            found.append(positions.energies(positions.gather(level), (), (), amount=AMOUNT, ridge=RIDGE))
        else:
            found.append(centres.energies(centres.fit(level, N_CENTRES, ridge=RIDGE, seed=SEED), level, (), ()))
    head = standardise(base.manifest, found, own_share)
    return head, list(head.maps)


def maps_of(
    base: Base, pictures: list[Features], new: list[Features], form: FormName, own_share: float = 1.0
) -> Floats:
    """Maps `(m, h, w)` of new pictures, by the constants that a taught bundle stores."""
    inputs = LevelInputs(base, fit_projections(base, pictures))
    levels = [list(level) for level in zip(*(inputs(one) for one in pictures), strict=True)]
    of_new = [np.stack(level) for level in zip(*(inputs(one) for one in new), strict=True)]
    own = []
    for level, x in zip(levels, of_new, strict=True):
        if form == "positions":
            graph = positions.constants(positions.gather(level), amount=AMOUNT, ridge=RIDGE).graph
            z = np.matmul((x - graph["mean"][:, 0])[:, :, None, :], graph["weight_t"])[:, :, 0]
            own.append(np.square(z).mean(axis=2))
        else:
            graph = centres.constants(centres.fit(level, N_CENTRES, ridge=RIDGE, seed=SEED)).graph
            z = x @ graph["whitening"][:, :, 0, 0].T + graph["offset"]
            affinity = z @ graph["affinity"][:, :, 0, 0].T + graph["norms"]
            own.append((np.square(z).sum(axis=2) - affinity.max(axis=2)) / z.shape[2])
    return anomaly_maps(base.manifest, own, model_of(base, pictures, form, own_share)[0])


def by_others(base: Base, pictures: list[Features], form: FormName, own_share: float = 1.0) -> Floats:
    return maps_by_others(
        base, pictures, form, amount=AMOUNT if form == "positions" else None, ridge=RIDGE, n_centres=N_CENTRES, seed=SEED,
        own_share=own_share,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["positions", "centres"])
def test_a_left_out_picture_is_new_to_the_model(base: Base, pictures: NDArray[np.uint8], form: FormName) -> None:
    """The map of each picture is that of a new picture under the model of the others."""
    net = FeatureNet(base, 1)
    features = [net(picture) for picture in pictures[:7]]
    found = by_others(base, features, form, own_share=0.25)
    for index in (0, 4):
        others = [*features[:index], *features[index + 1 :]]
        expected = maps_of(base, others, [features[index]], form, own_share=0.25)[0]
        np.testing.assert_allclose(found[index], expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max())


def test_ten_pictures_keep_their_promise(base: Base) -> None:
    """Parts with traits of their own: the highest of ten left-out scores is exceeded by one in eleven new parts on average.

    The fast formula, which keeps each picture in what all positions share, realises a multiple of that.
    """
    random = np.random.default_rng(0)
    shapes = [picture.shape for picture in FeatureNet(base, 1)(np.zeros((*base.image_size, 3), np.uint8))]
    n, n_new = 10, 12

    def part() -> Features:
        return tuple(
            (5.0 * random.normal(size=(shape[0], 1, 1)) + random.normal(size=shape)).astype(np.float16)
            for shape in shapes
        )

    exact, fast = [], []
    for _ in range(12):
        parts, new = [part() for _ in range(n)], [part() for _ in range(n_new)]
        scores = pooled(maps_of(base, parts, new, "positions"), FRACTION)
        exact.append(np.mean(scores > pooled(by_others(base, parts, "positions"), FRACTION).max()))
        fast.append(np.mean(scores > pooled(np.stack(model_of(base, parts, "positions")[1]), FRACTION).max()))
    assert np.mean(exact) < 1 / (n + 1) + 0.06
    assert np.mean(fast) > 3 / (n + 1)
