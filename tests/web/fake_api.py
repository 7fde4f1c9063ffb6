"""A device for tests of the page: the REST API over real HTTP, with cameras whose scores and alerts a test decides."""

from __future__ import annotations

import contextlib
import json
import math
import queue
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

import edgead
from edgead.heatmap import HeatmapScale, overlay
from edgead.imaging import Image, jpeg_from_rgb
from edgead.web.model_handlers import ArtificialDefects, Learned, LearnedAlert

from .fake_models import FakeModels

TOKEN = "a-token-for-tests"
STATIC = Path(edgead.__file__).parent / "web" / "static"
CSP = "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
SCALE = HeatmapScale(1.2, 4.0, 9.0)
SIZE = (480, 640)
RATE = {"false_alarm_rate": 0.002, "certified": False, "interval": [3.2, 5.1], "n_images": 209}
FIGURES = "About 0.2 % of good frames score above it; this is an estimate from 209 held-out good images."
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class FakeCamera:
    """A conveyor of washers; `is_bad` puts a scratch on them."""

    name: str
    zones: dict[str, list[list[list[float]]]] = field(default_factory=lambda: {"picture": []})
    threshold: float = 4.0
    verdict: str = "ok"
    is_bad: bool = False
    excess: float = 3.7
    alert: dict[str, Any] | None = None
    unlike: str | None = None
    is_certified: bool = False
    born: float = field(default_factory=time.monotonic)

    @property
    def index(self) -> int:
        return int((time.monotonic() - self.born) * 10)

    def score(self, at: float) -> float:
        ordinary = 2.1 + 0.35 * math.sin(at * 0.9) + 0.25 * math.sin(at * 5.3 + len(self.name))
        return ordinary + (self.excess if self.is_bad and time.monotonic() - at < 20 else 0.0)

    def picture(self, heatmap: bool) -> Image:
        index = self.index
        image = np.full((*SIZE, 3), (96, 92, 86), np.uint8)
        image[:] += (np.random.default_rng(3).integers(0, 9, SIZE)[..., None]).astype(np.uint8)
        cv2.rectangle(image, (0, 60), (SIZE[1], 420), (66, 62, 58), -1)
        left = (index * 12) % 320
        for x in range(left - 320, SIZE[1] + 320, 320):
            cv2.circle(image, (x, 240), 120, (204, 200, 196), -1, cv2.LINE_AA)
            cv2.circle(image, (x, 240), 110, (184, 178, 172), 6, cv2.LINE_AA)
            cv2.circle(image, (x, 240), 48, (66, 62, 58), -1, cv2.LINE_AA)
            if self.is_bad:
                cv2.line(image, (x + 45, 185), (x + 92, 222), (92, 76, 70), 5, cv2.LINE_AA)
        return overlay(image, self._map(left), SCALE) if heatmap else image

    def _map(self, left: int) -> NDArray[np.float32]:
        values = np.full((60, 80), 1.0, np.float32)
        for x in range(left - 320, SIZE[1] + 320, 320):
            rows, columns = np.mgrid[0:60, 0:80]
            spot = np.exp(-(((columns - (x + 68) / 8) / 4.5) ** 2) - ((rows - 25.5) / 3.8) ** 2)
            values += (spot * (8.5 if self.is_bad else 1.4)).astype(np.float32)
        return values

    def answer(self) -> dict[str, Any]:
        score = self.score(time.monotonic())
        zones = [
            {
                "name": zone, "score": score - number * 0.4, "threshold": self.threshold,
                "level": (score - number * 0.4 - 1.5) / (self.threshold - 1.5), "is_anomalous": score > self.threshold,
                "include": polygons, "exclude": [], "alarms_per_hour": {
                    "per_hour": 1.8, "interval": [0.4, 3.9], "certified": False, "text": "about 2 (0.4 to 3.9)"},
                "rate": {**RATE, "certified": self.is_certified},
                "alert": self._open_alert() if number == 0 else None,
            }
            for number, (zone, polygons) in enumerate(self.zones.items())
        ]  # fmt: skip
        running = self.verdict not in ("lost", "failed", "waiting")
        return {
            "name": self.name, "source": "rtsp://camera.example/stream", "class": None,
            "state": "running" if running else self.verdict, "fault": None, "verdict": self.verdict,
            "fps": 24.9 if running else 0.0, "n_captured": 41250, "n_judged": 41003, "n_dropped": 240, "n_unjudged": 7,
            "n_alerts": 3, "restarts": 0 if running else 4, "last_error": None if running else "no route to host",
            "unlike": self.unlike,
            "delay_ms": {"p50": 41.0, "p95": 63.0}, "size": list(SIZE), "zones": zones,
            "scale": {"low": SCALE.low, "threshold": SCALE.threshold, "high": SCALE.high},
        }  # fmt: skip

    def _open_alert(self) -> dict[str, Any] | None:
        if self.alert is None or self.alert["state"] == "closed":
            return None
        return {key: self.alert[key] for key in ("id", "state", "severity", "peak_score")}


class FakeDevice:
    """The device; a context manager that serves on 127.0.0.1 until it is left."""

    def __init__(self, *cameras: FakeCamera) -> None:
        self.cameras = {camera.name: camera for camera in cameras}
        self.alerts: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, dict[str, bytes]] = {}
        self.changes: list[dict[str, Any]] = []
        self.shadow: dict[str, Any] | None = None
        self.learnings: list[Learned] = []
        self.can_learn, self.learn_error = True, ""
        self.models = FakeModels()
        self.preview_s = 0.0
        self.sessions: dict[str, str] = {}
        self.listeners: list[queue.Queue[str]] = []
        self.held: Image | None = None
        self.judged_frames: list[dict[str, Any]] = []
        self.collecting: list[bool] = []
        self.is_silent = False
        self.is_over = False
        self._sequence = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"device": self}))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def open_alert(self, camera_name: str, severity: str = "major", *, note: str = "") -> dict[str, Any]:
        camera = self.cameras[camera_name]
        camera.is_bad, camera.verdict = True, "alert"
        at = datetime.now(timezone.utc)
        alert_id = f"{at:%Y%m%dT%H%M%SZ}-{len(self.alerts):06x}"
        camera.alert = {
            "schema_version": 1, "id": alert_id, "state": "open", "opened_at": now(), "closed_at": None,
            "duration_s": None, "ended_by": None, "camera": camera_name, "zone": next(iter(camera.zones)),
            "severity": severity, "score": 5.6, "peak_score": 6.3, "threshold": camera.threshold, "note": note,
            "acknowledged_at": None, "acknowledged_by": None, "judgement": None, "n_judgements": 0, "regions": [{"x": 1}],
            "pictures": {"snapshot": "s.jpg", "heatmap": "h.jpg"},
        }  # fmt: skip
        self.pictures[alert_id] = {
            kind: jpeg_from_rgb(camera.picture(kind == "heatmap"), 95) for kind in ("snapshot", "heatmap")
        }
        self.alerts[alert_id] = camera.alert
        self.tell("alert", "alert_opened", camera_name, camera.alert)
        return camera.alert

    def acknowledge(self, alert_id: str, who: str, note: str) -> dict[str, Any]:
        record = self.alerts[alert_id]
        record |= {
            "state": "closed", "ended_by": "acknowledged", "acknowledged_at": now(), "acknowledged_by": who,
            "note": note, "closed_at": now(), "duration_s": 12.5,
        }  # fmt: skip
        camera = self.cameras[record["camera"]]
        if camera.alert is record:
            camera.is_bad, camera.verdict, camera.alert = False, "ok", None
        self.tell("alert", "alert_acknowledged", camera.name, record)
        return record

    def judge(self, alert_id: str, who: str, judgement: str, kind: str = "", note: str = "") -> dict[str, Any]:
        record = self.alerts[alert_id]
        record |= {
            "judgement": judgement, "judgement_kind": kind, "judgement_note": note, "judged_by": who, "judged_at": now(),
            "n_judgements": record["n_judgements"] + 1,
        }  # fmt: skip
        self.tell("alert", "alert_judged", record["camera"], record)
        return record

    def learn(self, alert_id: str, *, sure: bool) -> dict[str, Any]:
        """A picture that looks like a defect: refused, or learned with a warning."""
        reason = "Its score 6.3 (threshold 4) is so high that good parts hardly explain it: it looks like a defect."
        one = LearnedAlert(
            alert=alert_id, learned=sure, refusal=None if sure else "defect-like", reason=None if sure else reason,
            warning=f"{reason} It was learned because it was confirmed to be good." if sure else None, score=6.3,
            score_after=2.9 if sure else 6.3, positions=4 if sure else 0, found_elsewhere=0.97,
        )  # fmt: skip
        found = ArtificialDefects(first=40, lost=0)
        name = "3f9a2c" * 2 if sure else None
        if name:
            self.models.learn(name, alert_id)
        self.learnings.append(Learned(model=name, alerts=[one], artificial_defects=found))
        return self.learnings[-1].model_dump(mode="json")

    def change(self, camera: FakeCamera, zone: str, who: str, wanted: dict[str, float]) -> dict[str, Any]:
        before = camera.threshold
        camera.threshold = wanted.get("value", 4.6)
        self.changes.insert(0, {
            "at": now(), "camera": camera.name, "zone": zone, "who": who, "from": before, "to": camera.threshold,
            "detail": "",
        })  # fmt: skip
        self.tell("change", "threshold_changed", camera.name, None)
        return {"from": before, "to": camera.threshold, "rate": RATE, "warning": "", "text": FIGURES, "past": None}

    def tell(self, event: str, kind: str, camera: str, alert: dict[str, Any] | None) -> None:
        self._sequence += 1
        data = {
            "sequence": self._sequence, "kind": kind, "at": now(), "camera": camera, "zone": "picture",
            "alert": alert, "detail": "",
        }  # fmt: skip
        for listener in list(self.listeners):
            listener.put(f"event: {event}\ndata: {json.dumps(data)}\n\n")


class Handler(BaseHTTPRequestHandler):
    """One request after the other of one connection."""

    device: FakeDevice
    protocol_version = "HTTP/1.1"
    timeout = 5

    def log_message(self, format: str, *arguments: Any) -> None:
        return None

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        if self.device.is_silent:
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if not url.path.startswith("/api/v1/"):
                self._static(url.path)
            elif method != "GET" and self.headers.get("X-Edgead") != "1":
                self._error(403, "The header X-Edgead is missing.")
            else:
                parts = [unquote(part) for part in url.path.removeprefix("/api/v1/").split("/")]
                self._api(method, parts, json.loads(body) if body else None)

    def _send(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind, "Content-Length": str(len(content)), "Content-Security-Policy": CSP,
            "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **headers,
        }.items():  # fmt: skip
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _error(self, status: int, message: str, hint: str = "") -> None:
        self._json({"error": {"message": message, "hint": hint}}, status)

    def _static(self, path: str) -> None:
        name = "index.html" if path == "/" else path.removeprefix("/static/")
        file = STATIC / name
        if not re.fullmatch(r"[a-z_]+\.[a-z]+", name) or not file.is_file():
            self._error(404, "There is no such file.")
        else:
            self._send(200, file.read_bytes(), f"{KINDS[file.suffix]}; charset=utf-8")

    @property
    def _who(self) -> str | None:
        found = re.search(r"edgead_session=(\w+)", self.headers.get("Cookie") or "")
        return self.device.sessions.get(found.group(1)) if found else None

    def _api(self, method: str, parts: list[str], body: Any) -> None:
        device = self.device
        if parts == ["session"] and method == "POST":
            if body["token"] != TOKEN:
                return self._error(
                    401, "The token is wrong.", "It is in the file that the stream names when it starts."
                )
            key = f"s{len(device.sessions)}"
            device.sessions[key] = body["name"]
            return self._send(
                204, b"", "text/plain", Set_Cookie=f"edgead_session={key}; HttpOnly; SameSite=Strict; Path=/"
            )
        who = self._who
        if who is None:
            return self._error(401, "Log in first.")
        match method, parts:
            case "GET", ["session"]:
                self._json({"name": who})
            case "DELETE", ["session"]:
                device.sessions.clear()
                self._send(204, b"", "text/plain")
            case "GET", ["info"]:
                self._json(info(device))
            case "GET", ["shadow"] if device.shadow is not None:
                self._json(device.shadow)
            case "GET", ["shadow", "pictures", name] if name in str(device.shadow):
                halves = [FakeCamera(name).picture(True), FakeCamera(name, is_bad=True).picture(True)]
                self._send(200, jpeg_from_rgb(np.hstack(halves), 85), "image/jpeg")
            case "GET", ["cameras"]:
                self._json([camera.answer() for camera in device.cameras.values()])
            case "GET", ["cameras", name, "picture.jpg"]:
                self._picture(device.cameras[name])
            case "POST", ["cameras", name, "frames"]:
                device.held = device.cameras[name].picture(False)
                self._json({
                    "id": "h1", "camera": name, "frame": body["frame"], "time": now(), "score": 2.1, "threshold": 4.0,
                    "is_anomalous": False,
                }, 201)  # fmt: skip
            case "GET", ["cameras", name, "frames", "h1", "picture.jpg"]:
                assert device.held is not None
                self._send(200, jpeg_from_rgb(device.held, 95), "image/jpeg")
            case "POST", ["cameras", name, "frames", "h1", "judge"]:
                if device.judged_frames and not body["again"]:
                    return self._error(409, f"The frame was already judged {device.judged_frames[-1]['judgement']}.")
                device.judged_frames.append(body)
                self._json({"verdict": body["judgement"]})
            case "PUT", ["cameras", name, "collection"]:
                device.collecting.append(body["collecting"])
                self._json(collection(device))
            case "GET", ["cameras", name, "collection"]:
                self._json(collection(device))
            case "GET", ["cameras", name, "scores"]:
                self._json(scores(device.cameras[name], float(self.query["seconds"]), self.query["zone"]))
            case "GET", ["cameras", name, "zones", zone, "threshold"]:
                value, before = float(self.query.get("value", 4.6)), device.cameras[name].threshold
                if value <= 0:
                    return self._error(422, "The threshold must be above 0.")
                time.sleep(device.preview_s)
                warning = f"Careful: {value:g} is far above all good pictures." if value > 9 else ""
                past = {
                    "seconds": float(self.query["seconds"]),
                    "alerts": round(value),
                    "alerts_now": 5,
                    "at_most": False,
                }
                text = f"{warning} {FIGURES}".strip()
                self._json({"from": before, "to": value, "rate": RATE, "text": text, "warning": warning, "past": past})
            case "PUT", ["cameras", name, "zones", zone, "threshold"]:
                if body.get("value", 1) <= 0:
                    return self._error(422, "The threshold must be above 0.")
                self._json(device.change(device.cameras[name], zone, who, body))
            case "GET", ["models"] if device.can_learn:
                self._json(device.models.answer())
            case "POST", ["models", what] if device.can_learn:
                status, message = device.models.post(what, body, who)
                if message:
                    return self._error(status, message)
                self._json(device.models.answer(), status)
            case "GET", ["changes"]:
                self._json(device.changes)
            case "GET", ["alerts"]:
                chosen = [
                    record for record in sorted(device.alerts.values(), key=lambda one: one["id"], reverse=True)
                    if all(record[key] == self.query.get(key, record[key]) for key in ("state", "camera"))
                    and self.query.get("judgement", "") in (
                        "", record["judgement"], "judged" if record["judgement"] else "unjudged")
                    and record["id"] < self.query.get("before", "~")
                ]  # fmt: skip
                shown = chosen[: int(self.query["limit"])]
                self._json({"alerts": shown, "next": shown[-1]["id"] if len(shown) < len(chosen) else None})
            case "GET", ["alerts", alert_id]:
                self._json(device.alerts[alert_id])
            case "POST", ["alerts", alert_id, "acknowledge"]:
                self._json(device.acknowledge(alert_id, who, body["note"]))
            case "POST", ["alerts", alert_id, "judge"]:
                record = device.alerts[alert_id]
                if body["instead_of"] != record["n_judgements"]:
                    return self._error(
                        409, f"The alert was already judged {record['judgement']} by {record['judged_by']}."
                    )
                self._json(device.judge(alert_id, who, body["judgement"], body["kind"], body["note"]))
            case "POST", ["alerts", alert_id, "learn"]:
                if device.learn_error:
                    return self._error(503, device.learn_error, "Wait until it has finished.")
                self._json(device.learn(alert_id, sure=body["sure"]))
            case "GET", ["alerts", alert_id, kind]:
                self._send(200, device.pictures[alert_id][kind], "image/jpeg")
            case "GET", ["events"]:
                self._events()
            case _:
                self._error(404, "There is no such thing.")
        return None

    def _picture(self, camera: FakeCamera) -> None:
        if camera.verdict == "waiting":
            return self._error(503, "There is no picture yet.")
        image = camera.picture(self.query.get("heatmap") == "1")
        return self._send(200, jpeg_from_rgb(image, 95), "image/jpeg", X_Frame=str(camera.index))

    def _events(self) -> None:
        events: queue.Queue[str] = queue.Queue()
        self.device.listeners.append(events)
        self.close_connection = True
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            while not (self.device.is_over or self.device.is_silent):
                try:
                    text = events.get(timeout=0.2)
                except queue.Empty:
                    text = ":\n\n"
                self.wfile.write(text.encode())
        finally:
            self.device.listeners.remove(events)


def scores(camera: FakeCamera, seconds: float, zone: str) -> dict[str, Any]:
    ages = np.linspace(min(seconds, 400), 0, 300)
    points = []
    for age in ages:
        value = camera.score(time.monotonic() - age)
        points.append([round(float(age), 2), value - 0.12, value + 0.15])
    spans = [[20.0, None, camera.alert["id"]]] if camera.alert else []
    return {"zone": zone, "threshold": camera.threshold, "points": points, "alerts": spans}


def collection(device: FakeDevice) -> dict[str, Any]:
    is_on = bool(device.collecting) and device.collecting[-1]
    ended = "stop" if device.collecting and not is_on else ""
    return {
        "collecting": is_on, "who": "script" if device.collecting else "", "every_s": 2.0, "limit": 200, "looked_at": 30,
        "saved": 12, "near_copies": 10, "anomalous": 8, "faulty": 0, "pictures": 40, "megabytes": 31.5, "ended": ended,
        "problem": "", "folder": "alerts/collected",
    }  # fmt: skip


def info(device: FakeDevice) -> dict[str, Any]:
    n_unjudged = sum(record["judgement"] is None for record in device.alerts.values())
    return {
        "device": "d2f9a1c07b34", "version": edgead.__version__, "started_at": now(), "uptime_s": 93784.0,
        "bundle": {"digest": "3f" * 32, "model": "fastflow, wide_resnet50_2", "classes": []},
        "engine": {"name": "tensorrt-fp16", "device": "Orin Nano", "ms": 11.4}, "cameras": list(device.cameras),
        "spool": {"evidence_ok": True, "records_ok": True, "free_mb": 20480.0, "detail": ""},
        "judged": {"defect": 3, "false_alarm": 9, "unsure": 1, "unjudged": n_unjudged},
        "sinks": [{"name": "mqtt", "depth": 0, "state": "connected", "detail": "broker.example:8883"}],
        "can": {"clips": True, "shadow": device.shadow is not None, "learning": device.can_learn},
    }  # fmt: skip
