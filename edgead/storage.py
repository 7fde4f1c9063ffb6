"""Atomic writing of files and folders: a kill or a full disk never leaves a partial file under its final name."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from edgead.errors import StorageError
from edgead.printable import path_text

_BLOCK = 1 << 20
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.\w+)?")
_OLD = ".old.tmp"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems
_FORMATS = (".mp4", ".avi", ".webm", ".jpg", ".png", ".onnx", ".npz", ".npy", ".safetensors")


def keep_files_private() -> None:
    """Make files and folders of this process readable by its user alone, unless others are kept out already.

    A mask that keeps out all but a group, as a unit's `UMask=0027`, is a decision and stays.
    """
    mask = os.umask(0o077)
    if mask & 0o007 == 0o007:
        os.umask(mask)


@contextmanager
def atomic_path(path: Path, *, keep_suffix: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, otherwise removed.

    The temporary name keeps only suffixes by which writers choose a format: a `*.json` left behind by a kill would be
    taken for a finished file.

    Args:
        path: Final path.
        keep_suffix: Whether the temporary name keeps the suffix, whatever it is.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
    """
    kept = path.suffix if keep_suffix or path.suffix in _FORMATS else ""
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{kept}")
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
def trial_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix, that is removed at the end; `path` itself stays as it is.

    Raises:
        StorageError: For any OSError inside, such as a folder that cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        yield temporary
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a folder in `parent` that is removed at the end; those that killed processes left are removed first.

    A lock on the folder, which ends with the process, tells the folders of living processes from those of killed ones.

    Raises:
        StorageError: For any OSError inside, such as a full disk.
    """
    folder = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left_over in parent.glob(f".{glob.escape(prefix)}.*.tmp"):
            # the fallback of `replace_folder` keeps the only copy there until the new folder has its name
            if not left_over.name.endswith(_OLD) or (parent / prefix).exists():
                remove_abandoned(left_over)
        folder, lock = _make_locked(parent, prefix)
        with lock:
            yield folder
    except OSError as error:
        raise storage_error(parent, error) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove a scratch folder, unless a living process holds it or this file system has no locks."""
    try:
        with _locked_folder(folder):
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return


def _make_locked(parent: Path, prefix: str) -> tuple[Path, ExitStack]:
    """Make and lock a scratch folder; one that another process has locked or removed in between is given up."""
    while True:
        folder = parent / f".{prefix}.{uuid.uuid4().hex[:8]}.tmp"
        folder.mkdir()
        try:
            lock = _locked_folder(folder)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # a file system without locks
            return folder, ExitStack()
        if folder.exists():
            return folder, lock
        lock.close()


def _locked_folder(folder: Path) -> ExitStack:
    """Open and lock a folder without waiting; the lock ends when the stack is closed, or with the process."""
    with ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return stack.pop_all()


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left of unfinished files and folders; the caller holds a lock that its writers hold too."""
    for path in folder.iterdir():
        if not _TEMPORARY.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            remove_abandoned(path)
        else:
            with suppress(OSError):
                path.unlink()


def replace_folder(new: Path, final: Path) -> None:
    """Replace folder `final` by folder `new`; a complete folder of that name exists at every moment.

    Exception: on a file system that cannot exchange two names, a kill between two renames leaves the old folder under a
    hidden name beside it.

    Args:
        new: New folder, on the same file system as `final`; its own name disappears.
        final: Folder to replace; its old content is deleted.

    Raises:
        OSError: If the folder cannot be renamed; the old folder is unchanged.
    """
    if not final.exists():
        new.rename(final)
        return
    if _exchange(new, final):
        shutil.rmtree(new, ignore_errors=True)
        return
    # a name that `scratch_folder` cleans up
    old = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}{_OLD}")
    final.rename(old)
    try:
        new.rename(final)
    except OSError:
        old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two folders atomically; False if the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


@contextmanager
def exclusive_folder(folder: Path, what: str, *, hint: str) -> Iterator[None]:
    """Hold a lock on a folder itself, without a file in it; otherwise like `exclusive`.

    Raises:
        StorageError: If another process holds the lock, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked_folder(folder.resolve())
    except BlockingIOError:
        raise StorageError(f"Another edgead process {what}.", hint=hint) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise storage_error(folder, error) from error
        lock = ExitStack()
    with lock:
        yield


@contextmanager
def exclusive(path: Path, what: str, *, hint: str = "Wait until it has finished.") -> Iterator[None]:
    """Hold a lock, so that one process at a time does `what`; the lock ends with the process that holds it.

    Args:
        path: Lock file; it is not removed.
        what: Activity for the message, such as "builds an engine of this bundle".
        hint: Advice for the process that does not get the lock.

    Raises:
        StorageError: If another process holds the lock, or the file cannot be made.
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


@contextmanager
def readable_name(path: Path) -> Iterator[str]:
    """Yield a name of a file for a library that reads names in UTF-8 alone: its path, or that of a descriptor.

    OpenCV's video reader crashes the process on other names, and ONNX Runtime refuses them.

    Raises:
        OSError: If such a file cannot be opened.
    """
    if _is_text(path):
        yield str(path)
        return
    with path.open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


@contextmanager
def writable_name(path: Path) -> Iterator[str]:
    """Yield a name of a file that a library which takes names in UTF-8 alone may create.

    Raises:
        StorageError: If there is none.
        OSError: If the folder cannot be opened.
    """
    if _is_text(path):
        yield str(path)
        return
    descriptors = Path("/proc/self/fd")
    if not (_is_text(path.name) and descriptors.is_dir()):
        raise StorageError(
            f"{path_text(path)} cannot be written: its name is not UTF-8.",
            hint="Choose a file and folder with other names.",
        )
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{descriptors}/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _is_text(path: Path | str) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically as `json_bytes`."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Give `value` as indented UTF-8 JSON; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def require_free_space(folder: Path, needed_bytes: int, *, purpose: str) -> None:
    """Check that the file system of `folder` has `needed_bytes` free.

    Raises:
        StorageError: If it has less.
    """
    free = _free_bytes(folder)
    if free < needed_bytes:
        raise StorageError(
            f"{purpose} needs {needed_bytes / 1e6:.0f} MB in {folder}, but only {free / 1e6:.0f} MB are free.",
            hint="Free some space or choose another folder.",
        )


def require_writable(path: Path, n_bytes: int) -> None:
    """Find out why a library failed to write `path`, by writing a probe file of `n_bytes` beside it.

    Raises:
        StorageError: If the probe cannot be written either.
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
    """Translate an OSError from writing `path` into an error with advice."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "The disk is full" if error.errno == errno.ENOSPC else "Your disk quota is used up"
        return StorageError(
            f"{what}: {path} could not be written, {_free_bytes(path.parent) / 1e6:.1f} MB are free. What was there before "
            "is unchanged.",
            hint=f"Free some space on the disk of {path.parent} and run the command again.",
        )
    hint = "Check the permissions of the folder."
    if error.errno == errno.EFBIG:
        hint = "Check the file size limits: `ulimit -f`, and 4 GB on a FAT file system."
    return StorageError(f"{path} could not be written: {error.strerror or error}.", hint=hint)


def _free_bytes(folder: Path) -> int:
    """Free bytes on the file system of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
