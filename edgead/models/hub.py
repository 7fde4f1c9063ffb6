"""Reach of timm's hub: weights that are not cached fail in a second where there is no network, not in a minute."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from edgead.errors import ConfigError

CONNECT_S = 3.0
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")


def require_hub_weights(network: str) -> None:
    """Check that weights may be in a cache of this machine, or that the hub can be reached; nothing is downloaded.

    Raises:
        ConfigError: If neither holds.
    """
    if not any(_perhaps_cached(network)):
        _require_hub(network)


def cached_file(network: str, pretrained: Any) -> Path | None:
    """Cached weights of a timm network, which load without asking the hub.

    Args:
        network: Name of the network.
        pretrained: Its `PretrainedCfg`; None for a network without weights.

    Returns:
        None if timm has to find the weights.

    Raises:
        ConfigError: If they are not cached and the hub cannot be reached.
    """
    hub_id = getattr(pretrained, "hf_hub_id", None)
    if not hub_id or pretrained.custom_load or pretrained.hf_hub_filename:
        return None
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = hub_id.partition("@")
    for file in WEIGHTS_NAMES:
        found = try_to_load_from_cache(name, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    _require_hub(network)
    return None


def _require_hub(network: str) -> None:
    problem = hub_problem()
    if problem:
        raise ConfigError(
            f"The weights of {network!r} are not on this machine, and timm's hub cannot be reached: {problem}.",
            hint="Connect this machine to the network, copy the hub's cache from one that has the weights, or name a "
            "local file: --weights FILE.safetensors.",
        )


def hub_problem() -> str:
    """Why the hub cannot be reached, found out within `CONNECT_S` seconds; empty if it can."""
    for name in OFFLINE:
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name} is set"
    host, port = _address()
    found: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), CONNECT_S).close()
            found.append("")
        except OSError as error:
            found.append(f"{host}: {error.strerror or error}")

    # a look-up of the name has no limit of its own
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    return found[0] if found else f"{host} does not answer within {CONNECT_S:.0f} s"


def _perhaps_cached(network: str) -> Iterator[Path]:
    """Files or folders of the caches whose names contain the network's; telling for sure needs timm, which needs seconds."""
    from huggingface_hub.constants import HF_HUB_CACHE

    stem = network.split(".")[0]
    yield from Path(HF_HUB_CACHE).glob(f"models--*{stem}*")
    torch_home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    yield from Path(torch_home).expanduser().glob(f"hub/checkpoints/{stem}*")


def _address() -> tuple[str, int]:
    """Host and port to connect to: those of the hub, or of the proxy in front of it."""
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    host = hub.hostname or "huggingface.co"
    proxy = getproxies().get(hub.scheme) or getproxies().get("all")
    if proxy and not proxy_bypass(host):
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return target.hostname or host, target.port or (443 if target.scheme == "https" else 80)
    return host, hub.port or (80 if hub.scheme == "http" else 443)
