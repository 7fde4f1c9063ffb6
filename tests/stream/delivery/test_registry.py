"""From settings to sinks that know their spool."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from edgead.config.sinks import CommandSettings, JsonlSettings, MqttSettings, SinkSettings, WebhookSettings
from edgead.stream.delivery.command import CommandSink
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.jsonl import JsonlSink
from edgead.stream.delivery.mqtt import MqttSink
from edgead.stream.delivery.registry import event_sink
from edgead.stream.delivery.webhook import WebhookSink

from ..spool.builders import closed, opened, spool, with_picture
from .broker import Broker, retained
from .receivers import Receiver, wait_until


def test_every_kind_has_its_sink(tmp_path: Path) -> None:
    """And takes name, beginning and limits from its settings."""
    pytest.importorskip("paho.mqtt.client")
    kinds: list[tuple[SinkSettings, type]] = [
        (MqttSettings(host="x"), MqttSink),
        (WebhookSettings(url=SecretStr("http://x")), WebhookSink),
        (JsonlSettings(path=tmp_path / "x", name="log", start="beginning", retry_max_s=7, give_up_s=8), JsonlSink),
        (CommandSettings(argv=(sys.executable,)), CommandSink),
    ]
    with spool(tmp_path) as target:
        made = [event_sink(settings, target, {}) for settings, _ in kinds]
    assert [type(sink) for _, sink in made] == [kind for _, kind in kinds]
    chosen = made[2][0]
    assert (chosen.name, chosen.kind, chosen.from_beginning) == ("log", "jsonl", True)
    assert (chosen.retry_max_s, chosen.give_up_s) == (7, 8)
    assert not made[0][0].from_beginning


def test_pictures_and_states_come_from_the_spool(tmp_path: Path) -> None:
    """A webhook attaches the image from the spool; a broker gets the states of open alerts."""
    pytest.importorskip("paho.mqtt.client")
    with Broker(tmp_path) as broker, Receiver() as receiver, spool(tmp_path / "alerts") as target:
        with_picture(target, 1)
        target.append(opened(2, camera="line 2", state="held"))
        target.append(opened(3, camera="line 3"))
        target.append(closed(3))
        zones = {f"line {number}": ["picture"] for number in (1, 2, 3)}
        settings: list[SinkSettings] = [
            MqttSettings(host="127.0.0.1", port=broker.port),
            WebhookSettings(url=SecretStr(receiver.url), snapshot=True, start="beginning"),
        ]
        with Delivery(target, [event_sink(each, target, zones) for each in settings], drain_s=5.0):
            wait_until(lambda: len(receiver.requests) == 4)
            states = [f"edgead/{target.device}/line {number}/picture/state" for number in (1, 2, 3)]
            wait_until(lambda: states[2] in retained(broker.port))
            assert [retained(broker.port)[topic] for topic in states] == ["ON", "ON", "OFF"]
    assert "attachments" in receiver.requests[0].payload
