"""Check that the device side installs on a Jetson from wheels alone: `python -m tools.aarch64.wheels`.

pip resolves the base dependencies and the `web`, `mqtt` and `jetson6` or `jetson7` extras for aarch64 and the Pythons of
JetPack 6 and 7, without installing anything. A dependency without an aarch64 wheel fails, and so does a cuda-bindings for
another CUDA. pycuda has no wheel and is only reported: it is compiled on the device.

pip evaluates conditions such as `platform_machine == 'aarch64'` for the machine on which it runs, so dependencies under
such a condition are not checked; neither is the extra `jetson`, which selects one of the two by Python version.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = ("web", "mqtt")
FROM_SOURCE = "pycuda"
NEEDS = "compiled on the device: CUDA's nvcc and headers (cuda.h), g++ and Python's headers must be there"


@dataclass(frozen=True)
class Target:
    """A Jetson system: its extra, its Python, its C library as the newest manylinux that it takes, and its CUDA's major
    version.
    """

    name: str
    extra: str
    python: str
    glibc: int
    cuda: int

    def options(self) -> list[str]:
        """Options that make pip resolve for this target."""
        tag = self.python.replace(".", "")
        platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(self.glibc, 16, -1)] + ["manylinux2014_aarch64"]
        return [
            *("--python-version", self.python, "--implementation", "cp", "--abi", f"cp{tag}", "--abi", "abi3"),
            *("--abi", "none", *(option for platform in platforms for option in ("--platform", platform))),
        ]


TARGETS = (Target("JetPack 6", "jetson6", "3.10", 35, 12), Target("JetPack 7", "jetson7", "3.12", 39, 13))
Pip = Callable[[Sequence[str]], "tuple[int, str]"]


def project_of(text: str) -> dict[str, Any]:
    """The table `project` of a pyproject.toml."""
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def requirements(text: str, extra: str | None) -> tuple[list[str], list[str]]:
    """Dependencies that must come as wheels, and those that may be compiled, from a pyproject.toml and its `extra`."""
    project = project_of(text)
    extras = project["optional-dependencies"]
    jetson = [] if extra is None else extras[extra]
    compiled = [entry for entry in jetson if entry.startswith(FROM_SOURCE)]
    wheels = [*project["dependencies"], *(entry for extra in EXTRAS for entry in extras[extra])]
    return [*wheels, *(entry for entry in jetson if entry not in compiled)], compiled


def run_pip(arguments: Sequence[str]) -> tuple[int, str]:
    """The exit status of pip, with its report if it succeeded and its last words if not."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--target", folder, "--report", str(report)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return done.returncode, "\n".join(errors or done.stderr.splitlines()[-5:])
        return 0, report.read_text(encoding="utf-8")


def resolved(report: str) -> dict[str, tuple[str, str]]:
    """Version and wheel tag of everything in pip's report, by name."""
    found = {}
    for entry in json.loads(report)["install"]:
        wheel = entry["download_info"]["url"].rsplit("/", 1)[-1].removesuffix(".whl")
        found[entry["metadata"]["name"].lower()] = (entry["metadata"]["version"], "-".join(wheel.split("-")[-3:]))
    return dict(sorted(found.items()))


def check(targets: Sequence[Target], text: str, pip: Pip) -> int:
    """Print what each target gets; how many of them lack a wheel or get one for another CUDA."""
    failures = 0
    for target in targets:
        wheels, compiled = requirements(text, target.extra)
        print(f"{target.name}: Python {target.python}, aarch64, glibc up to 2.{target.glibc}", flush=True)
        status, output = pip([*target.options(), *wheels])
        if status:
            failures += 1
            print(output)
            continue
        found = resolved(output)
        for name, (version, tag) in found.items():
            print(f"  {name:<22} {version:<12} {tag}")
        bindings = found.get("cuda-bindings", ("", ""))[0]
        if bindings and int(bindings.split(".")[0]) != target.cuda:
            failures += 1
            print(
                f"  cuda-bindings {bindings} is not for CUDA {target.cuda}: {target.extra} must say =={target.cuda}.*"
            )
        for entry in compiled:
            print(f"  {compiled_text(entry, *pip([*target.options(), '--no-deps', entry]))}")
    print(
        "Every dependency has an aarch64 wheel, for the right CUDA."
        if not failures
        else f"{failures} of {len(targets)} systems lack wheels or get wrong ones."
    )
    return failures


def compiled_text(entry: str, status: int, output: str) -> str:
    """Line about a dependency that may be compiled: its wheel, or the reason why there is none."""
    if status == 0:
        return f"{entry}: {next(iter(resolved(output).values()))}"
    return f"{entry}: no aarch64 wheel; {NEEDS}" if "No matching distribution" in output else f"{entry}: {output}"


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a wheel is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pyproject", type=Path, default=PYPROJECT)
    options = parser.parse_args(arguments)
    return int(check(TARGETS, options.pyproject.read_text(encoding="utf-8"), run_pip) > 0)


if __name__ == "__main__":
    sys.exit(main())
