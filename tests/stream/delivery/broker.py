"""A real broker, mosquitto, without persistence: what it has not handed on when it is killed is lost."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from typing_extensions import Self

from .receivers import free_port, wait_until


def require_mosquitto() -> str:
    """Path of mosquitto, which Debian keeps where not every user looks."""
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip("needs mosquitto")
    return found


class Broker:
    """A mosquitto process on 127.0.0.1.

    Args:
        folder: For its configuration.
        lines: Further lines of the configuration.
        anonymous: Whether clients need no password.
    """

    def __init__(self, folder: Path, lines: Sequence[str] = (), *, anonymous: bool = True) -> None:
        self._program = require_mosquitto()
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        content = [
            f"listener {self.port} 127.0.0.1", f"allow_anonymous {'true' if anonymous else 'false'}",
            "persistence false", "user root", "max_queued_messages 0", *lines,
        ]  # fmt: skip
        self._config.write_text("\n".join(content) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._answers)

    def kill(self) -> None:
        """Kill the broker with SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "mosquitto ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Listener:
    """A client that has subscribed to everything when it is made, and keeps what comes."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, str, bool]] = []
        self._ready = threading.Event()
        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert self._ready.wait(60)
        self._client = client

    def _on_connect(self, client: Any, *_: Any) -> None:
        client.subscribe("#", qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        self._ready.set()

    def wait_for_retained(self) -> None:
        """Wait until everything has come that the broker held for the subscription: a message of our own comes after it."""
        marker = f"marker/{id(self)}"
        self._client.publish(marker, "", qos=1)
        wait_until(lambda: self.last(marker) is not None, 60.0)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload.decode(), message.retain))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(text) for _, text, _ in list(self.messages) if text.startswith("{") and '"sequence"' in text]

    @property
    def keys(self) -> list[str]:
        return [str(event["key"]) for event in self.events()]

    def last(self, topic: str) -> str | None:
        """The newest message of a topic."""
        return next((text for name, text, _ in reversed(list(self.messages)) if name == topic), None)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def retained(port: int) -> dict[str, str]:
    """Retained message of each topic."""
    with Listener(port) as listener:
        listener.wait_for_retained()
        return {topic: text for topic, text, is_retained in listener.messages if is_retained}
