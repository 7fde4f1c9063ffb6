"""Changes of light, focus, compression and position: none at strength zero, stronger with the strength, always the same."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.data.variations import VARIATIONS, VARIED, change_image, drawn_change, generator_of, is_grey, vary
from edgead.imaging import Image

INPUT = (32, 48)


def picture(seed: int, height: int = 60, width: int = 80, *, grey: bool = False) -> Image:
    """A smooth random picture without black or white areas."""
    values = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(height, width, 3)), (0, 0), 3) * 150 + 110
    image = np.clip(values, 20, 200).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(image[:, :, :1], 3, axis=2)) if grey else image


def changed(image: Image, name: str, strength: float, number: int = 0) -> Image:
    return change_image(image, name, strength, generator_of(0, name, number), INPUT)


def distance(a: Image, b: Image) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


def test_there_are_enough_changes() -> None:
    """Ten changes for grey pictures, five rising strengths each, and a stated range that one of them reaches."""
    assert sum(one.for_grey for one in VARIATIONS.values()) == 10
    for one in VARIATIONS.values():
        assert len(one.strengths) == 5
        assert list(one.strengths) == sorted(one.strengths)
        assert one.mild in one.strengths


@pytest.mark.parametrize("name", VARIATIONS)
def test_strength_zero_is_the_image_itself(name: str) -> None:
    """Without strength no pixel changes, and a small strength changes little."""
    image = picture(0)
    assert np.array_equal(changed(image, name, 0.0), image)
    assert distance(changed(image, name, 0.01 * VARIATIONS[name].strengths[0]), image) < 1.0


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000), name=st.sampled_from(list(VARIATIONS)), share=st.floats(0.01, 1.0), grey=st.booleans(),
    height=st.integers(16, 70), width=st.integers(16, 70),
)  # fmt: skip
def test_changed_images_are_images(seed: int, name: str, share: float, grey: bool, height: int, width: int) -> None:
    """Every change of every image gives uint8 of the same shape, leaves the image as it was, and grey stays grey."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    image = np.ascontiguousarray(np.repeat(image[:, :, :1], 3, axis=2)) if grey else image
    before = image.copy()
    result = changed(image, name, share * VARIATIONS[name].strengths[-1], seed)
    assert (result.dtype, result.shape) == (image.dtype, image.shape)
    assert np.array_equal(image, before)
    assert is_grey(result) >= grey


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from(list(VARIATIONS)))
def test_a_larger_strength_changes_more(seed: int, name: str) -> None:
    """The mean difference to the image rises over the five strengths: what is drawn does not depend on the strength."""
    image = picture(seed)
    distances = [distance(changed(image, name, strength, seed), image) for strength in VARIATIONS[name].strengths]
    assert distances[0] > 0.0
    assert all(a < b for a, b in itertools.pairwise(distances)), distances


@pytest.mark.parametrize("name", VARIATIONS)
def test_number_and_seed_decide(name: str) -> None:
    """The same seed and number give the same image; over eight numbers the draws differ, but for blur and compression."""
    image = picture(1)
    copies = [changed(image, name, VARIATIONS[name].mild, number) for number in range(8)]
    assert np.array_equal(copies[3], changed(image, name, VARIATIONS[name].mild, 3))
    assert (len({copy.tobytes() for copy in copies}) > 1) == (name not in ("blur", "jpeg"))


def test_units_are_physical() -> None:
    """Gain, gamma, shading, colour and noise change grey levels by the stated amount."""
    flat = np.full((64, 64, 3), 100, np.uint8)
    flat[:, :, 2] = 101  # not grey
    numbers = range(20)

    def means(name: str, strength: float) -> set[int]:
        return {round(float(changed(flat, name, strength, number)[:, :, 0].mean())) for number in numbers}

    assert means("gain", 30) == {70, 130}
    assert means("gamma", 0.25) == {round(255 * (100 / 255) ** power) for power in (0.8, 1.25)}
    assert means("colour", 10) == {90, 110}
    assert means("shading", 20) == {100}
    shaded = changed(flat, "shading", 20)[:, :, 0]
    assert (int(shaded.min()), int(shaded.max())) == (90, 110)
    noise = changed(flat, "noise", 8)[:, :, 0].astype(float)
    assert float(noise.std()) == pytest.approx(8, rel=0.05)


def test_shifts_are_in_pixels_of_the_input() -> None:
    """Two pixels of an input of half the size are four pixels of the image, whatever the direction."""
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 50] = 255
    spot = np.asarray(cv2.GaussianBlur(image, (0, 0), 3) * 8, np.uint8)
    shifted = change_image(spot, "shift", 2, generator_of(0, "shift", 0), (50, 50))
    weights = shifted[:, :, 0].astype(float)
    y, x = (float((weights * place).sum() / weights.sum()) for place in np.mgrid[:101, :101])
    assert float(np.hypot(y - 50, x - 50)) == pytest.approx(4.04, abs=0.05)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), strength=st.floats(0.0, 2.0), grey=st.booleans())
def test_a_random_change_gives_an_image(seed: int, strength: float, grey: bool) -> None:
    """It is uint8 of the same shape, the same for the same generator, grey if the image is, itself at strength 0."""
    image = picture(seed, grey=grey)
    first, again = (vary(image, generator_of(0, "vary", seed), strength, INPUT) for _ in range(2))
    assert (first.dtype, first.shape) == (image.dtype, image.shape)
    assert np.array_equal(first, again)
    assert is_grey(first) >= grey
    assert strength > 0.0 or np.array_equal(first, image)


@pytest.mark.parametrize("grey", [False, True])
def test_random_changes_are_of_every_kind_and_mild(grey: bool) -> None:
    """Each copy is the image after one change at the end of its stated range; over many copies, every kind that fits appears."""
    image = picture(2, grey=grey)
    kinds = [name for name in VARIED if VARIATIONS[name].for_grey or not grey]
    found = set()
    for number in range(60):
        copy = vary(image, generator_of(0, "vary", number), 1.0, INPUT)
        assert 0.0 < distance(copy, image) < 60.0
        random = generator_of(0, "vary", number)
        name = drawn_change(image, random)
        assert np.array_equal(copy, change_image(image, name, VARIATIONS[name].mild, random, INPUT))
        found.add(name)
    assert found == set(kinds)
