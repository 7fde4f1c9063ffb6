"""Sink for an MQTT broker: QoS 1, delivered when the broker has acknowledged."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

import edgead
from edgead.config.sinks import MqttSettings, secret_of
from edgead.errors import ConfigError, MissingDependencyError
from edgead.stream.delivery.sink import DeliveryError
from edgead.stream.delivery.topics import OFF, OFFLINE, ON, ONLINE, Topics, discovery, state_of
from edgead.stream.spool.events import StoredEvent

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_LOG = logging.getLogger(__name__)

_GOODBYE_S = 2.0

Message = tuple[str, str, bool]


class MqttSink:
    """Publishes to the topics of `delivery.topics`, on MQTT 3.1.1.

    Client id and session persist; messages in flight when a connection breaks are published again on the next one. Each
    connection has its own client, so that no message of an old connection can overtake a new one.

    Args:
        settings: Settings of the broker.
        device: Id of the spool.
        zones: Zone names of every camera.
        active: Returns camera and zone of every open or held alert.

    Raises:
        MissingDependencyError: If paho-mqtt is not installed.
        ConfigError: If a certificate or the password cannot be read.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        device: str,
        zones: Mapping[str, Sequence[str]],
        active: Callable[[], set[tuple[str, str]]],
    ) -> None:
        _require_paho()
        self._settings = settings
        self._topics = Topics(settings.prefix, settings.device or device)
        self._client_id = settings.client_id or f"edgead-{device}"
        self._zones = zones
        self._active = active
        self._password = secret_of(
            "password of the broker", settings.password, settings.password_file, settings.password_env
        )
        self._tls = _tls_context(settings) if settings.tls else None
        self._connection: _Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DeliveryError):
                connection.publish([(self._topics.status, OFFLINE, True)], _GOODBYE_S)
            connection.close()

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        messages: list[Message] = []
        # number of messages after each event
        ends: list[int] = []
        for event in events:
            text = json.dumps(event.payload, ensure_ascii=False, allow_nan=False)
            messages.append((self._topics.event(event), text, False))
            if (state := state_of(event)) is not None:
                messages.append((self._topics.state(state[0], state[1]), state[2], True))
            ends.append(len(messages))
        try:
            self._connected().publish(messages, self._settings.timeout_s)
        except DeliveryError as error:
            self._drop()
            error.n_delivered = sum(end <= error.n_delivered for end in ends)
            raise

    def keep_alive(self) -> None:
        self._connected()

    def _connected(self) -> _Connection:
        if self._connection is not None and not self._connection.is_alive:
            self._drop()
        if self._connection is None:
            connection = _Connection(self._settings, self._client_id, self._password, self._tls, self._topics.status)
            try:
                connection.open()
                connection.publish(self._greeting(), self._settings.timeout_s)
            except DeliveryError as error:
                connection.close()
                error.n_delivered = 0
                raise
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _greeting(self) -> Iterable[Message]:
        yield (self._topics.status, ONLINE, True)
        active = self._active()
        for camera, zones in self._zones.items():
            for zone in zones:
                if self._settings.discovery is not None:
                    topic, content = discovery(self._topics, self._settings.discovery, camera, zone, edgead.__version__)
                    yield (topic, json.dumps(content, ensure_ascii=False), True)
                yield (self._topics.state(camera, zone), ON if (camera, zone) in active else OFF, True)


class _Connection:
    """A client with one connection, used until it breaks."""

    def __init__(
        self, settings: MqttSettings, client_id: str, password: str | None, tls: ssl.SSLContext | None, status: str
    ) -> None:
        self._settings = settings
        self._changed = threading.Condition()
        self._refusal: str | None = None
        self._is_connected = self._is_lost = False
        self._acknowledged: set[int] = set()
        self._client = self._make_client(client_id, password, tls, status)

    def _make_client(self, client_id: str, password: str | None, tls: ssl.SSLContext | None, status: str) -> Client:
        from paho.mqtt.client import Client, MQTTv311
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, protocol=MQTTv311,
            reconnect_on_failure=False,
        )  # fmt: skip
        client.connect_timeout = self._settings.timeout_s
        if self._settings.user is not None:
            client.username_pw_set(self._settings.user, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.will_set(status, OFFLINE, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    @property
    def is_alive(self) -> bool:
        return self._is_connected and not self._is_lost

    def open(self) -> None:
        """Connect and wait for the broker's answer."""
        settings = self._settings
        try:
            self._client.connect(settings.host, settings.resolved_port, settings.keepalive_s)
        except (OSError, ValueError) as error:
            raise DeliveryError(f"The broker {settings.address} cannot be reached: {error}") from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_connected or self._is_lost, settings.timeout_s)
        if self._refusal is not None:
            raise DeliveryError(f"The broker {settings.address} refuses the connection: {self._refusal}")
        if not self.is_alive:
            raise DeliveryError(f"The broker {settings.address} does not answer")

    def publish(self, messages: Iterable[Message], timeout_s: float) -> None:
        """Publish in order and wait until all messages are acknowledged.

        Raises:
            DeliveryError: If some are not; with the number of acknowledged messages, counted from the first.
        """
        mids = [self._client.publish(topic, text, qos=1, retain=retain).mid for topic, text, retain in messages]
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._acknowledged.issuperset(mids) and not self._is_lost and time.monotonic() < deadline_s:
                n_before = len(self._acknowledged)
                self._changed.wait(min(0.5, timeout_s))
                if len(self._acknowledged) > n_before:
                    # the time limit restarts with every acknowledgement
                    deadline_s = time.monotonic() + timeout_s
            n_done = 0
            for mid in mids:
                if mid not in self._acknowledged:
                    break
                n_done += 1
            self._acknowledged.difference_update(mids)
        if n_done < len(mids):
            what = "broke the connection" if self._is_lost else f"did not acknowledge within {timeout_s:g} s"
            raise DeliveryError(f"The broker {self._settings.address} {what}", n_delivered=n_done)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    # On paho's thread

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            if reason.is_failure:
                self._refusal, self._is_lost = str(reason), True
            else:
                self._is_connected = True
            self._changed.notify_all()

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._is_lost = True
            self._changed.notify_all()

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify_all()


def _require_paho() -> None:
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "paho-mqtt", needed_for="A sink of kind mqtt", install="pip install 'edgead[mqtt]'"
        ) from error


def _tls_context(settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:
        files = ", ".join(str(path) for path in (settings.ca, settings.certificate, settings.key) if path)
        raise ConfigError(
            f"The TLS files of the broker {settings.address} cannot be used ({files}): {error}.",
            hint="They must be readable PEM files, and certificate and key must match.",
        ) from error
    return context
