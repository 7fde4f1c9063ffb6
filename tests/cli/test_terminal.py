"""Progress output on the terminal."""

from __future__ import annotations

import pytest

from edgead import terminal
from edgead.progress import aside
from edgead.terminal import TerminalProgress

from ..notes import Notes


def test_an_aside_is_dimmed_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or another program gets the plain sentence, and a receiver without asides a note."""
    shown = {}
    for is_terminal in (True, False):
        console = terminal.Console(
            force_terminal=is_terminal, color_system="standard" if is_terminal else None, width=80, highlight=False
        )
        monkeypatch.setattr(terminal, "err", console)
        with console.capture() as captured, TerminalProgress() as progress:
            aside(progress, "folded 0.0e+00")
            progress.note("Chosen")
        shown[is_terminal] = captured.get()
    assert shown == {True: "\x1b[2mfolded 0.0e+00\x1b[0m\nChosen\n", False: "folded 0.0e+00\nChosen\n"}
    notes = Notes()
    aside(notes, "folded 0.0e+00")
    assert notes.texts == ["folded 0.0e+00"]
