"""Construction of sinks from settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgead.config.sinks import (
    CommandSettings,
    CustomSettings,
    JsonlSettings,
    MqttSettings,
    SinkSettings,
    WebhookSettings,
)
from edgead.stream.delivery.command import CommandSink
from edgead.stream.delivery.jsonl import JsonlSink
from edgead.stream.delivery.mqtt import MqttSink
from edgead.stream.delivery.sink import Sink
from edgead.stream.delivery.webhook import WebhookSink
from edgead.stream.delivery.worker import SinkOptions
from edgead.stream.spool.spool import Spool


def event_sink(settings: SinkSettings, spool: Spool, zones: Mapping[str, Sequence[str]]) -> tuple[SinkOptions, Sink]:
    """Make a sink, not yet entered, and its delivery options.

    Args:
        settings: Settings of the sink.
        spool: Open spool.
        zones: Names of the zones of every camera.

    Raises:
        ConfigError: If a file, a secret or a program that the settings name is not there.
        MissingDependencyError: If the sink needs a package that is not installed.
    """
    return _options(settings), _sink(settings, spool, zones)


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


def _sink(settings: SinkSettings, spool: Spool, zones: Mapping[str, Sequence[str]]) -> Sink:
    match settings:
        case MqttSettings():
            return MqttSink(settings, device=spool.device, zones=zones, active=lambda: _active(spool))
        case WebhookSettings():
            return WebhookSink(settings, media=spool.media)
        case JsonlSettings():
            return JsonlSink(settings)
        case CommandSettings():
            return CommandSink(settings, media=spool.media)


def _active(spool: Spool) -> set[tuple[str, str]]:
    alerts = [*spool.alerts(state="open", limit=10000), *spool.alerts(state="held", limit=10000)]
    return {(str(alert.camera), str(alert.zone)) for alert in alerts}
