"""A process that appends and delivers is killed at random moments: nothing is lost, doubled under another key, or out of order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from typing_extensions import Self

from edgead.config.sinks import JsonlSettings, MqttSettings, SinkSettings, WebhookSettings
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.registry import event_sink
from edgead.stream.spool.spool import Spool

from ..spool.builders import options, plain_event
from .broker import Broker, Listener
from .receivers import OK, Answer, Receiver, Request, first_of_each, wait_until

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[3]

# each line `FILE PAUSE` forks a process, which spares it the second that the imports take: it appends, and writes the number
# of each event that is stored to FILE; its process id is printed, and its exit status when it has ended
APPENDER = """
import contextlib, os, sys, time
from pathlib import Path
from tests.stream.delivery.test_kill import delivering, settings_of
from tests.stream.spool.builders import plain_event, spool
with contextlib.suppress(ImportError):
    import paho.mqtt.client
folder, url, broker = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for line in sys.stdin:
    path, pause_s = line.split()
    if (process := os.fork()) == 0:
        with open(path, "w") as numbers, spool(folder / "alerts") as target, delivering(target, settings_of(folder, url, broker)):
            while True:
                print(target.append(plain_event()), file=numbers, flush=True)
                time.sleep(float(pause_s))
    print(process, flush=True)
    print(os.waitpid(process, 0)[1], flush=True)
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


class Appender:
    """The process that forks the ones to be killed."""

    def __init__(self, folder: Path, url: str, broker: int) -> None:
        self._numbers = folder / "numbers"
        self._process = subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(folder), url, str(broker)], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run_and_kill(self, n_events: int, pause_s: float) -> list[int]:
        """Append at least this many events; the numbers that `append` had returned when the process was killed."""
        self._numbers.unlink(missing_ok=True)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._numbers} {pause_s}\n")
        self._process.stdin.flush()
        process = self._answer()
        wait_until(lambda: self._numbers.exists() and self._numbers.read_bytes().count(b"\n") >= n_events, 120.0)
        os.kill(process, signal.SIGKILL)
        assert self._answer() == signal.SIGKILL
        return [int(line) for line in self._numbers.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)


def check(folder: Path, n_kills: int, most: int, broker: int, listener: Listener | None) -> int:
    """Kill after 1 to `most` events, let everything through, and compare; how many events there were."""
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
        with Appender(folder, receiver.url, broker) as appender:
            for _ in range(n_kills):
                durable += appender.run_and_kill(chance.randint(1, most), chance.choice([0.0, 0.005]))
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
    assert check(tmp_path, 3, 60, 0, None) > 30


@pytest.mark.slow
def test_many_kills(tmp_path: Path) -> None:
    """Forty kills, with a real broker beside the other two."""
    pytest.importorskip("paho.mqtt.client")
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        assert check(tmp_path, 40, 200, broker.port, listener) > 1000
