"""Listening address of the web server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from edgead.errors import ConfigError

DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """A host and a port; port 0 takes any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse `HOST:PORT`, `[IPV6]:PORT`, or a port alone, which is on loopback.

    Raises:
        ConfigError: If the text has another form.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        port = ""
    if not (port.isascii() and port.isdigit()) or int(port) > 65535 or (colon and not host):
        raise ConfigError(
            f"--web takes HOST:PORT with a port of 0 to 65535, got {text!r}.",
            hint="127.0.0.1:8080 serves this machine only, 0.0.0.0:8080 the network.",
        )
    return Address(host or DEFAULT_HOST, int(port))


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address or `localhost`."""
    try:
        address = ipaddress.ip_address(host)
        # a socket that takes both families gives IPv4 addresses as ::ffff:127.0.0.1
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return host == "localhost"
