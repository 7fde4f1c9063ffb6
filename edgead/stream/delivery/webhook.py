"""Sink for an HTTP receiver: one signed POST per event, delivered on a 2xx answer."""

from __future__ import annotations

import base64
import email.utils
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import edgead
from edgead.config.sinks import WebhookSettings, secret_of
from edgead.contexts import OwnsNothing
from edgead.errors import ConfigError
from edgead.stream.delivery.signature import HEADER, sign
from edgead.stream.delivery.sink import DeliveryError, RefusedError
from edgead.stream.spool.events import StoredEvent

# Length of the receiver's answer that is logged; the rest is not read.
_ANSWER_BYTES = 300
# Statuses that reject the event itself; other 4xx concern the address, the permissions or the moment.
_REFUSALS = (400, 405, 406, 409, 410, 411, 413, 414, 415, 416, 417, 422, 431)


class WebhookSink(OwnsNothing):
    """Posts the payload of `spool.events` as JSON.

    Headers: `Content-Type`, `Idempotency-Key` (the event's key, the same at every attempt), `Edgead-Event` (its kind) and,
    with a secret, the signature of `delivery.signature`. With `snapshot`, `alert_opened` also has `attachments.snapshot`
    with `content_type` and the image in `base64`, unless the image has been removed.

    2xx means delivered. Network errors, 5xx, 408, 425, 429 and statuses about address or permissions (401, 403, 404, 407,
    redirects) are retried, after `Retry-After` if given; 400, 413, 422 and similar reject the event. Redirects are never
    followed: signature and headers are meant for this receiver only.

    Args:
        settings: Settings of the receiver.
        media: Finds a file by alert id and kind.
        wall: Wall clock for the signature, in seconds since 1970.

    Raises:
        ConfigError: If the secret or the certificates cannot be read.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        media: Callable[[str, str], Path | None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._media = media
        self._wall = wall
        self._secret = secret_of("secret of the webhook", settings.secret, settings.secret_file, settings.secret_env)
        parts = urlsplit(settings.url.get_secret_value())
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = _tls_context(settings) if parts.scheme == "https" else None
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edgead/{edgead.__version__}",
            **{name: value.get_secret_value() for name, value in settings.headers.items()},
        }
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"

    def keep_alive(self) -> None:
        """Do nothing: connections last only for a delivery."""

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        n_delivered = 0
        connection = self._connection()
        try:
            for event in events:
                self._post(connection, event)
                n_delivered += 1
        except DeliveryError as error:
            error.n_delivered = n_delivered
            raise
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        timeout_s = self._settings.connect_timeout_s
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)

    def _post(self, connection: http.client.HTTPConnection, event: StoredEvent) -> None:
        body = json.dumps(self._content(event), allow_nan=False).encode()
        headers = {**self._headers, "Idempotency-Key": event.key, "Edgead-Event": event.kind}
        if self._secret is not None:
            headers[HEADER] = sign(self._secret, body, int(self._wall()))
        is_reused = connection.sock is not None
        try:
            try:
                status, retry_after, answer = self._exchange(connection, body, headers)
            except (ConnectionError, http.client.RemoteDisconnected):
                connection.close()
                if not is_reused:
                    raise
                # the receiver closed the connection after the previous event
                status, retry_after, answer = self._exchange(connection, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(
                f"The receiver {self._settings.address} cannot be reached: {type(error).__name__}: {error}"
            ) from error
        if 200 <= status < 300:
            return
        text = f"The receiver {self._settings.address} answered {status}"
        if status in _REFUSALS:
            raise RefusedError(f"{text}: {answer}")
        if 300 <= status < 400:
            raise DeliveryError(f"{text}: redirects are not followed, set the final address")
        raise DeliveryError(text, retry_after_s=retry_after)

    def _exchange(
        self, connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]
    ) -> tuple[int, float | None, str]:
        if connection.sock is None:
            connection.timeout = self._settings.connect_timeout_s
            connection.connect()
        sock = connection.sock
        assert sock is not None
        sock.settimeout(self._settings.read_timeout_s)
        # socket timeouts apply to each read, so a slow sender could keep the connection open without end
        watchdog = threading.Timer(self._settings.read_timeout_s, _shut_down, [sock])
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.request("POST", self._target, body, headers)
            response = connection.getresponse()
            answer = " ".join(response.read(_ANSWER_BYTES).decode("utf-8", "replace").split())
            if response.read(1):
                connection.close()
            retry_after = _seconds(response.headers.get("Retry-After"), self._wall())
            return response.status, retry_after, answer
        finally:
            watchdog.cancel()

    def _content(self, event: StoredEvent) -> Mapping[str, Any]:
        if not self._settings.snapshot or event.kind != "alert_opened" or event.alert_id is None:
            return event.payload
        path = self._media(event.alert_id, "snapshot")
        try:
            picture = None if path is None else path.read_bytes()
        except OSError:
            picture = None
        if picture is None:
            return event.payload
        attached = {"content_type": "image/jpeg", "base64": base64.b64encode(picture).decode()}
        return {**event.payload, "attachments": {"snapshot": attached}}


def _shut_down(sock: socket.socket) -> None:
    try:
        # not the TLS socket's own shutdown, which would detach the connection while another thread reads it
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return


def _seconds(value: str | None, now_s: float) -> float | None:
    """`Retry-After`, given in seconds or as a date, in seconds from now."""
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    except (TypeError, ValueError):
        return None


def _tls_context(settings: WebhookSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca)
    except OSError as error:
        raise ConfigError(
            f"The certificates {settings.ca} cannot be used: {error}.", hint="They must be in PEM format."
        ) from error
