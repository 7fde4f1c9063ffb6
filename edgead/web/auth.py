"""Authentication by session or token, and protection against cross-site requests and floods."""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TypeVar

from starlette.requests import HTTPConnection

from edgead.web.address import is_loopback
from edgead.web.errors import Refusal
from edgead.web.options import AuthOptions
from edgead.web.proxies import Proxies
from edgead.web.rate_limit import RateLimit
from edgead.web.sessions import Sessions
from edgead.web.token import TokenCheck

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_PROXY = (
    "Behind a reverse proxy: it must pass the browser's Host header (nginx: proxy_set_header Host $http_host), and web.hosts "
    "must name the host in the address of the page."
)
_ANYBODY = ""
_REMEMBERED = 1024
_T = TypeVar("_T")


@dataclass(frozen=True)
class Person:
    """An authenticated user.

    Attributes:
        name: Self-chosen name.
        session: Session key; None for a script with the token.
    """

    name: str
    session: str | None = None


class Auth:
    """Admission and authentication of requests; thread-safe.

    Args:
        token: Check of the token.
        options: Limits, names and proxies.
        hosts: Allowed names in `Host` headers; None allows all.
        cookie: Name of the session cookie. Browsers send cookies to every port of a host, so two streams on one machine
            need different names.
    """

    def __init__(
        self,
        token: TokenCheck,
        options: AuthOptions,
        hosts: frozenset[str] | None,
        cookie: str = "edgead_session",
    ) -> None:
        self.token = token
        self.cookie = cookie
        self.sessions = Sessions(idle_s=options.session_idle_s, max_s=options.session_s)
        self.proxies = Proxies(options.trusted_proxies)
        self._named = frozenset(host_name(name) for name in options.hosts)
        self._hosts = None if hosts is None else hosts | self._named
        self._requests = RateLimit(options.request_burst, options.requests_per_s)
        self._session_requests = RateLimit(options.session_burst, options.session_requests_per_s)
        self._failures = RateLimit(options.login_attempts, options.login_attempts / 300)
        self._all_failures = RateLimit(10 * options.login_attempts, options.login_attempts / 60)
        self._trusted: OrderedDict[str, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()
        self._salt = secrets.token_bytes(32)

    def admit(self, request: HTTPConnection, method: str) -> None:
        """Check host, request rate and origin, before authentication.

        Raises:
            Refusal: 400 for a foreign `Host`, 403 for a cross-site request, 429 for too many requests.
        """
        if self._hosts is not None and host_name(request.headers.get("host", "")) not in self._hosts:
            raise Refusal(
                400, "The Host header does not name this server.", hint=f"Add further names to web.hosts. {_PROXY}"
            )
        # behind a proxy all clients share one address, and one page full of cameras may use up its limit
        key = self._key(request)
        session = None if key is None else self.sessions.id_of(key)
        if session is None and self.token.is_known(_bearer(request)):
            session = _ANYBODY
        wait_s = (
            self._requests.take(self.proxies.client(request))
            if session is None
            else self._session_requests.take(session)
        )
        if wait_s:
            raise Refusal(429, "Too many requests.", retry_s=wait_s)
        if method in CHANGING:
            self._check_same_site(request)

    def person(self, request: HTTPConnection) -> Person | None:
        """The user of the session cookie; tokens are checked by the slower `person_of_token`."""
        key = self._key(request)
        name = None if key is None else self.sessions.name_of(key)
        return None if name is None else Person(name, key)

    def check_token(self, request: HTTPConnection, token: str) -> bool:
        """Whether the token is right; blocks, so call it on a worker thread.

        The right token is never limited: behind a proxy or `ssh -L` everyone shares one address. A wrong token counts once
        however often it is sent: repeating it reveals nothing.

        Raises:
            Refusal: 429 after too many wrong tokens from this address, or from all addresses that never sent the right one.
        """
        address = self.proxies.client(request)
        if self.token.is_known(token):
            self._remember(self._trusted, address)
            return True
        tag = hmac.digest(self._salt, token.encode("utf-8", "replace"), "sha256")
        if tag in self._wrong:
            return False
        wait_s = self._failures.wait_s(address)
        if address not in self._trusted:
            wait_s = max(wait_s, self._all_failures.wait_s(_ANYBODY))
        if wait_s:
            raise Refusal(429, "Too many wrong tokens.", hint="Wait, then send the right token.", retry_s=wait_s)
        # counted before the slow comparison, so that parallel attempts cannot bypass the limit
        self._failures.take(address)
        if not self.token.is_right(token):
            self._all_failures.take(_ANYBODY)
            self._remember(self._wrong, tag)
            return False
        self._failures.give_back(address)
        self._remember(self._trusted, address)
        return True

    def _remember(self, known: OrderedDict[_T, None], one: _T) -> None:
        with self._lock:
            known[one] = None
            while len(known) > _REMEMBERED:
                known.popitem(last=False)

    def _key(self, request: HTTPConnection) -> str | None:
        try:
            found = SimpleCookie(request.headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return None if found is None else found.value

    def person_of_token(self, request: HTTPConnection) -> Person | None:
        """The script of an `Authorization` header."""
        token = _bearer(request)
        if not token or not self.check_token(request, token):
            return None
        name = request.headers.get("x-edgead-user", "api").strip()
        if not _NAME.fullmatch(name):
            raise Refusal(400, "X-Edgead-User must be 1 to 64 printable characters.")
        return Person(name)

    def is_https(self, request: HTTPConnection) -> bool:
        """Whether the browser reaches a TLS proxy in front of this server; a browser's `Origin` says so too."""
        return self.proxies.is_https(request) or request.headers.get("origin", "").lower().startswith("https://")

    def _check_same_site(self, request: HTTPConnection) -> None:
        hint = "Use this server's page, or send the header X-Edgead: 1 from a script."
        if request.headers.get("x-edgead") != "1":
            raise Refusal(403, "Requests that change something need the header X-Edgead: 1.", hint=hint)
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refusal(403, "Cross-site requests are refused.", hint=hint)
        origin = request.headers.get("origin")
        if origin is None:
            return
        scheme, _, page = origin.lower().partition("://")
        if host_name(page) not in self._named and _place(page, scheme) != _place(
            request.headers.get("host", ""), scheme
        ):
            raise Refusal(
                403, "Cross-site requests are refused: the page is not at the host of the Host header.", hint=_PROXY
            )


def is_local(request: HTTPConnection) -> bool:
    """Whether a request comes from this machine, not through a proxy, and under a loopback name.

    The name is checked because a foreign page could let its own host name resolve to this machine (DNS rebinding).
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    return is_loopback(request.client.host) and is_loopback(host_name(request.headers.get("host", "")))


def host_name(host: str) -> str:
    """Name in a `Host` header or an origin, without scheme and port, in lower case."""
    host = host.lower().rpartition("://")[2].rstrip("/")
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.rpartition(":")[0] if ":" in host else host


def _place(host: str, scheme: str) -> tuple[str, str]:
    """Name and port; the scheme of the page has a default port, which a TLS proxy may or may not write."""
    port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    return host_name(host), port or {"https": "443", "http": "80"}.get(scheme, "")


def _bearer(request: HTTPConnection) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
