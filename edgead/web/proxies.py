"""Reverse proxies, and what they say about the client behind them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from starlette.requests import HTTPConnection

_PREFIX = re.compile(r"(?:/[\w.~-]{1,100}){1,8}")


class Proxies:
    """Headers of trusted reverse proxies; those of everyone else are ignored.

    Args:
        networks: Addresses or networks of the proxies, such as `127.0.0.1` or `10.0.0.0/8`.
    """

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(one) for one in networks]

    def client(self, request: HTTPConnection) -> str:
        """Address of the client: the last one in `X-Forwarded-For` that is no trusted proxy, or else of the connection."""
        peer = _peer(request)
        if not self.trusts(peer):
            return peer
        client = peer
        for text in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
            address = _address(text)
            if address is None:
                break
            client = address
            if not self.trusts(address):
                break
        return client

    def is_https(self, request: HTTPConnection) -> bool:
        """Whether a trusted proxy says in `X-Forwarded-Proto` that the client uses HTTPS."""
        said = request.headers.get("x-forwarded-proto", "").rpartition(",")[2]
        return self.trusts(_peer(request)) and said.strip().lower() == "https"

    def prefix(self, request: HTTPConnection) -> str:
        """Path under which a trusted proxy shows this server, from `X-Forwarded-Prefix`; `/` without one."""
        said = request.headers.get("x-forwarded-prefix", "").strip().rstrip("/")
        return said if self.trusts(_peer(request)) and _PREFIX.fullmatch(said) and ".." not in said else "/"

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(mapped in network for network in self._networks)


def _peer(request: HTTPConnection) -> str:
    return "" if request.client is None else request.client.host


def _address(text: str) -> str | None:
    """An address of `X-Forwarded-For`, without a port; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
