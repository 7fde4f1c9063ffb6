"""The log of a crash, which the user is asked to send, holds no secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgead.cli.crash import safe_arguments


@pytest.mark.parametrize(
    ("words", "safe"),
    [
        (["stream", "runs/latest/bundle", "--config", "line.yaml"], ["stream", "runs/latest/bundle", "--config", "line.yaml"]),
        (["--sink", "mqtt://ada:QZX@broker", "--json"], ["--sink", "mqtt://***", "--json"]),
        (["--sink=https://hooks.example/QZX?sig=QZX"], ["--sink=https://***"]),
        (["--source", "rtsp://ada:Q", "ZX@cam", "--display"], ["--source", "rtsp://***", "***", "--display"]),
        (["--source", "ada:QZX@cam"], ["--source", "***"]),
        (["--source", "rtsp:/ada:QZX"], ["--source", "rtsp:***"]),
        (["--source", "gst:rtspsrc", "user-pw=QZX", "QZX", "!", "fakesink"], ["--source", "gst:***", *["***"] * 4]),
        (["--set", "sinks=[{kind: mqtt, password: QZX}]"], ["--set", "sinks=***"]),
        (["--set", "train.epochs=20", "--set=stream.fps=5"], ["--set", "train.epochs=20", "--set=stream.fps=5"]),
        (["service", "--option", "--sink", "--option", "mqtt://a:QZX@b"], ["service", "--option", "--sink", "--option", "mqtt://***"]),
    ],
)  # fmt: skip
def test_arguments_are_kept_without_secrets(words: list[str], safe: list[str]) -> None:
    """Verbs, options, paths and numbers stay in the log; addresses and other assigned values do not."""
    assert safe_arguments(words) == safe
    assert "QZX" not in " ".join(safe)


def crash(arguments: list[str], message: str, cwd: Path, **environment: str) -> tuple[str, str]:
    """What a command that fails with an exception writes to stderr and to its log."""
    script = (
        f"import sys; sys.argv = ['edgead', *{arguments!r}]\n"
        "import edgead.commands.stream as module\n"
        f"def broken(*a, **k): raise RuntimeError({message!r})\n"
        "import edgead.cli.line as line\n"
        "line.open_model = broken\n"
        "from edgead.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(cwd), **environment},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    found = re.search(r"\S+\.log", done.stderr)
    return done.stderr, "" if found is None else Path(found[0]).read_text()


def test_a_crash_log_holds_no_secret_of_arguments_settings_and_environment(tmp_path: Path) -> None:
    """Passwords of sinks, cameras and the dashboard are masked, also in the exception's own message."""
    (tmp_path / "secret").write_text("QZXfile\n")
    (tmp_path / "line.yaml").write_text(
        "cameras: [{name: left, source: 'rtsp://ada:QZXcamera@cam/live'}]\n"
        "sinks:\n"
        "  - {kind: mqtt, host: broker, user: ada, password: QZXmqtt}\n"
        "  - {kind: webhook, url: 'https://hooks.example/QZXpath', secret: QZXhook, headers: {Authorization: QZXheader}}\n"
    )
    arguments = ["stream", "--config", "line.yaml", "--sink", "mqtt://ada:QZXargument@broker"]
    message = (
        "QZXcamera QZXmqtt QZXhook QZXheader QZXtoken1234567890 QZXargument mqtt://ada:QZXargument@broker "
        "https://hooks.example/QZXpath, seen 3 times"
    )
    said, log = crash(arguments, message, tmp_path, EDGEAD_WEB_TOKEN="QZXtoken1234567890")
    assert "Traceback" in log
    assert "seen 3 times" in log
    assert "['stream', '--config', 'line.yaml', '--sink', 'mqtt://***']" in log
    assert "QZX" not in log + said
    (path,) = tmp_path.glob("edgead-*.log")
    assert path.stat().st_mode & 0o077 == 0


def test_without_a_place_for_the_log_it_is_printed(tmp_path: Path) -> None:
    """On a full or read-only disk the traceback goes to stderr, masked in the same way."""
    said, _ = crash(["stream", "--source", "rtsp://a:QZX@b"], "boom QZX", tmp_path, TMPDIR="/proc/1", TEMP="/proc/1")
    assert "boom" in said
    assert "QZX" not in said
