"""Secrets in addresses: redaction for logs and messages, and safe escaping in URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

MASK = "***"
_SECRET_KEY = re.compile(
    r"(?i)([?&;][^=&;?]*(?:user|login|pass|pwd|token|key|secret|auth|sig|sid|cred)[^=&;]*=)[^&;#]*"
)
_LAUNCH = "gst:"
_ELEMENT = re.compile(r"[A-Za-z][\w-]{0,63}")
_PLACE = re.compile(r"(?:\[[^\]@]*\]|[^:@\[\]]*)(?::\d*)?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_VALUE = re.compile(r"=\s*(\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s!]+)")
_SHORTEST_VALUE = 3


@dataclass(frozen=True)
class Credentials:
    """User and password, both unescaped."""

    user: str
    password: str = field(repr=False)


def redact(uri: str) -> str:
    """Mask user, password and secret-looking query values of an address; other texts are unchanged.

    Everything up to the last `@` counts as credentials, because passwords with `/`, `#` or `@` are typed unescaped:
    hiding too much of a path is better than showing half a password. A GStreamer launch line is cut after its first
    element, because any property of any element may hold a secret.
    """
    if uri.lower().startswith(_LAUNCH):
        first = uri[len(_LAUNCH) :].split(maxsplit=1)[:1]
        return f"{_LAUNCH}{first[0]} …" if first and _ELEMENT.fullmatch(first[0]) else f"{_LAUNCH}…"
    if "://" not in uri:
        return uri
    scheme, rest = uri.split("://", 1)
    if "@" in rest:
        rest = f"{MASK}@" + rest.rsplit("@", 1)[1]
    return scheme + "://" + _SECRET_KEY.sub(rf"\1{MASK}", rest)


def redact_message(message: str, uri: str) -> str:
    """Mask the secrets of an address, and those of any other URL, in a library's message about it."""
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        message = message.replace(secret, MASK)
    return _URL.sub(lambda match: redact(match[0]), message)


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """Split a URL into the URL without credentials, and the credentials; None if it has none.

    Escapes such as `%40` are resolved. A password typed unescaped is taken as it is, up to the last `@`, if the text
    would otherwise not be a URL (`user:pa/ss@camera`).
    """
    scheme, separator, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    typed, at, place = authority.rpartition("@")
    if at:
        place += rest[len(authority) :]
    elif not _PLACE.fullmatch(authority):
        typed, at, place = rest.rpartition("@")
    if not separator or not at:
        return url, None
    user, _, password = typed.partition(":")
    return f"{scheme}://{place}", Credentials(unquote(user), unquote(password))


def escape_credentials(url: str) -> str:
    """Escape user and password in a URL, so that every library parses them alike."""
    bare, credentials = split_credentials(url)
    if credentials is None:
        return url
    scheme, _, place = bare.partition("://")
    password = ":" + quote(credentials.password, safe="") if credentials.password else ""
    return f"{scheme}://{quote(credentials.user, safe='')}{password}@{place}"


def _secrets(uri: str) -> set[str]:
    """All secret texts in an address, as typed and as libraries write them."""
    if uri.lower().startswith(_LAUNCH):
        values = {value.strip("\"'") for value in _VALUE.findall(uri)}
        return {value for value in values if len(value) >= _SHORTEST_VALUE}
    _, credentials = split_credentials(uri)
    found = {match[0].rpartition("=")[2] for match in _SECRET_KEY.finditer(uri)}
    if credentials is not None:
        typed = uri.partition("://")[2].rpartition("@")[0]
        for secret in (credentials.user, credentials.password):
            found |= {secret, quote(secret), quote(secret, safe="")}
        found |= {typed, *typed.split(":", 1)}
    return {secret for secret in found if len(secret) >= _SHORTEST_VALUE}
