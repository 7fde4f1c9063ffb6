"""Training batches: every vector once, with its own position and class, and every sample in one process."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgead.models.detector import TrainingBatch
from edgead.train.batches import count_fiber_steps, load_batch, share_batch, split_fibers
from edgead.train.distributed import World

from ..tiny import CPU, make_model

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))


def tagged_batch(n_images: int, sizes: list[tuple[int, int]], coded: bool = True) -> TrainingBatch:
    """Whole maps whose vectors say where they are from: image, row, column; the code says row, column."""
    whitened, codes = [], []
    for h, w in sizes:
        image, row, column = torch.meshgrid(torch.arange(n_images), torch.arange(h), torch.arange(w), indexing="ij")
        whitened.append(torch.stack([image, row, column], dim=1).float())
        codes.append(torch.stack([row[0], column[0]])[None].float() if coded else None)
    return TrainingBatch(whitened, codes, [torch.arange(n_images) * 7 % 5] * len(sizes))


def vectors(level: Tensor) -> list[tuple[float, ...]]:
    """The columns of `(1, C, 1, n)`."""
    return [tuple(column) for column in level[0, :, 0].T.tolist()]


@given(n_images=st.integers(1, 6), sizes=st.lists(SIZES, min_size=1, max_size=3), steps=st.integers(1, 9))
def test_fibers_are_each_vector_once_with_its_own_position_and_class(
    n_images: int, sizes: list[tuple[int, int]], steps: int
) -> None:
    """Over all steps each vector of each level comes once, beside the code of its position and the class of its image."""
    batch = tagged_batch(n_images, sizes)
    found: list[Counter[tuple[float, ...]]] = [Counter() for _ in sizes]
    parts = list(split_fibers(batch, steps, torch.Generator().manual_seed(0)))
    assert len(parts) == steps
    for part in parts:
        for level, (x, code, label) in enumerate(zip(part.whitened, part.conditions, part.labels, strict=True)):
            assert code is not None
            assert x.shape == (1, 3, 1, x.shape[3])
            assert torch.equal(code[0, :, 0], x[0, 1:, 0])
            assert torch.equal(label, (x[:, 0].long() * 7 % 5))
            found[level].update(vectors(x))
    for level, (h, w) in enumerate(sizes):
        assert found[level] == Counter(
            (float(i), float(r), float(c)) for i in range(n_images) for r in range(h) for c in range(w)
        )
        counts = [part.whitened[level].shape[3] for part in parts]
        assert max(counts) - min(counts) <= 1


def test_fibers_come_from_random_images_and_positions() -> None:
    """A step mixes images and positions, differently for every seed and level, and the same for the same seed."""
    batch = tagged_batch(8, [(4, 4), (4, 4)])

    def first(seed: int) -> TrainingBatch:
        return next(iter(split_fibers(batch, 4, torch.Generator().manual_seed(seed))))

    one = first(0)
    assert len(one.whitened[0][0, 0, 0].unique()) >= 6
    assert not torch.equal(one.whitened[0], one.whitened[1])
    assert torch.equal(one.whitened[0], first(0).whitened[0])
    assert not torch.equal(one.whitened[0], first(1).whitened[0])


def test_fibers_without_codes() -> None:
    """A model without position codes gets none."""
    assert next(iter(split_fibers(tagged_batch(2, [(2, 2)], coded=False), 2, torch.Generator()))).conditions == [None]


@pytest.mark.parametrize(
    ("n_images", "fibers", "steps"),
    [([1], 64, 1), ([1], 63, 2), ([5, 4], 64, 5), ([4, 5], 100, 4), ([2, 1], 1, 16), ([1], 1, 16)],
)
def test_the_number_of_fiber_steps(n_images: list[int], fibers: int, steps: int) -> None:
    """Enough that none exceeds `fibers`, but no level, here of 64 and 16 positions, ever runs out of vectors."""
    assert count_fiber_steps(make_model(("8:6", "16:5")), n_images, fibers) == steps


@given(count=st.integers(1, 9), size=st.integers(1, 5), fibers=st.booleans())
def test_shares_are_disjoint_and_complete(count: int, size: int, fibers: bool) -> None:
    """Every sample of a batch is in the part of one process, with its code and class; the shares are those of the samples."""
    batch = tagged_batch(count, [(2, 3), (1, 1)])
    if fibers:
        batch = next(iter(split_fibers(tagged_batch(count, [(2, 1), (1, 1)]), 1, torch.Generator())))
    together: list[list[Any]] = [[], []]
    totals = [0.0, 0.0]
    for rank in range(size):
        part, shares = share_batch(batch, World(rank, size))
        for level, (x, label, share) in enumerate(zip(part.whitened, part.labels, shares, strict=True)):
            n = batch.whitened[level].shape[3] if fibers else count
            samples = x[0].permute(2, 1, 0) if fibers else x
            classes = label[0, 0] if fibers else label
            assert len(samples) == len(classes) == max(1, round(share * n))
            totals[level] += share
            code = part.conditions[level]
            assert code is not None
            if fibers:
                assert torch.equal(code[0, :, 0], x[0, 1:, 0])
            else:
                assert torch.equal(code, batch.conditions[level])
            if share:
                together[level] += [(s.flatten().tolist(), int(c)) for s, c in zip(samples, classes, strict=True)]
            else:
                assert torch.equal(
                    samples[0], (batch.whitened[level][0].permute(2, 1, 0) if fibers else batch.whitened[level])[0]
                )
    for level, (x, label) in enumerate(zip(batch.whitened, batch.labels, strict=True)):
        samples = x[0].permute(2, 1, 0) if fibers else x
        classes = label[0, 0] if fibers else label
        expected = [(s.flatten().tolist(), int(c)) for s, c in zip(samples, classes, strict=True)]
        assert sorted(together[level]) == sorted(expected)
        assert totals[level] == pytest.approx(1.0)


def test_a_single_process_has_the_batch_itself() -> None:
    """A world of one gets the same object, nothing is copied."""
    batch = tagged_batch(3, [(2, 2), (1, 1)])
    part, shares = share_batch(batch, World())
    assert part is batch
    assert shares == [1.0, 1.0]


def test_maps_are_loaded_with_their_class_and_noise() -> None:
    """Rows in the order asked for, float32, with their labels, and noise of the deviation that is set."""
    model = make_model(("8:6", "16:5"))
    arrays = [np.full((9, level.channels, *level.size), 0, np.float16) for level in model.levels]
    for array in arrays:
        array += np.arange(9, dtype=np.float16)[:, None, None, None]
    labels = np.arange(9) % 4
    rows = np.array([7, 2, 5])
    clean = load_batch(model, arrays, labels, rows, 0.0, torch.Generator())
    noisy = load_batch(model, arrays, labels, rows, 0.5, torch.Generator())
    for x, y, level, label in zip(clean.whitened, noisy.whitened, model.levels, clean.labels, strict=True):
        assert x.shape == (3, level.channels, *level.size)
        assert x.dtype == torch.float32
        assert x[:, 0, 0, 0].tolist() == [7.0, 2.0, 5.0]
        assert label.tolist() == [3, 2, 1]
        assert float((y - x).std()) == pytest.approx(0.5, rel=0.15)
        assert abs(float((y - x).mean())) < 0.06


@pytest.mark.parametrize("size", [2, 3])
def test_the_noise_of_a_sample_is_the_same_in_any_world(size: int) -> None:
    """Processes with equal generators load equal batches, so the parts together are what one process sees."""
    model = make_model(("8:6", "16:5"))
    arrays = [np.zeros((5, level.channels, *level.size), np.float16) for level in model.levels]

    def load() -> TrainingBatch:
        return load_batch(model, arrays, np.zeros(5, np.int64), np.arange(5), 1.0, torch.Generator(CPU).manual_seed(4))

    alone = load()
    for rank in range(size):
        part, _ = share_batch(load(), World(rank, size))
        for x, whole in zip(part.whitened, alone.whitened, strict=True):
            assert torch.equal(x, whole[rank::size])
    assert bool((alone.whitened[0] != 0).any())
