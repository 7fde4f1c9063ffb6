"""Faults of the soak test: how each is caused, repaired, and recognised as recovered."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.soak.floor import Floor


@dataclass(frozen=True)
class Fault:
    """One thing that fails.

    Attributes:
        name: Name in the table.
        inject: Makes it fail.
        heal: Mends it.
        seems: Whether the stream reports the fault; None if it has nothing to report.
        is_well: Whether everything works again, asked over and over after `heal`.
    """

    name: str
    inject: Callable[[], None]
    heal: Callable[[], None]
    seems: Callable[[], bool] | None
    is_well: Callable[[], bool]


def faults_of(floor: Floor) -> dict[str, Fault]:
    """Every fault, by a short name."""
    return {
        "killed": Fault(
            "stream killed with SIGKILL, started again",
            lambda: floor.stream.kill(),
            lambda: floor.start_stream(),
            None,
            lambda: floor.judged_since_mark("line"),
        ),
        "camera": Fault(
            "camera's RTSP server killed",
            lambda: floor.camera.kill(),
            lambda: floor.camera.start(),
            lambda: floor.said("camera_lost"),
            lambda: floor.judged_since_mark("line"),
        ),
        "frozen": Fault(
            "camera's picture frozen",
            lambda: floor.camera.say("freeze"),
            lambda: floor.camera.say("thaw"),
            lambda: floor.said("picture_fault"),
            lambda: floor.judged_since_mark("line"),
        ),
        "broker": Fault(
            "MQTT broker killed",
            lambda: floor.broker.kill(),
            lambda: floor.broker.start(),
            lambda: floor.depth("mqtt") > 0,
            lambda: floor.depth("mqtt") == 0 and floor.has_new(floor.subscriber.taken),
        ),
        "receiver": Fault(
            "HTTP receiver answers 500",
            lambda: floor.break_receiver(True),
            lambda: floor.break_receiver(False),
            lambda: floor.depth("webhook") > 0,
            lambda: floor.depth("webhook") == 0 and floor.has_new(floor.receiver.taken),
        ),
        "disk": Fault(
            "disk of the alerts full",
            lambda: fill(floor.alerts),
            lambda: (floor.alerts / FILLER).unlink(),
            lambda: not floor.evidence_ok(),
            lambda: floor.evidence_ok() and floor.has_new_pictures(),
        ),
    }


FILLER = "filler.bin"


def fill(folder: Path) -> None:
    """Leave nothing free on the folder's disk."""
    with (folder / FILLER).open("wb", buffering=0) as file:
        try:
            while True:
                free = shutil.disk_usage(folder).free
                file.write(bytes(max(4096, min(free, 1 << 22))))
        except OSError:
            return


@dataclass(frozen=True)
class Outcome:
    """Effect of one injected fault.

    Attributes:
        fault: Name of the fault.
        noticed_s: From injection to the first sign of it; None where nothing is to be noticed, or nothing was.
        recovered_s: From mending to everything working again; None if it did not within the limit.
        other_gap_s: Longest time without a judged frame of the other camera meanwhile; None where the stream was killed.
    """

    fault: str
    noticed_s: float | None
    recovered_s: float | None
    other_gap_s: float | None


def suffer(fault: Fault, floor: Floor, hold_s: float, limit_s: float) -> Outcome:
    """Inject, hold, heal, wait."""
    floor.mark()
    began_s = time.monotonic()
    fault.inject()
    noticed_s = None
    while time.monotonic() - began_s < hold_s:
        if noticed_s is None and fault.seems is not None and fault.seems():
            noticed_s = time.monotonic() - began_s
        time.sleep(0.2)
    floor.mark()
    fault.heal()
    healed_s = time.monotonic()
    recovered_s = None
    while recovered_s is None and time.monotonic() - healed_s < limit_s:
        if fault.is_well():
            recovered_s = time.monotonic() - healed_s
        time.sleep(0.2)
    gap_s = None if fault.name.startswith("stream") else floor.longest_gap_s("other", began_s)
    return Outcome(fault.name, noticed_s, recovered_s, gap_s)
