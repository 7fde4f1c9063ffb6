"""Access to the machine for all checks: files, programs and imports."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NOT_FOUND = "not found"
_SBIN = ("/usr/sbin", "/sbin")


@dataclass(frozen=True)
class CommandResult:
    """Exit code of a program (None: it did not start or timed out), with stdout and stderr."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def problem(self) -> str:
        """Last line of stderr, where Python names the exception."""
        lines = (self.err or self.out).strip().splitlines()
        return lines[-1].strip() if lines else f"exit code {self.code}"


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs edgead; `path` is its module search path."""

    version: tuple[int, int, int]
    executable: str
    in_venv: bool
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))


class Machine(Protocol):
    """Queries to a machine: `ThisMachine` is the real one, tests use fakes."""

    @property
    def system(self) -> str:
        """Kernel, kernel release and processor architecture."""
        ...

    @property
    def interpreter(self) -> Interpreter: ...

    @property
    def cores(self) -> int:
        """Number of cores this process may use."""
        ...

    def folder(self, path: str) -> Path:
        """Location of the machine's absolute `path`."""
        ...

    def read(self, path: str) -> str | None:
        """Content of a text file without trailing line breaks and NULs; None if it cannot be read."""
        ...

    def exists(self, path: str) -> bool: ...

    def glob(self, pattern: str) -> list[str]:
        """Paths that match an absolute pattern, sorted."""
        ...

    def run(self, *command: str, timeout_s: float = 15) -> CommandResult: ...

    def python(self, code: str, timeout_s: float = 60) -> CommandResult:
        """Run `code` in a new process of this interpreter, so that a crashing module does no harm."""
        ...

    def program(self, name: str) -> str | None:
        """Path of a program, from PATH and the sbin folders."""
        ...

    def package(self, name: str) -> str | None:
        """Version of an installed Python package."""
        ...

    def module(self, name: str) -> str | None:
        """File of a top-level module, without importing it."""
        ...

    def free_mb(self) -> float:
        """Free space on the disk of the current folder, in MB."""
        ...

    def cuda_driver(self) -> tuple[int, int] | None:
        """Newest CUDA version that the driver supports; None without a driver."""
        ...


class ThisMachine:
    """The machine that edgead runs on."""

    @property
    def system(self) -> str:
        return f"{platform.system()} {platform.release()} {platform.machine()}"

    @property
    def interpreter(self) -> Interpreter:
        return Interpreter(sys.version_info[:3], sys.executable, sys.prefix != sys.base_prefix, tuple(sys.path))

    @property
    def cores(self) -> int:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def folder(self, path: str) -> Path:
        return Path(path)

    def read(self, path: str) -> str | None:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace").rstrip("\x00\n")
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        try:
            return Path(path).exists()
        except OSError:
            return False

    def glob(self, pattern: str) -> list[str]:
        return sorted(map(str, Path("/").glob(pattern.removeprefix("/"))))

    def run(self, *command: str, timeout_s: float = 15) -> CommandResult:
        program = self.program(command[0])
        if program is None:
            return CommandResult(None, err=NOT_FOUND)
        try:
            done = subprocess.run(
                [program, *command[1:]], capture_output=True, text=True, errors="replace", timeout=timeout_s,
                stdin=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"}, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return CommandResult(None, err=f"no answer within {timeout_s:.0f} s")
        except OSError as error:
            return CommandResult(None, err=str(error.strerror or error))
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def python(self, code: str, timeout_s: float = 60) -> CommandResult:
        return self.run(sys.executable, "-c", code, timeout_s=timeout_s)

    def program(self, name: str) -> str | None:
        return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN)))

    def package(self, name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    def module(self, name: str) -> str | None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        return spec.origin or next(iter(spec.submodule_search_locations or []), None)

    def free_mb(self) -> float:
        return shutil.disk_usage(Path.cwd()).free / 1e6

    def cuda_driver(self) -> tuple[int, int] | None:
        version = ctypes.c_int()
        try:
            if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)):
                return None
        except (OSError, AttributeError):
            return None
        return version.value // 1000, version.value % 1000 // 10


def import_code(module: str) -> str:
    """Code for `Machine.python` that imports a module and prints its version."""
    return f"import {module} as m\nprint(getattr(m, '__version__', ''))"


def debian_version(machine: Machine, package: str) -> str | None:
    """Version of an installed Debian package."""
    ran = machine.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package)
    status, _, version = ran.out.strip().partition(" ")
    return version if ran.ok and status == "installed" else None


def numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: `10.3.0.30-1+cuda12.5` is (10, 3, 0, 30)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def short(version: str) -> str:
    """A version cut to at most three numbers, so that it cannot look like an IP address."""
    return ".".join(map(str, numbers(version)[:3])) or version
