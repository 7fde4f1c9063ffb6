"""Settings of the web server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AuthOptions:
    """How long logins last and how often somebody may try.

    Attributes:
        session_s: A login lasts so long at most.
        session_idle_s: Without a request for so long it ends.
        login_attempts: Wrong tokens per address in five minutes; as many a minute from all that were never right.
        requests_per_s, request_burst: Requests per address of those who are not logged in, in the long run and at once.
        session_requests_per_s, session_burst: Requests per login.
        hosts: Further names that browsers may call a server on loopback by, such as that of a proxy.
    """

    session_s: float = 12 * 3600.0
    session_idle_s: float = 2 * 3600.0
    login_attempts: int = 10
    requests_per_s: float = 50.0
    request_burst: int = 200
    session_requests_per_s: float = 200.0
    session_burst: int = 400
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class WebOptions:
    """Limits of the web server.

    Attributes:
        auth: Of logins and requests.
        certificate, key: Files in PEM format for TLS; both or none.
        max_viewers: Live pictures at the same time.
        max_listeners: Listeners to events at the same time.
        max_connections: Connections at the same time; the last eighth is kept for this machine, whose service manager
            asks how the stream is.
        max_per_address: Of one other machine.
        patience_s: How long a client may take for its request, and may not take anything of an answer.
        ready_s: A camera is ready when it was judged less than so long ago.
    """

    auth: AuthOptions = AuthOptions()
    certificate: Path | None = None
    key: Path | None = None
    max_viewers: int = 8
    max_listeners: int = 16
    max_connections: int = 128
    max_per_address: int = 64
    patience_s: float = 15.0
    ready_s: float = 10.0
