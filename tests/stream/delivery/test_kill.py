"""A process that appends and delivers is killed at random moments: nothing is lost, doubled under another key, or out of order."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from edgead.config.sinks import JsonlSettings, MqttSettings, SinkSettings, WebhookSettings
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.registry import event_sink
from edgead.stream.spool.spool import Spool

from ..spool.builders import options, plain_event
from .broker import Broker, Listener
from .receivers import OK, Answer, Receiver, Request, first_of_each, wait_until

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[3]

CHILD = """
import sys, time
from pathlib import Path
from tests.stream.delivery.test_kill import delivering, settings_of
from tests.stream.spool.builders import plain_event, spool
folder, url, broker, pause_s = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
with spool(folder / "alerts") as target, delivering(target, settings_of(folder, url, broker)):
    while True:
        print(target.append(plain_event()), flush=True)
        time.sleep(pause_s)
"""


def settings_of(folder: Path, url: str, broker: int) -> list[SinkSettings]:
    found: list[SinkSettings] = [
        JsonlSettings(path=folder / "events.jsonl", max_mb=0.02, keep=1000, start="beginning"),
        WebhookSettings(url=SecretStr(url), read_timeout_s=0.3, retry_max_s=0.05, start="beginning"),
    ]
    if broker:
        found.append(MqttSettings(host="127.0.0.1", port=broker, timeout_s=2.0, retry_max_s=0.05, start="beginning"))
    return found


def delivering(target: Spool, sinks: list[SinkSettings]) -> Delivery:
    made = [event_sink(settings, target, {"line 1": ["picture"]}) for settings in sinks]
    return Delivery(target, made, drain_s=10.0, first_pause_s=0.02)


def run_and_kill(folder: Path, url: str, broker: int, lifetime_s: float, pause_s: float) -> list[int]:
    """Numbers that `append` had returned when the process was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), url, str(broker), str(pause_s)], cwd=ROOT, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    time.sleep(lifetime_s)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return [int(line) for line in lines if line.endswith("\n")]


def check(folder: Path, n_kills: int, max_life_s: float, broker: int, listener: Listener | None) -> int:
    """Kill, let everything through, and compare; how many events there were."""
    chance = random.Random(n_kills)

    def answer(request: Request) -> Answer:
        what = chance.random()
        if what < 0.05:
            return (500, {}, "")
        if what < 0.07:
            time.sleep(0.5)
        return OK

    with Receiver(answer) as receiver:
        durable: list[int] = []
        for _ in range(n_kills):
            life_s = chance.uniform(0.0, max_life_s)
            durable += run_and_kill(folder, receiver.url, broker, life_s, chance.choice([0.0, 0.005]))
        with Spool(folder / "alerts", options()) as target:
            sinks = settings_of(folder, receiver.url, broker)
            with delivering(target, sinks):
                target.append(plain_event("last"))
                wait_until(lambda: set(target.depths().values()) == {0}, 300.0)
            events = target.events(limit=100_000)
            assert target.cursors.dead_letters() == []
        keys = [event.key for event in events]
        assert len(set(keys)) == len(keys)
        assert durable == sorted(set(durable))
        assert set(durable) <= {event.sequence for event in events}, "lost by the spool"
        assert first_of_each(receiver.keys) == keys, "lost by the webhook, or out of order"
        lines = [line for path in rotated(folder / "events.jsonl") for line in path.read_text().splitlines()]
        assert [keys_in(line) for line in lines] == keys, "the file has each once"
        if listener is not None:
            wait_until(lambda: set(listener.keys) >= set(keys), 120.0)
            assert first_of_each(listener.keys) == keys, "lost by the broker's sink, or out of order"
    return len(events)


def rotated(path: Path) -> list[Path]:
    numbers = sorted((int(old.suffix[1:]) for old in path.parent.glob(f"{path.name}.*")), reverse=True)
    return [path.with_name(f"{path.name}.{number}") for number in numbers] + [path]


def keys_in(line: str) -> str:
    import json

    return str(json.loads(line)["key"])


def test_kills(tmp_path: Path) -> None:
    """A few kills, to a file and a receiver that has bad moments."""
    assert check(tmp_path, 3, 0.5, 0, None) > 30


@pytest.mark.slow
def test_many_kills(tmp_path: Path) -> None:
    """Forty kills, with a real broker beside the other two."""
    pytest.importorskip("paho.mqtt.client")
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        assert check(tmp_path, 40, 1.0, broker.port, listener) > 1000
