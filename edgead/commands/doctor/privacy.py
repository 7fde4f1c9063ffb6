"""Anonymising a text for reports that are shared: users, machines, networks, folders and secrets."""

from __future__ import annotations

import getpass
import ipaddress
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from edgead.commands.doctor.machine import Machine

# Default names on a board. They identify no person, and a report must be able to say "nvidia" or "jetson".
COMMON_NAMES = {
    "root", "nvidia", "jetson", "ubuntu", "debian", "tegra", "orin", "thor", "linux", "localhost", "edgead", "user",
    "admin", "camera",
}  # fmt: skip
SHORTEST_ANYWHERE = 4  # a shorter name is hidden as a word only: inside words it would hide half the text
SERIALS = (
    "/proc/device-tree/serial-number", "/sys/firmware/devicetree/base/serial-number", "/etc/machine-id",
    "/sys/devices/virtual/dmi/id/product_serial", "/sys/devices/virtual/dmi/id/board_serial",
    "/sys/devices/virtual/dmi/id/product_uuid",
)  # fmt: skip
Span = tuple[int, int, str]
_SECRET_NAME = re.compile(r"(?i)pass|pwd|token|secret|key|auth|cred|session|cookie")
_KEYS = r"(?:api|access|private|public|secret|stream|licen[cs]e)[-_ ]?key"
_WORDS = rf"pass(?:word|wd|phrase|code)?|pwd|tokens?|secrets?|{_KEYS}|auth\w*|bearer|cred(?:ential)?s?|cookie|session[-_ ]?id"
_VALUE = r"(?P<hidden>(?:(?:basic|bearer|digest)\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s,;]+))"
# if a pattern has a group `hidden`, only that group is replaced
_PATTERNS = tuple(
    (label, re.compile(pattern))
    for label, pattern in (
        # a password may hold a blank, typed unescaped
        ("[url]", r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`]+(?:[ \t]+[^\s@]*@[^\s\"'<>`]*)?"),
        ("[address]", r"[^\s\"'<>`]+@[^\s\"'<>`]+"),
        ("[secret]", rf"(?i)\w*(?:{_WORDS})\w*[\"']?\s*[:=]\s*{_VALUE}"),
        ("[secret]", rf"(?i)(?<![a-z])(?:{_WORDS})\s+(?:(?:is|was)\s+)?{_VALUE}"),
        ("[value]", r"\b[A-Z][A-Z0-9_]{2,}=(?P<hidden>\"[^\"]*\"|'[^']*'|\S+)"),
        ("[serial]", r"(?i)serial(?:[ _-]?(?:no|num|number))?\.?\s*[:=#]?\s*(?P<hidden>[^\s:=]*\d\S*)"),
        ("[id]", r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        ("[mac]", r"(?i)(?<![0-9a-f])[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5,7}(?![0-9a-f])"),
        ("[mac]", r"(?i)(?<![0-9a-f])[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}(?![0-9a-f])"),
        ("[ip]", r"(?<!\d)\d{1,3}(?:\.\d{1,3}){3}(?!\d)"),
        ("[secret]", r"(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|pk-|xox[a-z]-|AKIA|ASIA|eyJ)[-_A-Za-z0-9.]{12,}"),
        ("[secret]", r"(?<![A-Za-z0-9])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{20,}(?![A-Za-z0-9])"),
        ("[secret]", r"(?=[^\sA-Z]*[A-Z])(?=[^\sa-z]*[a-z])(?=[^\s\d]*\d)[A-Za-z0-9+/=_-]{40,}"),
        ("[number]", r"(?<![A-Za-z0-9])\d{10,}(?![A-Za-z0-9])"),
    )
)
_COLONS = re.compile(r"(?=[^\s:]*:[^\s:]*:)[0-9A-Za-z:.%]+")
_PATH = re.compile(r"(?:(?<![\w~.<>/-])~?/|(?=/(?:home|Users|root|mnt|media|data)/)/)[^\s\"'`,;:()<>|]+")
_SYSTEM = re.compile(r"/(?:usr|lib|lib64|bin|sbin|etc|proc|sys|dev|opt/nvidia|var/lib/nvpmodel)(?:/|$)")
_HOMES = re.compile(r"/(?:home|Users)/[^/]+/?$")


def secrets_of(machine: Machine) -> dict[str, str]:
    """Known secrets of `machine` and of this process, each with its replacement.

    Includes user and machine names, the home folder, serial numbers, and values of secret-looking environment variables.
    """
    node, home = platform.node(), Path.home()
    found = {value: "[secret]" for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) > 3}
    for path in SERIALS:
        found |= {part: "[serial]" for part in (machine.read(path) or "").split()}
    for name in (node, node.partition(".")[0], machine.read("/etc/hostname") or ""):
        found[name.strip()] = "[host]"
    found |= {name: "[user]" for name in (home.name, *_user_names())}
    if len(home.parts) > 1:
        found[str(home)] = "~"
    return {text: label for text, label in found.items() if text.strip() and text.lower() not in COMMON_NAMES}


def _user_names() -> list[str]:
    names = [os.environ.get(key, "") for key in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")]
    try:
        names.append(getpass.getuser())
        import pwd

        full = pwd.getpwuid(os.getuid()).pw_gecos.partition(",")[0]
        names += [full, *full.split()]
    except (ImportError, KeyError, OSError):
        pass
    return names


def anonymise(text: str, secrets: dict[str, str]) -> str:
    """Replace everything known to be secret, and everything that looks like a secret.

    Addresses, credentials, serial numbers, values of environment variables and folders outside the system's become a word
    in brackets; hiding too much is better than leaking one of them.

    Args:
        text: Text to anonymise.
        secrets: Known secrets, each with its replacement.
    """
    pieces, end = [], 0
    for start, stop, label in _merged([*_known(text, secrets), *_looks_secret(text), *_ipv6(text), *_folders(text)]):
        pieces += [text[end:start], label]
        end = stop
    return "".join((*pieces, text[end:]))


def _merged(spans: list[Span]) -> Iterator[Span]:
    """Merge overlapping spans; all were found in the original text, so no replacement hides the context of another."""
    current: Span | None = None
    longest = 0
    for start, stop, label in sorted(spans):
        if current is None or start >= current[1]:
            if current is not None:
                yield current
            current, longest = (start, stop, label), stop - start
            continue
        if stop - start > longest:
            longest = stop - start
        else:
            label = current[2]
        current = (current[0], max(stop, current[1]), label)
    if current is not None:
        yield current


def _known(text: str, secrets: dict[str, str]) -> Iterator[Span]:
    for known, label in secrets.items():
        pattern = re.escape(known)
        if len(known) < SHORTEST_ANYWHERE:
            pattern = rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield *match.span(), label


def _looks_secret(text: str) -> Iterator[Span]:
    for label, pattern in _PATTERNS:
        group = "hidden" if "hidden" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            yield *match.span(group), label


def _ipv6(text: str) -> Iterator[Span]:
    """IPv6 addresses, also after a word and a colon."""
    for match in _COLONS.finditer(text):
        token = match[0].rstrip(".:") if not match[0].endswith("::") else match[0]
        starts = [0, *(i + 1 for i, character in enumerate(token) if character == ":")]
        for start in starts:
            try:
                ipaddress.IPv6Address(token[start:].partition("%")[0])
            except ValueError:
                continue
            yield match.start() + start, match.start() + len(token), "[ip]"
            break


def _folders(text: str) -> Iterator[Span]:
    """Paths outside the system's folders, of which only the last name stays, and home folders as a whole."""
    for match in _PATH.finditer(text):
        path = match[0].rstrip("/")
        if _SYSTEM.match(path) or path.count("/") < 2:
            continue
        length = len(path) if _HOMES.match(path) else path.rindex("/")
        yield match.start(), match.start() + length, "[folder]"
