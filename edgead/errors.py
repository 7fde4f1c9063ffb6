"""Errors for people at a terminal, with their exit codes.

Some modules derive narrower errors from these, beside the code that raises them; those keep the exit code of their base.

EdgeadError                     1   expected failure: what, seen, allowed, what to do
├── ConfigError                 2   bad key or value in a file, an option or an override
├── DataError                   1   folder layout, unreadable image, empty split
├── BundleError                 1   missing file, hash or schema mismatch
├── ExportError                 1   a graph that cannot be exported
├── TrainingError               1   numbers that are not finite, a checkpoint that does not fit
├── StorageError                1   disk full, folder not writable
├── EngineError                 1
│   ├── EngineBuildError        1
│   └── EngineMismatchError     1   engine of another bundle or machine
├── SourceError                 1   camera, file or URL; `.retryable` tells whether to reconnect
├── MissingDependencyError      1   module, and the extra or system package that provides it
└── CheckFailed                 4   a parity or accuracy gate that was not met, with both numbers
ShapeError(ValueError)              programming contract on arrays, never shown as a user error
"""

from __future__ import annotations

from typing import ClassVar


class EdgeadError(Exception):
    """Expected failure: `message` states what failed, the value seen and the values allowed; `hint` states what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.__notes__ = [f"hint: {hint}"]  # tracebacks of Python 3.11 and Jupyter show notes below the message


class ConfigError(EdgeadError):
    """Setting that the configuration does not allow."""

    exit_code = 2


class DataError(EdgeadError):
    """Unusable data folder or image."""


class BundleError(EdgeadError):
    """Bundle that is incomplete, modified or too new."""


class ExportError(EdgeadError):
    """Model that cannot be exported as a valid graph."""


class TrainingError(EdgeadError):
    """Training run that cannot continue."""


class StorageError(EdgeadError):
    """Disk or folder that cannot be written."""


class EngineError(EdgeadError):
    """Engine that cannot be used."""


class EngineBuildError(EngineError):
    """Engine that could not be built."""


class EngineMismatchError(EngineError):
    """Engine built for another bundle, machine or version."""


class SourceError(EdgeadError):
    """Camera, file or URL that delivers no frames; `retryable` says whether reconnecting may help."""

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class MissingDependencyError(EdgeadError):
    """Package that is not installed."""

    def __init__(self, module: str, *, needed_for: str, install: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {module!r}, which is not installed.",
            hint=f"Install it with: {install}",
        )
        self.module = module


class CheckFailed(EdgeadError):
    """Check that ran and failed."""

    exit_code = 4


class ShapeError(ValueError):
    """Array whose shape breaks a documented contract."""

    def __init__(self, name: str, *, expected: str, actual: tuple[int, ...]) -> None:
        super().__init__(f"{name} must have shape {expected}, got {actual}")
        self.expected = expected
        self.actual = actual
