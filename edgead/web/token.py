"""Access token of the web server: created at the first start, shown once, stored as a hash."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path

from edgead.errors import ConfigError, StorageError
from edgead.redaction import remember_secrets
from edgead.storage import storage_error

TOKEN_FILE = ".web-token.json"
TOKEN_VARIABLE = "EDGEAD_WEB_TOKEN"
MIN_TOKEN = 16
# About 16 MB of memory and 50 ms of a small board's core per attempt.
_N, _R, _P = 2**14, 8, 1


class TokenCheck:
    """Token check: slow for wrong tokens, fast for the right one after its first use.

    Args:
        salt, digest: Salt and scrypt hash of the token.
    """

    def __init__(self, salt: bytes, digest: bytes) -> None:
        self._salt = salt
        self._digest = digest
        self._key = secrets.token_bytes(32)
        self._seen: bytes | None = None
        # one attempt at a time, which bounds memory
        self._lock = threading.Lock()

    def is_right(self, given: str) -> bool:
        """Whether a token is right; takes about 50 ms the first time and for wrong tokens."""
        tag = hmac.digest(self._key, given.encode("utf-8", "replace"), "sha256")
        seen = self._seen
        if seen is not None and hmac.compare_digest(tag, seen):
            return True
        with self._lock:
            right = hmac.compare_digest(_scrypt(given, self._salt), self._digest)
        if right:
            self._seen = tag
        return right


def open_token(folder: Path, environment: Mapping[str, str] = os.environ) -> tuple[TokenCheck, str | None]:
    """Open the token of this device: from the environment, from the folder, or a new one.

    Args:
        folder: Alert folder, which stores the hash.
        environment: Environment variables; `EDGEAD_WEB_TOKEN` takes precedence over the folder and is never stored.

    Returns:
        The check, and a new token to show now, because it cannot be read later.

    Raises:
        ConfigError: If the environment's token is shorter than 16 characters.
        StorageError: If the file cannot be read or written, or is readable by other users.
    """
    given = environment.get(TOKEN_VARIABLE)
    if given is not None:
        if len(given) < MIN_TOKEN:
            raise ConfigError(
                f"{TOKEN_VARIABLE} must have at least {MIN_TOKEN} characters, got {len(given)}.",
                hint="`python3 -c 'import secrets; print(secrets.token_urlsafe(24))'` prints a suitable one.",
            )
        return _check_of(given), None
    path = folder / TOKEN_FILE
    try:
        return _read(path), None
    except FileNotFoundError:
        token = secrets.token_urlsafe(24)
        check = _check_of(token)
        _write(path, check)
        return check, token
    except OSError as error:
        raise storage_error(path, error) from error


def _read(path: Path) -> TokenCheck:
    hint = "Remove the file: the next start creates and prints a new token."
    text = path.read_text(encoding="utf-8", errors="replace")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise StorageError(f"{path} is accessible to other users (mode {mode:o}, must be 600).", hint=hint)
    try:
        content = json.loads(text)
        salt, digest = bytes.fromhex(content["salt"]), bytes.fromhex(content["scrypt"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} contains no token hash.", hint=hint) from error
    if len(salt) < 16 or len(digest) != 32:
        raise StorageError(f"{path} contains no token hash.", hint=hint)
    return TokenCheck(salt, digest)


def _write(path: Path, check: TokenCheck) -> None:
    content = json.dumps({"salt": check._salt.hex(), "scrypt": check._digest.hex()}) + "\n"
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def _check_of(token: str) -> TokenCheck:
    remember_secrets(token)
    salt = secrets.token_bytes(16)
    return TokenCheck(salt, _scrypt(token, salt))


def _scrypt(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode("utf-8", "replace"), salt=salt, n=_N, r=_R, p=_P, dklen=32)
