"""Emulator, Debian root and wheels of an emulated system, in a folder of their own; nothing is installed on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.aarch64.variant import Variant
from tools.aarch64.wheels import PYPROJECT, Target, requirements

ROOT = Path(__file__).parents[2]
EMULATOR = "qemu-aarch64-static"
ENTER = Path(__file__).with_name("enter.sh")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# `max` offers SME, whose instructions crash ONNX Runtime under qemu 7.2; A76 is nearest to the A78AE of a Jetson Orin
PROCESSOR = "cortex-a76"
CPUINFO = """processor\t: {core}
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

"""


class System:
    """An emulated system whose programs see `run` as their working directory.

    Args:
        variant: Release and versions.
        work: Folder for emulator, roots and wheels; what it holds already is used again.
        run: Folder that this machine and the emulated programs share.
    """

    def __init__(self, variant: Variant, work: Path, run: Path) -> None:
        self.variant = variant
        self._work = work
        self._run = run
        self._root = work / f"root-{variant.suite}"
        self._site = work / f"site-{variant.name}"
        self._cpuinfo = work / "cpuinfo"

    def prepare(self) -> None:
        """Get what is missing of emulator, root and wheels; needs apt and the network.

        Raises:
            subprocess.CalledProcessError: If apt, dpkg-deb or pip fails.
        """
        self._work.mkdir(parents=True, exist_ok=True)
        if not (self._work / EMULATOR).exists():
            self._unpack_emulator()
        if not (self._root / ".complete").exists():
            self._unpack_root()
        wanted = "\n".join(self._requirements())
        stamp = self._site / ".requirements"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            self._install_wheels()
            stamp.write_text(wanted, encoding="utf-8")
        self._cpuinfo.write_text("".join(CPUINFO.format(core=core) for core in range(2)), encoding="utf-8")

    def command(self, *words: object) -> list[str]:
        """Command of this machine that runs `words` in the emulated system."""
        inner = ["sh", str(ENTER), str(self._work / EMULATOR), str(self._root), str(self._run), str(ROOT)]
        inner += [str(self._site), str(self._cpuinfo)]
        # a user namespace of its own: the emulator is registered there alone, and root is not needed
        return ["unshare", "--user", "--map-root-user", "--mount", *inner, *map(str, words)]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment of emulated programs."""
        # OpenBLAS' choices for this machine's processor must not reach the emulated one
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS_", "PYTHON"))}
        return {**kept, "OMP_NUM_THREADS": "1", "QEMU_CPU": PROCESSOR, **(extra or {})}

    def _unpack_emulator(self) -> None:
        _shell("apt-get update -qq", self._work)
        _shell("apt-get download -qq -o APT::Sandbox::User=root qemu-user-static", self._work)
        (package,) = self._work.glob("qemu-user-static_*.deb")
        files = f"dpkg-deb --fsys-tarfile {package.name} | tar -x --strip-components=3 ./usr/bin/{EMULATOR}"
        _shell(files, self._work)
        package.unlink()

    def _unpack_root(self) -> None:
        """Unpack Debian's arm64 packages without running their scripts, which would need the emulator."""
        apt = self._work / "apt"
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.rmtree(apt, ignore_errors=True)
        for folder in ("lists/partial", "cache/archives/partial"):
            (apt / folder).mkdir(parents=True)
        (apt / "status").touch()
        # the mirror that this machine's own apt uses
        mirrors = subprocess.check_output(["apt-get", "indextargets", "--format", "$(REPO_URI)"], text=True).split()
        source = f"deb [arch=arm64 signed-by={KEYRING}] {mirrors[0]} {self.variant.suite} main\n"
        (apt / "sources.list").write_text(source, encoding="utf-8")
        folders = {"Dir::State": apt, "Dir::State::status": apt / "status", "Dir::State::Lists": apt / "lists"}
        folders |= {"Dir::Cache": apt / "cache", "Dir::Etc::sourcelist": apt / "sources.list"}
        lines = [f'{key} "{value}";' for key, value in folders.items()]
        lines += ['Dir::Etc::sourceparts "/dev/null";', 'APT::Sandbox::User "root";']
        lines += ['APT::Architecture "arm64";', 'APT::Architectures { "arm64"; };']
        (apt / "apt.conf").write_text("\n".join(lines), encoding="utf-8")
        environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
        _shell("apt-get update -qq", apt, environment)
        packages = " ".join(self.variant.packages)
        _shell(f"apt-get install -y -qq --no-install-recommends --download-only {packages}", apt, environment)
        for name in ("bin", "sbin", "lib"):
            (self._root / "usr" / name).mkdir(parents=True)
            (self._root / name).symlink_to(f"usr/{name}")
        for name in ("proc", "dev", "sys", "tmp", "run/edgead", "src", "site"):
            (self._root / name).mkdir(parents=True)
        for package in sorted((apt / "cache/archives").glob("*.deb")):
            _shell(f"dpkg-deb --fsys-tarfile '{package}' | tar -x -C '{self._root}' --keep-directory-symlink", apt)
        shutil.rmtree(apt)
        (self._root / ".complete").touch()

    def _requirements(self) -> list[str]:
        wheels, _ = requirements(PYPROJECT.read_text(encoding="utf-8"), None)
        return [*wheels, *self.variant.pins]

    def _install_wheels(self) -> None:
        """Install wheels for aarch64 with this machine's pip, which is ten times faster than an emulated one."""
        shutil.rmtree(self._site, ignore_errors=True)
        target = Target(self.variant.name, "", self.variant.python, self.variant.glibc, 0)
        options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--target", str(self._site)]
        command = [sys.executable, "-m", "pip", "install", *options, *target.options(), *self._requirements()]
        subprocess.run(command, check=True)


def _shell(line: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
    words: Sequence[str] = ("sh", "-ec", line)
    subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
