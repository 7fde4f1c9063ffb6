"""Errors carry what a person needs, and the exit code of their kind."""

from __future__ import annotations

import inspect

import pytest

from edgead import errors

CODES = {"ConfigError": 2, "CheckFailed": 4}
KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.EdgeadError)
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_its_exit_code_and_its_line_in_the_overview(kind: type[errors.EdgeadError]) -> None:
    """Bad configuration is 2, a failed check 4, everything else 1, as the module's overview says."""
    assert kind.exit_code == CODES.get(kind.__name__, 1)
    assert errors.__doc__ is not None
    (line,) = [line for line in errors.__doc__.splitlines() if f"{kind.__name__} " in line]
    assert f" {kind.exit_code} " in f"{line} "


def test_message_and_hint_are_kept() -> None:
    """The message is the error's text; the hint is beside it."""
    error = errors.DataError("what", hint="do")
    assert (str(error), error.message, error.hint) == ("what", "what", "do")
    missing = errors.MissingDependencyError("torch", needed_for="Training", install="pip install x")
    assert missing.module == "torch"
    assert "pip install x" in missing.hint
    assert errors.SourceError("x", retryable=True).retryable
    assert not errors.SourceError("x").retryable


def test_a_shape_error_is_a_programming_error() -> None:
    """It is a ValueError with both shapes, and not an error for people at a terminal."""
    error = errors.ShapeError("x", expected="(N, 3)", actual=(2, 4))
    assert isinstance(error, ValueError)
    assert not isinstance(error, errors.EdgeadError)
    assert str(error) == "x must have shape (N, 3), got (2, 4)"
