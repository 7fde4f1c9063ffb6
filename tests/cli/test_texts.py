"""Plain English in what users read first: help texts of the command line and meanings of the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from edgead.cli import app
from edgead.config.file import describe_config

from ..english import PHRASES

# words that begin a fragment, and `tends`, which is fine in prose
FRAGMENT = re.compile(r"\btends?\b|^(?:What|Of|Whose|Its|With|As|Gets|For)\b", re.IGNORECASE)
SHORTEST = 3


def help_texts(command: Any, name: str = "edgead") -> Iterator[tuple[str, str]]:
    """Every text of the command line, with where it stands."""
    yield name, command.help or ""
    for parameter in command.params:
        yield f"{name} {parameter.name}", parameter.help or ""
    for child, nested in getattr(command, "commands", {}).items():
        yield from help_texts(nested, f"{name} {child}")


def complaint(text: str) -> str | None:
    """Complaint about a text; None if there is none."""
    if len(text.split()) < SHORTEST:
        return f"under {SHORTEST} words: {text!r}"
    found = PHRASES.search(text) or FRAGMENT.search(text)
    return f"{found[0]!r} in {text!r}" if found else None


HELP = dict(help_texts(typer.main.get_command(app)))
SETTINGS = {key: meaning for key, _, meaning in describe_config()}


def test_the_texts_are_found() -> None:
    """The checks below are about every verb and setting."""
    assert {"edgead", "edgead train seed", "edgead alerts ack who"} <= HELP.keys()
    assert {"train.seed", "stream.opacity"} <= SETTINGS.keys()


def test_help_is_plain() -> None:
    """No help text is shorter than three words or has a phrase of the list."""
    assert {where: why for where, text in HELP.items() if (why := complaint(text))} == {}


def test_settings_are_plain() -> None:
    """No setting's meaning is shorter than three words or has a phrase of the list."""
    assert {key: why for key, text in SETTINGS.items() if (why := complaint(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "Random seed.",
        "Stop after so many frames.",
        "Whose rights it has.",
        "Write the graph anew.",
        "Of the zone alone.",
    ],
)
def test_bad_texts_are_found(text: str) -> None:
    """Texts that were there before are refused."""
    assert complaint(text)


def test_no_verb_is_described_by_half_a_sentence() -> None:
    """The list of verbs is whole in a terminal of 80 columns."""
    command = typer.main.get_command(app)
    shown = command.get_help(typer.Context(command, terminal_width=80))
    assert "build-engine" in shown.partition("Commands:")[2]
    assert "..." not in shown.partition("Commands:")[2]
