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
from edgead.web.rate_limit import RateLimit
from edgead.web.sessions import Sessions
from edgead.web.token import TokenCheck

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
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
        options: Limits and allowed names.
        hosts: Allowed `Host` headers; None allows all.
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
        self._hosts = hosts
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
        host = _host_name(request.headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            raise Refusal(
                400, "The Host header does not name this server.", hint="Add further host names to web.hosts."
            )
        # behind a proxy all clients share one address, and one page full of cameras may use up its limit
        key = self._key(request)
        session = None if key is None else self.sessions.id_of(key)
        wait_s = self._requests.take(address_of(request)) if session is None else self._session_requests.take(session)
        if wait_s:
            raise Refusal(429, "Too many requests.", retry_s=wait_s)
        if method in CHANGING:
            _check_same_site(request)

    def person(self, request: HTTPConnection) -> Person | None:
        """The user of the session cookie; tokens are checked by the slower `person_of_token`."""
        key = self._key(request)
        name = None if key is None else self.sessions.name_of(key)
        return None if name is None else Person(name, key)

    def check_token(self, request: HTTPConnection, token: str) -> bool:
        """Whether the token is right; blocks, so call it on a worker thread.

        A wrong token counts once however often it is sent: repeating it reveals nothing, and a script with an outdated
        token must not lock out other users at its address.

        Raises:
            Refusal: 429 after too many wrong tokens from this address, or from all addresses that never sent the right one.
        """
        tag = hmac.digest(self._salt, token.encode("utf-8", "replace"), "sha256")
        if tag in self._wrong:
            return False
        address = address_of(request)
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
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or not self.check_token(request, token.strip()):
            return None
        name = request.headers.get("x-edgead-user", "api").strip()
        if not _NAME.fullmatch(name):
            raise Refusal(400, "X-Edgead-User must be 1 to 64 printable characters.")
        return Person(name)


def address_of(request: HTTPConnection) -> str:
    return "" if request.client is None else request.client.host


def is_local(request: HTTPConnection) -> bool:
    """Whether a request comes from this machine, not through a proxy, and under a loopback name.

    The name is checked because a foreign page could let its own host name resolve to this machine (DNS rebinding).
    """
    if any(name in request.headers for name in _FORWARDED):
        return False
    return is_loopback(address_of(request)) and is_loopback(_host_name(request.headers.get("host", "")))


def _check_same_site(request: HTTPConnection) -> None:
    hint = "Use this server's page, or send the header X-Edgead: 1 from a script."
    if request.headers.get("x-edgead") != "1":
        raise Refusal(403, "Requests that change something need the header X-Edgead: 1.", hint=hint)
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "Cross-site requests are refused.", hint=hint)
    origin = request.headers.get("origin")
    # behind a TLS proxy the scheme differs, but not the host
    if origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise Refusal(403, "Cross-site requests are refused.", hint=hint)


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
