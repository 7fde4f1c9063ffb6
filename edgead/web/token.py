"""Access token of the web server: created at the first start, shown once, stored as a hash."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
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
    """Token check: slow for wrong tokens, fast for the right one.

    Args:
        salt, digest: Salt and scrypt hash of the token.
        quick: Salted SHA-256 of the token, by which the right one is known at once; None: from its first use on. Only
            random tokens are stored with it, which cannot be guessed from it.
        on_quick: Receives `quick` when it becomes known.
    """

    def __init__(
        self,
        salt: bytes,
        digest: bytes,
        quick: bytes | None = None,
        on_quick: Callable[[bytes], None] = lambda quick: None,
    ) -> None:
        self.salt = salt
        self.digest = digest
        self.quick = quick
        self._on_quick = on_quick
        # one attempt at a time, which bounds memory
        self._lock = threading.Lock()

    def is_known(self, given: str) -> bool:
        """Whether a token is known to be right, at once; False may also mean that it was not used yet."""
        quick = self.quick
        return quick is not None and hmac.compare_digest(_sha256(given, self.salt), quick)

    def is_right(self, given: str) -> bool:
        """Whether a token is right; takes about 50 ms for wrong tokens."""
        if self.is_known(given):
            return True
        with self._lock:
            right = hmac.compare_digest(_scrypt(given, self.salt), self.digest)
        if right:
            self.quick = _sha256(given, self.salt)
            self._on_quick(self.quick)
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
        quick = bytes.fromhex(content["sha256"]) if "sha256" in content else None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} contains no token hash.", hint=hint) from error
    if len(salt) < 16 or len(digest) != 32 or len(quick or digest) != 32:
        raise StorageError(f"{path} contains no token hash.", hint=hint)

    def keep(quick: bytes) -> None:
        # a file of an earlier version; on a full disk the token stays as slow as it was
        with suppress(StorageError):
            _write(path, TokenCheck(salt, digest, quick))

    return TokenCheck(salt, digest, quick, keep)


def _write(path: Path, check: TokenCheck) -> None:
    values = {"salt": check.salt, "scrypt": check.digest, "sha256": check.quick}
    content = json.dumps({name: value.hex() for name, value in values.items() if value is not None}) + "\n"
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
    return TokenCheck(salt, _scrypt(token, salt), _sha256(token, salt))


def _sha256(token: str, salt: bytes) -> bytes:
    return hmac.digest(salt, token.encode("utf-8", "replace"), "sha256")


def _scrypt(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode("utf-8", "replace"), salt=salt, n=_N, r=_R, p=_P, dklen=32)
