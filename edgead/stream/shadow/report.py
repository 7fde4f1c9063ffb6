"""Report of a shadow: what another model would have changed, and what its watch cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgead.evaluation.forecast import CountForecast
from edgead.stream.result import JudgedBy
from edgead.stream.shadow.gallery import Difference
from edgead.stream.shadow.tally import CameraTally


@dataclass(frozen=True)
class ShadowCost:
    """Cost of a shadow.

    Attributes:
        ms: Median time per frame, in ms.
        cpu_share: Processor time, as a share of one core.
        memory_mb: Resident memory of its engine's process, in MB; 0 if it has none.
        latency_ms, latency_beside_ms: Median latency of the active model's frames while the shadow rested, and while it
            worked, in ms; None with too few frames of one kind.
        skipped: Frames of its share that it did not judge because it was still busy.
        share: Share of the frames that it may judge now; halved each time the active model suffered.
    """

    ms: float | None
    cpu_share: float
    memory_mb: float
    latency_ms: float | None
    latency_beside_ms: float | None
    skipped: int
    share: float

    @property
    def slowdown(self) -> float | None:
        """Added latency of the active model as a share; None if it is not known."""
        if self.latency_ms is None or self.latency_beside_ms is None or self.latency_ms <= 0.0:
            return None
        return self.latency_beside_ms / self.latency_ms - 1.0


@dataclass(frozen=True)
class ShadowReport:
    """Report of a shadow, while it runs or at its end.

    Attributes:
        shadow, active: Models: the one that watched, and the one that decided.
        judged: Frames judged by both.
        frames: Frames judged by the active model meanwhile.
        both, only_active, only_shadow: Frames that both, or one of them alone, call anomalous.
        watched_s: Time in which alerts were counted, over all cameras, in seconds.
        alerts, alerts_active: Alerts that the shadow would have opened, and that the active model opened, in this time.
        forecast: Alarms of the shadow in the coming hour; None if too little was watched.
        cameras: Counts by camera.
        differences: Frames with different verdicts, the largest differences first.
        folder: Folder of their pictures; None without an alert folder.
        cost: Cost of the shadow.
        ended: Reason of its end; empty while it runs.
        problem: Reason why something is missing; empty otherwise.
    """

    shadow: JudgedBy
    active: JudgedBy | None
    judged: int
    frames: int
    both: int
    only_active: int
    only_shadow: int
    watched_s: float
    alerts: int
    alerts_active: int
    forecast: CountForecast | None
    cameras: Mapping[str, CameraTally]
    differences: tuple[Difference, ...]
    folder: str | None
    cost: ShadowCost
    ended: str = ""
    problem: str = ""

    @property
    def sentences(self) -> list[str]:
        """The report in words."""
        share = self.judged / self.frames if self.frames else 0.0
        lines = [
            f"Shadow {self.shadow.bundle[:12]} ({self.shadow.engine}): {self.judged} of {self.frames} frames ({share:.0%}); "
            f"anomalous for the shadow alone {self.only_shadow}, for the active model alone {self.only_active}, for both {self.both}."
        ]
        if self.forecast is None:
            lines.append(f"No forecast of its alarms: {self._why_not()}")
        else:
            found = self.forecast
            lines.append(
                f"Its alarms in an hour: about {found.per_hour:.3g} ({found.confidence:.0%}: {found.low} to {found.high}); in the "
                f"{self.watched_s / 60:.3g} watched minutes it would have opened {self.alerts}, and the active model opened {self.alerts_active}."
            )
        lines.append(self._cost())
        if self.ended:
            lines.append(f"It ended: {self.ended}.")
        if self.problem:
            lines.append(self.problem)
        return lines

    def _why_not(self) -> str:
        if self.cost.skipped > self.judged:
            return f"it is too slow for these cameras ({self.cost.skipped} frames skipped)."
        return f"{self.watched_s:.0f} s were watched, and each camera needs at least a minute."

    def _cost(self) -> str:
        cost = self.cost
        parts = [f"Cost: {cost.cpu_share:.1%} of one core"]
        if cost.memory_mb:
            parts.append(f"{cost.memory_mb:.0f} MB")
        if cost.ms is not None:
            parts.append(f"{cost.ms:.3g} ms per frame")
        if cost.slowdown is not None:
            parts.append(f"latency of the active model {cost.slowdown:+.1%} while it works")
        if cost.skipped:
            parts.append(f"{cost.skipped} frames skipped while busy")
        return f"{', '.join(parts)}."

    def to_json(self) -> dict[str, Any]:
        """The stable keys of the event and the REST API."""
        content = asdict(self)
        content["cameras"] = {
            name: {key: value for key, value in counts.items() if not key.startswith("_")}
            for name, counts in content["cameras"].items()
        }
        content["cost"]["slowdown"] = self.cost.slowdown
        return {**content, "text": " ".join(self.sentences)}
