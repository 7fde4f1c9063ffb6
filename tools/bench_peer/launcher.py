"""Run a command and write its wall time and memory: `launcher.py REPORT COMMAND...`.

Linux counts the memory of whoever starts a process as memory of that process, so that one must be small: this imports nothing
but the standard library.
"""

import json
import os
import sys
import time

if __name__ == "__main__":
    started = time.monotonic()
    child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(child, 0)
    report = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "peak_mb": usage.ru_maxrss / 1e3,
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(report, file)
