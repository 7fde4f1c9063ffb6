"""Correlations of two scores of the same images."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.evaluation.alignment import _ranks, correlation


def test_ranks_share_ties_and_correlation_is_numpys() -> None:
    """Equal values have their mean rank; the correlation is that of numpy."""
    np.testing.assert_array_equal(_ranks(np.array([5.0, 1.0, 5.0, 7.0])), [1.5, 0.0, 1.5, 3.0])
    a, b = np.random.default_rng(0).normal(size=(2, 30))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(np.ones(3), np.ones(3)) == 1.0
