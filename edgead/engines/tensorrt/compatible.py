"""TensorRT versions that may load an engine built version compatible by an older one.

Follows NVIDIA's support matrix of 11.4.1: within a major version, from 8 to 10 and from 10 to 11; never from 8 to 11, never a newer
engine on an older TensorRT, and not before 8.6. Not tried with any TensorRT.
"""

from __future__ import annotations

import re

_FIRST = (8, 6)
_NEXT_MAJOR = {8: 10, 10: 11}


def may_load(built: str, installed: str) -> bool:
    """Whether TensorRT `installed` may load a version-compatible engine of TensorRT `built`."""
    old, new = _numbers(built), _numbers(installed)
    if old[:2] < _FIRST or new < old:
        return False
    return new[0] in (old[0], _NEXT_MAJOR.get(old[0]))


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()
