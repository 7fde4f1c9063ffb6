"""Composition of an image: what it shows counts, where it lies does not."""

from __future__ import annotations

import torch

from edgead.models.composition import LARGEST_OFFSET, Composition

CHANNELS, SIDE, WORDS = 6, 5, 4


def made() -> Composition:
    torch.manual_seed(0)
    found = Composition("8", CHANNELS, (SIDE, SIDE), WORDS)
    for name in ("word_weight", "word_bias", "whitening"):
        found.get_buffer(name).normal_()
    found.get_buffer("mean").fill_(1.0 / WORDS)
    found.get_buffer("gain").fill_(3.0)
    return found


def test_where_things_lie_does_not_matter() -> None:
    """Features in another order of positions have the same shares and the same offset."""
    composition, features = made(), torch.randn(7, CHANNELS, SIDE, SIDE)
    order = torch.randperm(SIDE * SIDE)
    moved = features.flatten(2)[:, :, order].reshape(features.shape)
    torch.testing.assert_close(composition({"8": moved}), composition({"8": features}))
    torch.testing.assert_close(composition.shares({"8": features}).sum(dim=1), torch.ones(7))


def test_the_offset_begins_beyond_ordinary_images_and_stays_finite() -> None:
    """Up to the start an image is left as it is; beyond it the offset grows with the gain, up to a limit."""
    composition, features = made(), {"8": torch.randn(7, CHANNELS, SIDE, SIDE)}
    far = composition.distance(composition.shares(features))
    composition.get_buffer("start").copy_(far.median())
    expected = torch.relu(3.0 * (far - far.median()))
    assert (expected == 0).sum() == 4
    torch.testing.assert_close(composition(features), expected)
    composition.get_buffer("gain").fill_(1e9)
    assert composition(features).max() == LARGEST_OFFSET


def test_map_and_score_rise_alike() -> None:
    """The score stays the mean of the largest values of the map, and further outputs stay."""
    composition, features = made(), {"8": torch.randn(3, CHANNELS, SIDE, SIDE)}
    maps = torch.randn(3, SIDE, SIDE)
    raised, score, other = composition.raised(features, (maps, maps.flatten(1).amax(dim=1), maps[:, 0]))
    assert (composition(features) > 0).all()
    torch.testing.assert_close(score, raised.flatten(1).amax(dim=1))
    assert other is not maps
    torch.testing.assert_close(other, maps[:, 0])
