"""A request that is not granted."""

from __future__ import annotations


class Refusal(Exception):
    """Becomes an answer with a status from 400 on.

    Args:
        status: HTTP status.
        message: What is wrong, for people.
        hint: What to do.
        retry_s: When to try again, in seconds.
    """

    def __init__(self, status: int, message: str, *, hint: str = "", retry_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.retry_s = retry_s
