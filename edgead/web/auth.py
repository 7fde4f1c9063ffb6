"""Who may do what: logins, scripts with the token, and requests that a foreign page makes a browser send."""

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
    """Who asks.

    Attributes:
        name: As they call themselves.
        session: Key of the session; None for a script with the token.
    """

    name: str
    session: str | None = None


class Auth:
    """Decides about every request; safe to use from any thread.

    Args:
        token: Knows the right one.
        options: Limits and allowed names.
        hosts: Names that a `Host` header may have; None allows all.
        cookie: Name of the session's cookie. Browsers send cookies to every port of a host: two streams on one machine
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
        """Checks that come before the question who it is.

        Raises:
            Refusal: 400 for a foreign `Host`, 403 for a request that another site caused, 429 for too many.
        """
        host = _host_name(request.headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            raise Refusal(
                400, "The request names a host that this server is not.", hint="web.hosts lists further ones."
            )
        # behind a proxy or a router all have one address, and a screen full of cameras takes what it allows
        key = self._key(request)
        session = None if key is None else self.sessions.id_of(key)
        wait_s = self._requests.take(address_of(request)) if session is None else self._session_requests.take(session)
        if wait_s:
            raise Refusal(429, "Too many requests.", retry_s=wait_s)
        if method in CHANGING:
            _check_same_site(request)

    def person(self, request: HTTPConnection) -> Person | None:
        """By the session's cookie; a script's token is a matter of `person_of_token`, which is slow."""
        key = self._key(request)
        name = None if key is None else self.sessions.name_of(key)
        return None if name is None else Person(name, key)

    def check_token(self, request: HTTPConnection, token: str) -> bool:
        """Whether it is the token; to be called on a thread that may wait.

        A wrong one that is given again counts once: nobody learns from it, and a script with a token of last year must
        not lock out the people at its address.

        Raises:
            Refusal: 429 after too many wrong ones, from this address or, from addresses that were never right, of all.
        """
        tag = hmac.digest(self._salt, token.encode("utf-8", "replace"), "sha256")
        if tag in self._wrong:
            return False
        address = address_of(request)
        wait_s = self._failures.wait_s(address)
        if address not in self._trusted:
            wait_s = max(wait_s, self._all_failures.wait_s(_ANYBODY))
        if wait_s:
            raise Refusal(429, "Too many wrong tokens.", hint="Wait, and use the right one.", retry_s=wait_s)
        # the try is used up before the slow comparison, so that many at once are no way around the limit
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
        """A script, by its `Authorization` header."""
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
    """Whether it comes from this machine, not through a proxy on it, and by a name that only this machine has.

    The name, because a page from elsewhere can let its own one lead to this machine, and would read along.
    """
    if any(name in request.headers for name in _FORWARDED):
        return False
    return is_loopback(address_of(request)) and is_loopback(_host_name(request.headers.get("host", "")))


def _check_same_site(request: HTTPConnection) -> None:
    hint = "The page of this server sends what is needed; scripts add the header X-Edgead: 1."
    if request.headers.get("x-edgead") != "1":
        raise Refusal(403, "A request that changes something needs the header X-Edgead: 1.", hint=hint)
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "Another site caused this request.", hint=hint)
    origin = request.headers.get("origin")
    # behind a proxy that ends TLS the scheme differs, the host does not
    if origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise Refusal(403, "Another site caused this request.", hint=hint)


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
