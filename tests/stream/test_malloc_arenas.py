"""A process with many threads keeps few heaps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgead.stream.malloc_arenas import limit_malloc_arenas

THREADS = 12
SHARE = """
import ctypes, sys, threading
from edgead.stream.malloc_arenas import limit_malloc_arenas

was_done = limit_malloc_arenas({} if sys.argv[1] == "few" else {"MALLOC_ARENA_MAX": "64"})
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready, end = threading.Barrier(int(sys.argv[2]) + 1), threading.Event()

def use():
    libc.malloc(100_000)
    ready.wait()
    end.wait()

threads = [threading.Thread(target=use) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
ready.wait()
starts = [int(line.split("-")[0], 16) for line in open("/proc/self/maps") if line.rstrip().endswith(" 0")]
print(was_done, sum(start % 2**26 == 0 for start in starts))
end.set()
"""


def heaps(which: str) -> tuple[bool, int]:
    """Whether it was done, and regions that begin where only heaps of glibc's threads do."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "64"} if which == "many" else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", SHARE, which, str(THREADS)],
        capture_output=True, text=True, check=True, timeout=60, env=environment,
    )  # fmt: skip
    word, number = done.stdout.split()
    return word == "True", int(number)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads Linux' list of memory regions")
@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="not glibc")
def test_threads_share_heaps() -> None:
    """Twelve threads that allocate have at most one heap beside the main one; without it they have one each."""
    was_done, number = heaps("few")
    assert was_done
    assert number <= 1
    was_done, number = heaps("many")
    assert not was_done
    assert number >= THREADS // 2


def test_settings_of_the_user_are_kept() -> None:
    assert not limit_malloc_arenas({"MALLOC_ARENA_MAX": "4"})
    assert not limit_malloc_arenas({"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"})
