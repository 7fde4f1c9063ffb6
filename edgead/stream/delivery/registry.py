"""Construction of sinks from settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from edgead.config.sinks import (
    CommandSettings,
    CustomSettings,
    JsonlSettings,
    MqttSettings,
    SinkSettings,
    WebhookSettings,
)
from edgead.stream.delivery.command import CommandSink
from edgead.stream.delivery.identity import machine_digest
from edgead.stream.delivery.jsonl import JsonlSink
from edgead.stream.delivery.judge_command import JudgeCommand
from edgead.stream.delivery.mqtt import MqttContext, MqttSink
from edgead.stream.delivery.mqtt_line import CameraNow, LineView, Place
from edgead.stream.delivery.sink import Sink
from edgead.stream.delivery.webhook import WebhookSink
from edgead.stream.delivery.worker import SinkOptions
from edgead.stream.spool.judgements import AlertGoneError, Opinion
from edgead.stream.spool.spool import Spool

_LOG = logging.getLogger(__name__)


def event_sink(
    settings: SinkSettings,
    spool: Spool,
    zones: Mapping[str, Sequence[str]],
    now: Callable[[], Mapping[str, CameraNow]] = dict,
) -> tuple[SinkOptions, Sink]:
    """Make a sink, not yet entered, and its delivery options.

    Args:
        settings: Settings of the sink.
        spool: Open spool.
        zones: Names of the zones of every camera.
        now: Returns the cameras at this moment, by name.

    Raises:
        ConfigError: If a file, a secret or a program that the settings name is not there.
        MissingDependencyError: If the sink needs a package that is not installed.
    """
    return _options(settings), _sink(settings, spool, zones, now)


def custom_sinks(sinks: Mapping[str, Sink]) -> list[tuple[SinkOptions, Sink]]:
    """Sinks made by a program, by name, with the default delivery options."""
    return [(_options(CustomSettings(name=name)), sink) for name, sink in sinks.items()]


def _options(settings: SinkSettings | CustomSettings) -> SinkOptions:
    return SinkOptions(
        name=settings.identity,
        kind=settings.kind,
        from_beginning=settings.start == "beginning",
        retry_max_s=settings.retry_max_s,
        give_up_s=settings.give_up_s,
    )


def _sink(
    settings: SinkSettings,
    spool: Spool,
    zones: Mapping[str, Sequence[str]],
    now: Callable[[], Mapping[str, CameraNow]],
) -> Sink:
    match settings:
        case MqttSettings():
            line = LineView(zones, lambda: set(_active(spool)), now, spool.media)
            return MqttSink(settings, _mqtt_context(settings, spool, line))
        case WebhookSettings():
            return WebhookSink(settings, media=spool.media)
        case JsonlSettings():
            return JsonlSink(settings)
        case CommandSettings():
            return CommandSink(settings, media=spool.media)


def _mqtt_context(settings: MqttSettings, spool: Spool, line: LineView) -> MqttContext:
    machine = machine_digest()
    is_copy = spool.is_from_another_machine(machine)
    if is_copy:
        _LOG.warning(
            "%s was made on another machine: a copied disk image, or a backup. The MQTT client id %s. Receivers cannot tell "
            "events of this device from those of the other one, if it still runs: delete this folder then, and set `device`.",
            spool.folder,
            "is changed for this machine"
            if settings.client_id is None
            else f"{settings.client_id} is that of the settings",
        )

    def acknowledge(camera: str, zone: str, alert_id: str | None, who: str) -> None:
        for one in _active(spool).get((camera, zone), []):
            if alert_id in (None, one):
                spool.acknowledge(one, who)

    def judge(camera: str, zone: str, command: JudgeCommand, who: str) -> None:
        record = spool.alert(command.alert)
        if record is None or (record.camera, record.zone) != (camera, zone):
            raise AlertGoneError(command.alert)
        opinion = Opinion(command.judgement, who, command.kind, command.note)
        spool.judge(command.alert, opinion, instead_of=command.instead_of)

    return MqttContext(spool.device, machine, is_copy, spool.folder, line, acknowledge, judge)


def _active(spool: Spool) -> dict[Place, list[str]]:
    """Open and held alerts of each zone that has any."""
    found: dict[Place, list[str]] = {}
    for alert in [*spool.alerts(state="open", limit=10000), *spool.alerts(state="held", limit=10000)]:
        found.setdefault((str(alert.camera), str(alert.zone)), []).append(alert.id)
    return found
