"""Events over MQTT against a real broker: topics, states, acknowledgement, TLS, passwords and outages."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from edgead.config.sinks import MqttSettings
from edgead.errors import ConfigError, MissingDependencyError
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.mqtt import MqttContext, MqttSink
from edgead.stream.delivery.mqtt_line import CameraNow, LineView
from edgead.stream.delivery.sink import DeliveryError
from edgead.stream.delivery.topics import level

from ..spool.builders import closed, opened, plain_event, spool
from .broker import Broker, Listener, retained
from .receivers import Door, event, first_of_each, free_port, options, wait_until

DEVICE = "0123456789ab"
ZONES = {"line 1": ["picture", "left/upper"], "line 2": ["picture"]}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    pytest.importorskip("paho.mqtt.client")
    with Broker(tmp_path) as running:
        yield running


def mqtt(
    port: int,
    *,
    active: set[tuple[str, str]] | None = None,
    zones: Mapping[str, Sequence[str]] = ZONES,
    now: Mapping[str, CameraNow] = MappingProxyType({}),
    context: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> MqttSink:
    settings = MqttSettings(**{"host": "127.0.0.1", "port": port, "timeout_s": 20.0, **changes})
    line = LineView(zones, lambda: active or set(), lambda: now)
    return MqttSink(settings, MqttContext(**{"device": DEVICE, "line": line, **context}))


def test_topics_and_payloads(broker: Broker) -> None:
    """Alerts, events and the stream have their topics; the payload is the event's."""
    with Listener(broker.port) as listener, mqtt(broker.port) as sink:
        sink.deliver([event(1), event(2, "camera_lost"), event(3, "stream_started", camera=None, zone=None)])
        wait_until(lambda: len(listener.events()) == 3)
        topics = [topic for topic, text, _ in listener.messages if '"sequence"' in text]
        assert topics == [
            f"edgead/{DEVICE}/line 1/alerts", f"edgead/{DEVICE}/line 1/events", f"edgead/{DEVICE}/events",
        ]  # fmt: skip
        assert listener.events()[0] == event(1).payload


def test_hostile_names_stay_in_their_place(broker: Broker) -> None:
    """A camera called `+/#` reaches no other topic, and every name has a topic of its own."""
    names = ["+/#", "a/b", "a", "%2B", "+", "ä\x00\n", "", "x" * 70_000, "x" * 69_999 + "y", "$SYS"]
    with Listener(broker.port) as listener, mqtt(broker.port) as sink:
        sink.deliver([event(number, camera=name) for number, name in enumerate(names)])
        wait_until(lambda: len(listener.events()) == len(names))
        topics = [topic for topic, text, _ in listener.messages if '"sequence"' in text]
    assert len(set(topics)) == len(names)
    assert {topic.count("/") for topic in topics} == {3}
    assert not [topic for topic in topics if "+" in topic or "#" in topic]
    assert len({level(name) for name in names}) == len(names)


def test_states_follow_the_alerts(broker: Broker) -> None:
    """Retained per zone: set when the sink connects, then by each event."""
    root = f"edgead/{DEVICE}"
    with mqtt(broker.port, active={("line 2", "picture")}) as sink:
        sink.keep_alive()
        found = retained(broker.port)
        assert json.loads(found.pop(f"{root}/client"))["client_id"] == f"edgead-{DEVICE}"
        assert {topic: text for topic, text in found.items() if topic.count("/") == 4 and topic.endswith("state")} == {
            f"{root}/line 1/picture/state": "OFF",
            f"{root}/line 1/left%2Fupper/state": "OFF",
            f"{root}/line 2/picture/state": "ON",
        }
        assert found[f"{root}/status"] == "online"
        for kind, state in [
            ("alert_opened", "ON"), ("alert_held", "ON"), ("alert_acknowledged", "ON"), ("alert_closed", "OFF"),
            ("camera_lost", "OFF"),
        ]:  # fmt: skip
            sink.deliver([event(1, kind)])
            assert retained(broker.port)[f"{root}/line 1/picture/state"] == state
    assert retained(broker.port)[f"{root}/status"] == "offline"


def test_a_broker_that_is_not_there() -> None:
    """A failure to be tried again; nothing is left running."""
    pytest.importorskip("paho.mqtt.client")
    port = free_port()
    with mqtt(port) as sink:
        for _ in range(2):
            with pytest.raises(DeliveryError, match=f"127.0.0.1:{port} cannot be reached"):
                sink.deliver([event(1)])
        with pytest.raises(DeliveryError):
            sink.keep_alive()
    assert not [thread for thread in threading.enumerate() if "paho" in thread.name]


def test_the_last_will(broker: Broker) -> None:
    """When the process dies, the broker says offline in its place."""
    with Door(broker.port) as door, Listener(broker.port) as listener, mqtt(door.port) as sink:
        sink.keep_alive()
        wait_until(lambda: listener.last(f"edgead/{DEVICE}/status") == "online")
        door.shut()
        wait_until(lambda: listener.last(f"edgead/{DEVICE}/status") == "offline")
        with pytest.raises(DeliveryError):
            wait_until(lambda: sink.keep_alive())
        door.open()
        sink.keep_alive()
        wait_until(lambda: listener.last(f"edgead/{DEVICE}/status") == "online")


def test_delivered_means_acknowledged(tmp_path: Path) -> None:
    """A broker that takes the messages and does not acknowledge has not got them."""
    pytest.importorskip("paho.mqtt.client")
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def packet(stream: Any) -> tuple[int, bytes]:
        kind, size, shift = stream.read(1)[0], 0, 0
        while True:
            digit = stream.read(1)[0]
            size |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return kind, stream.read(size)

    def serve() -> None:
        listener.settimeout(60)
        connection, _ = listener.accept()
        n_events = 0
        with connection, connection.makefile("rb") as stream:
            packet(stream)
            connection.sendall(b"\x20\x02\x00\x00")  # CONNACK
            while not stop.is_set():
                try:
                    kind, content = packet(stream)
                except IndexError:
                    return
                if kind >> 4 != 3:
                    continue
                size = int.from_bytes(content[:2], "big")
                n_events += b"sequence" in content
                if n_events < 2:
                    connection.sendall(b"\x40\x02" + content[2 + size : 4 + size])

    thread = threading.Thread(target=serve)
    thread.start()
    with mqtt(listener.getsockname()[1], timeout_s=1.5) as sink:
        with pytest.raises(DeliveryError, match="did not acknowledge") as caught:
            sink.deliver([event(1, "camera_lost"), event(2, "camera_lost"), event(3, "camera_lost")])
        assert caught.value.n_delivered == 1
    stop.set()
    thread.join()
    listener.close()


def make_authority(folder: Path) -> None:
    """An authority, a certificate of the broker and one of a client, made by openssl."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *curve, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("localhost", "client"):
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{name}\n")
        run("req", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    """The right ones connect; no client certificate, an unknown authority or another name do not."""
    pytest.importorskip("paho.mqtt.client")
    make_authority(tmp_path)
    lines = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/localhost.pem", f"keyfile {tmp_path}/localhost.key",
             "require_certificate true"]  # fmt: skip
    own: dict[str, Any] = {"certificate": tmp_path / "client.pem", "key": tmp_path / "client.key"}
    with Broker(tmp_path, lines) as broker:
        with mqtt(broker.port, host="localhost", tls=True, ca=tmp_path / "ca.pem", **own) as sink:
            sink.deliver([event(1)])
        for wrong in (
            {"host": "localhost", "tls": True, "ca": tmp_path / "ca.pem"},
            {"host": "localhost", "tls": True, **own},
            {"host": "127.0.0.1", "tls": True, "ca": tmp_path / "ca.pem", **own},
            {"host": "localhost"},
        ):
            with mqtt(broker.port, **wrong) as sink, pytest.raises(DeliveryError):
                sink.deliver([event(1)])
    with pytest.raises(ConfigError, match=r"ca\.key"):
        mqtt(1, tls=True, ca=tmp_path / "ca.key")


def test_user_and_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file or the environment; a wrong one is refused with the broker's reason and without being shown."""
    pytest.importorskip("paho.mqtt.client")
    users = tmp_path / "users"
    made = subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(users), "ada", "geheim"], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs mosquitto_passwd")
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    monkeypatch.setenv("PASSWORD_FOR_TEST", "wrong")
    with Broker(tmp_path, [f"password_file {users}"], anonymous=False) as broker:
        with mqtt(broker.port, user="ada", password_file=secret) as sink:
            sink.deliver([event(1)])
        with (
            mqtt(broker.port, user="ada", password_env="PASSWORD_FOR_TEST") as sink,
            pytest.raises(DeliveryError, match=r"refuses the connection: .*[Aa]uthori[sz]ed") as caught,
        ):
            sink.deliver([event(1)])
    assert "wrong" not in str(caught.value)
    assert "Check the user ada and the password in the environment variable PASSWORD_FOR_TEST" in str(caught.value)


def test_a_broker_that_is_killed_again_and_again(broker: Broker, tmp_path: Path) -> None:
    """Alerts continue while the broker is down: every key arrives, first arrivals in order, final states are right.

    The listener is there before the sink can connect, so that what is lost would be the sink's fault.
    """
    got: list[str] = []
    door = Door(broker.port)
    with spool(tmp_path / "alerts") as target:
        sink = mqtt(door.port)
        with Delivery(target, [(options(retry_max_s=0.1), sink)], drain_s=5.0, first_pause_s=0.02):
            for turn in range(3):
                with Listener(broker.port) as listener:
                    door.open()
                    for number in range(20):
                        target.append(opened(100 * turn + number))
                        if number == 10 and turn < 2:
                            wait_until(lambda: target.depths()["sink"] < 10)
                            door.shut()
                            broker.kill()
                    if turn == 2:
                        target.append(closed(100 * turn + number))
                        wait_until(lambda: target.depths() == {"sink": 0})
                    time.sleep(0.2)
                    got += listener.keys
                if turn < 2:
                    broker.start()
            keys = [each.key for each in target.events(limit=1000)]
            assert retained(broker.port)[f"edgead/{DEVICE}/line 1/picture/state"] == "OFF"
        door.shut()
    assert first_of_each(got) == keys
    assert len(keys) == 61


def test_idle_connections_come_back(broker: Broker, tmp_path: Path) -> None:
    """Without any event the sink notices that the broker is gone, says so, and is online again when it is back."""
    with spool(tmp_path / "alerts") as target:
        with Delivery(target, [(options(retry_max_s=0.1), mqtt(broker.port))], drain_s=2.0, first_pause_s=0.02) as all_:
            wait_until(lambda: retained(broker.port).get(f"edgead/{DEVICE}/status") == "online")
            broker.kill()
            wait_until(lambda: not all_.health()[0].is_ok)
            target.append(plain_event())
            broker.start()
            wait_until(lambda: target.depths() == {"sink": 0})
            wait_until(lambda: all_.health()[0].is_ok)
            assert retained(broker.port)[f"edgead/{DEVICE}/status"] == "online"


def test_without_the_package() -> None:
    """The error names the package and how to install it; nothing else of edgead needs it."""
    code = """
import sys
sys.modules["paho"] = None
from edgead.config.sinks import MqttSettings
from edgead.stream.delivery.registry import event_sink
from edgead.stream.delivery.mqtt import MqttContext, MqttSink
try:
    MqttSink(MqttSettings(host="x"), MqttContext("d"))
except Exception as error:
    print(type(error).__name__, error, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert MissingDependencyError.__name__ in done.stdout
    assert "paho-mqtt" in done.stdout
    assert "edgead[mqtt]" in done.stdout
