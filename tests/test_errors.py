"""Errors carry what a person needs, and the exit code of their kind."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterator

import pytest

import edgead
from edgead import errors

CODES = {"ConfigError": 2, "CheckFailed": 4}


def subclasses(kind: type[errors.EdgeadError]) -> Iterator[type[errors.EdgeadError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("edgead."):
            yield child
            yield from subclasses(child)


def every_kind() -> list[type[errors.EdgeadError]]:
    """Every error class of the package, wherever it is defined."""
    for module in pkgutil.walk_packages(edgead.__path__, "edgead."):
        if module.name != "edgead.__main__":
            importlib.import_module(module.name)
    return [errors.EdgeadError, *subclasses(errors.EdgeadError)]


KINDS = every_kind()


def test_the_walk_finds_errors_of_other_modules() -> None:
    """Classes defined beside the code that raises them are under test too."""
    assert {kind.__module__ for kind in KINDS} > {"edgead.errors"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_its_exit_code_and_its_line_in_the_overview(kind: type[errors.EdgeadError]) -> None:
    """Bad configuration is 2, a failed check 4, everything else 1, as the module's overview says of it or of its base."""
    listed = next(base for base in kind.__mro__ if base.__module__ == errors.__name__)
    assert kind.exit_code == CODES.get(listed.__name__, 1)
    assert errors.__doc__ is not None
    (line,) = [line for line in errors.__doc__.splitlines() if f"{listed.__name__} " in line]
    assert f" {kind.exit_code} " in f"{line} "


def test_a_traceback_shows_the_hint() -> None:
    """Where notes exist, Python's own traceback ends with what to do, so that a notebook says it too."""
    lines = traceback.format_exception(errors.DataError("what", hint="do this"))
    assert (lines[-1] == "hint: do this\n") == (sys.version_info >= (3, 11))
    assert not hasattr(errors.DataError("what"), "__notes__")


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
