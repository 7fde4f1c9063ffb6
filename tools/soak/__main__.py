"""Run a soak: `python -m tools.soak --minutes 30 [--out FOLDER] [--bundle BUNDLE]`; needs root, GStreamer and mosquitto.

One real RTSP camera at 25 frames/s has one fault after the other; a second camera has none. At the end, every event in the
spool must have arrived at the broker's subscriber, at the HTTP receiver and in the JSON lines. Exit code 4: an event was
lost, had two keys or was out of order, a fault was not recovered from, or memory grew.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.commands.train import train
from edgead.config.file import load_config
from edgead.data.synthetic.make import write_dataset
from edgead.progress import Silent
from tools.soak.faults import Outcome, faults_of, suffer
from tools.soak.floor import SAMPLE_S, Floor
from tools.soak.ledger import Comparison, compare
from tools.soak.parts import Received, python_with_gi, received, small_disk

ORDER = ("camera", "frozen", "broker", "receiver", "disk")
WARM_UP_S = 20.0
DRAIN_S = 45.0
LIMIT_S = 45.0
DISK_MB = 120
# Allowed difference of memory between the first and the last fifth of the longest life of the process, after a warm-up:
# the last 10,000 frames, ten minutes of scores and 500 events are kept, and a shorter soak sees them fill.
ALLOWED_GROWTH = 0.05
ALLOWED_FILLING = 0.1
MEMORY_WARM_UP_S = 600.0
LONG_MINUTES = 20.0


@dataclass(frozen=True)
class SoakReport:
    """Results of a soak test."""

    minutes: float
    fps: float
    outcomes: tuple[Outcome, ...]
    sinks: dict[str, Comparison]
    n_alerts: int
    memory_mb: tuple[float, float] | None
    exit_status: int | None

    @property
    def broken(self) -> list[str]:
        """Promises that were not kept."""
        found = [
            f"{name}: an event was lost, rekeyed or out of order" for name, one in self.sinks.items() if not one.is_kept
        ]
        found += [f"{one.fault}: no recovery" for one in self.outcomes if one.recovered_s is None]
        if self.n_alerts == 0:
            found.append("no alert was raised at all")
        allowed = ALLOWED_GROWTH if self.minutes >= LONG_MINUTES else ALLOWED_FILLING
        if self.memory_mb is not None and self.memory_mb[1] > self.memory_mb[0] * (1 + allowed):
            found.append(f"memory grew from {self.memory_mb[0]:.0f} to {self.memory_mb[1]:.0f} MB")
        if self.exit_status != 0:
            found.append(f"the stream ended with status {self.exit_status}")
        return found


def soak(folder: Path, bundle: Path, *, minutes: float, fps: float) -> SoakReport:
    """Suffer every fault within the time, and compare at the end."""
    cycles = max(1, round(minutes / 9))
    names = ["killed", *ORDER * cycles, *(["killed"] if cycles > 1 else [])]
    slot_s = (minutes * 60 - WARM_UP_S - DRAIN_S) / len(names)
    hold_s = max(8.0, min(30.0, slot_s * 0.5))
    outcomes = []
    with small_disk(folder / "disk", DISK_MB) as disk:
        with Floor(folder, disk / "alerts", bundle, fps=fps, python=python_with_gi()) as floor:
            faults = faults_of(floor)
            floor.wait_until_ready(60.0)
            wait(WARM_UP_S)
            for name in names:
                began_s = time.monotonic()
                outcomes.append(suffer(faults[name], floor, hold_s, LIMIT_S))
                print(outcome_line(outcomes[-1]), flush=True)
                wait(slot_s - (time.monotonic() - began_s))
            wait_until_drained(floor)
            status = floor.stream.stop()
            time.sleep(1.0)
            written = floor.written()
            lines = [received(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]
            arrived: dict[str, list[Received]] = {
                "mqtt": floor.subscriber.taken, "webhook": floor.receiver.taken, "jsonl": lines
            }  # fmt: skip
            return SoakReport(
                minutes=minutes,
                fps=fps,
                outcomes=tuple(outcomes),
                sinks={name: compare(written, taken) for name, taken in arrived.items()},
                n_alerts=sum(one.kind == "alert_opened" for one in lines),
                memory_mb=memory_of(floor),
                exit_status=status,
            )


def make_bundle(folder: Path) -> Path:
    """A small model of the synthetic line, quick enough for two cameras on two cores."""
    data = folder / "data"
    write_dataset(data, "disc", n_train=120, n_test_good=4, n_test_per_defect=1, seed=7, size=(320, 320))
    settings = {
        "data.root": str(data), "model.image_size": 128, "model.levels": ["16:32"], "train.epochs": 0, "train.device": "cpu"
    }  # fmt: skip
    result = train(load_config(None, settings), Silent(), out=folder / "run", runs=folder, resume=False)
    return result.bundle.path


def wait(seconds: float) -> None:
    time.sleep(max(0.0, seconds))


def wait_until_drained(floor: Floor) -> None:
    until_s = time.monotonic() + DRAIN_S
    while time.monotonic() < until_s and any(floor.depth(sink) for sink in ("mqtt", "webhook", "jsonl")):
        time.sleep(0.5)


def memory_of(floor: Floor) -> tuple[float, float] | None:
    """Median resident memory in the first and the last fifth of the process that lived longest, after its warm-up.

    The warm-up is ten minutes, or a third of a shorter life.
    """
    lives = list(zip(floor.starts, [*floor.starts[1:], float("inf")], strict=True))
    spans = [[mb for at_s, mb in floor.memory if begin < at_s < end] for begin, end in lives]
    longest = max(spans, key=len)
    longest = longest[min(len(longest) // 3, round(MEMORY_WARM_UP_S / SAMPLE_S)) :]
    fifth = len(longest) // 5
    return (statistics.median(longest[:fifth]), statistics.median(longest[-fifth:])) if fifth else None


def outcome_line(one: Outcome) -> str:
    return (
        "| "
        + " | ".join([one.fault, *(seconds(value) for value in (one.noticed_s, one.recovered_s, one.other_gap_s))])
        + " |"
    )


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def render(report: SoakReport) -> str:
    """The report as Markdown."""
    lines = [
        f"{report.minutes:g} minutes at {report.fps:g} frames/s, two cameras, {report.n_alerts} alerts.",
        "",
        "| fault | noticed after | recovered after | longest gap of the other camera |",
        "|---|---|---|---|",
        *[outcome_line(one) for one in report.outcomes],
        "",
        "| sink | events written | arrived | again under the same key | lost | second key | out of order |",
        "|---|---|---|---|---|---|---|",
        *[
            f"| {name} | {one.n_written} | {one.n_arrived} | {one.n_repeated} | {len(one.lost)} | {len(one.rekeyed)} | "
            f"{len(one.disordered)} |"
            for name, one in report.sinks.items()
        ],
        "",
    ]
    if report.memory_mb is not None:
        first, last = report.memory_mb
        lines.append(f"Memory of the stream: {first:.0f} MB, at the end {last:.0f} MB ({last / first - 1:+.1%}).")
    lines.append("Every promise was kept." if not report.broken else f"BROKEN: {'; '.join(report.broken)}.")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Exit status 0, or 4 for a broken promise."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--bundle", type=Path, default=None, help="default: a tiny one of the synthetic line")
    options = parser.parse_args()
    folder: Path = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=False)
    bundle: Path | None = options.bundle
    if bundle is None:
        bundle = make_bundle(folder)
    report = soak(folder, bundle.resolve(), minutes=options.minutes, fps=options.fps)
    (folder / "report.md").write_text(render(report))
    content: dict[str, Any] = asdict(report)
    (folder / "report.json").write_text(json.dumps(content, indent=2))
    print(render(report))
    return 4 if report.broken else 0


if __name__ == "__main__":
    # the small disk is unmounted and every part is stopped, however the run ends
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
