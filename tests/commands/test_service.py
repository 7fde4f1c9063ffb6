"""The systemd unit, read by systemd itself where it is installed."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgead.commands.service import ServiceOptions, advice, service_unit, write_service
from edgead.config.root import Config
from edgead.errors import ConfigError


@pytest.fixture
def options(tmp_path: Path) -> ServiceOptions:
    folder = tmp_path / 'plant 7 100% "A"'
    folder.mkdir()
    (folder / "line.yaml").write_text("cameras: [{name: line, source: synthetic}]\n")
    return ServiceOptions(folder / "line.yaml", folder, "root", ("--web", "127.0.0.1:8080", "$HOME"))


def test_the_unit_starts_the_stream_and_watches_it(options: ServiceOptions) -> None:
    """Ready and watchdog by notification, restart always, only its own folder writable."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(service_unit(options))
    unit = parser["Service"]
    assert (unit["Type"], unit["Restart"], unit["WatchdogSec"], unit["User"]) == ("notify", "always", "60", "root")
    folder = str(options.folder).replace("%", "%%")
    assert unit["WorkingDirectory"] == folder
    quoted = folder.replace('"', '\\"')
    assert unit["ReadWritePaths"] == f'"{quoted}"'
    assert unit["ExecStart"] == (
        f'"{sys.executable}" "-m" "edgead" "stream" "--config" "{quoted}/line.yaml" "--web" "127.0.0.1:8080" "$$HOME"'
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(options: ServiceOptions, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about it, and something about a broken one."""
    path = tmp_path / "edgead.service"
    write_service(path, service_unit(options))
    assert verify(path) == ""
    path.write_text(path.read_text().replace("Type=notify", "Type=magic"))
    assert "service type" in verify(path)


def verify(path: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(path)], capture_output=True, text=True, check=False
    )
    return "\n".join(line for line in done.stderr.splitlines() if "edgead.service" in line)


def test_what_cannot_work_is_refused(options: ServiceOptions, tmp_path: Path) -> None:
    """A missing configuration or folder, a strange user, a path that would break the unit's lines."""
    for change, said in (
        ({"config": tmp_path / "none.yaml"}, "no configuration"),
        ({"folder": tmp_path / "none"}, "no folder"),
        ({"user": "root\nExecStart=/bin/sh"}, "no name of a user"),
        ({"arguments": ("--alerts", "a\nExecStartPre=/bin/sh")}, "cannot be printed"),
    ):
        with pytest.raises(ConfigError, match=said):
            service_unit(replace(options, **change))  # type: ignore[arg-type]


def service(options: ServiceOptions, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, "-m", "edgead", "service", "--config", str(options.config), "--folder", str(options.folder),
            *[part for word in words for part in ("--option", word)],
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_what_would_be_started_for_ever_is_found_before(options: ServiceOptions) -> None:
    """A wrong key, a wrong word and a stream without cameras make no unit."""
    assert service(options, "--web", "127.0.0.1:8080").stdout.startswith("# Written by")
    wrong = service(options, "--nosuch")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "No such option: --nosuch" in wrong.stderr
    for content, said in (("camras: []\n", "camras"), ("cameras: []\n", "needs a source")):
        options.config.write_text(content)
        failed = service(options)
        assert (failed.returncode, failed.stdout) == (2, "")
        assert said in failed.stderr


def test_what_the_service_would_lack_is_said(options: ServiceOptions, tmp_path: Path) -> None:
    """Secrets of sinks, files outside of its folders, folders that are not there."""
    elsewhere = tmp_path / "log"
    sinks = [
        {"kind": "mqtt", "host": "h", "user": "u", "password_env": "MQTT_WORD"},
        {"kind": "jsonl", "path": str(elsewhere / "events.jsonl")}, {"kind": "jsonl", "path": "own.jsonl"},
    ]  # fmt: skip
    config = Config.model_validate({"sinks": sinks})
    secret, place = advice(options, config)
    assert "MQTT_WORD" in secret
    assert "--environment-file" in secret
    assert f"--writable {elsewhere}" in place
    named = replace(options, environment_file=tmp_path / "secrets", writable=(elsewhere,))
    (missing,) = advice(named, config)
    assert str(elsewhere) in missing
    elsewhere.mkdir()
    assert advice(named, config) == []
