"""How far events come in bursts: probabilities beside those of counts drawn at random, and what is known of few events."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edgead.evaluation.bursts import EXCESSES, SINGLE_UNSEEN, _clustered, _scales, _spread, dispersions


def negative_binomial(count: int, mean: float, excess: float) -> float:
    shape = mean / excess
    log = math.lgamma(count + shape) - math.lgamma(shape) - math.lgamma(count + 1)
    return math.exp(log - count * math.log1p(1.0 / excess) - shape * math.log1p(excess))


def mean_of(events: list[float] | np.ndarray, share: float = 1.0) -> float:
    counts = np.asarray(events, float)
    return sum(one.weight * one.coming for one in dispersions(counts, np.full(len(counts), 60.0), share))


def test_it_is_the_probability_of_negative_binomial_counts_given_their_sum() -> None:
    """All ways to spread five events over three blocks have the probabilities that conditioning gives, and they sum to one."""
    lengths, n, excess = np.array([1.0, 2.0, 3.0]), 5, 1.5
    ways = [way for way in itertools.product(range(n + 1), repeat=3) if sum(way) == n]
    means = n * lengths / lengths.sum()
    joint = [
        math.prod(negative_binomial(count, mean, excess) for count, mean in zip(way, means, strict=True))
        for way in ways
    ]
    for way, expected in zip(ways, joint, strict=True):
        counts = np.array(way, float)
        factorials = math.lgamma(n + 1) - sum(math.lgamma(count + 1) for count in way)
        found = math.exp(_clustered(counts, lengths, excess) + factorials)
        assert found == pytest.approx(expected / sum(joint), rel=1e-9)
        single = math.exp(_spread(counts, lengths) + factorials)
        assert math.exp(_clustered(counts, lengths, 1e-7) + factorials) == pytest.approx(single, rel=1e-5)


def test_joined_blocks_keep_the_events_and_the_time() -> None:
    """The probability inside of joined blocks and that of joined ones is that of the finest: independent events have no scale."""
    counts, lengths = np.array([3.0, 0, 1, 2, 0, 0, 4, 1, 2]), np.arange(1.0, 10.0)
    scales = _scales(counts, lengths)
    assert [len(one) for one, _, _ in scales] == [9, 5]
    for joined, long, inside in scales:
        assert (joined.sum(), long.sum()) == (counts.sum(), lengths.sum())
        assert inside + _spread(joined, long) == pytest.approx(_spread(counts, lengths))


def test_nothing_seen_leaves_what_was_thought_before() -> None:
    """No events, no blocks, and no time."""
    expected = [SINGLE_UNSEEN] + [(1.0 - SINGLE_UNSEEN) / len(EXCESSES)] * len(EXCESSES)
    for events, seconds in ((np.zeros(32), np.ones(32)), (np.zeros(0), np.zeros(0)), (np.zeros(4), np.zeros(4))):
        found = dispersions(events, seconds, 0.1)
        assert [one.weight for one in found] == pytest.approx(expected)
        assert [one.seen for one in found[1:]] == pytest.approx([1.0 + 0.1 * excess for excess in EXCESSES])


def test_many_events_say_how_they_come() -> None:
    """Single ones, bursts within a block, and bursts over several blocks; a share of the time sees a share of the excess."""
    rng = np.random.default_rng(0)
    assert mean_of(rng.poisson(10.0, 32)) < 2.5
    assert mean_of(rng.poisson(10.0, 320)) < 2.0
    bursts = [float(rng.geometric(0.2, rng.poisson(3.0)).sum()) for _ in range(32)]
    assert 5.0 < mean_of(bursts) < 17.0, "geometric bursts of 5 have a dispersion of 9"
    long = np.repeat(rng.poisson(1.0, 8) * 5.0, 4)
    assert mean_of(long) > 2.0 * float(long.var() / long.mean()), (
        "four blocks hold a burst, which one block does not show"
    )
    assert mean_of(bursts, 0.25) > 1.5 * mean_of(bursts)
