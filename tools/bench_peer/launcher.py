"""Run a command and write its wall time, processor time and memory: `launcher.py REPORT COMMAND...`.

Linux counts the memory of whoever starts a process as memory of that process, so that one must be small: this imports nothing
but the standard library. Its stdin is a pipe of its starter: when that ends, everything here ends with it.
"""

import json
import os
import signal
import sys
import threading
import time


def end_with_starter() -> None:
    """End the whole process group when stdin closes; nothing is ever written to it."""
    os.read(0, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_starter, daemon=True).start()
    started = time.monotonic()
    empty = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=empty)
    _, status, usage = os.wait4(child, 0)
    report = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "processor_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1e3,
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(report, file)
