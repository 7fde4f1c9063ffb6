"""Fewer malloc arenas, so that the memory of a process that runs for months stays flat."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

# `M_ARENA_MAX` in malloc.h; `man 3 mallopt`
_M_ARENA_MAX = -8
_ARENAS = 2
_VARIABLES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def limit_malloc_arenas(environment: Mapping[str, str] = os.environ) -> bool:
    """Let all threads share two malloc arenas of glibc instead of one each; call it before threads are started.

    Results, pictures and events are made by one thread and freed by another, whenever the histories let go of them. In
    a heap for each thread the holes that they leave are of use to that thread alone, and the process grows for hours.

    Args:
        environment: Environment variables; a limit that the user set there stays.

    Returns:
        Whether the limit was set; False with another C library, or where the environment sets one.
    """
    if any(name in environment for name in _VARIABLES):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS))
    except (OSError, AttributeError):
        return False
