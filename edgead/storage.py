"""Writing files so that a kill or a full disk never leaves half a file under its final name."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgead.errors import StorageError

_BLOCK = 1 << 20
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_FORMATS = (".mp4", ".avi", ".webm", ".jpg", ".png", ".onnx", ".npz", ".npy", ".safetensors")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, else removed.

    The temporary name keeps the suffix that a writer chooses its format by, and no other: a `*.json` left over from a
    kill would be read by somebody.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(
        f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix if path.suffix in _FORMATS else ''}"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a folder in `parent` that is removed at the end; one that a killed process left there is removed first.

    Raises:
        StorageError: For every OSError inside, such as a full disk.
    """
    folder = parent / f".{prefix}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        for left_over in parent.glob(f".{prefix}.*.tmp"):
            shutil.rmtree(left_over, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise storage_error(parent, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> None:
    """Give a folder its final name, whatever had it before; at every moment there is a whole folder of that name.

    Where the file system cannot exchange two names, a kill at the one wrong moment leaves the old folder beside it under a
    hidden name.

    Args:
        new: On the file system of `final`; its name is gone afterwards.
        final: Its old content is deleted.

    Raises:
        OSError: If the name cannot be given; the old folder is unchanged.
    """
    if not final.exists():
        new.rename(final)
        return
    if _exchange(new, final):
        shutil.rmtree(new, ignore_errors=True)
        return
    # a name that `scratch_folder` cleans up
    old = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.old.tmp")
    final.rename(old)
    try:
        new.rename(final)
    except OSError:
        old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders take each other's name in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


@contextmanager
def exclusive(path: Path, what: str, *, hint: str = "Wait until it has finished.") -> Iterator[None]:
    """Let one process at a time do `what`; the lock goes with the process that holds it.

    Args:
        path: The lock's file; it stays.
        what: For the message, such as "builds an engine of this bundle".
        hint: What whoever does not get it can do.

    Raises:
        StorageError: If another process holds it, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise storage_error(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"Another edgead process {what}.", hint=hint) from None
        yield


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically as indented UTF-8 JSON; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def require_free_space(folder: Path, needed_bytes: int, *, purpose: str) -> None:
    """Check that the file system of `folder` can take `needed_bytes` more.

    Raises:
        StorageError: If it cannot.
    """
    free = _free_bytes(folder)
    if free < needed_bytes:
        raise StorageError(
            f"{purpose} needs {needed_bytes / 1e6:.0f} MB in {folder}, but only {free / 1e6:.0f} MB are free.",
            hint="Free some space or choose another folder.",
        )


def require_writable(path: Path, n_bytes: int) -> None:
    """Write as much as somebody failed to write, to learn why: a library that writes by itself may not tell.

    Raises:
        StorageError: If `n_bytes` cannot be written in the place of `path`.
    """
    probe = path.with_name(f".{path.name}.probe")
    try:
        with probe.open("wb") as file:
            for start in range(0, n_bytes, _BLOCK):
                file.write(bytes(min(_BLOCK, n_bytes - start)))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Translate `error` from writing `path` to the error that a user reads."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "The disk is full" if error.errno == errno.ENOSPC else "Your share of the disk is used up"
        return StorageError(
            f"{what}: {path} could not be written, {_free_bytes(path.parent) / 1e6:.1f} MB are free. What was there before "
            "is unchanged.",
            hint=f"Free some space on the disk of {path.parent} and run the command again.",
        )
    hint = "Check the folder's rights."
    if error.errno == errno.EFBIG:
        hint = "Check the limits on a file's size: `ulimit -f`, and 4 GB on a FAT file system."
    return StorageError(f"{path} could not be written: {error.strerror or error}.", hint=hint)


def _free_bytes(folder: Path) -> int:
    """Of the file system of a folder that may not be there yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
