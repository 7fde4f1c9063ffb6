"""Standard streams of the command line: closed or full ones change no result, and text cannot control the terminal."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from edgead.printable import printable


class _Stream:
    """A standard stream that remembers why it could not be written.

    Args:
        stream: The stream.
        is_lenient: Let errors pass: a full disk under a log must not stop a camera.
    """

    def __init__(self, stream: Any, *, is_lenient: bool) -> None:
        self._stream = stream
        self._is_lenient = is_lenient
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        with self._watched():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._watched():
            self._stream.flush()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            if not self._is_lenient:
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


def prepare_streams() -> None:
    """Give closed standard streams a place to go, and let errors of stderr pass."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # otherwise the next file opened, such as a database, would get the number and the messages
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    sys.stdout, sys.stderr = _Stream(sys.stdout, is_lenient=False), _Stream(sys.stderr, is_lenient=True)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_PrintableFormatter())


def echo(text: str, *, err: bool = False) -> None:
    """Print text that may come from people, files or devices."""
    typer.echo(printable(text, lines=True), err=err)


def stdout_error() -> OSError | None:
    """The reason why stdout could not be written, if so; it then goes nowhere for the rest of the process."""
    with suppress(OSError):
        sys.stdout.flush()
    error: OSError | None = getattr(sys.stdout, "error", None)
    if error is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    return error


def report_stdout(error: OSError) -> None:
    """Say why the output is missing; a reader that has gone, as with `| head`, is no news."""
    if error.errno != errno.EPIPE:
        echo(f"error: The output could not be written to stdout: {error.strerror}.", err=True)
