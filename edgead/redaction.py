"""Secrets in addresses: refusal of ambiguous ones, redaction for logs and messages, and safe escaping in URLs."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from edgead.errors import SourceError

MASK = "***"
ESCAPES = "In user and password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25; in a path or query, @ as %40."
_SECRET_KEY = re.compile(
    r"(?i)([?&;#/][^=&;?#/]*(?:user|login|pass|pwd|token|key|secret|auth|sig|sid|cred)[^=&;?#/]*=)"
    # a password with & goes on in items without =
    r"([^&;]*(?:[&;][^=&;]*(?=[&;]|$))*)"
)
_LAUNCH = "gst:"
_ELEMENT = re.compile(r"[A-Za-z][\w-]{0,63}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_NETWORK = re.compile(r"(?i)(rtsps?|https?|mqtts?):")
_PLACE = re.compile(r"(\[[\w:.%]+\]|[\w.-]+)(?::(\d{0,5}))?")
_LOGIN = re.compile(r"[^/\s]*:.*@")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_VALUE = re.compile(r"=\s*(\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s!]+)")
_SHORTEST_VALUE = 3
_SHORTEST_KNOWN = 4
_known: set[str] = set()


@dataclass(frozen=True)
class Credentials:
    """User and password, both unescaped."""

    user: str
    password: str = field(repr=False)


def address_problem(url: str) -> str | None:
    """The reason why a network address cannot be used, without any part of it; None if it has exactly one meaning.

    Two programs may read `user:12/34@camera` differently: one sends the password to `camera`, the other looks up a host
    called `user`. Such an address is refused before anything is opened.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return "it does not begin with a scheme and ://"
    typed, place, tail = _parts(rest)
    if not _is_place(place):
        return "what stands where a host and a port belong is neither, so an unescaped character is probably before it"
    before, at, _ = tail.rpartition("@")
    if at and not _is_ip(place) and (typed is not None or ":" in place + before):
        return "it has an @ after its first / ? or #, so it can be read in two ways"
    return None


def check_address(uri: str) -> None:
    """Refuse a network address of a source that has no meaning or several, before anything is opened.

    Raises:
        SourceError: With the escapes to write, and without any piece of the address that may be secret.
    """
    network = _NETWORK.match(uri)
    problem = None if network is None else address_problem(uri)
    if problem is not None:
        raise SourceError(f"{redact(uri)} is no usable address: {problem}.", hint=ESCAPES)


def redact(uri: str) -> str:
    """Mask user, password and secret-looking values of an address; other texts are unchanged.

    Of an address that can be read in several ways, everything up to the last `@` is masked, or all of it. A GStreamer
    launch line is cut after its first element, because any property of any element may hold a secret.
    """
    if uri.lower().startswith(_LAUNCH):
        first = uri[len(_LAUNCH) :].split(maxsplit=1)[:1]
        return f"{_LAUNCH}{first[0]} …" if first and _ELEMENT.fullmatch(first[0]) else f"{_LAUNCH}…"
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if network := _NETWORK.match(uri):
            return network[0] + MASK
        return f"{MASK}@{uri.rpartition('@')[2]}" if is_login(uri) else uri
    if not _SCHEME.fullmatch(scheme):
        return redact_message(uri) if " " in scheme else MASK
    if address_problem(uri) is None:
        typed, place, tail = _parts(rest)
        login = "" if typed is None else f"{MASK}@"
        return f"{scheme}://{login}{place}{_SECRET_KEY.sub(_masked, tail)}"
    before, at, after = rest.rpartition("@")
    if not at or _SECRET_KEY.search(before) or address_problem(f"{scheme}://{after}") is not None:
        return f"{scheme}://{MASK}"
    return f"{scheme}://{MASK}@{redact(f'x://{after}').removeprefix('x://')}"


def redact_message(message: str, uri: str = "") -> str:
    """Mask the secrets of an address, and those of any other URL, in a message about it."""
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        message = message.replace(secret, MASK)
    return _URL.sub(lambda match: redact(match[0]), message)


def remember_secrets(text: str) -> None:
    """Remember a password or a secret address of the settings, so that `forget_secrets` finds it in any text."""
    _known.update(secret for secret in (text, *_secrets(text)) if len(secret) >= _SHORTEST_KNOWN)


def remember_login(uri: str) -> None:
    """Remember the secrets of a source's address; most addresses have none."""
    if uri.lower().startswith(_LAUNCH) or "://" in uri:
        _known.update(secret for secret in _secrets(uri) if len(secret) >= _SHORTEST_KNOWN)


def forget_secrets(text: str) -> str:
    """Mask all remembered secrets in a text, such as a traceback."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def is_login(text: str) -> bool:
    """Whether a text without a scheme looks like `user:password@host`."""
    return _LOGIN.match(text) is not None


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """Split a URL into the URL without credentials, and the credentials; None if it has none.

    Escapes such as `%40` are resolved. As in every URL, credentials end at the last `@` before the first `/`, `?` or `#`.
    """
    scheme, separator, rest = url.partition("://")
    typed, place, tail = _parts(rest)
    if not separator or typed is None:
        return url, None
    user, _, password = typed.partition(":")
    return f"{scheme}://{place}{tail}", Credentials(unquote(user), unquote(password))


def escape_credentials(url: str) -> str:
    """Escape user and password in a URL, so that every library parses them alike."""
    bare, credentials = split_credentials(url)
    if credentials is None:
        return url
    scheme, _, place = bare.partition("://")
    password = ":" + quote(credentials.password, safe="") if credentials.password else ""
    return f"{scheme}://{quote(credentials.user, safe='')}{password}@{place}"


def _parts(rest: str) -> tuple[str | None, str, str]:
    """Credentials as typed (None without an `@`), host and port, and the rest, of what follows `://`."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    typed, at, place = authority.rpartition("@")
    return typed if at else None, place, rest[len(authority) :]


def _is_place(text: str) -> bool:
    found = _PLACE.fullmatch(text)
    return found is not None and int(found[2] or 0) <= 65535


def _is_ip(place: str) -> bool:
    found = _PLACE.fullmatch(place)
    try:
        return found is not None and bool(ipaddress.ip_address(found[1].strip("[]").partition("%")[0]))
    except ValueError:
        return False


def _masked(match: re.Match[str]) -> str:
    return match[1] + MASK


def _secrets(uri: str) -> set[str]:
    """All secret texts in an address, as typed and as libraries write them."""
    if uri.lower().startswith(_LAUNCH):
        values = {value.strip("\"'") for value in _VALUE.findall(uri)}
        return {value for value in values if len(value) >= _SHORTEST_VALUE}
    rest = uri.partition("://")[2]
    found = {match[2] for match in _SECRET_KEY.finditer(rest)}
    if address_problem(uri) is not None:
        typed = rest.rpartition("@")[0]
        found |= {typed, *re.split(r"[/?#@:&;=%]", typed)}
    _, credentials = split_credentials(uri)
    if credentials is not None:
        typed = _parts(rest)[0] or ""
        found |= {credentials.user, credentials.password, typed, *typed.split(":", 1)}
    found |= {unquote(secret) for secret in found}
    found |= {quote(secret, safe=safe) for secret in found for safe in ("", "/")}
    return {secret for secret in found if len(secret) >= _SHORTEST_VALUE}
