"""Error and hint of a command of edgead that ran in a process of its own and failed."""

from __future__ import annotations

from collections.abc import Sequence


def failure_of(lines: Sequence[str], code: int, what: str) -> tuple[str, str]:
    """Error and hint of a command of edgead that has failed, from its output on stderr.

    Args:
        lines: Lines of its output.
        code: Its exit code, negative for a signal.
        what: What its process did, for one that was killed.
    """
    if code < 0:
        return (
            f"The process that {what} was killed by signal {-code}.",
            "Check the free memory of this device (edgead doctor), and try again.",
        )
    words = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
    return words.get("error", f"The command ended with code {code}."), words.get("hint", "")
