"""What a certified rate means: on average over trainings, or with a stated confidence for the threshold itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgead.commands.bundle import bundle_facts
from edgead.evaluation.nfa import epsilon_from_good_images
from edgead.evaluation.segmentation import nfa_at_confidence
from edgead.evaluation.threshold import (
    at_confidence,
    at_rate,
    certified_above,
    class_thresholds,
    images_to_certify,
    rate_interval,
    threshold_from_scores,
)
from edgead.manifest import LevelNorm, NfaRecord, NfaThreshold, ThresholdRecord
from edgead.web.camera_handlers import threshold_text

pytest.importorskip("torch")
from tests.tiny import make_bundle

RUNS = 3000
RATE = 0.02


def true_rates(n: int, confidence: float | None) -> np.ndarray:
    """True rate of the threshold of each of many trainings, on uniform scores."""
    scores = np.random.default_rng(5).random((RUNS, n))
    return np.array([1.0 - threshold_from_scores(row, RATE, confidence).value for row in scores])


@pytest.mark.parametrize("n", [100, 250])
def test_without_a_confidence_the_rate_is_kept_on_average_only(n: int) -> None:
    """The mean rate is at most the stated one, while a third to a half of the thresholds exceed it."""
    rates = true_rates(n, None)
    assert rates.mean() <= RATE + 3 * rates.std() / math.sqrt(RUNS)
    assert 0.3 < np.mean(rates > RATE) < 0.5


@pytest.mark.parametrize(("n", "confidence"), [(200, 0.95), (400, 0.95), (200, 0.8)])
def test_with_a_confidence_this_threshold_keeps_the_rate(n: int, confidence: float) -> None:
    """The share of trainings whose threshold keeps the rate is at least the confidence."""
    kept = np.mean(true_rates(n, confidence) <= RATE)
    assert kept >= confidence - 3 * math.sqrt(confidence * (1 - confidence) / RUNS)


@pytest.mark.parametrize(("n", "confidence"), [(200, None), (200, 0.95)])
def test_the_interval_of_the_rate_covers_it(n: int, confidence: float | None) -> None:
    """In 95 % of trainings, and not much more."""
    interval = rate_interval(threshold_from_scores(np.arange(n), RATE, confidence))
    assert interval is not None
    rates = true_rates(n, confidence)
    assert np.mean((rates >= interval[0]) & (rates <= interval[1])) == pytest.approx(0.95, abs=0.015)


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 600), st.sampled_from([0.003, 0.01, 0.05, 0.2]), st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_the_order_statistic_is_the_smallest_that_the_beta_distribution_allows(
    n: int, rate: float, confidence: float
) -> None:
    """With m scores above it the rate is a Beta(m+1, n-m) variable: m fits, m+1 does not."""
    m = certified_above(n, rate, confidence)
    fits = [stats.beta.cdf(rate, above + 1, n - above) >= confidence for above in range(n)]
    assert m == (sum(fits) - 1 if fits[0] else None)
    assert (m is not None) == (n >= images_to_certify(rate, confidence))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=5, max_size=150), st.sampled_from([0.2, 0.05, 0.01]))
def test_a_higher_confidence_never_gives_a_lower_threshold(scores: list[float], rate: float) -> None:
    """From 50 % up; across the border of certification too."""
    values = [threshold_from_scores(scores, rate, confidence).value for confidence in (0.5, 0.8, 0.95, 0.99)]
    assert values == sorted(values)


def test_the_defaults_are_those_of_before() -> None:
    """Without a confidence: the same record, and the same JSON without the key, as in older bundles."""
    record = threshold_from_scores(range(1, 200), 0.005)
    assert (record.value, record.certified, record.confidence) == (199.0, True, None)
    assert record.model_dump(mode="json").keys() == {"value", "false_alarm_rate", "certified", "interval", "n_images"}
    sure = threshold_from_scores(range(1, 700), 0.005, 0.95)
    assert ThresholdRecord.model_validate(sure.model_dump(mode="json")) == sure
    assert sure.model_dump(mode="json")["confidence"] == 0.95


def test_a_confidence_stays_when_the_rate_is_changed() -> None:
    """And thresholds of a bundle can be given one without images, those of regions too."""
    scores = np.random.default_rng(1).normal(size=700)
    plain = class_thresholds(scores, scores + 1, -1.0, 0.005)
    sure = at_confidence(plain, 0.95)
    assert (plain.threshold.confidence, sure.threshold.confidence) == (None, 0.95)
    assert sure.threshold.value > plain.threshold.value
    assert at_rate(sure, 0.02).pixel_threshold == threshold_from_scores(scores + 1, 0.02, 0.95)
    smallest = tuple(scores.tolist())
    limit = epsilon_from_good_images(scores, 0.005)
    levels = (LevelNorm(output="level_norm_0", channels=1, size=(1, 1), good_mean=1.0),)
    nfa = NfaRecord(
        rule="published", levels=levels, thresholds={"all": NfaThreshold(smallest=smallest, log_epsilon=limit)}
    )
    assert nfa_at_confidence(nfa, 0.95).thresholds["all"].log_epsilon == epsilon_from_good_images(scores, 0.005, 0.95)
    assert nfa_at_confidence(nfa, 0.95).thresholds["all"].log_epsilon.value < limit.value


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, 2.0])
def test_an_impossible_confidence_is_refused(confidence: float) -> None:
    """It must be at least 0.5 and below 1."""
    with pytest.raises(ValueError, match="confidence must be"):
        threshold_from_scores(range(10), 0.1, confidence)


def test_defects_among_the_held_out_images_spoil_the_interval() -> None:
    """With 2 % of strong defects it contains the right threshold in far fewer than 95 % of trainings: the text says so."""
    random = np.random.default_rng(3)
    right, covered = stats.gumbel_r.ppf(1 - 0.005), 0
    for _ in range(60):
        scores = random.gumbel(size=100)
        n_bad = random.binomial(100, 0.02)
        scores[:n_bad] = random.uniform(8, 20, n_bad)
        interval = threshold_from_scores(scores, 0.005).interval
        assert interval is not None
        covered += interval[0] <= right <= interval[1]
    assert covered < 45


def test_texts_say_on_average_or_with_which_confidence(tmp_path: Path) -> None:
    """And they always give the interval of the rate."""
    bundle = make_bundle(tmp_path / "bundle")
    facts = dict(bundle_facts(bundle.path))
    average = "certified on average over trainings (95 % interval of the rate 0.03% to 3.66%)"
    assert facts["threshold part"].endswith(average)
    sure = threshold_from_scores(range(500), 0.01, 0.95)
    assert "certify that on average over trainings (95 % interval" in threshold_text(bundle.thresholds().threshold)
    assert "certify that with 95% confidence (95 % interval" in threshold_text(sure)
