"""The machine as the checks see it: everything that they read, run or import goes through here."""

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
    """What a program left: its exit code (None: it did not start or did not end in time), stdout, stderr."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def problem(self) -> str:
        """The last line that it wrote to stderr: where Python names the exception."""
        lines = (self.err or self.out).strip().splitlines()
        return lines[-1].strip() if lines else f"exit code {self.code}"


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs edgead; `path` is where it looks for modules."""

    version: tuple[int, int, int]
    executable: str
    in_venv: bool
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))


class Machine(Protocol):
    """Small questions to a machine. `ThisMachine` asks the real one; the tests bring pictures of others."""

    @property
    def system(self) -> str:
        """Kernel, its release and the processor's architecture."""
        ...

    @property
    def interpreter(self) -> Interpreter: ...

    @property
    def cores(self) -> int:
        """Cores that this process may use."""
        ...

    def folder(self, path: str) -> Path:
        """Where the absolute `path` of this machine lies."""
        ...

    def read(self, path: str) -> str | None:
        """A text file without its last line break and NULs; None where it cannot be read."""
        ...

    def exists(self, path: str) -> bool: ...

    def glob(self, pattern: str) -> list[str]:
        """Paths that match an absolute pattern, sorted."""
        ...

    def run(self, *command: str, timeout_s: float = 15) -> CommandResult: ...

    def python(self, code: str, timeout_s: float = 60) -> CommandResult:
        """Run `code` in a fresh process of this interpreter: a module that crashes takes nobody with it."""
        ...

    def program(self, name: str) -> str | None:
        """Where a program is, by PATH and the folders of the super user's programs."""
        ...

    def package(self, name: str) -> str | None:
        """The version of an installed Python package."""
        ...

    def module(self, name: str) -> str | None:
        """The file of a top-level module, without importing it."""
        ...

    def free_mb(self) -> float:
        """Free on the disk of the current folder."""
        ...

    def cuda_driver(self) -> tuple[int, int] | None:
        """The newest CUDA version that the driver can run; None without a driver."""
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
    """The version of an installed Debian package."""
    ran = machine.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package)
    status, _, version = ran.out.strip().partition(" ")
    return version if ran.ok and status == "installed" else None


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `10.3.0.30-1+cuda12.5` is (10, 3, 0, 30)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def short(version: str) -> str:
    """A version without what nobody compares: at most three numbers, so that none looks like an address."""
    return ".".join(map(str, numbers(version)[:3])) or version
