"""What a shadow promises: `python -m tools.shadow --simulate`, `python -m tools.shadow BUNDLE`.

Simulated lines show how often the forecast of alarms covers what then happens. With a bundle, the real thing is run: a
stream with the bundle as the shadow of itself, and then the hour that was forecast; and a live stream whose latency is taken
with and without a shadow.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle, open_bundle
from edgead.commands.stream import StreamOutputs, stream
from edgead.config.file import load_config
from edgead.config.stream import CameraConfig
from edgead.engines.opening import open_with_thresholds
from edgead.line.throughput import bench_images
from edgead.runner import REFERENCE
from edgead.stream.alerts import Alert, AlertEvent
from edgead.stream.result import ZoneVerdict
from edgead.stream.shadow.stretches import Stretches
from edgead.stream.shadow.tally import ShadowTally
from edgead.stream.sources.memory import MemorySource

# A stretch of a simulated line lasts 20 s, as one of 100 frames at 5 frames/s; fewer frames take less time to draw.
FPS, SETTLE, LENGTH = 1.0, 2, 20
# Seconds of the line's time between two frames of a replay, in which no time is waited.
REPLAY_S = 10.0
QUIET = ZoneVerdict("picture", 0.0, 1.0, 0.0, is_anomalous=False)
OPENED = ZoneVerdict(
    "picture", 2.0, 1.0, 1.0, is_anomalous=True, event=AlertEvent("opened", Alert(1, 0.0, 0, 2.0, 0))
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A simulated line.

    Attributes:
        per_hour: Alarms per hour.
        burst: Mean number of alarms in a burst; bursts come independently of each other.
        spread_s: Time over which the alarms of a burst are spread, in seconds.
        watched_h: Time that a shadow watches, in hours.
        share: Share of the frames that it judges.
    """

    per_hour: float
    burst: float
    spread_s: float
    watched_h: float
    share: float


# Mean size of bursts, and the time over which each is spread.
BURSTS = ((1.0, 0.0), (4.0, 60.0), (4.0, 600.0), (10.0, 900.0), (10.0, 1800.0))
LINES = (
    *(Line(per_hour, *burst, 2.0, 0.1) for per_hour in (1.0, 10.0, 100.0) for burst in BURSTS),
    *(Line(10.0, *burst, *watched) for watched in ((2.0, 1.0), (8.0, 0.1)) for burst in (BURSTS[0], *BURSTS[2:4])),
)


@dataclass(frozen=True)
class Coverage:
    """How often the forecast of an hour covered what then happened.

    Attributes:
        n, covered: Number of draws, and of those that were covered.
        above, below: Number of draws in which more, or fewer, alarms came.
        width: Median width of the interval, in alarms.
    """

    n: int
    covered: int
    above: int
    below: int
    width: float


def simulate(line: Line, n: int, seed: int = 0) -> Coverage:
    """Watch a line by a shadow, forecast the next hour, and let it come, `n` times."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for _ in range(n):
        # a frame opens one alert at most
        frames = np.unique((_alarms(line, line.watched_h + 1.0, rng) * FPS).astype(int))
        is_seen = frames < round(line.watched_h * 3600.0 * FPS)
        seen, coming = set(frames[is_seen].tolist()), int((~is_seen).sum())
        outcomes.append((*_forecast(line, seen, random.Random(int(rng.integers(2**31)))), coming))
    return _coverage(outcomes)


def _alarms(line: Line, hours: float, rng: np.random.Generator) -> NDArray[np.float64]:
    # bursts that began before the watch reach into it
    n = rng.poisson(line.per_hour * (hours + line.spread_s / 3600.0) / line.burst)
    starts = rng.uniform(-line.spread_s, hours * 3600.0, n)
    sizes = rng.geometric(1.0 / line.burst, starts.size)
    times = np.repeat(starts, sizes) + rng.uniform(0.0, line.spread_s, int(sizes.sum()))
    return np.asarray(times[(times >= 0.0) & (times < hours * 3600.0)])


def _forecast(line: Line, alarms: set[int], chance: random.Random) -> tuple[int, int]:
    stretches, tally = Stretches(line.share, LENGTH, chance), ShadowTally(("line",), SETTLE)
    for index in range(round(line.watched_h * 3600.0 * FPS)):
        taken, begins = stretches.take()
        if taken:
            verdict = OPENED if index in alarms else QUIET
            tally.add("line", index / FPS, (QUIET,), (verdict,), begins=begins)
    found = tally.forecast(1.0)
    assert found is not None
    return found.low, found.high


def replay(bundle: Path, n: int, seed: int = 0) -> Coverage:
    """Run the real thing: watch a bundle as the shadow of itself, and count its alerts of the hour after that.

    Frames are the bundle's own images, plain or with a patch of noise that the model calls anomalous, in bursts.
    """
    config = load_config(None, {"shadow.share": 0.5, "shadow.pictures": 0, "stream.record_fps": 1 / REPLAY_S})
    camera = [CameraConfig(name="line", source="memory")]
    plain, odd = _pictures(open_bundle(bundle))
    an_hour = round(3600 / REPLAY_S)
    outcomes = []
    for number in range(n):
        rng = np.random.default_rng(seed + number)
        frames = _frames(plain, odd, 3 * an_hour, rng)
        with tempfile.TemporaryDirectory() as folder:
            found: list[dict[str, Any] | None] = []
            alerts = 0
            for part, shadow in ((frames[: 2 * an_hour], (bundle, REFERENCE)), (frames[2 * an_hour :], None)):
                runner, own = open_with_thresholds(open_bundle(bundle), REFERENCE, threads=1)
                with runner:
                    summary = stream(
                        own, runner, camera, StreamOutputs(Path(folder) / str(len(found))), config=config, shadow=shadow,
                        sources={"line": MemorySource(part, len(part))},
                    )  # fmt: skip
                found.append(summary.shadow)
                alerts = summary.n_alerts
            report = found[0]
        assert report is not None
        outcomes.append((report["forecast"]["low"], report["forecast"]["high"], alerts))
    return _coverage(outcomes)


def _pictures(bundle: Bundle) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Images that the bundle calls good, and the same with noise in the middle, as far as it calls them anomalous."""
    runner, own = open_with_thresholds(bundle, REFERENCE, threads=1)
    limit = own.thresholds().threshold.value
    rng = np.random.default_rng(0)
    plain: list[NDArray[np.uint8]] = []
    odd: list[NDArray[np.uint8]] = []
    with runner:
        for image in bench_images(own):
            height, width = image.shape[:2]
            noisy = image.copy()
            middle = (slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4))
            noisy[middle] = rng.integers(0, 256, noisy[middle].shape, np.uint8)
            for one, kept, is_odd in ((image, plain, False), (noisy, odd, True)):
                score = float(runner.infer(own.preprocess(one)[None])["pred_score"][0])
                if (score > limit) == is_odd:
                    kept.append(one)
    if not plain or not odd:
        raise SystemExit("This bundle's own images are all anomalous, or noise is good for it: nothing can be counted.")
    return plain, odd


def _frames(
    plain: Sequence[NDArray[np.uint8]], odd: Sequence[NDArray[np.uint8]], n: int, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Images in a random order; an odd stretch begins at 1 frame in 60 and goes on with 4 in 5."""
    frames, is_odd = [], False
    for _ in range(n):
        is_odd = bool(rng.random() < (0.8 if is_odd else 1 / 60))
        kept = odd if is_odd else plain
        frames.append(kept[int(rng.integers(len(kept)))])
    return frames


@dataclass(frozen=True)
class Latencies:
    """Latency of a live stream without and with a shadow, in turn, in ms.

    Attributes:
        alone_p50, alone_p95, beside_p50, beside_p95: Medians over the turns of the percentiles of all frames.
        while_busy: Latency while the shadow worked over that while it rested, within the runs with a shadow.
        cpu_share, memory_mb: Cost of the shadow.
        skipped, judged: Frames that the shadow skipped and judged.
    """

    alone_p50: float
    alone_p95: float
    beside_p50: float
    beside_p95: float
    while_busy: float | None
    cpu_share: float
    memory_mb: float
    skipped: int
    judged: int


def latency(bundle: Path, seconds: float, fps: float, share: float, turns: int = 3) -> Latencies:
    """Run a live stream with and without a shadow in turn; both share a busy machine alike."""
    settings = {"shadow.share": share, "shadow.max_slowdown": 10.0}
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    reports = []
    images = list(bench_images(open_bundle(bundle)))
    for _ in range(turns):
        for beside in (False, True):
            runner, own = open_with_thresholds(open_bundle(bundle), REFERENCE, threads=1)
            with runner, tempfile.TemporaryDirectory() as folder:
                summary = stream(
                    own, runner, [CameraConfig(name="line", source="memory")], StreamOutputs(Path(folder)),
                    config=load_config(None, settings), shadow=(bundle, REFERENCE) if beside else None,
                    sources={"line": MemorySource(images, round(seconds * fps), fps=fps)},
                )  # fmt: skip
            assert summary.end_to_end_ms is not None
            found[beside].append((summary.end_to_end_ms.p50, summary.end_to_end_ms.p95))
            if summary.shadow is not None:
                reports.append(summary.shadow)
    (alone_p50, alone_p95), (beside_p50, beside_p95) = (
        np.median(np.array(found[one]), axis=0) for one in (False, True)
    )
    slow = [one["cost"]["slowdown"] for one in reports if one["cost"]["slowdown"] is not None]
    return Latencies(
        float(alone_p50), float(alone_p95), float(beside_p50), float(beside_p95),
        float(np.median(slow)) if slow else None,
        float(np.median([one["cost"]["cpu_share"] for one in reports])), reports[-1]["cost"]["memory_mb"],
        sum(one["cost"]["skipped"] for one in reports), sum(one["judged"] for one in reports),
    )  # fmt: skip


def _coverage(outcomes: Sequence[tuple[int, int, int]]) -> Coverage:
    above = sum(coming > high for _, high, coming in outcomes)
    below = sum(coming < low for low, _, coming in outcomes)
    widths = [high - low for low, high, _ in outcomes]
    return Coverage(len(outcomes), len(outcomes) - above - below, above, below, float(np.median(widths)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--draws", type=int, default=500, help="Draws of each simulated line.")
    parser.add_argument("--replays", type=int, default=20, help="Runs of the real thing.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Length of each stream whose latency is taken.")
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=0.1)
    chosen = parser.parse_args(arguments)
    if chosen.bundle is None and not chosen.simulate:
        parser.error("give a bundle, or --simulate")
    if chosen.simulate:
        for line in LINES:
            found = simulate(line, chosen.draws)
            print(
                f"{line.per_hour:5g} alarms/h in bursts of {line.burst:g} over {line.spread_s:g} s, {line.watched_h:g} h watched at "
                f"{line.share:g}: {found.covered} of {found.n} hours covered ({found.above} had more, {found.below} fewer), "
                f"width {found.width:g}",
                flush=True,
            )
    if chosen.bundle is None:
        return 0
    started = time.monotonic()
    found = replay(chosen.bundle, chosen.replays)
    print(
        f"Replayed: {found.covered} of {found.n} hours covered ({found.above} had more alerts, {found.below} fewer), "
        f"width {found.width:g}, in {time.monotonic() - started:.0f} s."
    )
    cost = latency(chosen.bundle, chosen.seconds, chosen.fps, chosen.share)
    busy = "not measured" if cost.while_busy is None else f"{cost.while_busy:+.1%}"
    print(
        f"Latency at {chosen.fps:g} frames/s, share {chosen.share:g}: alone p50 {cost.alone_p50:.1f} ms, p95 {cost.alone_p95:.1f} ms; with a "
        f"shadow {cost.beside_p50:.1f} and {cost.beside_p95:.1f} ms; while it works over while it rests {busy}. Shadow: "
        f"{cost.cpu_share:.1%} of a core, {cost.memory_mb:.0f} MB, {cost.judged} judged, {cost.skipped} skipped."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
