"""Memory of a process that runs for months: few heaps."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

# `M_ARENA_MAX` of malloc.h; `man 3 mallopt`
_M_ARENA_MAX = -8
_HEAPS = 2
_VARIABLES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def keep_heaps_few(environment: Mapping[str, str] = os.environ) -> bool:
    """Let all threads share two heaps of glibc instead of one each; to be called before there are many threads.

    Results, pictures and events are made by one thread and freed by another, whenever the histories let go of them. In
    a heap for each thread the holes that they leave are of use to that thread alone, and the process grows for hours.

    Args:
        environment: Settings of glibc's own in it are left alone.

    Returns:
        Whether it was done; not with another C library, or where the environment says otherwise.
    """
    if any(name in environment for name in _VARIABLES):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS))
    except (OSError, AttributeError):
        return False
