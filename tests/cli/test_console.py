"""Standard streams that are closed or full, and text that would control the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.commands.alerts import acknowledge
from edgead.printable import printable, printable_json

from ..stream.spool.builders import alert_id, opened, spool

# clears the screen, sets the title, rings; the same in 8-bit form; turns the direction of text; forges a line
HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b2J \u202egnp.exe\u2066 \x7f\r\nforged: yes [bold]red[/bold]"


def shell(command: str, cwd: Path, *, unbuffered: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which EDGEAD stands for the command line."""
    command = command.replace("EDGEAD", f"PYTHONUNBUFFERED={unbuffered} '{sys.executable}' -m edgead")
    return subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["config", "--version"])
def test_a_full_stdout_is_no_bug(arguments: str, unbuffered: str, tmp_path: Path) -> None:
    """Output that cannot be written ends with exit code 1 and the reason."""
    done = shell(f"EDGEAD {arguments} > /dev/full", tmp_path, unbuffered=unbuffered)
    assert done.returncode == 1
    assert done.stderr == b"error: The output could not be written to stdout: No space left on device.\n"


@pytest.mark.parametrize(
    ("stderr", "arguments", "code"),
    [
        ("2> /dev/full", "alerts list", 1), ("2>&-", "alerts list", 1), (">&- 2>&-", "alerts list", 1),
        (">&- 2> /dev/full <&-", "--version", 0), ("2>&-", "stream", 2),
    ],
)  # fmt: skip
def test_a_closed_or_full_stderr_changes_no_exit_code(stderr: str, arguments: str, code: int, tmp_path: Path) -> None:
    """The result of a command does not depend on whether its messages can be written."""
    assert shell(f"EDGEAD {arguments} {stderr}", tmp_path).returncode == code


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """A pipe that is closed early, as by `head`, gives no message."""
    done = shell("EDGEAD config | head -1", tmp_path)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_messages_do_not_go_into_files_opened_later(tmp_path: Path) -> None:
    """With stderr closed the next file opened does not get its number, so that no message lands in a database."""
    code = "from edgead.cli.console import prepare_streams as p; p(); print(open('x', 'w').fileno())"
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -c \"{code}\" 2>&- <&-"], cwd=tmp_path, capture_output=True, check=True
    )
    assert int(done.stdout) > 2


@pytest.mark.slow
def test_text_of_people_cannot_control_the_terminal(tmp_path: Path) -> None:
    """Names and notes from the dashboard or a script are shown with escapes, in every form of `edgead alerts`."""
    with spool(tmp_path / "alerts") as target:
        target.append(opened(1, camera=f"line {HOSTILE}", zone=HOSTILE, severity=HOSTILE))
        acknowledge(tmp_path / "alerts", alert_id(1), who=f"Eve{HOSTILE}", note=HOSTILE)
    outputs = b""
    for arguments in (
        "list",
        f"show {alert_id(1)}",
        "export",
        "list --json",
        f"ack {alert_id(1)}",
        f"show '{HOSTILE}'",
    ):
        done = shell(f"EDGEAD alerts {arguments}", tmp_path)
        assert done.returncode in (0, 1), done.stderr
        if "export" in arguments:
            assert json.loads(done.stdout)["note"] == HOSTILE
        outputs += done.stdout + done.stderr
    text = outputs.decode()
    assert "owned" in text
    assert "[bold]red[/bold]" in text
    assert all(not is_unsafe(character) for character in text.replace("\n", ""))
    assert not any(line.startswith("forged") for line in text.splitlines())


def is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


@given(st.text(st.characters()))
def test_any_text_becomes_printable(text: str) -> None:
    """No control, format or surrogate character is left, and everything else is unchanged."""
    shown = printable(text)
    rest = "".join(character for character in text if not is_unsafe(character))
    assert not any(is_unsafe(character) for character in shown)
    if rest == text:
        assert shown == text
    assert printable(f"a\n{text}\tb", lines=True).startswith("a\n")
    shown.encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_json_means_the_same(text: str) -> None:
    """Escaped JSON is read as the same text, and is printable."""
    line = printable_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(line) == text
    assert not any(is_unsafe(character) for character in line)
