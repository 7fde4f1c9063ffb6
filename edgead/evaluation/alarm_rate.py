"""False alarms per hour: the threshold that keeps a wanted rate on a running line, and what a threshold implies.

An alert opens when N of the last M frames exceed the threshold, and it uses up those N: no other alert counts them. So on
any stream, alerts <= exceeding frames / N, and in expectation

    alarms per hour <= 3600 fps p / N,        p = chance that a good frame exceeds the threshold

*whatever* the dependence between frames: expectation is linear, nothing has to be independent. Bursts of exactly N
frames attain it. That is the promise made by default. It rests on one assumption: a frame taken at random from the stream
behaves like the held-out good images (same parts, light, position, focus, noise). That is no formality: solar cells with
noise of 2 grey levels added to every frame gave 578 +- 21 alarms per hour for 500 certified, and 172 for 100 extrapolated
(`python -m tools.alarm_rate --noise 2`). The meter tells such a stream (`LevelReport.is_unlike`).

At 25 frames/s one alarm per hour needs p = 3.3e-5. Few sets of held-out images hold the 30,000 images that certify it, so p is
extrapolated by `tail.py`, and says so. Mean realised rate over the wanted 3.3e-5 and, in brackets, the threshold's
distance from the median over the true one, 200 samples each (run `tests/evaluation/test_alarm_rate.py`)::

       n      normal     gamma 2      Gumbel    logn 0.5          t5          t3      logn 1
      50  0.00 (3.6)  0.00 (2.8)  0.01 (2.7)  0.04 (2.2)  0.22 (1.7)  2.96 (0.8)  2.73 (1.1)
     100  0.00 (2.5)  0.11 (2.1)  0.04 (2.1)  0.06 (1.9)  0.65 (1.3)  4.12 (0.8)  1.78 (1.1)
     200  0.01 (1.7)  0.27 (1.7)  0.15 (1.7)  0.49 (1.6)  1.90 (1.2)  3.33 (0.9)  2.13 (1.2)
    1000  2.07 (1.0)  1.19 (1.1)  1.59 (1.1)  1.41 (1.1)  4.29 (0.9)  4.53 (0.7)  0.98 (1.3)

So these tails stay within five times the promise, and light ones pay with a threshold two to three times too far out.

Two ways to a lower threshold:

`MeasuredBursts`: the alerts per exceeding frame, q <= 1/N, as the stream shows them at levels that good frames exceed
often. This *assumes* that q at the threshold follows from q down there, growing at most as it does for the excursions of
a Gaussian process, whose length falls with the level z as 1/z^2 (for parts that stay odd as long as they are in view q is
constant, for noise it falls). A line where ordinary frames are noise but a rare odd frame comes in bursts of N
breaks it, and nothing measured at lower levels can show that: so it is never the default.

`promise_from_watch`: no exceeding frames at all, but the level below which each stretch of a watched good line would
have raised an alert. Those are exchangeable scores themselves, so an hour of watching certifies one alarm per hour, with
the bursts, the frame rate and the difference between images and stream in it. This assumes that the watched hours were
good, that those to come are like them, and that a stretch is longer than the memory of the line: at least as many
independent looks per hour (`stream.alarm_meter`) as stretches. Simulated with a memory of five stretches, an AR(1), the
line gave 15 alarms per hour for 9 certified.
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
    """What a threshold means for a running line.

    Attributes:
        per_hour: Expected false alarms per hour of running, at most.
        interval: The same at both ends of the 95 % interval of what the images or the watch say about the threshold.
        certified: Whether scores as high as the threshold were seen; otherwise extrapolated.
        basis: What the number holds for: any dependence between frames, the measured one, or the watched line.
    """

    per_hour: float
    interval: tuple[float, float]
    certified: bool
    basis: Basis


@dataclass(frozen=True)
class AlarmPromise:
    """A threshold for a wanted number of false alarms per hour.

    Attributes:
        wanted_per_hour: As the user said it.
        threshold: Its `false_alarm_rate` is the rate per frame, or per watched stretch; `n_images` counts those.
        implied: What can be said about the threshold.
        sentence: All of it in words.
    """

    wanted_per_hour: float
    threshold: ThresholdRecord
    implied: AlarmRate
    sentence: str


def promise_from_images(scores: ArrayLike, alarms_per_hour: float, pace: Pace) -> AlarmPromise:
    """The threshold that keeps a number of false alarms per hour, from held-out good images.

    Args:
        scores: `(n,)`, scores of good images that training did not see, n >= 5.
        alarms_per_hour: Wanted, above 0.
        pace: Frame rate and alert rule of the stream.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
        ValueError: If `alarms_per_hour` is not above 0 and finite.
    """
    _check_wanted(alarms_per_hour)
    threshold = threshold_from_scores(scores, pace.rate(alarms_per_hour))
    implied = _paced(exceedance_of(scores, threshold), pace)
    grouping = "in the worst order" if pace.bursts is None else "grouped as was measured at lower levels"
    need = (
        f"At {pace.fps:.3g} frames/s, {pace.open_frames} of them {grouping} per alert, at most "
        f"{_alarms(alarms_per_hour)} needs a threshold that {_one_in(threshold.false_alarm_rate)} good frames exceeds."
    )
    return AlarmPromise(alarms_per_hour, threshold, implied, f"{need} {_evidence(threshold, implied, 'good images')}")


def promise_from_watch(levels: ArrayLike, stretch_s: float, alarms_per_hour: float) -> AlarmPromise:
    """The threshold that keeps a number of false alarms per hour, from hours of a good line.

    Args:
        levels: `(n,)`, for each watched stretch the level below which a threshold would have raised an alert in it
            (`stream.alarm_meter.AlarmMeter.stretch_levels`), n >= 5.
        stretch_s: Length of a stretch, in seconds; alarms within one count once.
        alarms_per_hour: Wanted, above 0.

    Raises:
        DataError: If there are fewer than 5 stretches or a level is not finite.
        ValueError: If `alarms_per_hour` is not above 0 and finite.
    """
    _check_wanted(alarms_per_hour)
    per_hour = HOUR_S / stretch_s
    threshold = threshold_from_scores(levels, max(SMALLEST_RATE, min(LARGEST_RATE, alarms_per_hour / per_hour)))
    found = exceedance_of(levels, threshold)
    low, high = found.interval
    implied = AlarmRate(found.rate * per_hour, (low * per_hour, high * per_hour), found.certified, "watched line")
    stretches = f"stretches of {stretch_s:g} s"
    need = (
        f"At most {_alarms(alarms_per_hour)} on a line that goes on as it did in {threshold.n_images / per_hour:.3g} h "
        f"of watching needs a threshold that raises an alert in {_one_in(threshold.false_alarm_rate)} {stretches}."
    )
    return AlarmPromise(alarms_per_hour, threshold, implied, f"{need} {_evidence(threshold, implied, stretches)}")


def implied_alarm_rate(scores: ArrayLike, threshold: float, pace: Pace) -> AlarmRate:
    """The false alarms per hour that a threshold implies, from held-out good images.

    Args:
        scores: `(n,)`, scores of good images that training did not see, n >= 5.
        threshold: Raw score units; any value, also one that a person chose.
        pace: Frame rate and alert rule of the stream.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
    """
    return _paced(exceedance(scores, threshold), pace)


def alarm_rate_text(rate: AlarmRate) -> str:
    """A few words for a status line: `up to 0.8 false alarms/h (95 %: 0 to 5.1), extrapolated`."""
    low, high = rate.interval
    origin = "" if rate.certified else ", extrapolated"
    return f"up to {_number(rate.per_hour)} false alarms/h (95 %: {_number(low)} to {_number(high)}){origin}"


def _check_wanted(alarms_per_hour: float) -> None:
    if not (alarms_per_hour > 0.0 and math.isfinite(alarms_per_hour)):
        raise ValueError(f"alarms_per_hour must be above 0 and finite (got {alarms_per_hour})")


def _paced(found: Exceedance, pace: Pace) -> AlarmRate:
    low, high = (pace.alarms_per_hour(end) for end in found.interval)
    return AlarmRate(pace.alarms_per_hour(found.rate), (low, high), found.certified, pace.basis)


def _evidence(threshold: ThresholdRecord, implied: AlarmRate, what: str) -> str:
    n = threshold.n_images
    low, high = implied.interval
    interval = f"95 % interval {_number(low)} to {_number(high)} per hour"
    if implied.certified:
        return f"{n} {what} certify it on average over such sets ({interval})."
    missing = images_to_certify(threshold.false_alarm_rate) - n
    return (
        f"{n} {what} show nothing rarer than 1 in {n + 1}: the threshold is extrapolated, not certified ({interval}, if "
        f"the scores go on as their tail begins). {missing:,} more would certify it."
    )


def _alarms(per_hour: float) -> str:
    return f"{_number(per_hour)} false alarm{'' if per_hour == 1.0 else 's'} per hour"


def _one_in(rate: float) -> str:
    return f"1 in {1.0 / rate:,.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.2g}"
