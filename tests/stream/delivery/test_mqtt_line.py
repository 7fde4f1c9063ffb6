"""A line on a real broker: what stays of cameras that are gone, two clients with one id, Home Assistant, commands."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.config.sinks import MqttSettings
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.home_assistant import discovery
from edgead.stream.delivery.identity import Presence, Rivals, machine_digest
from edgead.stream.delivery.mqtt_line import CameraNow, LineView
from edgead.stream.delivery.registry import event_sink
from edgead.stream.delivery.sink import DeliveryError
from edgead.stream.delivery.topics import Topics, state_of

from ..spool.builders import alert_id, closed, opened, spool, stored, with_picture
from .broker import Broker, Listener, retained
from .receivers import event, options, wait_until
from .test_mqtt import DEVICE, mqtt

ROOT = f"edgead/{DEVICE}"
JUDGED = CameraNow("online", {"picture": 1.25})


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    pytest.importorskip("paho.mqtt.client")
    with Broker(tmp_path) as running:
        yield running


def publish(port: int, topic: str, content: str, *, is_retained: bool = False) -> None:
    """Publish as another program does."""
    from paho.mqtt import publish as paho

    paho.single(topic, content, qos=1, retain=is_retained, hostname="127.0.0.1", port=port)


# Cameras that are gone


@pytest.mark.parametrize("remembers", [True, False])
def test_nothing_retained_stays_of_a_camera_that_is_gone(broker: Broker, tmp_path: Path, remembers: bool) -> None:
    """After a kill, with the memory in the folder or with the broker's alone, states and entities of a renamed camera vanish."""
    context: dict[str, Any] = {"folder": tmp_path if remembers else None}
    changes: dict[str, Any] = {"discovery": "homeassistant", "context": context}
    killed = mqtt(
        broker.port, zones={"left": ["picture"]}, active={("left", "picture")}, now={"left": JUDGED}, **changes
    )
    killed.keep_alive()
    assert retained(broker.port)[f"{ROOT}/left/picture/state"] == "ON"
    break_off(killed)
    wait_until(lambda: retained(broker.port)[f"{ROOT}/status"] == "offline")
    with mqtt(broker.port, zones={"right": ["picture"]}, **changes) as sink:
        # the next start closes the alert of the old camera
        sink.deliver([event(1, "alert_closed", camera="left")])
        assert not [topic for topic in retained(broker.port) if "left" in topic]
        assert retained(broker.port)[f"{ROOT}/right/picture/state"] == "OFF"


def break_off(sink: Any) -> None:
    """Close the socket of a sink without a word, as a killed process does."""
    connection = sink._connection
    connection._client.socket().shutdown(socket.SHUT_RDWR)
    wait_until(lambda: not connection.is_alive)
    connection.close()


def test_a_renamed_device_and_discovery_that_is_turned_off_leave_nothing(broker: Broker, tmp_path: Path) -> None:
    """The folder remembers topics below the old name too."""
    context = {"folder": tmp_path}
    with mqtt(broker.port, device="press 4", discovery="homeassistant", context=context) as sink:
        sink.keep_alive()
    with mqtt(broker.port, device="press 5", context=context) as sink:
        sink.keep_alive()
        left = {topic for topic in retained(broker.port) if "press 4" in topic or topic.startswith("homeassistant")}
    assert left == set()


def test_topics_of_another_stream_that_runs_are_left_alone(broker: Broker) -> None:
    """A second stream under the same name clears nothing of the first, which is online."""
    with (
        mqtt(broker.port, zones={"left": ["picture"]}, client_id="one", device="press 4") as first,
        mqtt(broker.port, zones={"right": ["picture"]}, client_id="two", device="press 4") as second,
    ):
        first.keep_alive()
        second.keep_alive()
        found = retained(broker.port)
    assert {"edgead/press 4/left/picture/state", "edgead/press 4/right/picture/state"} <= found.keys()


# Two clients


def test_two_devices_with_one_client_id_say_so_and_pause(broker: Broker) -> None:
    """The one whose connection was taken over names the other, and leaves the broker to it for a while, then longer."""
    with mqtt(broker.port) as first, mqtt(broker.port, context={"machine": "f" * 12}) as second:
        first.deliver([event(1)])
        second.deliver([event(2)])
        wait_until(lambda: not first._connection.is_alive)
        with pytest.raises(DeliveryError, match=f"taken over the MQTT client id edgead-{DEVICE} .*127.0.0.1") as caught:
            first.keep_alive()
        assert caught.value.retry_after_s is not None
        assert 5.0 <= caught.value.retry_after_s <= 10.0
        # after the pause it delivers all the same
        first.deliver([event(3)])
        wait_until(lambda: not second._connection.is_alive)
        with pytest.raises(DeliveryError, match="taken over"):
            second.keep_alive()
        with pytest.raises(DeliveryError, match="taken over") as again:
            first.keep_alive()
        assert again.value.retry_after_s is not None
        assert 10.0 <= again.value.retry_after_s <= 20.0


def test_a_restart_is_no_takeover(broker: Broker) -> None:
    """A new process, and a connection that breaks, find an earlier announcement of this device and go on."""
    with mqtt(broker.port) as sink:
        sink.deliver([event(1)])
        break_off(sink)
        sink.deliver([event(2)])
    with mqtt(broker.port) as sink:
        sink.deliver([event(3)])


def test_two_clients_on_the_same_topics_are_named(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """Different client ids do not fight, but the same device name mixes their events: both logs say so, once."""
    with (
        caplog.at_level(logging.WARNING),
        mqtt(broker.port, client_id="one", device="press 4") as first,
        mqtt(broker.port, client_id="two", device="press 4") as second,
    ):

        def said() -> list[str]:
            first.keep_alive()
            second.keep_alive()
            return sorted(re.findall(r"client (\w+),", caplog.text))

        wait_until(lambda: len(said()) >= 2)
        for _ in range(5):
            assert said() == ["one", "two"]
            time.sleep(0.05)


@given(st.lists(st.floats(0.0, 1000.0), max_size=30))
def test_pauses_grow_and_stay_bounded(lasted: list[float]) -> None:
    """Whatever comes, a pause is 5 s to 10 min, and after a long connection it starts over."""
    now = [0.0]
    rivals = Rivals(Presence("a", ""), "t", clock=lambda: now[0])
    for seconds in lasted:
        rivals.connected()
        now[0] += seconds
        rivals.lost()
        assert 5.0 <= rivals.pause_s() <= 600.0
    rivals.connected()
    now[0] += 301.0
    rivals.lost()
    assert rivals.pause_s() <= 10.0


def test_a_client_that_may_not_read_still_notices(tmp_path: Path) -> None:
    """Connections that break again and again soon after they were made are said and paused, without any announcement."""
    pytest.importorskip("paho.mqtt.client")
    (tmp_path / "acl").write_text("topic write #\n")
    with Broker(tmp_path, [f"acl_file {tmp_path}/acl"]) as broker, mqtt(broker.port) as sink:
        for _ in range(4):
            sink.keep_alive()
            break_off(sink)
        with pytest.raises(DeliveryError, match="again and again"):
            sink.keep_alive()


def test_a_copied_folder_gets_a_client_id_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """On the machine that made the folder the id is the spool's; on another one it has the machine's digest, with a warning."""
    ids = []
    for machine in ("aaaaaaaaaaaa", "aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        monkeypatch.setattr("edgead.stream.delivery.registry.machine_digest", lambda machine=machine: machine)
        with spool(tmp_path) as target:
            _, sink = event_sink(MqttSettings(host="localhost"), target, {})
            ids.append(sink._presence.client_id.replace(target.device, "SPOOL"))  # type: ignore[attr-defined]
    assert ids == ["edgead-SPOOL", "edgead-SPOOL", "edgead-SPOOL-bbbbbb"]
    assert caplog.text.count("was made on another machine") == 1


def test_the_digest_of_a_machine(tmp_path: Path) -> None:
    """It depends on machine id and serial number, shows neither, and is empty where there are none."""
    assert machine_digest(tmp_path) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "machine-id").write_text("8d3c0f5e\n")
    first = machine_digest(tmp_path)
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "proc" / "device-tree" / "serial-number").write_bytes(b"1421\0")
    assert len({first, machine_digest(tmp_path)}) == 2
    assert "8d3c0f5e" not in first


# Home Assistant


def entity_state(port: int, config: dict[str, Any]) -> str:
    """State of an entity as Home Assistant computes it from retained messages: `unavailable`, or the value."""
    found = retained(port)
    for one in config["availability"]:
        value = found.get(one["topic"])
        yes, expected, no = re.fullmatch(
            r"\{\{ '(\w+)' if value == '(\w+)' else '(\w+)' \}\}", one["value_template"]
        ).groups()  # type: ignore[union-attr]
        if (yes if value == expected else no) != one["payload_available"]:
            return "unavailable"
    return found.get(config["state_topic"], "unknown")


def configs(port: int, ending: str) -> dict[str, Any]:
    (text,) = [text for topic, text in retained(port).items() if topic.endswith(f"/{ending}/config")]
    return dict(json.loads(text))


def test_a_lost_camera_never_reads_as_fine(broker: Broker) -> None:
    """The sensor of a zone is unavailable while its camera is lost, faulty or not started, unless it has an alert."""
    now: dict[str, CameraNow] = {}
    with mqtt(broker.port, zones={"left": ["picture"]}, now=now, discovery="homeassistant") as sink:
        seen = []
        for status in ("offline", "online", "fault", "online", "offline"):
            now["left"] = CameraNow(status)  # type: ignore[arg-type]
            sink.keep_alive()
            seen.append(entity_state(broker.port, configs(broker.port, "left_picture")))
        assert seen == ["unavailable", "OFF", "unavailable", "OFF", "unavailable"]
        sink.deliver([event(1, camera="left")])
        assert entity_state(broker.port, configs(broker.port, "left_picture")) == "ON"
    assert entity_state(broker.port, configs(broker.port, "left_picture")) == "unavailable"


def test_home_assistant_finds_every_entity(broker: Broker) -> None:
    """A problem, a score and a button for each zone, a connection and an image for each camera, with ids that are its kind."""
    with mqtt(broker.port, discovery="homeassistant", prefix="plant/hall 3", device="press 7") as sink:
        sink.keep_alive()
        found = {topic: json.loads(text) for topic, text in retained(broker.port).items() if topic.startswith("home")}
    kinds = [topic.split("/")[1] for topic in found]
    assert sorted(kinds) == ["binary_sensor"] * 5 + ["button"] * 3 + ["image"] * 2 + ["sensor"] * 3
    for topic, content in found.items():
        _, _, node, name, _ = topic.split("/")
        assert all(char.isalnum() or char in "_-" for char in node + name)
        assert content["availability"][0]["topic"] == "plant/hall 3/press 7/status"
    assert len({content["unique_id"] for content in found.values()}) == len(found)
    assert "plant/hall 3/press 7/line 1/left%2Fupper/state" in {one.get("state_topic") for one in found.values()}


def test_names_that_look_alike_stay_apart() -> None:
    """Camera `a_b` with zone `c` and camera `a` with zone `b_c` are two entities."""
    topics = Topics("edgead", "x")
    found = discovery(topics, "homeassistant", {"a_b": ["c"], "a": ["b_c", "connection"]}, "1", commands=True)
    assert len(found) == 3 * 3 + 2 * 2
    assert len({content["unique_id"] for content in found.values()}) == len(found)


def test_scores_and_the_image_of_the_last_alert(broker: Broker, tmp_path: Path) -> None:
    """A score in raw units, and a JPEG that is shrunk."""
    path = tmp_path / "heatmap.jpg"
    cv2.imwrite(str(path), np.full((1000, 2000, 3), 100, np.uint8))
    line = LineView({"left": ["picture"]}, set, lambda: {"left": JUDGED}, lambda alert_id, kind: path)
    with Images(broker.port) as images, mqtt(broker.port, context={"line": line}, discovery="homeassistant") as sink:
        sink.deliver([event(1, camera="left")])
        wait_until(lambda: images.content)
        image = cv2.imdecode(np.frombuffer(images.content[0], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (320, 640, 3)
    assert images.scores == ["1.25"]


class Images(Listener):
    """A listener for images, which are no text."""

    def __init__(self, port: int) -> None:
        self.content: list[bytes] = []
        super().__init__(port)

    @property
    def scores(self) -> list[str]:
        return [text for topic, text, _ in self.messages if topic.endswith("/score")]

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        if message.topic.endswith("/image"):
            self.content.append(bytes(message.payload))
        else:
            super()._on_message(client, userdata, message)


# Commands


def test_an_acknowledgement_by_mqtt(broker: Broker, tmp_path: Path) -> None:
    """`PRESS` acknowledges the alerts of a zone, an id only that alert; other zones and other texts change nothing."""
    settings = MqttSettings(host="127.0.0.1", port=broker.port, device="press 4", commands=True)
    with spool(tmp_path) as target:
        sink = event_sink(settings, target, {"line 1": ["picture"], "line 2": ["picture"]})[1]
        for number in (1, 2):
            with_picture(target, number, state="held", latched=True)
        target.append(opened(3, camera="line 2"))
        with Delivery(target, [(options(), sink)], drain_s=1.0):
            wait_until(lambda: retained(broker.port).get("edgead/press 4/status") == "online")
            for text in ("nonsense", alert_id(3), alert_id(1)):
                publish(broker.port, "edgead/press 4/line 1/picture/acknowledge", text)
            wait_until(lambda: stored(target, 1)["state"] == "closed")
            assert stored(target, 1)["acknowledged_by"] == "mqtt"
            assert [stored(target, number)["acknowledged_at"] for number in (2, 3)] == [None, None]
            publish(broker.port, "edgead/press 4/line 1/picture/acknowledge", "PRESS")
            wait_until(lambda: stored(target, 2)["state"] == "closed")
            assert stored(target, 3)["acknowledged_at"] is None


def test_a_judgement_by_mqtt(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The alert that it names is judged; what is no judgement, another zone's alert and a late one are named in the log."""
    settings = MqttSettings(host="127.0.0.1", port=broker.port, device="press 4", commands=True)
    with spool(tmp_path) as target:
        sink = event_sink(settings, target, {"line 1": ["picture"], "line 2": ["picture"]})[1]
        for number, camera in ((1, "line 1"), (2, "line 2"), (3, "line 1")):
            target.append(opened(number, camera=camera))
        target.append(closed(1))
        with caplog.at_level("WARNING"), Delivery(target, [(options(), sink)], drain_s=1.0):
            wait_until(lambda: retained(broker.port).get("edgead/press 4/status") == "online")

            def send(number: int, judgement: str, **more: Any) -> None:
                content = {"alert": alert_id(number), "judgement": judgement, **more}
                publish(broker.port, "edgead/press 4/line 1/picture/judge", json.dumps(content))

            send(1, "false-alarm", kind="dust")
            send(1, "defect")
            send(2, "defect")
            publish(broker.port, "edgead/press 4/line 1/picture/judge", "nonsense")
            send(3, "defect")
            wait_until(lambda: stored(target, 3)["judgement"] == "defect")
            assert (stored(target, 1)["judgement"], stored(target, 1)["judged_by"]) == ("false-alarm", "mqtt")
            assert stored(target, 2)["judgement"] is None
            for words in (
                "already judged false-alarm (dust) by mqtt",
                f"no alert '{alert_id(2)}'",
                "'nonsense' is no judgement",
            ):
                assert words in caplog.text
            (told,) = [one for one in target.events() if one.kind == "alert_judged" and one.alert_id == alert_id(1)]
            assert state_of(told) is None, "a closed alert does not read as open when it is judged"


@pytest.mark.parametrize("commands", [None, False])
def test_commands_are_refused_unless_asked_for(broker: Broker, commands: bool | None) -> None:
    """Without the setting and without discovery, and with `commands: false`, nothing is acknowledged."""
    heard: list[Any] = []
    context = {"acknowledge": lambda *arguments: heard.append(arguments)}
    discovery = "homeassistant" if commands is False else None
    with mqtt(broker.port, commands=commands, discovery=discovery, context=context) as sink:
        sink.keep_alive()
        publish(broker.port, f"{ROOT}/line 1/picture/acknowledge", "PRESS")
        time.sleep(0.2)
        sink.keep_alive()
        assert not [topic for topic in retained(broker.port) if topic.startswith("homeassistant/button")]
    assert heard == []


def test_a_retained_command_is_not_carried_out(broker: Broker) -> None:
    """It would acknowledge a new alert at every connection."""
    heard: list[Any] = []
    context = {"acknowledge": lambda *arguments: heard.append(arguments)}
    publish(broker.port, f"{ROOT}/line 1/picture/acknowledge", "PRESS", is_retained=True)
    with mqtt(broker.port, commands=True, context=context) as sink:
        sink.keep_alive()
        time.sleep(0.2)
        sink.keep_alive()
        assert heard == []
        assert f"{ROOT}/line 1/picture/acknowledge" not in retained(broker.port)
        publish(broker.port, f"{ROOT}/line 1/picture/acknowledge", "PRESS")
        wait_until(lambda: (sink.keep_alive(), heard)[1])
    assert heard == [("line 1", "picture", None, "mqtt")]
