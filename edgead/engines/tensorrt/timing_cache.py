"""Cache of kernel timings, so that a second build takes a fraction of the first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import StorageError
from edgead.storage import write_bytes

if TYPE_CHECKING:
    import tensorrt as trt

_FORMAT = 1


def cache_path(folder: Path, machine: dict[str, str]) -> Path:
    """Path of the cache for one machine in one state.

    Args:
        folder: Folder of the caches.
        machine: Everything that timings depend on: GPU, TensorRT version, power mode.
    """
    return folder / f"timing-{_digest(json.dumps(machine, sort_keys=True).encode())[:16]}.cache"


def attach_cache(config: trt.IBuilderConfig, path: Path, machine: dict[str, str]) -> str:
    """Give the builder the stored timings, or an empty cache to fill.

    Returns:
        Reason why stored timings were not used; empty if they were used or there are none.
    """
    stored, note = _read(path, machine)
    if stored is not None:
        if _set(config, stored):
            return ""
        note = f"The timing cache {path.name} was ignored: TensorRT rejected it."
    return note if _set(config, b"") else f"{note} No timing cache can be stored.".strip()


def save_cache(config: trt.IBuilderConfig, path: Path, machine: dict[str, str]) -> str:
    """Store the builder's timings atomically.

    Returns:
        Reason why they could not be stored; empty if they were. A failure here does not fail the build.
    """
    cache = config.get_timing_cache()
    serialized = cache.serialize() if cache is not None else None
    if serialized is None:
        return "TensorRT returned no timing cache to store."
    payload = bytes(serialized)
    header = {"format": _FORMAT, "machine": machine, "sha256": _digest(payload)}
    try:
        write_bytes(path, json.dumps(header, sort_keys=True).encode() + b"\n" + payload)
    except StorageError as error:
        return f"The timing cache was not stored: {error.message}"
    return ""


def _read(path: Path, machine: dict[str, str]) -> tuple[bytes | None, str]:
    try:
        first, _, payload = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"The timing cache {path.name} was ignored: {error.strerror or error}."
    try:
        header = json.loads(first)
        if header["format"] != _FORMAT or header["sha256"] != _digest(payload):
            return None, f"The timing cache {path.name} was ignored: it is damaged."
        if header["machine"] != machine:
            return None, f"The timing cache {path.name} was ignored: it was measured on another machine or power mode."
    except (ValueError, KeyError, TypeError):
        return None, f"The timing cache {path.name} was ignored: it is damaged."
    return payload, ""


def _set(config: trt.IBuilderConfig, content: bytes) -> bool:
    try:
        return bool(config.set_timing_cache(config.create_timing_cache(content), ignore_mismatch=False))
    except (TypeError, RuntimeError):  # raised by the bindings if the library returns nothing
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
