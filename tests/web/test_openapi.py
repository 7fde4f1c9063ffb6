"""The OpenAPI document is valid and true: requests made from it, good and bad ones, are answered as it says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.evaluation.alarm_rate import alarm_rate_text, implied_alarm_rate, promise_from_images
from edgead.evaluation.pace import Pace
from edgead.line.model_control import StoreControl
from edgead.line.model_store import ModelStore
from edgead.manifest import ThresholdRecord
from edgead.stream.alerts import Alert
from edgead.stream.consumers.picture_collector import PictureCollector
from edgead.stream.judged_frames import JudgedFrames
from edgead.web.openapi import openapi_document
from edgead.web.options import AuthOptions, WebOptions
from edgead.web.routes import ENDPOINTS
from edgead.web.running_stream import AlarmForecast, RunningStream

from ..line.test_model_store import add
from ..stream.fakes import BAD
from .parts import (
    ALERT_ID,
    GOOD_SCORES,
    LINE,
    PICTURE,
    SIDE,
    Browser,
    FakeTeaching,
    MemoryStore,
    carry_out,
    judged,
    make_stream,
    serving,
    shadow_report,
    tell,
)

pytest.importorskip("openapi_spec_validator")
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

DOCUMENT = openapi_document(ENDPOINTS, "0.1", "edgead_session")
OPERATIONS = [
    (method.upper(), path, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]
Operation = tuple[str, str, dict[str, Any]]
ENDLESS = ("multipart/x-mixed-replace", "text/event-stream")
UNLIMITED = WebOptions(auth=AuthOptions(requests_per_s=1e6, request_burst=10**6, login_attempts=5))

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
# Numbers that a person may mean, and such as no line can have.
NUMBERS = st.floats(0.001, 0.9) | st.sampled_from([-5.0, -1e-9, 0.0, 5e-324, 1e-300, 0.999, 4.0, 50.0, 1e300, 1.7e308])
ODD = st.text(max_size=40) | st.sampled_from(["", "..", "%00", "nan", "-1", "1e999", "\u2028", "😀", "a" * 3000])


def show_alive(stream: RunningStream) -> None:
    """Send a status and a verdict of both cameras, which count as silent ten seconds later."""
    tell(stream.monitor)
    for camera in (LINE, SIDE):
        stream.monitor.accept(judged(camera, value=BAD, alert=Alert(1, 0.0, 0, 0.4, 0)))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningStream, Browser]]:
    """A server with data for every endpoint."""
    folder: Path = tmp_path_factory.mktemp("stream")
    pace = Pace(25.0, 3)

    def forecast(camera: str, zone: str, threshold: ThresholdRecord) -> AlarmForecast:
        rate = implied_alarm_rate(GOOD_SCORES, threshold.value, pace)
        return AlarmForecast(rate.per_hour, rate.interval, rate.certified, alarm_rate_text(rate))

    def promise(camera: str, zone: str, per_hour: float) -> tuple[ThresholdRecord, str]:
        promised = promise_from_images(GOOD_SCORES, per_hour, pace)
        return promised.threshold, promised.sentence

    stream = make_stream(folder, alarms_per_hour=forecast, promise=promise)
    show_alive(stream)
    store = stream.store
    assert isinstance(store, MemoryStore)
    store.add(ALERT_ID, pictures={"snapshot": "picture.jpg", "clip": "clip.webm"})
    (folder / "picture.jpg").write_bytes(b"picture")
    (folder / "clip.webm").write_bytes(b"clip")
    store.happen("threshold_changed", values={"who": "Ada", "from": 1.0, "to": 2.0})
    models = ModelStore(folder / "models")
    for letter in "ab":
        add(models, letter)
    stream.models = StoreControl(models)
    stream.shadow = lambda: shadow_report(folder)
    stream.frames = JudgedFrames(folder / "frames")
    stream.collector = PictureCollector(folder / "collected")
    stream.teaching = FakeTeaching()
    with serving(stream, UNLIMITED) as browser:
        yield stream, browser


def test_the_document_is_valid(filled: tuple[RunningStream, Browser]) -> None:
    """It is OpenAPI 3.1, has every endpoint and names each operation once; the server gives the same one."""
    validate(DOCUMENT)
    assert len(OPERATIONS) == len(ENDPOINTS) >= 20
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    reply = filled[1].get("/api/v1/openapi.json")
    assert reply.json["paths"] == DOCUMENT["paths"]
    assert filled[1].ask("GET", "/api/v1/openapi.json").status == 401


def check(operation: dict[str, Any], status: int, media: str, body: Any) -> None:
    """The status is documented, and the body is what the document says of it."""
    assert str(status) in operation["responses"], (operation["operationId"], status, body)
    content = operation["responses"][str(status)].get("content", {})
    if media == "application/json":
        assert media in content, (operation["operationId"], status)
        schema = {**content[media]["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(body)
    elif content:
        assert media in content, (operation["operationId"], status, media)


def ask(browser: Browser, method: str, path: str, operation: dict[str, Any], headers: dict[str, str], body: Any) -> int:
    """Ask and compare with the document; the status."""
    start_s = time.monotonic()
    with browser.open(method, path, headers=headers, body=body) as response:
        media = (response.getheader("content-type") or "").partition(";")[0]
        content = b"" if media in ENDLESS else response.read()
        assert time.monotonic() - start_s < 30
        if (
            "//" in path
            or path.partition("?")[0].endswith("/")
            or "%2F" in path
            or "." in path.split("?")[0].replace("picture.jpg", "").split("/")
        ):
            # a name like that makes it another address, perhaps of another endpoint
            return response.status
        check(operation, response.status, media, json.loads(content) if media == "application/json" else None)
        return response.status


def test_every_endpoint_answers_as_documented(filled: tuple[RunningStream, Browser]) -> None:
    """A good request to each gets its good status, with a body of the documented shape."""
    bodies = {
        "post_session": {"token": "wrong", "name": "Ada"}, "post_alerts_alert_acknowledge": {"note": "seen"},
        "post_alerts_alert_judge": {"judgement": "false-alarm", "kind": "dust"},
        "post_alerts_alert_learn": {"sure": False}, "put_cameras_camera_zones_zone_threshold": {"value": 0.1},
        "post_cameras_camera_frames": {}, "post_cameras_camera_frames_held_judge": {"judgement": "defect", "kind": "dent"},
        "put_cameras_camera_collection": {"collecting": True}, "post_cameras_camera_teaching": {}, "post_models_activate": {"model": "b" * 12}, "post_models_rollback": {"why": "false alarms"}, "post_models_install": {"bundle": "gone"},
    }  # fmt: skip
    queries = {"get_cameras_camera_zones_zone_threshold": "?value=0.1"}
    held = filled[1].send("POST", f"/api/v1/cameras/{LINE}/frames", {}).json["id"]
    for method, path, operation in OPERATIONS:
        show_alive(filled[0])
        name = operation["operationId"]
        address = path.format(
            camera=LINE, zone="picture", alert=ALERT_ID, picture=PICTURE, held=held, model="a" * 12
        ) + queries.get(name, "")
        status = ask(filled[1], method, address, operation, {**filled[1].bearer, "X-Edgead": "1"}, bodies.get(name))
        expected = {"post_session": 401, "get_alerts_alert_heatmap": 404, "get_alerts_alert_peak": 404}
        expected["post_alerts_alert_learn"] = 409  # this stream keeps no alerts
        expected["post_models_install"] = expected["get_models_model_threshold_images_jpg"] = (
            404  # bundles without files
        )
        good = min(int(code) for code in operation["responses"])
        assert status == expected.get(name, good), name


ENDS = (("minimum", -1e6), ("maximum", 1e6))
ODD_VALUES = st.integers(-5, 3000) | st.floats() | st.booleans() | ODD


def allowed(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a query that the document allows."""
    schema = next((one for one in schema.get("anyOf", []) if one["type"] != "null"), schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "boolean":
        return st.sampled_from(["0", "1"])
    if schema["type"] == "string":
        return st.sampled_from(["picture", "left", "nowhere", ALERT_ID])
    numbers = st.integers if schema["type"] == "integer" else st.floats
    low, high = (schema.get(end, schema.get(f"exclusive{end.title()}", far)) for end, far in ENDS)
    return numbers(low, high)


def requests(
    operations: Sequence[Operation],
) -> st.SearchStrategy[tuple[str, str, dict[str, Any], dict[str, str], Any]]:
    """Requests that are almost good: known and odd names, queries in and out of their range, bodies of any shape."""

    @st.composite
    def one(draw: st.DrawFn) -> tuple[str, str, dict[str, Any], dict[str, str], Any]:
        method, path, operation = draw(st.sampled_from(operations))
        known = {"camera": [LINE, SIDE], "zone": ["picture", "left"], "alert": [ALERT_ID], "picture": [PICTURE]}
        known["held"], known["model"] = ["0123456789abcdef"], ["a" * 12]
        names = {
            name: draw(st.sampled_from(values * 2) | st.sampled_from(values) | ODD) for name, values in known.items()
        }
        address = path.format(**{name: quote(value, safe="") for name, value in names.items()})
        queries = [parameter for parameter in operation["parameters"] if parameter["in"] == "query"]
        given_values = {
            parameter["name"]: draw(allowed(parameter["schema"]) if draw(st.integers(0, 3)) else ODD_VALUES)
            for parameter in queries
            if draw(st.booleans())
        }
        if draw(st.integers(0, 9)) == 0:
            given_values[draw(st.text(min_size=1, max_size=5))] = "x"
        if given_values:
            address += "?" + urlencode(given_values)
        body = None
        if "requestBody" in operation or draw(st.integers(0, 9)) == 0:
            reference = (
                operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            )
            schema = DOCUMENT["components"]["schemas"].get(reference.get("$ref", "").rpartition("/")[2], {})
            keys = st.sampled_from(sorted(schema.get("properties", {"x": 0})))
            body = draw(
                st.dictionaries(keys, NUMBERS, min_size=1, max_size=1)
                | st.dictionaries(keys, NUMBERS | JSON, max_size=3) | JSON.filter(lambda it: it is not None)
                | st.binary(max_size=50)
            )  # fmt: skip
        headers = {"X-Edgead": draw(st.sampled_from(["1", "1", "1", "0"]))}
        return method, address, operation, headers, body

    return one()


def fuzz(filled: tuple[RunningStream, Browser], request: tuple[str, str, dict[str, Any], dict[str, str], Any]) -> None:
    method, address, operation, headers, body = request
    stream, browser = filled
    status = ask(browser, method, address, operation, {**browser.bearer, **headers}, body)
    assert status < 500 or status == 503
    if carry_out(stream):
        # whatever was granted, everything can still be asked
        for after in (f"/api/v1/cameras/{LINE}", "/api/v1/cameras", f"/api/v1/cameras/{SIDE}/scores", "/metrics"):
            assert browser.get(after).status == 200, (after, body)
    stranger = ask(browser, method, address, operation, headers, body)
    if operation["security"] and address.partition("?")[0] != "/metrics":
        assert stranger in (400, 401, 403, 404, 405, 413), stranger


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation[2]["operationId"])
@given(data=st.data())
@settings(max_examples=20)
def test_almost_good_requests(filled: tuple[RunningStream, Browser], operation: Operation, data: st.DataObject) -> None:
    """No request makes the server fail or hang, every answer is documented, and clients without login get no data."""
    fuzz(filled, data.draw(requests([operation])))


@given(st.sampled_from([LINE, SIDE]), st.sampled_from(["value", "false_alarm_rate", "alarms_per_hour"]), NUMBERS)
@settings(max_examples=100)
@pytest.mark.slow
def test_any_threshold_is_refused_or_can_be_lived_with(
    filled: tuple[RunningStream, Browser], camera: str, way: str, number: float
) -> None:
    """The stream keeps answering whatever threshold is sent; random requests seldom get as far as a change."""
    (operation,) = (one for one in OPERATIONS if one[2]["operationId"] == "put_cameras_camera_zones_zone_threshold")
    address = operation[1].format(camera=camera, zone="picture")
    fuzz(filled, ("PUT", address, operation[2], {"X-Edgead": "1"}, {way: number}))


@pytest.mark.slow
@given(requests(OPERATIONS))
@settings(max_examples=2000, derandomize=False)
def test_very_many_almost_good_requests(
    filled: tuple[RunningStream, Browser], request_: tuple[str, str, dict[str, Any], dict[str, str], Any]
) -> None:
    """The same, for long."""
    fuzz(filled, request_)
