"""Refused requests."""

from __future__ import annotations


class Refusal(Exception):
    """An error answer.

    Args:
        status: HTTP status from 400 on.
        message: Problem, for people.
        hint: Remedy.
        retry_s: Seconds until a retry makes sense.
    """

    def __init__(self, status: int, message: str, *, hint: str = "", retry_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.retry_s = retry_s


def no_folder(what: str) -> Refusal:
    """Answer of a stream that keeps no alerts, and so has no folder for something."""
    return Refusal(
        409, f"This stream has no folder for {what}.", hint="Start it with `edgead stream --web … --alerts DIR`."
    )
