"""`edgead service`: a systemd unit that starts the stream at boot and restarts it after a failure."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.config.root import Config
from edgead.config.sinks import JsonlSettings
from edgead.errors import ConfigError
from edgead.redaction import redact
from edgead.storage import write_bytes

NAME = "edgead.service"
MEMORY_MAX = "80%"
_MEMORY = re.compile(r"(?:100|[1-9]?\d)(?:\.\d+)?%|[1-9]\d*[KMGT]?|infinity")
_USER = re.compile(r"[a-z_][a-z0-9_-]*\$?")
_HOMES = ("/home/", "/root/", "/run/user/")

# Everything that systemd can take away without taking a camera, the GPU or the network from the stream.
# Left out: MemoryDenyWriteExecute (GStreamer's orc and CUDA compile at run time), ProcSubset=pid (ONNX Runtime and
# doctor read /proc/cpuinfo and /proc/device-tree), SystemCallFilter=~@resources (threads are pinned to cores),
# RemoveIPC (would hit other processes of the same user).
HARDENING = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    # evidence is for the service's user alone
    "UMask=0077",
    "LimitNOFILE=8192",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    # CSI cameras: nvargus-daemon listens here; without it, `-` ignores the path
    "BindPaths=-/tmp/argus_socket",
    "PrivateMounts=yes",
    "PrivateUsers=yes",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "LockPersonality=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    # netlink: name resolution and udev
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
    # cameras and GPUs, on a PC and on a Jetson; 81 is Video4Linux, also before its driver is loaded
    "DevicePolicy=closed",
    "DeviceAllow=char-81 rw",
    "DeviceAllow=char-media rw",
    "DeviceAllow=char-drm rw",
    "DeviceAllow=char-nv* rw",
    "DeviceAllow=char-host1x* rw",
    "DeviceAllow=char-tegra* rw",
    "DeviceAllow=/dev/nvmap rw",
    "DeviceAllow=/dev/nvsciipc rw",
)


@dataclass(frozen=True)
class ServiceOptions:
    """Command, folders and user of the service.

    Attributes:
        config: Settings file of the stream; made absolute.
        folder: Working directory; relative paths start here, and the service may write here.
        user: System user that the service runs as.
        arguments: Further arguments of `edgead stream`, for example `--web 127.0.0.1:8080`.
        writable: Further folders that the service may write to.
        watchdog_s: Time without a heartbeat after which systemd restarts the service, in seconds.
        environment_file: File with secrets, readable by root alone, for example the broker's password.
        memory_max: Memory beyond which the kernel ends the stream instead of another program: bytes with K, M or G, a share of
            the machine's memory such as `80%`, or `infinity`.
    """

    config: Path
    folder: Path
    user: str
    arguments: tuple[str, ...] = ()
    writable: tuple[Path, ...] = ()
    watchdog_s: int = 60
    environment_file: Path | None = None
    memory_max: str = MEMORY_MAX


def service_unit(options: ServiceOptions, *, python: str = sys.executable) -> str:
    """Text of the unit.

    Raises:
        ConfigError: If the settings file or the folder is missing, the user name or the memory is invalid, or a path
            contains characters that a unit cannot hold.
    """
    if not options.config.is_file():
        raise ConfigError(
            f"The settings file {options.config} does not exist.",
            hint="Name the YAML file with the cameras of the line: --config FILE. `edgead config` lists its settings.",
        )
    if not options.folder.is_dir():
        raise ConfigError(
            f"The folder {options.folder} of the service does not exist.",
            hint="Name the folder that holds runs/ or the bundle: --folder DIR.",
        )
    if not _USER.fullmatch(options.user):
        raise ConfigError(
            f"--user must be the name of a Linux user: a to z, 0 to 9, _ and -, not beginning with a digit or -; got "
            f"{options.user!r}.",
            hint="For example --user edgead; `id -un` prints your own.",
        )
    if not _MEMORY.fullmatch(options.memory_max):
        raise ConfigError(
            f"--memory-max takes bytes, a share of the memory or infinity, got {options.memory_max!r}.",
            hint="For example 80%, 3G or infinity.",
        )
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
            # the stream alone is told to stop: it waits for the encoder of a clip and the command of a sink
            "KillMode=mixed",
            f"MemoryMax={options.memory_max}",
            f"User={options.user}",
            "SupplementaryGroups=video",
            *secrets,
            f"WorkingDirectory={_literal(str(options.folder.resolve()))}",
            f"ExecStart={_command(command)}",
            *[f"ReadWritePaths={_quoted(str(folder))}" for folder in folders],
            f"ProtectHome={_protect_home(options, folders, python)}",
            *HARDENING,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def advice(options: ServiceOptions, config: Config) -> list[str]:
    """Known problems that would keep the service from working, one sentence each.

    Args:
        options: Command, folders and user of the service.
        config: Settings of the stream, with the sinks of its arguments.
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
    if any(redact(word) != word for word in options.arguments):
        found.append(
            "An argument holds a password, and every user of the machine can read units and command lines: write it to the "
            "settings file, or to a file for --environment-file."
        )
    for path in options.writable:
        if not path.is_dir():
            found.append(f"The folder {path} is not there, and without it the service does not start: make it.")
    return found


def _protect_home(options: ServiceOptions, folders: Sequence[Path], python: str) -> str:
    """`yes` hides all home folders; `read-only` where the service needs something in one."""
    bundle = options.folder / "runs" / "latest" / "bundle"
    paths = [*folders, options.config.resolve(), bundle.resolve(), Path(python), Path(python).resolve()]
    needed = [*map(str, paths), f"{sys.prefix}/", f"{sys.base_prefix}/", *options.arguments]
    needed.append(options.config.read_text(encoding="utf-8", errors="replace"))
    return "read-only" if any(home in text for text in needed for home in _HOMES) else "yes"


def write_service(path: Path, text: str) -> None:
    """Write the unit; an existing file is replaced atomically."""
    write_bytes(path, text.encode())


def _command(words: list[str]) -> str:
    # $ is an environment variable to ExecStart alone
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(text: str) -> str:
    """Word in systemd's quotes, with % escaped because it begins a specifier."""
    return '"' + _literal(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _literal(text: str) -> str:
    """Unquoted rest of a line, with specifiers escaped."""
    if not text.isprintable():
        raise ConfigError(
            f"{text!r} cannot be written into the file of the service: it has a line break or another character that cannot "
            "be printed.",
            hint="Rename this file or folder, or write this argument without such characters.",
        )
    return text.replace("%", "%%")
