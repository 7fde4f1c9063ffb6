"""Block sums in bounded memory, and intervals of clustered counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgead.stream.alarms.blocks import BlockSums, count_interval, dispersion


@given(st.integers(0, 700), st.sampled_from([4, 8, 32]), st.sampled_from([1, 4, 16, 2**20]))
def test_blocks_are_equal_stretches_of_the_latest_frames(n: int, max_blocks: int, max_frames: int) -> None:
    """Every block sums `block_frames` successive frames, the blocks follow each other, and only the oldest are gone."""
    blocks = BlockSums(2, max_blocks=max_blocks, max_frames=max_frames)
    for frame in range(n):
        blocks.add(np.array([1.0, float(frame)]))
    sums, length = blocks.sums, blocks.block_frames
    assert len(sums) <= max_blocks
    assert length <= max_frames
    assert (sums[:, 0] == length).all()
    last = n - n % length
    first = last - len(sums) * length
    expected = np.arange(first, last).reshape(len(sums), length).sum(axis=1)
    assert sums[:, 1].tolist() == expected.tolist()
    if n <= max_blocks * max_frames // 2:
        assert first == 0, "nothing is forgotten before memory is short"


@pytest.mark.parametrize("count", [0, 1, 3, 10, 200])
def test_count_interval_is_the_exact_poisson_interval(count: int) -> None:
    """Without clustering the ends are those of Garwood's exact interval, to 2 %."""
    low, high = count_interval(count, 1.0, 1.96)
    exact_low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    assert low == pytest.approx(exact_low, rel=0.02, abs=0.02)
    assert high == pytest.approx(stats.chi2.ppf(0.975, 2 * count + 2) / 2, rel=0.02)


def test_intervals_of_clustered_counts_hold_the_mean() -> None:
    """On 300 streams of events that come in clusters of 20, the 95 % interval holds the expected count in over 90 %."""
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(300):
        counts = 20.0 * rng.poisson(1.5, size=32)
        low, high = count_interval(counts.sum(), dispersion(counts.sum(), counts - counts.mean()), 1.96)
        inside += low <= 20.0 * 1.5 * 32 <= high
    assert 0.9 < inside / 300 < 0.99


def test_dispersion_of_independent_events_is_one() -> None:
    """Never below 1, also where counts are more regular than chance or there is nothing to count."""
    assert dispersion(64.0, np.zeros(32)) == 1.0
    assert dispersion(0.0, np.ones(32)) == 1.0
    assert dispersion(5.0, np.ones(1)) == 1.0
