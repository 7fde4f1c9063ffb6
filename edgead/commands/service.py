"""`edgead service`: a systemd unit that starts the stream with the machine and again after a failure."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from edgead.config.root import Config
from edgead.config.sinks import JsonlSettings
from edgead.errors import ConfigError
from edgead.storage import write_bytes

NAME = "edgead.service"
_USER = re.compile(r"[a-z_][a-z0-9_-]*\$?")


@dataclass(frozen=True)
class ServiceOptions:
    """What the unit starts.

    Attributes:
        config: Of the stream; made absolute.
        folder: Where it runs: `runs/latest/bundle` and relative paths are looked up there, and it may write there.
        user: Whose rights it has.
        arguments: More of `edgead stream`, for example `--web 127.0.0.1:8080`.
        writable: Other folders that it may write to.
        watchdog_s: Without a sign of life for so long it is started again.
        environment_file: With secrets, readable by root alone, for example of the broker.
    """

    config: Path
    folder: Path
    user: str
    arguments: tuple[str, ...] = ()
    writable: tuple[Path, ...] = ()
    watchdog_s: int = 60
    environment_file: Path | None = None


def service_unit(options: ServiceOptions, *, python: str = sys.executable) -> str:
    """The text of the unit.

    Raises:
        ConfigError: If the configuration or the folder is not there, the user's name is none, or a path cannot stand
            in a unit.
    """
    if not options.config.is_file():
        raise ConfigError(
            f"There is no configuration {options.config}.", hint="A file with `cameras`: see configs/cameras.yaml."
        )
    if not options.folder.is_dir():
        raise ConfigError(f"There is no folder {options.folder}.", hint="Name the one that holds runs/ or the bundle.")
    if not _USER.fullmatch(options.user):
        raise ConfigError(f"{options.user!r} is no name of a user.", hint="For example --user edgead")
    command = [python, "-m", "edgead", "stream", "--config", str(options.config.resolve()), *options.arguments]
    folders = [options.folder.resolve(), *(path.resolve() for path in options.writable)]
    secrets = (
        []
        if options.environment_file is None
        else [f"EnvironmentFile={_literal(str(options.environment_file.resolve()))}"]
    )
    return "\n".join(
        [
            "# Written by `edgead service`. Install: sudo cp edgead.service /etc/systemd/system/ && sudo systemctl",
            "# daemon-reload && sudo systemctl enable --now edgead. Look at it: systemctl status edgead, journalctl -u edgead",
            "[Unit]",
            "Description=edgead: cameras that raise alerts",
            "After=network-online.target nvargus-daemon.service",
            "Wants=network-online.target",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            f"WatchdogSec={options.watchdog_s}",
            "Restart=always",
            "RestartSec=5",
            # an engine of TensorRT can take minutes to load
            "TimeoutStartSec=600",
            "TimeoutStopSec=60",
            "KillSignal=SIGTERM",
            f"User={options.user}",
            "SupplementaryGroups=video",
            *secrets,
            f"WorkingDirectory={_literal(str(options.folder.resolve()))}",
            f"ExecStart={_command(command)}",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=read-only",
            "PrivateTmp=yes",
            *[f"ReadWritePaths={_quoted(str(folder))}" for folder in folders],
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def advice(options: ServiceOptions, config: Config) -> list[str]:
    """What would keep the service from working, one sentence each; empty when nothing is known to.

    Args:
        options: What the unit starts.
        config: Its configuration with the sinks of its arguments.
    """
    found = []
    folder = options.folder.resolve()
    writable = [folder, *(path.resolve() for path in options.writable)]
    for sink in config.sinks:
        variables = [value for name, value in sink if name.endswith("_env") and value]
        if variables and options.environment_file is None:
            found.append(
                f"The sink {sink.identity} reads {', '.join(variables)}, which nothing gives to the service: write it to a "
                "file that root alone can read, and name that with --environment-file."
            )
        if isinstance(sink, JsonlSettings):
            place = (folder / sink.path).resolve().parent
            if not any(place.is_relative_to(one) for one in writable):
                found.append(f"{sink.path} is outside of what the service may write to: add --writable {place}.")
    for path in options.writable:
        if not path.is_dir():
            found.append(f"The folder {path} is not there, and without it the service does not start: make it.")
    return found


def write_service(path: Path, text: str) -> None:
    """Write the unit; an existing one is replaced at once and as a whole."""
    write_bytes(path, text.encode())


def _command(words: list[str]) -> str:
    # $ is an environment variable to ExecStart alone
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(text: str) -> str:
    """A word in systemd's quotes, where % begins a specifier."""
    return '"' + _literal(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _literal(text: str) -> str:
    """The rest of a line, taken as it is but for specifiers."""
    if not text.isprintable():
        raise ConfigError(f"{text!r} cannot stand in a unit: it has characters that cannot be printed.")
    return text.replace("%", "%%")
