"""Metrics of the stream in the Prometheus text format, version 0.0.4."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import get_args

from edgead.errors import EdgeadError
from edgead.stream import part_search
from edgead.stream.frame_faults import FaultKind
from edgead.stream.monitoring.histogram import HistogramView
from edgead.stream.monitoring.monitor import CameraView
from edgead.stream.shadow.report import ShadowReport
from edgead.web.camera_answers import threshold_now
from edgead.web.running_stream import RunningStream

Labels = Mapping[str, str]
FAULTS = (*get_args(FaultKind), part_search.KIND, "other")


class Exposition:
    """Collects samples by family and writes them as text."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, help_text: str, samples: Sequence[tuple[Labels, float | None]]) -> None:
        """A counter or gauge; samples without a value are left out."""
        self._head(name, kind, help_text)
        for labels, value in samples:
            if value is not None:
                self._sample(name, labels, value)

    def histogram(self, name: str, help_text: str, samples: Sequence[tuple[Labels, HistogramView]]) -> None:
        self._head(name, "histogram", help_text)
        for labels, view in samples:
            ends = [*map(_number, view.bounds), "+Inf"]
            for end, n in zip(ends, view.cumulative, strict=True):
                self._sample(f"{name}_bucket", {**labels, "le": end}, n)
            self._sample(f"{name}_sum", labels, view.total)
            self._sample(f"{name}_count", labels, view.n)

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _head(self, name: str, kind: str, help_text: str) -> None:
        self._lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        self._lines.append(f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}")


def metrics_text(stream: RunningStream) -> str:
    """All metrics of a stream."""
    out = Exposition()
    views = [view for name in stream.monitor.cameras if (view := stream.monitor.camera(name)) is not None]
    _counters(out, views)
    _cameras(out, stream, views)
    out.histogram(
        "edgead_end_to_end_seconds", "Latency from capture to verdict.",
        [({"camera": view.name}, view.end_to_end_s) for view in views],
    )  # fmt: skip
    out.histogram(
        "edgead_score_level", "Scores of judged frames: 0 is an ordinary good image, 1 the threshold.",
        [({"camera": view.name, "zone": zone}, level) for view in views for zone, level in view.levels.items()],
    )  # fmt: skip
    status, health = stream.monitor.status, stream.store.health()
    engine_ms = None if status is None else status.engine_ms
    gauges: list[tuple[str, str, list[tuple[Labels, float | None]]]] = [
        ("edgead_engine_seconds", "Median time of the last engine calls.",
         [({}, None if engine_ms is None else engine_ms / 1e3)]),
        ("edgead_up", "1 while the stream reports its status.", [({}, float(stream.monitor.silent_s < 10.0))]),
        ("edgead_spool_depth", "Undelivered events of a sink.",
         [({"sink": name}, n) for name, n in stream.store.depths().items()]),
        ("edgead_spool_ok", "1 while alerts can be written to disk.",
         [({"part": "evidence"}, health.evidence_ok), ({"part": "records"}, health.records_ok)]),
        ("edgead_spool_free_bytes", "Free space on the disk of the alerts.", [({}, health.free_mb * 1e6)]),
        ("edgead_alerts_by_judgement", "Stored alerts by what people found; unjudged ones have none yet.",
         [({"camera": camera or "", "judgement": judgement or "unjudged"}, n)
          for (camera, judgement), n in stream.store.judgements().items()]),
        ("edgead_history_bytes", "Memory of the score histories.", [({}, stream.monitor.history_bytes)]),
        ("edgead_build_info", "Always 1; the labels name version, model, engine and bundle.",
         [({"version": stream.facts.version, "model": stream.facts.model, "engine": stream.facts.engine,
            "bundle": stream.facts.bundle}, 1)]),
        ("process_resident_memory_bytes", "Resident memory of the process.", [({}, _resident_bytes())]),
    ]  # fmt: skip
    for name, help_text, samples in gauges:
        out.family(name, "gauge", help_text, samples)
    if (left := _model_left(stream)) is not None:
        out.family(
            "edgead_model_rolled_back",
            "gauge",
            "1 after the line has left a model by itself, until another change.",
            [({}, left)],
        )
    report = None if stream.shadow is None else stream.shadow()
    if report is not None:
        _shadow(out, report)
    return out.text()


def _model_left(stream: RunningStream) -> float | None:
    """Whether the last change of the model was a roll-back by itself; None without a model store that can be read."""
    try:
        activations = [] if stream.models is None else stream.models.describe()["activations"]
    except EdgeadError:
        return None
    return float(bool(activations[-1]["left"])) if activations else None


def _shadow(out: Exposition, report: ShadowReport) -> None:
    verdicts = [
        ({"camera": name, "verdict": verdict}, float(n))
        for name, counts in report.cameras.items()
        for verdict, n in (
            ("same", counts.judged - counts.only_active - counts.only_shadow),
            ("only_active", counts.only_active),
            ("only_shadow", counts.only_shadow),
        )
    ]
    out.family(
        "edgead_shadow_frames", "gauge", "Frames that the shadow has judged, by who calls them anomalous.", verdicts
    )
    found = report.forecast
    ends: list[tuple[Labels, float | None]] = [
        ({"end": end}, None if found is None else value)
        for end, value in (
            ("low", None if found is None else found.low),
            ("expected", None if found is None else found.per_hour),
            ("high", None if found is None else found.high),
        )
    ]
    out.family(
        "edgead_shadow_alarms_per_hour", "gauge", "Forecast of the shadow's alarms in an hour, 95 % interval.", ends
    )
    costs: list[tuple[str, str, float | None]] = [
        ("edgead_shadow_cpu_share", "Processor time of the shadow, as a share of one core.", report.cost.cpu_share),
        ("edgead_shadow_slowdown", "Added latency of the active model while the shadow works.", report.cost.slowdown),
    ]
    for name, help_text, value in costs:
        out.family(name, "gauge", help_text, [({}, value)])


def _counters(out: Exposition, views: Sequence[CameraView]) -> None:
    counted = [(view, view.status) for view in views if view.status is not None]
    per_camera = {
        "frames_captured": ("Frames taken from the source.", [status.n_captured for _, status in counted]),
        "frames_judged": ("Frames with a verdict.", [status.n_processed for _, status in counted]),
        "frames_dropped": ("Frames replaced by newer ones.", [status.n_dropped for _, status in counted]),
        "frames_unjudged": (
            "Frames not judged because of a camera fault.",
            [status.n_unjudged for _, status in counted],
        ),
        "reconnects": ("Reconnections to the source.", [status.restarts for _, status in counted]),
    }
    for name, (help_text, values) in per_camera.items():
        labels = [{"camera": view.name} for view, _ in counted]
        out.family(f"edgead_{name}_total", "counter", help_text, list(zip(labels, values, strict=True)))
    out.family(
        "edgead_alerts_total", "counter", "Alerts opened.",
        [({"camera": view.name, "zone": zone}, n) for view in views for zone, n in view.n_zone_alerts.items()],
    )  # fmt: skip


def _cameras(out: Exposition, stream: RunningStream, views: Sequence[CameraView]) -> None:
    up = [({"camera": view.name}, float(view.status is not None and view.status.state == "running")) for view in views]
    out.family("edgead_camera_up", "gauge", "1 while the source gives frames.", up)
    faults = [
        ({"camera": view.name, "kind": kind}, float(kind == _fault_kind(view))) for view in views for kind in FAULTS
    ]
    out.family("edgead_picture_fault", "gauge", "1 while frames are not judged for this reason.", faults)
    thresholds = [
        ({"camera": camera.name, "zone": zone.name}, threshold_now(stream, camera.name, zone).value)
        for camera in stream.facts.cameras
        for zone in camera.zones
    ]
    out.family("edgead_threshold", "gauge", "Score above which a frame is anomalous, raw units.", thresholds)


def _fault_kind(view: CameraView) -> str | None:
    if view.fault is None:
        return None
    return view.fault_kind if view.fault_kind in FAULTS else "other"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _resident_bytes() -> float | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
