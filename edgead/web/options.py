"""Options of the web server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AuthOptions:
    """Session lifetime and rate limits.

    Attributes:
        session_s: Maximum session lifetime, in seconds.
        session_idle_s: Seconds without a request after which a session ends.
        login_attempts: Wrong tokens allowed per address in five minutes, and per minute from all addresses that never
            sent the right one.
        requests_per_s, request_burst: Requests per address without login, in the long run and at once.
        session_requests_per_s, session_burst: Requests per session, in the long run and at once.
        hosts: Host names under which proxies show this server, on any port.
        trusted_proxies: Addresses or networks of proxies whose `X-Forwarded-` headers are believed.
    """

    session_s: float = 12 * 3600.0
    session_idle_s: float = 2 * 3600.0
    login_attempts: int = 10
    requests_per_s: float = 50.0
    request_burst: int = 200
    session_requests_per_s: float = 200.0
    session_burst: int = 400
    hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True)
class WebOptions:
    """Limits of the web server.

    Attributes:
        auth: Limits of sessions and requests.
        certificate, key: Files in PEM format for TLS; both or none.
        max_viewers: Concurrent live views.
        max_listeners: Concurrent event streams.
        max_connections: Concurrent connections; the last eighth is reserved for this machine's health probes.
        max_per_address: Concurrent connections of one other machine.
        handshake_s: Seconds that the TLS handshake may take.
        patience_s: Seconds that a client may take to send a request, or stall while receiving an answer.
        ready_s: Maximum age of a ready camera's last verdict, in seconds.
    """

    auth: AuthOptions = AuthOptions()
    certificate: Path | None = None
    key: Path | None = None
    max_viewers: int = 8
    max_listeners: int = 16
    max_connections: int = 128
    max_per_address: int = 64
    handshake_s: float = 5.0
    patience_s: float = 15.0
    ready_s: float = 10.0
