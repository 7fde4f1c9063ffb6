"""Fits of several classes in one model: each is that of its class alone, and no image takes part in its own scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgead.evaluation.threshold import threshold_from_scores
from edgead.models.class_head import ClassHead
from edgead.models.hgad_closed_form import ClosedFormHgad, class_cost
from edgead.models.level import Level, LevelSpec
from edgead.train.class_fits import (
    ClassFit,
    FitOptions,
    choose_class_share,
    fits_of_class,
    judge_left_out,
    maps_of_classes,
    scale_of_scores,
    scored_by_others,
    set_class,
)
from edgead.train.cross_fit import FOLDS, MOST_GROUPS
from edgead.train.left_out import LeftOutScores, Rows, fit_positions, fitted_energies, gather_positions

from ..tiny import make_backbone
from .test_left_out import DoubleStore

CHANNELS, COUNT, FRACTION, RATE = 8, 20, 0.25, 0.1
SPEC = LevelSpec.parse("16")


@pytest.fixture(scope="module")
def fitted() -> tuple[ClosedFormHgad, DoubleStore, list[ClassFit], list[Rows]]:
    """Two classes of twenty images in a model, one of each form, in float64."""
    torch.manual_seed(0)
    backbone = make_backbone(("16",))
    channels, (h, w) = backbone.channels["16"], backbone.sizes["16"]
    noise = torch.randn(2 * COUNT, channels, h, w, dtype=torch.float64)
    noise[COUNT:] += 2.0
    store = DoubleStore(noise)
    rows = [Rows(tuple(range(start, start + COUNT)), (), (), tuple(range(COUNT))) for start in (0, COUNT)]
    torch.set_default_dtype(torch.float64)
    try:
        fits = [
            next(
                fits_of_class(
                    backbone,
                    [SPEC],
                    store,
                    own,
                    FitOptions((form,), (0.2,), 1e-3, (4,), 1e-2, (FRACTION,), 0, RATE),
                )
            )
            for form, own in zip(("positions", "centres"), rows, strict=True)
        ]
        model = ClosedFormHgad(
            backbone,
            [[SPEC]] * 2,
            ("positions", "centres"),
            centres=(4, 4),
            weights=[1.0],
            top_fractions=(FRACTION, FRACTION),
        )
        for index, fit in enumerate(fits):
            set_class(model, index, fit, FRACTION)
    finally:
        torch.set_default_dtype(torch.float32)
    return model, store, fits, rows


def test_a_class_is_fitted_as_if_it_were_alone(
    fitted: tuple[ClosedFormHgad, DoubleStore, list[ClassFit], list[Rows]],
) -> None:
    """Left-out energies of a class are those of a model of its images alone, so that a class can be added later."""
    _, store, fits, _ = fitted
    alone = DoubleStore(store.features[:COUNT])
    _, channels, h, w = store.features.shape
    level = Level(SPEC, {"16": channels}, {"16": (h, w)}, positions=True).double()
    own = Rows(tuple(range(COUNT)), (), (), tuple(range(COUNT)))
    expected = fit_positions(level, alone, own, gather_positions(level, alone, own), amount=0.2, ridge=1e-3)
    torch.testing.assert_close(fits[0].energies[0].left_out, expected.left_out, rtol=1e-12, atol=1e-12)


def test_no_image_takes_part_in_its_own_scale(
    fitted: tuple[ClosedFormHgad, DoubleStore, list[ClassFit], list[Rows]],
) -> None:
    """Class unknown, the score of an image is on the scale of the left-out scores of the others of its class; class given, on that of all."""
    model, store, fits, rows = fitted
    for index, fit in enumerate(fits):
        fitted = maps_of_classes(model, store, rows[index].good)
        found = judge_left_out(model.head, fitted, fit, index, FRACTION)
        scores = fit.scores.scores[FRACTION]
        for image in range(COUNT):
            others = np.delete(scores, image)
            # of 19 scores the second highest certifies 10 %, where a standard normal distribution has 1.2816
            expected = (scores[image] - others.mean()) / ((np.sort(others)[-2] - others.mean()) / 1.2815515655)
            # nothing but the own class explains these images
            assert found.scores[image] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert (found.predicted == index).all()
        offset, deviation = scale_of_scores(scores, fit.promised_rate)
        np.testing.assert_allclose(found.known_scores, (scores - offset) / deviation, rtol=1e-5, atol=1e-5)
        # the threshold of the class is that of a model of the class alone
        own, alone = (threshold_from_scores(one, 0.05).value for one in (found.known_scores, scores))
        assert (own * deviation + offset) == pytest.approx(alone, rel=1e-5)


def test_one_threshold_gives_every_class_the_promised_rate() -> None:
    """Scores with a short and with a long tail reach their own thresholds at the same values, for the promised rate and 5 %."""
    random = np.random.default_rng(0)
    for scores in (random.uniform(5.0, 6.0, 201_999), random.lognormal(0.0, 1.0, 201_999)):
        offset, deviation = scale_of_scores(scores[:1999], 0.005)
        scaled = (scores[1999:] - offset) / deviation
        # quantiles of a standard normal distribution
        assert np.mean(scaled > 2.5758) == pytest.approx(0.005, abs=0.003)
        assert np.mean(scaled > 1.6449) == pytest.approx(0.05, abs=0.012)
    # few images certify one rate alone
    assert scale_of_scores(np.arange(9.0), 0.005) == pytest.approx((4.0, 4.0 / 1.2816), rel=1e-4)
    # equal scores keep a deviation
    assert scale_of_scores(np.ones(300), 0.005)[1] > 0.0


def test_the_cost_of_a_class_is_what_it_adds() -> None:
    """Weights and products are counted as in the graph: 4 bytes for each value."""
    sizes, channels = {"16": (3, 4)}, {"16": CHANNELS}
    positions = class_cost([Level(SPEC, channels, sizes, positions=True)])
    assert positions.megabytes == pytest.approx(4e-6 * 12 * (64 + 8))
    assert positions.multiply_adds == 12 * 64
    centres = class_cost([Level(SPEC, channels, sizes, positions=False, centres=5)])
    assert centres.megabytes == pytest.approx(4e-6 * (64 + 8 + 5 * 9))
    assert centres.multiply_adds == 12 * (64 + 40)


@torch.no_grad()
@pytest.mark.parametrize(("mark", "expected"), [(False, 0.25), (True, 1.0)])
def test_the_share_that_tells_the_class_is_the_one_that_is_right(mark: bool, expected: float) -> None:
    """Large defects need the lowest values of the map; classes that differ in one mark need all of them."""
    torch.manual_seed(0)
    own = 0.1 * torch.rand(COUNT, 2, 4, 4)
    maps = [own.clone(), own.clone()]
    for index, images in enumerate(maps):
        if mark:
            images[:, 1 - index, 0, 0] += 9.0
        else:
            images[:, 1 - index] += 1.0
    defective = [images.clone() for images in maps]
    for index, images in enumerate(defective if not mark else ()):
        images[:, index, :3] += 9.0
    head = ClassHead([[(4, 4)]] * 2, [1.0], (FRACTION, FRACTION))
    fits = []
    for index, images in enumerate(maps):
        scores = LeftOutScores(images[:, index], defective[index][:, index], {FRACTION: np.linspace(0.0, 1.0, COUNT)})
        fits.append(ClassFit("positions", 0.2, [], head.heads[index], [], scores, RATE))
    found = choose_class_share(head, fits, [FRACTION] * 2, list(zip(maps, defective, strict=True)), (0.25, 1.0))
    assert head.class_share == expected
    assert found == 1.0


@pytest.mark.parametrize("form", ["positions", "centres"])
def test_few_images_of_a_class_are_scored_by_fits_on_the_others(form: str) -> None:
    """Maps and scores are those of a fit that never saw the image, in any constant, and the fit itself is unchanged."""
    torch.manual_seed(0)
    spec = LevelSpec.parse("16:5")
    backbone = make_backbone(("16",))
    channels, (h, w) = backbone.channels["16"], backbone.sizes["16"]
    store = DoubleStore(torch.randn(2 * COUNT, channels, h, w, dtype=torch.float64))
    # images of another class come first, and some copies of the good images last
    good, pseudo = tuple(range(5, COUNT)), tuple(range(COUNT, COUNT + 3))
    rows = Rows(good, pseudo, (0, 7, 14), tuple(range(len(good))))
    options = FitOptions((form,), (0.2,), 1e-3, (4,), 1e-2, (FRACTION, 1.0), 0, RATE)
    torch.set_default_dtype(torch.float64)
    try:
        (fit,) = fits_of_class(backbone, [spec], store, rows, options)
        before = [{k: v.clone() for k, v in part.state_dict().items()} for part in (*fit.levels, fit.head)]
        found = scored_by_others(fit, store, rows, options)
        for part, own in zip((*found.levels, found.head), before, strict=True):
            assert all(torch.equal(tensor, own[name]) for name, tensor in part.state_dict().items())
        for i in (0, 7):
            kept = [k for k in range(len(good)) if k % FOLDS != i % FOLDS]
            others = Rows(tuple(good[k] for k in kept), (), (), tuple(kept))
            (alone,) = fits_of_class(backbone, [spec], store, others, options)
            copy = rows.origin.index(i)
            maps, _ = alone.head([fitted_energies(level, store, [good[i], pseudo[copy]]) for level in alone.levels])
            torch.testing.assert_close(found.scores.maps[i], maps[0].float(), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found.scores.pseudo_maps[copy], maps[1].float(), rtol=1e-5, atol=1e-5)
            assert found.scores.scores[1.0][i] == pytest.approx(float(maps[0].mean()), rel=1e-4, abs=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)


def test_many_images_of_a_class_keep_the_fast_scores(
    fitted: tuple[ClosedFormHgad, DoubleStore, list[ClassFit], list[Rows]],
) -> None:
    """Another fit ten times over would take long, and changes little."""
    _, store, fits, rows = fitted
    options = FitOptions(("positions",), (0.2,), 1e-3, (4,), 1e-2, (FRACTION,), 0, RATE)
    many = Rows(tuple(range(COUNT)), (), (), tuple(range(MOST_GROUPS + 1)))
    assert scored_by_others(fits[0], store, many, options) is fits[0]
    assert scored_by_others(fits[0], store, rows[0], options).scores is not fits[0].scores
