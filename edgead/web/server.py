"""Web server of a running stream, on a thread of its process."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from edgead.errors import ConfigError, EdgeadError, MissingDependencyError
from edgead.stream.monitoring.live_pictures import LivePictures
from edgead.web.address import Address, is_loopback
from edgead.web.options import WebOptions
from edgead.web.running_stream import RunningStream
from edgead.web.token import TokenCheck

if TYPE_CHECKING:
    from edgead.web.endpoint import ServerContext

_LOG = logging.getLogger(__name__)

_START_S = 10.0
_DRAIN_S = 2
_STOP_S = 6.0
_BACKLOG = 128


class WebServer:
    """Context manager that serves the stream at `url`.

    Args:
        address: Address to listen on; port 0 takes a free one.
        stream: The running stream.
        token: Token check, from `token.open_token`.
        options: Limits.

    Raises:
        ConfigError: From `__enter__`, if the address is taken or does not belong to this machine.
        MissingDependencyError: From `__enter__`, without the extra `web`.
    """

    def __init__(self, address: Address, stream: RunningStream, token: TokenCheck, options: WebOptions) -> None:
        self._address = address
        self._stream = stream
        self._token = token
        self._options = options
        self.port = address.port
        self.pictures = LivePictures(
            stream.monitor,
            {camera.name: camera.scale for camera in stream.facts.cameras},
            opacity=stream.facts.opacity,
        )

    @property
    def url(self) -> str:
        """URL for a browser on this machine."""
        scheme = "http" if self._options.certificate is None else "https"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._address.host, self._address.host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def warning(self) -> str | None:
        """Warning shown when plain HTTP is served beyond loopback."""
        if is_loopback(self._address.host) or self._options.certificate is not None:
            return None
        return (
            f"The web server on {self._address.host} uses plain HTTP: others on the network can read images and the token. "
            "Set a certificate (web.certificate and web.key), or listen on 127.0.0.1 behind a TLS proxy."
        )

    def __enter__(self) -> Self:
        try:
            import starlette  # noqa: F401
            import uvicorn  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                error.name or "starlette", needed_for="--web", install="pip install 'edgead[web]'"
            ) from error
        listener = _listen(self._address)
        self.port = listener.getsockname()[1]
        try:
            self._start(listener)
        except BaseException:
            listener.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.is_closing = True
        self._server.should_exit = True
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _LOG.error("The web server does not stop; giving up")

    def _start(self, listener: socket.socket) -> None:
        import uvicorn

        from edgead.web.accepting_server import AcceptingServer
        from edgead.web.app import make_app
        from edgead.web.protocol import patient_protocol

        self._context = self._make_context()
        options = self._options
        try:
            config = uvicorn.Config(
                make_app(self._context),
                http=patient_protocol(options),
                loop="asyncio",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=_DRAIN_S,
                ssl_certfile=None if options.certificate is None else str(options.certificate),
                ssl_keyfile=None if options.key is None else str(options.key),
            )
            config.load()
        except OSError as error:
            raise ConfigError(
                f"The certificate {options.certificate} cannot be used: {error}.",
                hint="web.certificate and web.key must be a matching pair of PEM files.",
            ) from error
        self._server = AcceptingServer(config, options)
        self._thread = threading.Thread(
            target=self._serve, args=(listener,), name="edgead web", daemon=True
        )  # fmt: skip
        self._thread.start()
        _wait(lambda: self._server.started or not self._thread.is_alive(), _START_S)
        if not self._server.started:
            self._server.should_exit = True
            self._thread.join(_STOP_S)
            raise EdgeadError("The web server did not start.", hint="See the log above for the reason.")

    def _serve(self, listener: socket.socket) -> None:
        with listener, suppress(SystemExit):
            self._server.run(sockets=[listener])

    def _make_context(self) -> ServerContext:
        from edgead.web.auth import Auth
        from edgead.web.connection_limit import ConnectionLimit
        from edgead.web.endpoint import ServerContext
        from edgead.web.event_feed import EventFeed

        hosts = None
        if is_loopback(self._address.host):
            hosts = frozenset({"localhost", "127.0.0.1", "::1"})
        return ServerContext(
            stream=self._stream,
            options=self._options,
            auth=Auth(self._token, self._options.auth, hosts, f"edgead_session_{self.port}"),
            pictures=self.pictures,
            feed=EventFeed(self._stream.store),
            viewers=ConnectionLimit(self._options.max_viewers),
            listeners=ConnectionLimit(self._options.max_listeners),
            started_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            is_secure=self._options.certificate is not None,
        )


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"The web server cannot listen on {address}: {error.strerror or error}.",
            hint="Another program may use the port: choose another one, or 0 for any free port (--web HOST:PORT).",
        ) from error
    return listener


def _wait(condition: Callable[[], bool], timeout_s: float) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.01)
