"""False alarms per hour on a running line: thresholds for a wanted rate, and the rate that a threshold implies.

An alert opens when N of the last M frames exceed the threshold, and no other alert counts these N frames. So on any
stream, alerts <= exceeding frames / N, and in expectation

    alarms per hour <= 3600 fps p / N,        p = probability that a good frame exceeds the threshold

for *any* dependence between frames: expectation is linear, so independence is not needed. Bursts of exactly N frames
attain the bound. It is the default promise and rests on one assumption: a random frame of the stream behaves like the
held-out good images (same parts, light, position, focus, noise). The assumption matters: solar cells with noise of 2 grey
levels added to every frame gave 578 +- 21 alarms per hour for 500 certified, and 172 for 100 extrapolated
(`python -m tools.alarm_rate --noise 2`). The alarm meter detects such a stream (`LevelReport.is_unlike`).

At 25 frames/s and N = 3, one alarm per hour needs p = 3.3e-5. Certifying it takes 30,000 held-out images, so p is usually
extrapolated by `tail.py`, and the result is marked so. Mean realised rate over the wanted 3.3e-5 and, in brackets, the
threshold's distance from the median over the true one, 200 samples each (`python tests/evaluation/test_alarm_rate.py`)::

       n      normal     gamma 2      Gumbel    logn 0.5          t5          t3      logn 1
      50  0.00 (3.6)  0.00 (2.8)  0.01 (2.7)  0.04 (2.2)  0.22 (1.7)  2.96 (0.8)  2.73 (1.1)
     100  0.00 (2.5)  0.11 (2.1)  0.04 (2.1)  0.06 (1.9)  0.65 (1.3)  4.12 (0.8)  1.78 (1.1)
     200  0.01 (1.7)  0.27 (1.7)  0.15 (1.7)  0.49 (1.6)  1.90 (1.2)  3.33 (0.9)  2.13 (1.2)
    1000  2.07 (1.0)  1.19 (1.1)  1.59 (1.1)  1.41 (1.1)  4.29 (0.9)  4.53 (0.7)  0.98 (1.3)

So these tails stay within five times the promise; the price for light tails with few images is a threshold two to three
times too far out.

Two ways to a lower threshold:

`MeasuredBursts`: alerts per exceeding frame, q <= 1/N, measured on the stream at lower levels, which good frames exceed
often. This *assumes* that q grows towards the threshold at most as for the excursions of a Gaussian process, whose
length falls with the level z as 1/z^2 (if a part looks odd all the time it is in view, q is constant; for noise it
falls). A line whose ordinary frames are noise, but whose rare odd frames come in bursts of N, breaks the assumption, and
no measurement at lower levels can show it. Hence it is never the default.

`promise_from_watch`: instead of exceeding frames, the level below which each time window of a watched good line would
have raised an alert. These levels are exchangeable scores themselves, so an hour of watching certifies one alarm per
hour, including the bursts, the frame rate and the difference between images and stream. This assumes that the watched
hours were good, that the coming hours are like them, and that a window is longer than the memory of the line: at least
as many independent looks per hour (`stream/alarms/alarm_meter.py`) as windows. In a simulation with a memory of five
windows, an AR(1) process, the line gave 15 alarms per hour for 9 certified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from edgead.evaluation.exceedance import Exceedance, exceedance, exceedance_of
from edgead.evaluation.pace import HOUR_S, LARGEST_RATE, SMALLEST_RATE, Basis, Pace
from edgead.evaluation.threshold import images_to_certify, threshold_from_scores
from edgead.manifest import ThresholdRecord


@dataclass(frozen=True)
class AlarmRate:
    """False alarms per hour that a threshold implies on a running line.

    Attributes:
        per_hour: Upper bound of the expected false alarms per hour.
        interval: Bound at both ends of the 95 % interval of the exceedance rate.
        certified: Whether scores as high as the threshold were observed; otherwise extrapolated.
        basis: Scope of the bound: any dependence between frames, the measured one, or the watched line.
    """

    per_hour: float
    interval: tuple[float, float]
    certified: bool
    basis: Basis


@dataclass(frozen=True)
class AlarmPromise:
    """A threshold for a wanted number of false alarms per hour.

    Attributes:
        wanted_per_hour: Rate that the user asked for.
        threshold: Threshold record; `false_alarm_rate` is per frame, or per watched window, and `n_images` counts these.
        implied: Alarm rate that the threshold implies.
        sentence: Explanation for users.
    """

    wanted_per_hour: float
    threshold: ThresholdRecord
    implied: AlarmRate
    sentence: str


def promise_from_images(scores: ArrayLike, alarms_per_hour: float, pace: Pace) -> AlarmPromise:
    """Choose the threshold that keeps a number of false alarms per hour, from held-out good images.

    Args:
        scores: Scores of held-out good images, `(n,)`, n >= 5.
        alarms_per_hour: Wanted number of false alarms per hour, above 0.
        pace: Frame rate and alert rule of the stream.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
        ValueError: If `alarms_per_hour` is not above 0 and finite.
    """
    _check_wanted(alarms_per_hour)
    threshold = threshold_from_scores(scores, pace.rate(alarms_per_hour))
    implied = _paced(exceedance_of(scores, threshold), pace)
    grouping = "worst-case grouping" if pace.bursts is None else "grouping measured at lower levels"
    need = (
        f"At {pace.fps:.3g} frames/s and {pace.open_frames} exceeding frames per alert ({grouping}), at most "
        f"{_alarms(alarms_per_hour)} needs a threshold that {_one_in(threshold.false_alarm_rate)} good frames exceeds."
    )
    return AlarmPromise(
        alarms_per_hour, threshold, implied, f"{need} {_certificate(threshold, implied, 'held-out good images')}"
    )


def promise_from_watch(levels: ArrayLike, stretch_s: float, alarms_per_hour: float) -> AlarmPromise:
    """Choose the threshold that keeps a number of false alarms per hour, from watched hours of a good line.

    Args:
        levels: Level of each watched time window, `(n,)`, n >= 5: a threshold below it would have raised an alert in
            that window (`AlarmMeter.stretch_levels`).
        stretch_s: Length of a window, in seconds; alarms within one window count once.
        alarms_per_hour: Wanted number of false alarms per hour, above 0.

    Raises:
        DataError: If there are fewer than 5 windows or a level is not finite.
        ValueError: If `alarms_per_hour` is not above 0 and finite.
    """
    _check_wanted(alarms_per_hour)
    per_hour = HOUR_S / stretch_s
    threshold = threshold_from_scores(levels, max(SMALLEST_RATE, min(LARGEST_RATE, alarms_per_hour / per_hour)))
    found = exceedance_of(levels, threshold)
    low, high = found.interval
    implied = AlarmRate(found.rate * per_hour, (low * per_hour, high * per_hour), found.certified, "watched line")
    windows = f"time windows of {stretch_s:g} s"
    need = (
        f"If the line continues as it ran in {threshold.n_images / per_hour:.3g} watched hours, at most "
        f"{_alarms(alarms_per_hour)} needs a threshold that raises an alert in {_one_in(threshold.false_alarm_rate)} "
        f"{windows}."
    )
    return AlarmPromise(alarms_per_hour, threshold, implied, f"{need} {_certificate(threshold, implied, windows)}")


def implied_alarm_rate(scores: ArrayLike, threshold: float, pace: Pace) -> AlarmRate:
    """False alarms per hour that a threshold implies, from held-out good images.

    Args:
        scores: Scores of held-out good images, `(n,)`, n >= 5.
        threshold: Any threshold in raw score units, also one chosen by hand.
        pace: Frame rate and alert rule of the stream.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
    """
    return _paced(exceedance(scores, threshold), pace)


def alarm_rate_text(rate: AlarmRate) -> str:
    """Short text for a status line: `up to 0.8 false alarms/h (95 %: 0 to 5.1), extrapolated`."""
    low, high = rate.interval
    origin = "" if rate.certified else ", extrapolated"
    return f"up to {_number(rate.per_hour)} false alarms/h (95 %: {_number(low)} to {_number(high)}){origin}"


def _check_wanted(alarms_per_hour: float) -> None:
    if not (alarms_per_hour > 0.0 and math.isfinite(alarms_per_hour)):
        raise ValueError(f"alarms_per_hour must be above 0 and finite (got {alarms_per_hour})")


def _paced(found: Exceedance, pace: Pace) -> AlarmRate:
    low, high = (pace.alarms_per_hour(end) for end in found.interval)
    return AlarmRate(pace.alarms_per_hour(found.rate), (low, high), found.certified, pace.basis)


def _certificate(threshold: ThresholdRecord, implied: AlarmRate, what: str) -> str:
    n = threshold.n_images
    low, high = implied.interval
    interval = f"95 % interval {_number(low)} to {_number(high)} per hour"
    if implied.certified:
        return f"{n} {what} certify it, on average over such sets ({interval})."
    missing = images_to_certify(threshold.false_alarm_rate) - n
    return (
        f"{n} {what} cannot certify a rate below 1 in {n + 1}: the threshold is extrapolated, not certified ({interval}, "
        f"if the tail of the scores continues as fitted). {missing:,} more would certify it."
    )


def _alarms(per_hour: float) -> str:
    return f"{_number(per_hour)} false alarm{'' if per_hour == 1.0 else 's'} per hour"


def _one_in(rate: float) -> str:
    return f"1 in {1.0 / rate:,.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.2g}"
