"""Folder from which edgead installs without a network: `python -m tools.wheelhouse --jetpack 6 OUT`, or `--here OUT`.

Downloads the wheels of the device side for a JetPack (aarch64, that system's Python and CUDA), or for this machine and this
Python, builds edgead's own wheel, and writes `requirements.txt` with the digest of every wheel and `install.sh`. pycuda,
which TensorRT engines need, has no wheel: its source and what compiling it needs are put in too, and `install.sh` compiles
it where CUDA's compiler is. None of this was run on a Jetson.

pip evaluates conditions such as `python_version < '3.11'` for the Python that runs it. Therefore the metadata of the
wheels are read again with the conditions of the target, and what is still missing is downloaded too.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from tools.aarch64.wheels import PYPROJECT, TARGETS, Target, requirements

# beside the source of pycuda: what it is built with and what it imports
COMPILED_NEEDS = ("setuptools", "wheel", "pytools", "platformdirs", "mako")
JETPACKS = {target.name.removeprefix("JetPack "): target for target in TARGETS}
Pip = Callable[[Sequence[str]], None]

_INSTALL = """#!/bin/sh
# Installs edgead from this folder alone, without a network: sh install.sh [VENV], default /opt/edgead/venv.
# For {name}: Python {python}, {machine}. PYTHON names another interpreter.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${{1:-/opt/edgead/venv}}
python=${{PYTHON:-/usr/bin/python3}}
"$python" -c 'import platform, sys
found = "%d.%d" % sys.version_info[:2], platform.machine()
sys.exit(None if found == ("{python}", "{machine}") else "These wheels are for Python {python} on {machine}; this is Python %s on %s." % found)'
# the system's packages are seen: TensorRT and GStreamer's binding come with JetPack
"$python" -m venv {options}"$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" --require-hashes -r "$here/requirements.txt"
PATH=$PATH:/usr/local/cuda/bin
if [ -d "$here/source" ] && command -v nvcc >/dev/null; then
    (cd "$here/source" && sha256sum --quiet --check SHA256SUMS)
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" "$here"/source/*.tar.gz
elif [ -d "$here/source" ]; then
    echo "nvcc is not installed: pycuda is left out, and TensorRT engines do not run." >&2
fi
"$venv/bin/edgead" --version
"""


def run_pip(arguments: Sequence[str]) -> None:
    """Run pip; its messages go to the terminal."""
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"], check=True)


def asked_for(target: Target | None, text: str) -> list[str]:
    """Requirements of the device side out of a pyproject.toml; those of a JetPack with its CUDA bindings."""
    if target is None:
        return requirements(text, None)[0]
    return [*requirements(text, target.extra)[0], *COMPILED_NEEDS]


def environment_of(target: Target | None) -> dict[str, str]:
    """Values of the markers on the target."""
    here = {name: str(value) for name, value in default_environment().items()}
    if target is None:
        return here
    return here | {
        "python_version": target.python, "python_full_version": f"{target.python}.0",
        "implementation_version": f"{target.python}.0", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "platform_machine": "aarch64", "platform_system": "Linux",
        "sys_platform": "linux", "os_name": "posix",
    }  # fmt: skip


def lacking(wheels: Path, wanted: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Requirements, of `wanted` and of every wheel that they lead to, that no wheel of the folder satisfies."""
    paths = {parse_wheel_filename(path.name): path for path in wheels.glob("*.whl")}
    return unsatisfied({key[0]: (key[1], _requires(path)) for key, path in paths.items()}, wanted, environment)


def unsatisfied(
    found: Mapping[NormalizedName, tuple[Version, Sequence[str]]], wanted: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    """Requirements that no package satisfies.

    Args:
        found: Version and requirements of each package by name.
        wanted: Requirements to begin with.
        environment: Values of the markers.
    """
    todo = [Requirement(entry) for entry in wanted]
    missing: list[str] = []
    seen: set[tuple[str, str]] = set()
    while todo:
        entry = todo.pop()
        name = canonicalize_name(entry.name)
        version, requires = found.get(name, (None, ()))
        if version is None or not entry.specifier.contains(version, prereleases=True):
            missing.append(f"{entry.name}{entry.specifier}")
            continue
        for extra in ("", *entry.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in requires:
                needed = Requirement(line)
                if needed.marker is None:
                    is_needed = not extra
                else:
                    is_needed = needed.marker.evaluate({**environment, "extra": extra})
                if is_needed:
                    todo.append(needed)
    return sorted(set(missing))


def _requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []


def download(target: Target | None, wanted: Sequence[str], wheels: Path, pip: Pip = run_pip) -> None:
    """Download wheels until nothing is missing on the target.

    Raises:
        RuntimeError: If something is still missing after several rounds.
    """
    options = ["--only-binary", ":all:", *([] if target is None else target.options())]
    todo = list(wanted)
    for _ in range(5):
        pip(["download", "--dest", str(wheels), *options, *todo])
        todo = lacking(wheels, wanted, environment_of(target))
        if not todo:
            return
        # constraints of what is there keep the versions together
        todo = [*wanted, *todo]
    raise RuntimeError(f"no wheels for: {', '.join(todo)}")


def write_wheelhouse(target: Target | None, out: Path, pip: Pip = run_pip) -> None:
    """Fill an empty folder.

    Raises:
        FileExistsError: If the folder holds something.
    """
    wheels = out / "wheels"
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; wheels of another day would get in between.")
    wheels.mkdir(parents=True)
    download(target, asked_for(target, PYPROJECT.read_text(encoding="utf-8")), wheels, pip)
    if target is not None:
        _add_sources(requirements(PYPROJECT.read_text(encoding="utf-8"), target.extra)[1], out / "source", pip)
    pip(["wheel", "--no-deps", "--wheel-dir", str(wheels), str(PYPROJECT.parent)])
    (out / "requirements.txt").write_text(locked(wheels), encoding="ascii")
    values = {
        "name": "this machine" if target is None else target.name,
        "python": platform.python_version().rpartition(".")[0] if target is None else target.python,
        "machine": platform.machine() if target is None else "aarch64",
        "options": "" if target is None else "--system-site-packages ",
    }
    (out / "install.sh").write_text(_INSTALL.format(**values), encoding="ascii")
    (out / "install.sh").chmod(0o755)


def _add_sources(compiled: Sequence[str], folder: Path, pip: Pip) -> None:
    # without isolation pip needs only setuptools here to read the metadata
    pip(["download", "--dest", str(folder), "--no-deps", "--no-build-isolation", "--no-binary", ":all:", *compiled])
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="ascii")


def locked(wheels: Path) -> str:
    """One line for every wheel: name, version and SHA-256."""
    lines = []
    for path in sorted(wheels.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(path.name)
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the folder; 0 when it is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--jetpack", choices=sorted(JETPACKS), help="Major version of the device's JetPack.")
    group.add_argument("--here", action="store_true", help="This machine and this Python.")
    parser.add_argument("out", type=Path, metavar="OUT", help="New folder.")
    options = parser.parse_args(arguments)
    write_wheelhouse(None if options.here else JETPACKS[options.jetpack], options.out)
    files = list((options.out / "wheels").iterdir())
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    print(f"{len(files)} wheels, {size_mb:.0f} MB. Copy {options.out} to the device, then: sh install.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
