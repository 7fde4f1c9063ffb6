"""Compare promised with measured false alarms per hour on real images: `python -m tools.alarm_rate BUNDLE DATA`.

Prints two tables. Promise against measurement: good images that training did not see (held-out ones of the bundle and
those of the test set) are repeatedly split in halves. One half sets the threshold; the other passes a simulated camera and
the real alert rule: each part in view for 1 to 25 frames, each frame shifted by up to a pixel and with noise. The mean
alarms per hour over all splits must stay below the promise. `watched line` sets the threshold from such frames of the
first half.

With the default noise, frames of most data sets are like the images. With more noise (or with any noise on binarised
images) they are not, the promises from images fail, and the line about the alarm meter reports it.

Cost: the share of defective test images above the threshold for one alarm per hour, by the number of good images that set
it, and at both ends of the interval of that threshold with enough images to certify it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.builder.gate import scores_of
from edgead.builder.images import gate_images
from edgead.bundle import Bundle, open_bundle
from edgead.config.stream import AlertConfig
from edgead.engines.opening import open_engine
from edgead.evaluation.alarm_rate import AlarmPromise, implied_alarm_rate, promise_from_images, promise_from_watch
from edgead.evaluation.pace import HOUR_S, LARGEST_RATE, MeasuredBursts, Pace
from edgead.evaluation.threshold import threshold_from_scores
from edgead.progress import Silent
from edgead.runner import Runner
from edgead.stream.alarms.alarm_meter import AlarmMeter, AlarmReport
from edgead.stream.alarms.shadow import alerts_in
from edgead.stream.alerts import AlertRules, closing_level

Floats = NDArray[np.float64]

ThresholdRule = Callable[[Floats, np.random.Generator], AlarmPromise]

SPLITS, STREAM_FRAMES, LONGEST_LOOK = 100, 30_000, 25
COUNTABLE = (3000.0, 1000.0, 500.0, 100.0)
# Half the good images pass in a minute: stretches of 2 s are enough of them, and hold several parts each.
STRETCH_S = 2.0
SUBSETS = (25, 50, 100)


@dataclass(frozen=True)
class Scores:
    """Scores of one engine.

    Attributes:
        good: `(n, takes)`, good images that training did not see; the first take is the image as it is.
        defective: `(m,)`, defective test images.
    """

    good: Floats
    defective: Floats

    def detection_rate(self, threshold: float) -> float:
        """Share of the defective images above a threshold, 0..1."""
        return float((self.defective > threshold).mean())


@dataclass(frozen=True)
class Replay:
    """One promise over all splits.

    Attributes:
        alarms_per_hour: Measured, mean over the splits,
        error: with its standard error.
        detection_rate: Mean share of the defective images above the thresholds, 0..1.
        n_certified: Number of splits with a certified promise.
    """

    alarms_per_hour: float
    error: float
    detection_rate: float
    n_certified: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, help="data set with good and defective test images")
    parser.add_argument("--engine", default="reference")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--per-hour", type=float, default=1.0, help="wanted false alarms in the table of costs")
    parser.add_argument("--takes", type=int, default=6, help="changed copies of each good image")
    parser.add_argument("--noise", type=float, default=0.5, help="deviation of their noise, in grey levels")
    parser.add_argument("--splits", type=int, default=SPLITS)
    options = parser.parse_args(arguments)
    bundle = open_bundle(options.bundle)
    with open_engine(bundle, options.engine, threads=0) as runner:
        scores = score_images(bundle, runner, options.data, options.takes, options.noise)
    print(f"{options.data.name}: {len(scores.good)} good images unseen by training, {len(scores.defective)} defective")
    report = hour_of(scores, options.fps)
    paces = paces_of(report, options.fps)
    print(meter_line(report))
    print("\n| basis | promised alarms/h | measured | detected | certified |\n|---|---|---|---|---|")
    for name, rule, wanted in threshold_rules(paces):
        row = replay(scores, rule, options.fps, options.splits)
        print(
            f"| {name} | {wanted:,.0f} | {row.alarms_per_hour:,.0f} ± {row.error:,.0f} | {row.detection_rate:.1%} "
            f"| {row.n_certified} of {options.splits} |"
        )
    print("\n| threshold | good images | detected | with many more | alarms/h (95 %) |\n|---|---|---|---|---|")
    for line in cost_lines(scores, bundle.thresholds().threshold.false_alarm_rate, options.per_hour, paces):
        print(line)


def score_images(bundle: Bundle, runner: Runner, data: Path, n_takes: int, noise: float) -> Scores:
    """Run the engine over everything that is needed.

    Raises:
        EdgeadError: If the bundle has no held-out images, or the data no good or no defective test images.
    """
    images = gate_images(bundle, data, Silent())
    good = np.concatenate([images.held_out, images.good])
    rng = np.random.default_rng(0)
    takes = [good, *(np.stack([changed(image, noise, rng) for image in good]) for _ in range(n_takes))]
    return Scores(
        np.stack([np.asarray(scores_of(runner, take), np.float64) for take in takes], axis=1),
        np.asarray(scores_of(runner, images.defective), np.float64),
    )


def changed(image: NDArray[np.uint8], noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image `(H, W, 3)` as another frame would show it: up to a pixel aside, with noise in grey levels."""
    down, right = rng.integers(0, 3, size=2)
    height, width = image.shape[:2]
    moved = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")[down : down + height, right : right + width]
    noisy = moved + rng.normal(0.0, noise, size=(height, width, 1))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def stream_of(takes: Floats, n_frames: int, rng: np.random.Generator) -> Floats:
    """Scores `(n_frames,)` of a line that shows parts `(n, takes)` in random order, each for 1 to 25 frames."""
    lengths = rng.integers(1, LONGEST_LOOK + 1, size=n_frames)
    parts = np.repeat(rng.integers(len(takes), size=n_frames), lengths)[:n_frames]
    return takes[parts, rng.integers(takes.shape[1], size=n_frames)]


def hour_of(scores: Scores, fps: float) -> AlarmReport:
    """Report of the alarm meter after an hour of good images."""
    plain = scores.good[:, 0]
    meter = AlarmMeter(plain.tolist(), rules_at(plain, float(plain.max())))
    for index, score in enumerate(stream_of(scores.good, round(HOUR_S * fps), np.random.default_rng(2)).tolist()):
        meter.add(score, index / fps)
    return meter.report()


def meter_line(report: AlarmReport) -> str:
    """The meter's measurements in one sentence."""
    level, bursts = report.levels[0], report.bursts
    likeness = "unlike" if any(level.is_unlike for level in report.levels) else "like"
    grouping = "" if bursts is None else f", at most {bursts.alerts_per_exceedance:.3f} alerts per exceeding frame"
    return (
        f"An hour of frames at {report.fps:.3g}/s: {likeness} the images ({level.share:.1%} above the level of 10 %), "
        f"correlation {report.rank_correlation:.2f}, {report.looks_per_hour:,.0f} independent looks{grouping}"
    )


def paces_of(report: AlarmReport, fps: float) -> dict[str, Pace]:
    """The pace that any stream keeps, and the one measured where the meter may tell it."""
    open_frames, bursts = AlertConfig().open_frames, report.bursts
    paces = {"any stream": Pace(fps, open_frames)}
    if bursts is not None and bursts.alerts_per_exceedance is not None:
        paces["measured bursts"] = Pace(fps, open_frames, MeasuredBursts(bursts.alerts_per_exceedance, bursts.share))
    return paces


def threshold_rules(paces: dict[str, Pace]) -> Iterator[tuple[str, ThresholdRule, float]]:
    """Every way to a threshold with the alarms per hour that it promises."""
    for name, pace in paces.items():
        for wanted in COUNTABLE:
            yield name, _from_images(wanted, pace), wanted
    for wanted in COUNTABLE:
        if wanted < LARGEST_RATE * HOUR_S / STRETCH_S:
            yield "watched line", _from_watch(wanted, paces["any stream"].fps), wanted


def _from_images(wanted: float, pace: Pace) -> ThresholdRule:
    return lambda good, _: promise_from_images(good[:, 0], wanted, pace)


def _from_watch(wanted: float, fps: float) -> ThresholdRule:
    return lambda good, rng: watch(good, wanted, fps, rng)


def watch(good: Floats, wanted: float, fps: float, rng: np.random.Generator) -> AlarmPromise:
    """The promise from a camera that sees every part `(n, takes)` pass once."""
    meter = AlarmMeter([0.0], rules_at(good[:, 0], float(good.max())), stretch_s=STRETCH_S)
    index = 0
    for part in good:
        for score in rng.choice(part, size=rng.integers(1, LONGEST_LOOK + 1)).tolist():
            meter.add(score, index / fps)
            index += 1
    return promise_from_watch(meter.stretch_levels(), STRETCH_S, wanted)


def rules_at(good: Floats, threshold: float) -> AlertRules:
    """The default alert rule with this threshold."""
    config = AlertConfig()
    return AlertRules(
        threshold=threshold,
        closing_level=closing_level(good.tolist(), threshold, config.close_ratio),
        open_frames=config.open_frames,
        window_frames=config.window_frames,
        close_frames=config.close_frames,
        cooldown_s=config.cooldown_s,
    )


def replay(scores: Scores, rule: ThresholdRule, fps: float, splits: int) -> Replay:
    """Run one half of the good images at the threshold that the other half gives, on random splits."""
    rng, n = np.random.default_rng(1), len(scores.good)
    rates, detected, n_certified = np.empty(splits), np.empty(splits), 0
    for i in range(splits):
        order = rng.permutation(n)
        held_out, seen = scores.good[order[: n // 2]], scores.good[order[n // 2 :]]
        promise = rule(held_out, rng)
        rules = rules_at(held_out[:, 0], promise.threshold.value)
        stream = stream_of(seen, STREAM_FRAMES, rng)
        rates[i] = alerts_in(stream.tolist(), rules, fps) * HOUR_S * fps / STREAM_FRAMES
        detected[i] = scores.detection_rate(promise.threshold.value)
        n_certified += promise.implied.certified
    return Replay(float(rates.mean()), float(rates.std() / np.sqrt(splits)), float(detected.mean()), n_certified)


def cost_lines(scores: Scores, shipped_rate: float, wanted: float, paces: dict[str, Pace]) -> list[str]:
    """Detection at the shipped rate per image and at the wanted alarms per hour, by the number of good images."""
    good, bound = scores.good[:, 0], paces["any stream"]
    shipped = threshold_from_scores(good, shipped_rate)
    implied = implied_alarm_rate(good, shipped.value, bound)
    low, high = implied.interval
    lines = [
        f"| {shipped_rate:.1%} of images | {len(good)} | {scores.detection_rate(shipped.value):.1%} | | "
        f"up to {implied.per_hour:,.0f} ({low:,.0f} to {high:,.0f}) |"
    ]
    lines += [_cost_line(scores, "any stream", bound, wanted, n) for n in SUBSETS if n < len(good)]
    lines += [_cost_line(scores, name, pace, wanted, len(good)) for name, pace in paces.items()]
    return lines


def _cost_line(scores: Scores, name: str, pace: Pace, wanted: float, n: int) -> str:
    rng, good = np.random.default_rng(3), scores.good[:, 0]
    draws = 1 if n == len(good) else 20
    promises = [promise_from_images(rng.permutation(good)[:n], wanted, pace) for _ in range(draws)]
    detected = np.mean([scores.detection_rate(promise.threshold.value) for promise in promises])
    ends = np.array([promise.threshold.interval or (promise.threshold.value,) * 2 for promise in promises])
    best, worst = (np.mean([scores.detection_rate(end) for end in column]) for column in ends.T)
    high = np.mean([promise.implied.interval[1] for promise in promises])
    return f"| {wanted:g}/h, {name} | {n} | {detected:.1%} | {worst:.1%} to {best:.1%} | 0 to {high:.2g} |"


if __name__ == "__main__":
    main()
