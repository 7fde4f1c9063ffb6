"""Health and metrics, as a supervisor and Prometheus read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.stream.alerts import Alert
from edgead.stream.monitoring.monitor import Monitor
from edgead.web.health import alive, ready
from edgead.web.metrics import Exposition, metrics_text
from edgead.web.running_stream import RunningStream

from ..stream.fakes import BAD, ManualClock
from .parts import FACTS, LINE, SIDE, Browser, Health, MemoryStore, fault_began, judged, make_stream, tell, unjudged

parser = pytest.importorskip("prometheus_client.parser")


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_probes_need_no_login_and_tell_nothing(stream: RunningStream, browser: Browser) -> None:
    """One word each; no camera's name."""
    assert (browser.ask("GET", "/healthz").status, browser.ask("GET", "/healthz").body) == (200, b"ok\n")
    assert (browser.ask("GET", "/readyz").status, browser.ask("GET", "/readyz").body) == (503, b"waiting\n")
    tell(stream.monitor)
    for camera in (LINE, SIDE):
        stream.monitor.accept(judged(camera))
    assert (browser.ask("GET", "/readyz").status, browser.ask("GET", "/readyz").body) == (200, b"ready\n")
    assert browser.ask("GET", "/metrics").status == 200
    for header in ("Forwarded", "X-Forwarded-For"):
        assert browser.ask("GET", "/metrics", headers={header: "192.0.2.1"}).status == 401
    assert browser.ask("GET", "/metrics", headers={"X-Forwarded-For": "x", **browser.bearer}).status == 200


def test_ready_when_everything_is_watched(tmp_path: Path) -> None:
    """Each thing that is not as it should be has its word, and silence of the stream comes first."""
    clock = ManualClock()
    monitor = Monitor({camera.name: ["picture"] for camera in FACTS.cameras}, clock=clock)
    stream = make_stream(tmp_path, monitor=monitor)
    store = stream.store
    assert isinstance(store, MemoryStore)

    def word() -> str:
        return ready(stream, 10.0)

    assert word() == "waiting"
    tell(monitor)
    monitor.accept(judged(LINE))
    assert word() == "camera"
    monitor.accept(judged(SIDE))
    assert word() == "ready"
    for state in ("lost", "resting", "hung", "failed"):
        for is_steady in (True, False):
            tell(monitor, state=state, is_steady=is_steady)
            assert word() == "camera"
    tell(monitor)
    for health in (Health(evidence_ok=False), Health(records_ok=False)):
        store.told = health
        assert word() == "spool"
    store.told = Health()
    clock.now_s += 9
    monitor.accept(unjudged("black", value=1))
    tell(monitor)
    assert word() == "ready"
    clock.now_s += 2
    tell(monitor)
    assert word() == "camera"
    monitor.accept(judged(SIDE))
    # nothing came to a watched folder, and a video that is over gives no more
    for changes in ({"is_steady": False}, {"is_steady": False, "state": "waiting"}, {"state": "ended"}):
        tell(monitor, **changes)
        assert word() == "ready"
    tell(monitor)
    assert word() == "camera"
    monitor.accept(judged(LINE))
    monitor.accept(judged(SIDE))
    assert word() == "ready"
    assert alive(stream) == "ok"
    clock.now_s += 10.1
    assert alive(stream) == word() == "stalled"


def test_metrics_are_what_was_measured(stream: RunningStream, browser: Browser) -> None:
    """Every promised family is there, with the numbers of the stream, as Prometheus' own parser reads them."""
    tell(stream.monitor)
    for value in (100, 100, BAD):
        stream.monitor.accept(judged(value=value, alert=Alert(2, 0.0, 0, 0.4, 0)))
    stream.monitor.accept(fault_began("too bright", value=255, fault="over-exposed"))
    reply = browser.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(reply.body.decode())
    expected = {
        ("edgead_frames_captured_total", LINE): 5, ("edgead_frames_judged_total", LINE): 4,
        ("edgead_frames_dropped_total", LINE): 1, ("edgead_frames_unjudged_total", SIDE): 0,
        ("edgead_reconnects_total", LINE): 2, ("edgead_alerts_total", LINE, "picture"): 2,
        ("edgead_camera_up", LINE): 1, ("edgead_picture_fault", LINE, "over-exposed"): 1,
        ("edgead_picture_fault", LINE, "black"): 0, ("edgead_end_to_end_seconds_count", LINE): 3,
        ("edgead_score_level_bucket", LINE, "0.5", "picture"): 2,
        ("edgead_score_level_bucket", LINE, "+Inf", "picture"): 3,
        ("edgead_threshold", LINE, "picture"): 0.2, ("edgead_engine_seconds",): 0.0075,
        ("edgead_spool_depth", "mqtt"): 3, ("edgead_spool_ok", "evidence"): 1, ("edgead_up",): 1,
        ("edgead_build_info", "sha256:ab", "onnxruntime-fp32", "usf", "0.1"): 1,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    assert found[("process_resident_memory_bytes",)] > 10e6
    assert found[("edgead_end_to_end_seconds_bucket", LINE, "+Inf")] == 3
    assert 0 <= found[("edgead_end_to_end_seconds_sum", LINE)] < 3


def test_metrics_before_anything(tmp_path: Path) -> None:
    """A stream that has only just started has metrics too: what is unknown is left out."""
    found = samples(metrics_text(make_stream(tmp_path)))
    assert found[("edgead_camera_up", LINE)] == 0
    assert ("edgead_engine_seconds",) not in found
    assert found[("edgead_end_to_end_seconds_count", LINE)] == 0


@given(st.text(max_size=30), st.floats())
def test_label_values_are_escaped(text: str, value: float) -> None:
    """Whatever is in a name or number, the parser reads the same out of the text."""
    out = Exposition()
    out.family("edgead_x", "gauge", "Help.", [({"camera": text}, value)])
    ((key, read),) = samples(out.text()).items()
    assert key == ("edgead_x", text)
    assert read == value or (read != read and value != value)
