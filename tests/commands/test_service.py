"""The systemd unit, read by systemd itself where it is installed."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgead.commands.service import ServiceOptions, advice, service_unit, write_service
from edgead.commands.service_site import lacking_here
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


EXPOSURE_LIMIT = 1.5


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_confined(options: ServiceOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`systemd-analyze security` rates the unit of an installation outside of home folders at 1.5 of 10 at most."""
    monkeypatch.setattr(sys, "prefix", "/opt/edgead/venv")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    path = tmp_path / "edgead.service"
    text = service_unit(replace(options, user="edgead"), python="/opt/edgead/venv/bin/python3")
    write_service(path, text)
    assert exposure(path) <= EXPOSURE_LIMIT
    for line in (
        "NoNewPrivileges=yes", "SystemCallFilter=@system-service", "DevicePolicy=closed", "UMask=0077", "MemoryMax=80%",
        "LimitNOFILE=8192", "CapabilityBoundingSet=", "ProtectSystem=strict", "RestrictSUIDSGID=yes",
    ):  # fmt: skip
        assert f"\n{line}\n" in text


@pytest.mark.parametrize("memory", ["3G", "512M", "1000000000", "12.5%", "infinity"])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_memory_has_a_limit_of_choice(options: ServiceOptions, memory: str, tmp_path: Path) -> None:
    """Bytes, a share and no limit are taken as systemd takes them."""
    path = tmp_path / "edgead.service"
    write_service(path, service_unit(replace(options, memory_max=memory)))
    assert f"\nMemoryMax={memory}\n" in path.read_text()
    assert verify(path) == ""


def exposure(path: Path) -> float:
    """The overall exposure level, 0 (safe) to 10."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot rate a unit that is not loaded")
    found = re.search(r"exposure level for edgead\.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


def test_cameras_gpus_and_children_are_reachable(options: ServiceOptions) -> None:
    """Device classes of cameras and GPUs, the socket of CSI cameras, the network; children outlive SIGTERM."""
    lines = service_unit(options).splitlines()
    for device in ("char-81", "char-media", "char-drm", "char-nv*", "char-host1x*", "/dev/nvmap"):
        assert f"DeviceAllow={device} rw" in lines
    assert "BindPaths=-/tmp/argus_socket" in lines
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK" in lines
    assert "KillMode=mixed" in lines
    assert not any(line.startswith(("PrivateDevices", "PrivateNetwork", "MemoryDenyWriteExecute")) for line in lines)


@pytest.mark.parametrize("place", ["python", "argument", "settings", "writable", "none"])
def test_homes_are_hidden_unless_the_service_needs_one(
    options: ServiceOptions, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter, a bundle, a source or a folder in a home keeps homes readable; otherwise they are hidden."""
    monkeypatch.setattr(sys, "prefix", "/opt/edgead/venv")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    python = "/home/ada/venv/bin/python" if place == "python" else "/opt/edgead/venv/bin/python3"
    if place == "argument":
        options = replace(options, arguments=("/home/ada/bundle",))
    if place == "settings":
        options.config.write_text("cameras: [{name: line, source: /home/ada/images}]\n")
    if place == "writable":
        options = replace(options, writable=(Path("/home/ada/alerts"),))
    lines = service_unit(options, python=python).splitlines()
    assert f"ProtectHome={'yes' if place == 'none' else 'read-only'}" in lines


def test_a_password_on_the_command_line_is_found(options: ServiceOptions) -> None:
    """A unit is readable by everyone, so that a password in an argument deserves a warning; the warning does not hold it."""
    for words, n in ((("--sink", "mqtt://ada:QZX@broker"), 1), (("--source", "rtsp://cam/live"), 0)):
        found = advice(replace(options, arguments=words), Config())
        assert len(found) == n
        assert "QZX" not in "".join(found)


def verify(path: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(path)], capture_output=True, text=True, check=False
    )
    return "\n".join(line for line in done.stderr.splitlines() if "edgead.service" in line)


def test_what_cannot_work_is_refused(options: ServiceOptions, tmp_path: Path) -> None:
    """A missing configuration or folder, a strange user, a path that would break the unit's lines."""
    for change, said in (
        ({"config": tmp_path / "none.yaml"}, "none.yaml does not exist"),
        ({"folder": tmp_path / "none"}, "folder .*none of the service does not exist"),
        ({"user": "root\nExecStart=/bin/sh"}, "--user must be"),
        ({"arguments": ("--alerts", "a\nExecStartPre=/bin/sh")}, "cannot be printed"),
        *(({"memory_max": text}, "memory-max takes") for text in ("much", "0", "-1G", "110%", "3G\nUser=root", "")),
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


def test_what_this_machine_lacks_is_said_with_its_command(options: ServiceOptions, tmp_path: Path) -> None:
    """A missing bundle, user and file of secrets, and a secret that the file does not hold, each with what to do."""
    config = Config.model_validate({"sinks": [{"kind": "mqtt", "host": "h", "user": "u", "password_env": "MQTT_WORD"}]})
    words = {"web": "127.0.0.1:8080"}
    program = "/opt/edgead/venv/bin/python"

    def lacking(**changes: object) -> str:
        changed = replace(options, **{"user": "root", **changes})  # type: ignore[arg-type]
        return "\n".join(one for one in lacking_here(changed, config, words, program) if " lies in " not in one)

    assert "sudo useradd --system" in lacking(user="nosuchuser")
    assert "There is no bundle at" in lacking()
    assert "EDGEAD_WEB_TOKEN" in lacking()
    (options.folder / "runs" / "latest" / "bundle").mkdir(parents=True)
    assert "There is no bundle at" not in lacking()
    secrets = tmp_path / "secrets.env"
    absent = lacking(environment_file=secrets)
    assert f"install -m 600 /dev/null {secrets}" in absent
    assert "EDGEAD_WEB_TOKEN=…, MQTT_WORD=…" in absent
    secrets.write_text("MQTT_WORD=\nEDGEAD_WEB_TOKEN=0123456789abcdef\n")
    assert lacking(environment_file=secrets) == f"{secrets} has no line MQTT_WORD=…, which the stream reads: add it."
    secrets.write_text("MQTT_WORD=x\nEDGEAD_WEB_TOKEN=0123456789abcdef\n")
    assert lacking(environment_file=secrets) == ""


def test_folders_of_another_user_and_hidden_ones_are_found(options: ServiceOptions) -> None:
    """A folder that the service's user may not write to, or that a private /tmp hides, keeps the service from working."""
    options.folder.chmod(0o755)
    found = lacking_here(replace(options, user="nobody", folder=Path("/etc")), Config(), {}, "/tmp/venv/bin/python")
    assert any("The user nobody may not write to /etc: `sudo chown -R nobody: /etc`" in one for one in found)
    assert any("The program /tmp/venv/bin/python lies in /tmp" in one for one in found)
