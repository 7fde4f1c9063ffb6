"""Log of a crash, without secrets: the user is asked to send it."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import traceback
from collections.abc import Sequence

from edgead import __version__
from edgead.cli.console import echo
from edgead.redaction import MASK, forget_secrets, redact_message

_PLAIN_VALUE = re.compile(r"-?[\d.]+(?:[eE][-+]?\d+)?|true|false|null", re.IGNORECASE)
_KEY = re.compile(r"(--[\w-]+|[\w.\[\]-]+)=(.*)", re.DOTALL)
_ADDRESS = re.compile(r"(?i)([a-z][a-z0-9+.-]*://|gst:|rtsps?:|https?:|mqtts?:)|.*@")
_SECRET_VARIABLE = re.compile(r"(?i)EDGEAD_.*|.*(?:PASS|PWD|TOKEN|SECRET|KEY|CRED).*")
_SHORTEST = 4


def report_bug(error: BaseException, arguments: Sequence[str]) -> None:
    """Write a log with the traceback and say where it is.

    Args:
        error: The unexpected exception.
        arguments: Arguments of the command line.
    """
    secrets = [word for word, safe in zip(arguments, safe_arguments(arguments), strict=True) if word != safe]
    text = "".join(traceback.format_exception(error))
    echo(f"error: This is a bug in edgead: {type(error).__name__}: {_without(str(error), secrets)}", err=True)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="edgead-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write(f"edgead {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
            log.write(f"{safe_arguments(arguments)}\n{_without(text, secrets)}")
    except OSError as failure:
        echo(f"hint: Please report it; the log could not be written ({failure.strerror}):", err=True)
        echo(_without(text, secrets), err=True)
        return
    echo(f"hint: Please report it with {log.name}", err=True)


def safe_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments of the command line without addresses and values that may hold a password.

    Options, verbs, paths and numbers stay. Behind a masked word everything up to the next option is masked too: it may
    be the rest of a password with a space, or of a launch line.
    """
    safe, is_rest = [], False
    for word in arguments:
        if word.startswith("-") and "=" not in word:
            safe.append(word)
            is_rest = False
            continue
        shown = MASK if is_rest and not word.startswith("--") else _safe(word)
        is_rest = shown != word
        safe.append(shown)
    return safe


def _safe(word: str) -> str:
    assignment = _KEY.fullmatch(word)
    if assignment is not None and "://" not in assignment[1]:
        key, value = assignment[1], assignment[2]
        if key.startswith("--"):
            return f"{key}={_safe(value)}"
        return f"{key}={value if _PLAIN_VALUE.fullmatch(value) else MASK}"
    address = _ADDRESS.match(word)
    if address is not None:
        return f"{address[1] or ''}{MASK}"
    return MASK if "=" in word else word


def _without(text: str, words: Sequence[str]) -> str:
    """Text without masked arguments, secrets of addresses, of the settings and of the environment."""
    for word in words:
        text = redact_message(text, word.partition("=")[2] if word.startswith("--") else word)
    values = [value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)]
    for secret in sorted({*values, *words}, key=len, reverse=True):
        if len(secret) >= _SHORTEST and "/" not in secret[:1]:
            text = text.replace(secret, MASK)
    return forget_secrets(redact_message(text))
