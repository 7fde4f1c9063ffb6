"""One connection to an MQTT broker, used until it breaks."""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgead.config.sinks import MqttSettings
from edgead.stream.delivery.sink import DeliveryError
from edgead.stream.delivery.topics import OFFLINE

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_MAX_RECEIVED = 10_000


@dataclass(frozen=True)
class Message:
    """A message to publish with QoS 1, or one that was received; an empty retained one clears its topic."""

    topic: str
    content: str | bytes
    is_retained: bool = False


class Connection:
    """A client with one connection.

    Args:
        settings: Settings of the broker.
        client_id: MQTT client id.
        password: Password of the user; None for none.
        tls: Context of an encrypted connection; None for a plain one.
        status: Topic of the last will.
    """

    def __init__(
        self, settings: MqttSettings, client_id: str, password: str | None, tls: ssl.SSLContext | None, status: str
    ) -> None:
        self._settings = settings
        self._changed = threading.Condition()
        self._refusal: str | None = None
        self._is_connected = self._is_lost = False
        self._acknowledged: set[int] = set()
        self._subscribed: dict[int, bool] = {}
        self._received: deque[Message] = deque()
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
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
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
            raise DeliveryError(
                f"The broker {settings.address} cannot be reached: {error}. Check that it runs, and host, port and tls of "
                "the sink"
            ) from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_connected or self._is_lost, settings.timeout_s)
        if self._refusal is not None:
            raise DeliveryError(
                f"The broker {settings.address} refuses the connection: {self._refusal}. {_what_to_check(settings)}"
            )
        if not self.is_alive:
            raise DeliveryError(f"The broker {settings.address} does not answer")

    def publish(self, messages: Iterable[Message], timeout_s: float) -> None:
        """Publish in order and wait until all messages are acknowledged.

        Raises:
            DeliveryError: If some are not; with the number of acknowledged messages, counted from the first.
        """
        mids = [
            self._client.publish(message.topic, message.content, qos=1, retain=message.is_retained).mid
            for message in messages
        ]
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

    def subscribe(self, filters: Iterable[tuple[str, int]], timeout_s: float) -> bool:
        """Subscribe to filters with their QoS; whether the broker allows all of them.

        Retained messages of the topics are received after that.
        """
        _, mid = self._client.subscribe(list(filters))
        if mid is None:
            return False
        with self._changed:
            self._changed.wait_for(lambda: mid in self._subscribed or self._is_lost, timeout_s)
            return self._subscribed.pop(mid, False)

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Unsubscribe, without waiting for the broker."""
        self._client.unsubscribe(list(filters))

    def received(self) -> list[Message]:
        """Messages since the last call, oldest first."""
        with self._changed:
            messages = list(self._received)
            self._received.clear()
        return messages

    def wait_for(self, topic: str, content: str, timeout_s: float) -> bool:
        """Wait until a message has been received, without taking it; False on timeout."""
        expected = content.encode()

        def is_there() -> bool:
            return any(message.topic == topic and message.content == expected for message in self._received)

        with self._changed:
            self._changed.wait_for(lambda: is_there() or self._is_lost, timeout_s)
            return is_there()

    @property
    def local_address(self) -> str:
        """Own address in the network; empty if unknown."""
        socket = self._client.socket()
        try:
            return "" if socket is None else str(socket.getsockname()[0])  # type: ignore[attr-defined]
        except OSError:
            return ""

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

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        with self._changed:
            self._subscribed[mid] = not any(reason.is_failure for reason in reasons)
            self._changed.notify_all()

    def _on_message(self, client: Client, userdata: Any, message: Any) -> None:
        with self._changed:
            # a flood of commands must not fill the memory
            if len(self._received) < _MAX_RECEIVED:
                self._received.append(Message(message.topic, bytes(message.payload), bool(message.retain)))
            self._changed.notify_all()


def _what_to_check(settings: MqttSettings) -> str:
    """Advice for a login that the broker refuses."""
    if settings.user is None:
        return "The sink has no user: give it `user` and `password_env`, or allow anonymous clients at the broker"
    if settings.password_env is not None:
        where = f"in the environment variable {settings.password_env}"
    elif settings.password_file is not None:
        where = f"in {settings.password_file}"
    else:
        where = "in the settings of the sink"
    return f"Check the user {settings.user} and the password {where}, and the broker's access rules"
