"""A stream that needs no engine, and a browser of a few lines."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np

from edgead.errors import DataError
from edgead.evaluation.forecast import forecast_count
from edgead.imaging import Image
from edgead.manifest import ThresholdRecord
from edgead.prediction import Prediction
from edgead.stream.alerts import Alert
from edgead.stream.control import Control, SetThreshold
from edgead.stream.frame import Frame
from edgead.stream.inference import threshold_notice
from edgead.stream.monitoring.meter import CameraStatus, StreamStatus
from edgead.stream.monitoring.monitor import Monitor
from edgead.stream.notices import (
    CameraLost,
    FaultBegan,
    FaultEnded,
    ThresholdChanged,
    UnjudgedFrame,
)
from edgead.stream.result import FrameResult, JudgedBy, ZoneVerdict
from edgead.stream.shadow.gallery import Difference
from edgead.stream.shadow.report import ShadowCost, ShadowReport
from edgead.stream.shadow.tally import CameraTally
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.events import StoredEvent, stored_event
from edgead.stream.spool.judgements import AlertGoneError, Opinion
from edgead.stream.spool.judgements import judged as judged_changes
from edgead.stream.teaching import EarlierTeaching, TaughtVerdict, TeachingReport, TeachingStatus
from edgead.stream.zone_monitor import RuleOptions, ZoneMonitor
from edgead.stream.zones import ZoneShape
from edgead.web.address import Address
from edgead.web.options import WebOptions
from edgead.web.running_stream import CameraFacts, RunningStream, StreamFacts, ZoneFacts
from edgead.web.server import WebServer
from edgead.web.token import TokenCheck, open_token

from ..stream.fakes import GOOD, SCALE, THRESHOLD, plain

TOKEN = "a token of more than sixteen characters"
LINE, SIDE = "line", "side"
LEFT = "left"
PICTURE = "only-shadow-00001.jpg"
ALERT_ID = "20261123T021500Z-3f9a2c"
GOOD_SCORES = tuple(float(score) for score in np.linspace(0.0, 0.19, 99))
STARTED_WITH = ThresholdRecord(value=THRESHOLD, false_alarm_rate=0.01, certified=True, interval=None, n_images=99)


@dataclass(frozen=True)
class Health:
    evidence_ok: bool = True
    records_ok: bool = True
    free_mb: float = 1234.5
    detail: str = ""


class MemoryStore:
    """In-memory store of alerts and events; images and clips are files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, AlertRecord] = {}
        self.history: list[StoredEvent] = []
        self.told = Health()
        self.lock = threading.Lock()

    def add(self, alert_id: str, **changes: Any) -> AlertRecord:
        values: dict[str, Any] = {
            "id": alert_id, "schema_version": 1, "state": "open", "camera": LINE, "zone": "picture", "severity": None,
            "opened_at": "2026-11-23T02:15:00.000Z", "score": 0.3, "threshold": THRESHOLD, "peak_score": 0.4,
            "acknowledged_at": None, "acknowledged_by": None, "note": None, "pictures": {}, **changes,
        }  # fmt: skip
        self.records[alert_id] = AlertRecord.stored(values)
        return self.records[alert_id]

    def happen(self, kind: str, **content: Any) -> None:
        with self.lock:
            sequence = len(self.history) + 1
            payload = {
                "kind": kind, "at": "2026-11-23T02:15:00.000Z", "camera": LINE, "zone": None, "alert": None,
                "detail": "", "values": {}, **content,
            }  # fmt: skip
            self.history.append(stored_event("device", sequence, payload))

    def events(self, after: int = 0, limit: int = 100) -> list[StoredEvent]:
        return [event for event in list(self.history) if event.sequence > after][:limit]

    def last_sequence(self) -> int:
        return self.history[-1].sequence if self.history else 0

    def alerts(
        self,
        *,
        state: str | None = None,
        camera: str | None = None,
        judgement: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[AlertRecord]:
        found = [
            record
            for record in self.records.values()
            if state in (None, record.state) and camera in (None, record.camera) and (not before or record.id < before)
            and judgement in (None, record.judgement, "judged" if record.judgement else "unjudged")
        ]  # fmt: skip
        return sorted(found, key=lambda record: record.id, reverse=True)[:limit]

    def alert(self, alert_id: str) -> AlertRecord | None:
        return self.records.get(alert_id)

    def acknowledge(self, alert_id: str, who: str, note: str = "") -> bool:
        record = self.records.get(alert_id)
        if record is None or record.acknowledged_at is not None:
            return False
        seen = {"acknowledged_at": "2026-11-23T02:16:00.000Z", "acknowledged_by": who, "note": note}
        self.records[alert_id] = AlertRecord.stored({**record.as_json(), **seen})
        return True

    def judge(self, alert_id: str, opinion: Opinion, *, instead_of: int | None = 0) -> AlertRecord:
        if alert_id not in self.records:
            raise AlertGoneError(alert_id)
        for change in judged_changes(self.records[alert_id], opinion, instead_of, "2026-11-23T02:16:00.000Z"):
            assert change.alert is not None
            self.records[alert_id] = self.records[alert_id].merged(change.alert)
        return self.records[alert_id]

    def judgements(self) -> dict[tuple[str | None, str | None], int]:
        return dict(Counter((record.camera, record.judgement) for record in self.records.values()))

    def media(self, alert_id: str, kind: str) -> Path | None:
        name = self.records[alert_id].pictures.get(kind)
        return None if name is None else self.folder / name

    def depths(self) -> dict[str, int]:
        return {"mqtt": 3}

    def health(self) -> Health:
        return self.told


def zone_facts(name: str) -> ZoneFacts:
    corners = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0))
    return ZoneFacts(ZoneShape(name, () if name == "picture" else (corners,)), STARTED_WITH, GOOD_SCORES)


FACTS = StreamFacts(
    device="device", version="0.1", bundle="sha256:ab", model="usf", classes=("disc",), engine="onnxruntime-fp32",
    engine_device="cpu",
    cameras=(
        CameraFacts(LINE, "rtsp://***@camera/1", "disc", SCALE, (zone_facts("picture"), zone_facts(LEFT))),
        CameraFacts(SIDE, "synthetic:disc", None, SCALE, (zone_facts("picture"),)),
    ),
)  # fmt: skip


def make_stream(folder: Path, **changes: Any) -> RunningStream:
    monitor = Monitor({camera.name: [zone.name for zone in camera.zones] for camera in FACTS.cameras})
    return RunningStream(
        **{"monitor": monitor, "control": Control(), "store": MemoryStore(folder), "facts": FACTS, **changes}
    )


def status_of(name: str, **changes: Any) -> CameraStatus:
    values: dict[str, Any] = {
        "name": name, "source": "rtsp://***@camera/1", "state": "running", "fault": None, "n_captured": 5,
        "n_processed": 4, "n_dropped": 1, "n_unjudged": 0, "n_alerts": 0, "restarts": 2, "fps": 9.87, "zone": "picture",
        "score": 0.1, "threshold": THRESHOLD, "is_anomalous": False, "is_alert_open": False, "is_held": False,
    }  # fmt: skip
    return CameraStatus(**{**values, **changes})


def tell(monitor: Monitor, **changes: Any) -> None:
    """Send a stream status; the changes apply to the camera `line`."""
    cameras = tuple(status_of(camera.name, **(changes if camera.name == LINE else {})) for camera in FACTS.cameras)
    monitor.update(StreamStatus(elapsed_s=12.0, engine_ms=7.5, cameras=cameras))


def judged(
    camera: str = LINE,
    *,
    value: int = GOOD,
    index: int = 0,
    size: tuple[int, int] = (48, 64),
    alert: Alert | None = None,
    alert_id: str = ALERT_ID,
    threshold: float = THRESHOLD,
    is_repeat: bool = False,
) -> FrameResult:
    """A judged frame of one grey value, in every zone of its camera; the alert is the first zone's."""
    score = max(value / 255 - 0.5, 0.0)
    prediction = Prediction(np.full((2, 2), score, np.float32), score, threshold, threshold)
    frame = Frame(plain(value, size), index, time.monotonic(), "fake")
    zones = next(facts.zones for facts in FACTS.cameras if facts.name == camera)
    verdicts = tuple(
        ZoneVerdict(
            zone.name, score, threshold, 1.0, score > threshold, level=score / threshold,
            alert=alert if number == 0 else None, alert_id=alert_id if alert and number == 0 else None,
        )
        for number, zone in enumerate(zones)
    )  # fmt: skip
    return FrameResult(camera, frame, prediction, index / 10, 10.0, 10.0, verdicts, is_repeat)


def shadow_report(folder: Path | None = None) -> ShadowReport:
    """A shadow that watched for a while, with one picture if there is a folder for it."""
    counts = CameraTally(judged=100, both=2, only_active=1, only_shadow=5, seconds=360.0, alerts=2, alerts_active=1)
    difference = Difference("only_shadow", LINE, 77, 7.7, 0.6, 1.4, PICTURE)
    if folder is not None:
        (folder / difference.picture).write_bytes(b"JPEG")
    return ShadowReport(
        JudgedBy("b" * 64, "onnxruntime-fp32"), JudgedBy("a" * 64, "onnxruntime-fp32"), 100, 1000, 2, 1, 5, 360.0, 2, 1,
        forecast_count(2, 0.1, 1.0), {LINE: counts}, (difference,), None if folder is None else str(folder),
        ShadowCost(8.1, 0.02, 150.0, 20.0, 20.4, 3, 0.1),
    )  # fmt: skip


class FakeTeaching:
    """Teaching that is always at the same point, and notes what it is asked; an error is raised by whatever may fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.error: Exception | None = None
        verdict = TaughtVerdict(2, 1, 1 / 6, 3.5, ((PICTURE, 3.5),), ("It promises.", "Warning: few."))
        report = TeachingReport((PICTURE,), 7, {"moving": 5}, "Moving.", ((PICTURE, 3.25),), (2, 5), 1 / 6, (9, 0.1))
        self.now = TeachingStatus(
            "collecting", "ana", "alerts/taught/line/0001", report, silent_s=1.25, earlier=EarlierTeaching(3, 1)
        )
        self.ended = replace(self.now, state="taught", report=replace(report, following=None, verdict=verdict))

    def status(self, camera: str) -> TeachingStatus:
        return self.now

    def start(self, camera: str, who: str, *, needs_rest: bool, every_s: float, refine: bool) -> TeachingStatus:
        return self._ask("start", camera, who, needs_rest, every_s, refine)

    def finish(self, camera: str) -> TeachingStatus:
        return self._ask("finish", camera)

    def drop(self, camera: str, file: str) -> TeachingStatus:
        self.picture(camera, file)
        return self._ask("drop", camera, file)

    def cancel(self, camera: str) -> TeachingStatus:
        return self._ask("cancel", camera)

    def install(self, camera: str, who: str) -> TeachingStatus:
        return self._ask("install", camera, who)

    def picture(self, camera: str, file: str) -> Image:
        if file != PICTURE:
            raise DataError("There is no such picture.")
        return plain(GOOD)

    def _ask(self, *words: object) -> TeachingStatus:
        self.asked.append(words)
        if self.error is not None:
            raise self.error
        return self.now


def lost(reason: str) -> CameraLost:
    return CameraLost(LINE, time.monotonic(), reason)


def unjudged(message: str, *, value: int) -> UnjudgedFrame:
    return UnjudgedFrame(*_about_frame(value), message=message, fault=None)


def fault_began(message: str, *, value: int, fault: str | None = None) -> FaultBegan:
    return FaultBegan(*_about_frame(value), message=message, fault=fault)


def fault_ended() -> FaultEnded:
    return FaultEnded(*_about_frame(GOOD))


def threshold_changed(before: float, after: float, *, rate: float, zone: str = "picture") -> ThresholdChanged:
    return ThresholdChanged(
        LINE, time.monotonic(), zone=zone, who="x", before=before, after=after, false_alarm_rate=rate
    )


def _about_frame(value: int) -> tuple[str, float, Frame, float]:
    now_s = time.monotonic()
    return LINE, now_s, Frame(plain(value), 77, now_s, "fake"), 7.7


def carry_out(stream: RunningStream) -> list[ThresholdChanged]:
    """Carry out requests as the inference thread does, and notify the monitor; returns the notices."""
    notices = []
    for request in stream.control.take_all():
        if not isinstance(request, SetThreshold):
            continue
        camera = stream.facts.camera(request.camera)
        zone = None if camera is None else camera.zone(request.zone)
        assert zone is not None
        watch = ZoneMonitor(zone.shape, (2, 2), zone.good_scores, zone.threshold, RuleOptions())
        change = watch.set_threshold(
            value=request.value, false_alarm_rate=request.false_alarm_rate, record=request.record
        )
        notices.append(threshold_notice(request, change))
        stream.monitor.accept(notices[-1])
    return notices


def known_token() -> TokenCheck:
    return open_token(Path("nowhere"), {"EDGEAD_WEB_TOKEN": TOKEN})[0]


@contextmanager
def serving(stream: RunningStream, options: WebOptions | None = None) -> Iterator[Browser]:
    with WebServer(Address("127.0.0.1", 0), stream, known_token(), options or WebOptions()) as server:
        yield Browser(server.port)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


class Browser:
    """HTTP client of a server on loopback; sends a bearer token by default."""

    def __init__(self, port: int) -> None:
        self.port = port

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = {},
        body: Any = None,
    ) -> Iterator[HTTPResponse]:
        """The answer, its body not yet read; the connection ends with the context."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**({} if body is None else {"Content-Type": "application/json"}), **headers}
        try:
            connection.request(method, path, content, sent)
            with closing(connection.getresponse()) as response:
                yield response
        finally:
            connection.close()

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] = {}, body: Any = None) -> Reply:
        """Send a request with exactly these headers."""
        with self.open(method, path, headers=headers, body=body) as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())

    def get(self, path: str) -> Reply:
        return self.ask("GET", path, headers=self.bearer)

    def send(self, method: str, path: str, body: Any = None) -> Reply:
        return self.ask(method, path, headers={**self.bearer, "X-Edgead": "1"}, body=body)

    def log_in(self, token: str = TOKEN, name: str = "Ada") -> Reply:
        headers = {"X-Edgead": "1"}
        return self.ask("POST", "/api/v1/session", headers=headers, body={"token": token, "name": name})

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKEN}", "X-Edgead-User": "script"}

    def raw(self, content: bytes, *, timeout_s: float = 60.0) -> bytes:
        """Answer to raw bytes, up to the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            connection.sendall(content)
            found = b""
            while chunk := connection.recv(65536):
                found += chunk
            return found


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    """Wait for a condition that another thread fulfils."""
    end_s = time.monotonic() + timeout_s
    while not (is_there := condition()) and time.monotonic() < end_s:
        time.sleep(0.01)
    return is_there
