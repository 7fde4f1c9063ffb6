"""Reports of the meter on streams with known frame rate, correlation and bursts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgead.stream.alarms.alarm_meter import STRETCH_S, AlarmMeter, AlarmReport
from edgead.stream.alarms.shadow import alerts_in
from edgead.stream.alerts import AlertRules

from ..score_processes import Process, autoregressive, independent, looks

RULES = AlertRules(0.5, 0.5, open_frames=3, window_frames=5, close_frames=5, cooldown_s=0.0)
GOOD = np.linspace(0.0, 1.0, 201)[1:-1].tolist()


def report_on(process: Process, n: int = 20_000, fps: float = 25.0, seed: int = 1, shift: float = 0.0) -> AlarmReport:
    meter = AlarmMeter(GOOD, RULES)
    for index, score in enumerate(process(np.random.default_rng(seed), n).tolist()):
        meter.add(score + shift, index / fps)
    return meter.report()


def test_frame_rate_without_pauses() -> None:
    """Reconnections do not lower the frame rate; a camera that really slows down does."""
    meter, time_s = AlarmMeter(GOOD, RULES), 0.0
    for index in range(8192):
        time_s += 30.0 if index % 1000 == 999 else 0.04
        meter.add(0.3, time_s)
    assert meter.report().fps == pytest.approx(25.0, rel=0.01)
    for _ in range(60_000):
        time_s += 1.0
        meter.add(0.3, time_s)
    assert meter.report().fps == pytest.approx(1.0, rel=0.2)


def test_no_report_before_there_is_something_to_say() -> None:
    """A few frames, or frames without any time between them, give no frame rate and no bounds."""
    meter = AlarmMeter(GOOD, RULES)
    for _ in range(5):
        meter.add(0.3, 0.0)
    assert meter.report() == AlarmReport(5, None, None, None, ())
    for _ in range(100):
        meter.add(0.3, 0.0)
    report = meter.report()
    assert (report.fps, report.looks_per_hour, report.rank_correlation, report.bursts) == (None, None, None, None)


@pytest.mark.parametrize("phi", [-0.9, 0.0, 0.5, 0.9])
def test_rank_correlation_is_spearmans(phi: float) -> None:
    """The rank correlation of a Gaussian AR(1) is 6/pi asin(phi/2)."""
    expected = 6.0 / np.pi * np.arcsin(phi / 2.0)
    assert report_on(autoregressive(phi)).rank_correlation == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("process", "looks_per_frame"), [(independent, 1.0), (looks(5), 0.2), (looks(50), 0.02)])
def test_independent_looks_per_hour(process: Process, looks_per_frame: float) -> None:
    """A part that stays for L frames is one look; the estimate is right to a factor of 1.8 and never above the frames."""
    per_hour = report_on(process, 30_000).looks_per_hour
    assert per_hour is not None
    assert per_hour <= 3600.0 * 25.0 * 1.001
    assert 1 / 1.8 < per_hour / (3600.0 * 25.0 * looks_per_frame) < 1.8


def test_share_intervals_count_clusters() -> None:
    """On 30 streams of looks of 15 frames the 95 % interval of the share holds the true share in at least 26."""
    inside = 0
    for seed in range(30):
        level = report_on(looks(15), 3000, seed=seed).levels[0]
        assert level.nominal_share == 0.1
        inside += level.share_interval[0] <= 0.1 <= level.share_interval[1]
    assert inside >= 26


def test_a_stream_unlike_the_images_is_told() -> None:
    """Scores that run a tenth higher than those of the held-out images are noticed at the lowest level; alike ones are not."""
    assert not any(level.is_unlike for level in report_on(looks(25)).levels)
    assert report_on(looks(25), shift=0.1).levels[0].is_unlike


def test_few_images_cannot_tell_a_stream_apart() -> None:
    """With 20 held-out images, twice as many frames above their level of 10 % are no contradiction."""
    meter = AlarmMeter(np.linspace(0.0, 1.0, 22)[1:-1].tolist(), RULES)
    for index, score in enumerate(independent(np.random.default_rng(1), 5000).tolist()):
        meter.add(score + 0.1, index / 25.0)
    level = meter.report().levels[0]
    assert level.share > 0.17
    assert not level.is_unlike


def test_alerts_per_exceedance_of_looks() -> None:
    """Where a part stays odd for its whole look of 25 frames, one alert comes per 25 frames; the bound is close above."""
    bursts = report_on(looks(25), 40_000).bursts
    assert bursts is not None
    assert bursts.alerts_per_exceedance is not None
    assert 1 / 25 <= bursts.alerts_per_exceedance < 1.6 / 25
    assert report_on(independent, 2000).bursts is None, "too few exceeding frames to say anything"


def test_merged_bursts_do_not_lower_the_bound() -> None:
    """At 10 % one odd look in ten follows another one without a gap; the bound still covers one alert per look."""
    level = report_on(looks(25), 100_000).levels[0]
    assert level.n_alerts / level.n_exceeding < 0.94 / 25
    assert level.alerts_per_exceedance is not None
    assert level.alerts_per_exceedance >= 1 / 25


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_stretch_levels_are_where_alerts_begin(open_frames: int, more: int, seed: int) -> None:
    """A threshold at the highest stretch level raises no alert in the watched frames, any lower one does."""
    rules = AlertRules(0.5, 0.5, open_frames, open_frames + more - 1, close_frames=2, cooldown_s=0.0)
    scores = np.random.default_rng(seed).random(101).round(2)
    meter = AlarmMeter(GOOD, rules)
    for index, score in enumerate(scores.tolist()):
        meter.add(score, float(index))
    levels = meter.stretch_levels()
    assume(levels)
    n = int(len(levels) * STRETCH_S) + 1
    at = AlertRules(max(levels), max(levels), open_frames, open_frames + more - 1, close_frames=2, cooldown_s=0.0)
    assert alerts_in(scores[:n].tolist(), at, 1.0) == 0
    below = AlertRules(at.threshold - 0.005, at.threshold - 0.005, open_frames, open_frames + more - 1, 2, 0.0)
    assert alerts_in(scores[:n].tolist(), below, 1.0) > 0


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_each_stretch_knows_its_own_level(open_frames: int, more: int, seed: int) -> None:
    """A stretch's level is the largest over its frames of the smaller of the frame and the N-th of the last M."""
    window = open_frames + more - 1
    scores = np.random.default_rng(seed).random(80)
    meter = AlarmMeter(GOOD, AlertRules(0.5, 0.5, open_frames, window, 2, 0.0), stretch_s=8.0)
    for index, score in enumerate(scores.tolist()):
        meter.add(score, float(index))
    levels = [
        min(scores[i], np.sort(scores[max(0, i - window + 1) : i + 1])[-open_frames])
        for i in range(open_frames - 1, len(scores))
    ]
    ends = [-1, *range(8, 80, 8)]
    expected = [max(levels[max(0, a + 2 - open_frames) : b + 2 - open_frames]) for a, b in itertools.pairwise(ends)]
    assert meter.stretch_levels() == pytest.approx(expected)
