"""Sink for an MQTT broker: QoS 1, delivered when the broker has acknowledged."""

from __future__ import annotations

import dataclasses
import json
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

import edgead
from edgead.config.sinks import MqttSettings, secret_of
from edgead.errors import ConfigError, EdgeadError, MissingDependencyError
from edgead.stream.delivery.home_assistant import config_topics, discovery
from edgead.stream.delivery.identity import Presence, Rivals
from edgead.stream.delivery.judge_command import JudgeCommand
from edgead.stream.delivery.mqtt_connection import Connection, Message
from edgead.stream.delivery.mqtt_line import LineView, MqttLine
from edgead.stream.delivery.retained_topics import RetainedTopics
from edgead.stream.delivery.sink import DeliveryError
from edgead.stream.delivery.topics import OFFLINE, ONLINE, PRESS, Topics
from edgead.stream.spool.events import StoredEvent

_LOG = logging.getLogger(__name__)

_GOODBYE_S = 2.0
# Time for the broker to send this client's own announcement back; without the right to read it never comes.
_ECHO_S = 1.0
_WHO = "mqtt"


@dataclasses.dataclass(frozen=True)
class MqttContext:
    """The device and the line that a sink speaks for.

    Attributes:
        device: Id of the spool.
        machine: Digest of the machine; empty if unknown.
        is_copy: Whether the spool was made on another machine, so that a client there may use its id.
        folder: Folder in which the sink remembers its retained topics; None remembers nothing.
        line: Cameras and alerts.
        acknowledge: Callback that acknowledges alerts of a camera's zone: the one with an id, or all.
        judge: Callback that stores a judgement of an alert of a camera's zone; an `EdgeadError` says why it is not stored.
    """

    device: str
    machine: str = ""
    is_copy: bool = False
    folder: Path | None = None
    line: LineView = dataclasses.field(default_factory=LineView)
    acknowledge: Callable[[str, str, str | None, str], None] = lambda camera, zone, alert_id, who: None
    judge: Callable[[str, str, JudgeCommand, str], None] = lambda camera, zone, command, who: None


class MqttSink:
    """Publishes to the topics of `delivery.topics`, on MQTT 3.1.1.

    Client id and session persist; messages in flight when a connection breaks are published again on the next one. Each
    connection has its own client, so that no message of an old connection can overtake a new one.

    Args:
        settings: Settings of the broker.
        context: The device and its line.

    Raises:
        MissingDependencyError: If paho-mqtt is not installed.
        ConfigError: If a certificate or the password cannot be read.
    """

    def __init__(self, settings: MqttSettings, context: MqttContext) -> None:
        _require_paho()
        self._settings = settings
        self._context = context
        self._topics = Topics(settings.prefix, settings.device or context.device)
        self._presence = Presence(settings.client_id or _client_id(context), context.machine)
        self._rivals = Rivals(self._presence, self._topics.root)
        self._line = MqttLine(self._topics, context.line, score_s=settings.score_s if settings.discovery else None)
        self._retained = RetainedTopics(context.folder, settings.identity)
        places = [(camera, zone) for camera, zones in context.line.zones.items() for zone in zones]
        self._commands = {self._topics.acknowledge(*place): place for place in places}
        self._judgements = {self._topics.judge(*place): place for place in places}
        self._password = secret_of(
            "password of the broker", settings.password, settings.password_file, settings.password_env
        )
        self._tls = _tls_context(settings) if settings.tls else None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DeliveryError):
                connection.publish([Message(self._topics.status, OFFLINE, True)], _GOODBYE_S)
            connection.close()

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        messages: list[Message] = []
        # number of messages after each event
        ends: list[int] = []
        for event in events:
            text = json.dumps(event.payload, ensure_ascii=False, allow_nan=False)
            messages.append(Message(self._topics.event(event), text))
            messages += self._line.after(event)
            ends.append(len(messages))
        try:
            connection = self._connected()
            connection.publish(messages, self._settings.timeout_s)
        except DeliveryError as error:
            self._drop()
            error.n_delivered = sum(end <= error.n_delivered for end in ends)
            raise
        try:
            self._tend(connection)
        except DeliveryError as error:
            self._drop()
            error.n_delivered = len(events)
            raise

    def keep_alive(self) -> None:
        try:
            self._tend(self._connected())
        except DeliveryError:
            self._drop()
            raise

    def _tend(self, connection: Connection) -> None:
        """Carry out what was received, and publish what has changed on the line."""
        for message in connection.received():
            self._hear(connection, message)
        if changes := self._line.changes(time.monotonic()):
            connection.publish(changes, self._settings.timeout_s)

    def _hear(self, connection: Connection, message: Message) -> None:
        if message.topic == self._topics.client:
            other = Presence.parsed(_bytes(message))
            if other is not None and not message.is_retained and self._rivals.heard(other):
                connection.publish(
                    [Message(self._topics.client, self._presence.text(), True)], self._settings.timeout_s
                )
        elif message.topic in self._commands and message.content and not message.is_retained:
            # a retained command would be carried out at every connection; such ones are cleared at the greeting
            text = _bytes(message).decode("utf-8", "replace").strip()[:100]
            camera, zone = self._commands[message.topic]
            _LOG.info("%s, %s: acknowledged by MQTT (%s)", camera, zone, text)
            self._context.acknowledge(camera, zone, None if text == PRESS else text, _WHO)

        elif message.topic in self._judgements and message.content and not message.is_retained:
            self._judge(*self._judgements[message.topic], _bytes(message))

    def _judge(self, camera: str, zone: str, content: bytes) -> None:
        try:
            command = JudgeCommand.parsed(content)
            self._context.judge(camera, zone, command, _WHO)
        except EdgeadError as error:
            # there is no answer to a command of MQTT: receivers see the event `alert_judged`, or none
            _LOG.warning("%s, %s: a judgement by MQTT was not stored. %s %s", camera, zone, error.message, error.hint)
        else:
            _LOG.info("%s, %s: %s was judged %s by MQTT", camera, zone, command.alert, command.judgement)

    def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.is_alive:
            self._drop()
        if self._connection is None:
            connection = Connection(
                self._settings, self._presence.client_id, self._password, self._tls, self._topics.status
            )
            try:
                connection.open()
                self._greet(connection)
            except DeliveryError as error:
                connection.close()
                error.n_delivered = 0
                raise
            self._connection = connection
            self._rivals.connected()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._rivals.lost()

    def _greet(self, connection: Connection) -> None:
        """Announce this client, find out what others have left on the broker, and publish every retained topic."""
        settings, timeout_s = self._settings, self._settings.timeout_s
        gone_filters = self._topics.retained_of_cameras()
        if settings.discovery is not None:
            gone_filters.append(config_topics(self._topics, settings.discovery))
        filters = [(self._topics.client, 1), (self._topics.status, 1)]
        if settings.takes_commands:
            # QoS 0: a command that was given while this client was away is not carried out later
            filters += [(self._topics.acknowledge_all, 0), (self._topics.judge_all, 0)]
        # in two parts, because some brokers take at most eight filters at once
        can_read = connection.subscribe(filters, timeout_s)
        can_read = connection.subscribe([(one, 1) for one in gone_filters], timeout_s) and can_read
        own = dataclasses.replace(self._presence, address=connection.local_address)
        self._presence = own
        connection.publish([Message(self._topics.client, own.text(), True)], timeout_s)
        found = []
        if can_read and connection.wait_for(self._topics.client, own.text(), _ECHO_S):
            found = connection.received()
        self._yield_to_rivals(found)
        current = [Message(self._topics.status, ONLINE, True), *self._discovery(), *self._line.greeting()]
        kept = {message.topic for message in current} | {self._topics.client, *self._line.lasting()}
        gone = (self._retained.known | self._left_behind(found)) - kept
        # before they are published: a kill in between must not leave topics that the folder does not know of
        self._retained.keep(self._retained.known | kept | gone)
        connection.publish([*current, *(Message(topic, b"", True) for topic in sorted(gone))], timeout_s)
        self._retained.keep(kept)
        connection.unsubscribe([self._topics.status, *gone_filters])

    def _yield_to_rivals(self, found: Sequence[Message]) -> None:
        others = [Presence.parsed(_bytes(one)) for one in found if one.topic == self._topics.client and one.is_retained]
        if text := self._rivals.takeover(others[0] if others else None):
            raise DeliveryError(text, retry_after_s=self._rivals.pause_s())

    def _left_behind(self, found: Sequence[Message]) -> set[str]:
        """Retained topics of this device on the broker; none while another client may be using them."""
        mine = (self._topics.client, self._topics.status)
        is_used = any(one.topic == self._topics.status and _bytes(one) == ONLINE.encode() for one in found)
        if is_used:
            return set()
        return {one.topic for one in found if one.is_retained and one.content and one.topic not in mine}

    def _discovery(self) -> list[Message]:
        settings = self._settings
        if settings.discovery is None:
            return []
        found = discovery(
            self._topics, settings.discovery, self._context.line.zones, edgead.__version__,
            commands=settings.takes_commands,
        )  # fmt: skip
        return [Message(topic, json.dumps(content, ensure_ascii=False), True) for topic, content in found.items()]


def _client_id(context: MqttContext) -> str:
    suffix = f"-{context.machine[:6]}" if context.is_copy else ""
    return f"edgead-{context.device}{suffix}"


def _bytes(message: Message) -> bytes:
    return message.content if isinstance(message.content, bytes) else message.content.encode()


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
