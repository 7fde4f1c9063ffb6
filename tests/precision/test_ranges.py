"""Ranges: what is measured is what the graph computes, and each method chooses what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.engines.onnx_session import open_session
from edgead.precision.int8 import tensors_to_calibrate
from edgead.precision.ranges import (
    BINS,
    RangeMethod,
    TensorStatistics,
    _with_outputs,
    choose_range,
    collect_statistics,
)

from .graphs import make_graph, make_images


def statistics_of(values: np.ndarray) -> TensorStatistics:
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, BINS, (low, high))
    return TensorStatistics(low, high, np.array([low], np.float32), np.array([high], np.float32), counts)


def test_statistics_are_those_of_the_tensors() -> None:
    """Extremes, channel extremes and histograms are those of all images together."""
    model, images = make_graph(), make_images()
    names = tensors_to_calibrate(model)
    session = open_session(_with_outputs(model, names).SerializeToString(), 1)
    values = dict(zip(names, session.run(names, {"image": images}), strict=True))
    steps = []
    found = collect_statistics(model, names, images, threads=1, on_image=lambda: steps.append(1))
    assert len(steps) == 2 * len(images)
    assert {"normal", "stem.out", "depthwise.out.clip", "sum", "hidden"} <= set(found)
    assert "latent.out" in found
    assert "expand.out" not in found  # the clip behind it is what counts
    for name, value in values.items():
        np.testing.assert_allclose(found[name].channel_high, value.max(axis=(0, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(found[name].channel_low, value.min(axis=(0, 2, 3)), rtol=1e-5)
        assert found[name].counts.sum() == value.size
    without = collect_statistics(model, names, images, threads=1, histograms=False)
    assert without["sum"].high == found["sum"].high
    assert without["sum"].counts.sum() == 0


@given(
    seed=st.integers(0, 1000),
    method=st.sampled_from(["minmax", "percentile", "entropy", "mse"]),
    symmetric=st.booleans(),
    shape=st.sampled_from(["relu", "normal", "heavy", "constant"]),
)
@settings(max_examples=60, deadline=None)
def test_a_range_lies_within_what_was_seen_and_holds_zero(
    seed: int, method: RangeMethod, symmetric: bool, shape: str
) -> None:
    """Every range contains 0 and is no wider than the values."""
    random = np.random.default_rng(seed)
    values = {
        "relu": np.maximum(random.normal(size=5000), 0),
        "normal": random.normal(random.uniform(-3, 3), size=5000),
        "heavy": random.standard_t(2, size=5000),
        "constant": np.full(5000, random.normal()),
    }[shape]
    found = choose_range(statistics_of(values), method, symmetric=symmetric)
    largest = np.abs(values).max()
    low, high = (-largest, largest) if symmetric else (min(values.min(), 0.0), max(values.max(), 0.0))
    assert low - 1e-6 <= found.low <= 0.0 <= found.high <= high + 1e-6
    if symmetric:
        assert found.low == -found.high


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_nearly_the_best_range(symmetric: bool) -> None:
    """No uniform shrinking of the range gives a clearly smaller error of the quantised values themselves."""
    values = np.random.default_rng(0).standard_t(3, size=20000)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255.0
        return float(np.mean((np.clip(np.rint(values / step) * step, low, high) - values) ** 2))

    found = choose_range(statistics_of(values), "mse", symmetric=symmetric)
    widest = choose_range(statistics_of(values), "minmax", symmetric=symmetric)
    best = min(error(widest.low * f, widest.high * f) for f in np.linspace(0.02, 1.0, 200))
    assert error(found.low, found.high) <= 1.1 * best
    assert error(found.low, found.high) < 0.95 * error(widest.low, widest.high)


def test_percentile_keeps_its_share() -> None:
    """The rarest values at both ends are left out, and no more."""
    values = np.random.default_rng(1).normal(size=50000)
    found = choose_range(statistics_of(values), "percentile", percentile=99.0)
    inside = np.mean((values >= found.low) & (values <= found.high))
    assert inside == pytest.approx(0.99, abs=2e-3)


def test_entropy_does_not_fall_into_the_zeros_of_a_relu() -> None:
    """Half of the values are 0; the range still covers nearly all others."""
    values = np.maximum(np.random.default_rng(2).normal(size=50000), 0)
    found = choose_range(statistics_of(values), "entropy")
    assert np.mean(values <= found.high) > 0.97
