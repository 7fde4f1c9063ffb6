"""CUDA and TensorRT: driver, toolkit, the system's TensorRT, and the packages that reach them from Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from edgead.commands.doctor.check import Check
from edgead.commands.doctor.jetson import Board
from edgead.commands.doctor.machine import CommandResult, Machine, debian_version, import_code, numbers, short
from edgead.commands.doctor.packages import OLD_NUMPY, SYSTEM_PACKAGES, is_about_numpy

CUDA = "/usr/local/cuda"
HEADERS = (f"{CUDA}/include/cuda.h", f"{CUDA}/targets/*/include/cuda.h", "/usr/include/cuda.h")
ON_PATH = f"export PATH={CUDA}/bin:$PATH"
JETPACK_EXTRAS = {12: "jetson6", 13: "jetson7"}  # by CUDA
REINSTALL = "sudo apt update && sudo apt install nvidia-jetpack"


def check_gpu(machine: Machine, board: Board | None) -> Iterator[Check]:
    """Check everything that a TensorRT engine needs."""
    driver, toolkit = machine.cuda_driver(), _toolkit_version(machine)
    yield _driver(machine, board, driver)
    yield _toolkit(machine, board, toolkit)
    yield _tensorrt(machine, board)
    wanted = board is not None or driver is not None
    cuda = driver or numbers(toolkit)
    yield _pycuda(machine, wanted, _install(board, cuda))
    yield _cuda_bindings(machine, wanted, cuda)


def _driver(machine: Machine, board: Board | None, driver: tuple[int, int] | None) -> Check:
    if driver is None and board is None:
        return Check("cuda driver", "info", "none: no usable NVIDIA GPU")
    if driver is None:
        return Check(
            "cuda driver",
            "warning",
            "libcuda.so.1 cannot be loaded: the GPU cannot be used",
            "In a container, start it with the NVIDIA runtime; otherwise install JetPack's packages: " + REINSTALL,
        )
    query = machine.run("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    gpu = f"; {'; '.join(query.out.strip().splitlines())}" if query.ok and board is None else ""
    return Check("cuda driver", "ok", f"supports CUDA up to {driver[0]}.{driver[1]}{gpu}")


def _toolkit(machine: Machine, board: Board | None, version: str) -> Check:
    if not version:
        return Check("cuda toolkit", "info", "not found; needed only to compile pycuda")
    expected = board.jetpack.cuda if board and board.jetpack else ""
    if board and expected and numbers(version)[:2] != numbers(expected):
        return Check(
            "cuda toolkit",
            "warning",
            f"{version}, but {board.name} ships {expected}: code compiled with it may not match driver and TensorRT",
            f"Point {CUDA} at the toolkit of JetPack: sudo update-alternatives --config cuda",
        )
    if machine.program("nvcc") is None:
        return Check(
            "cuda toolkit", "info", f"{version} in {CUDA}; nvcc is not on PATH", f"To compile pycuda: {ON_PATH}"
        )
    return Check("cuda toolkit", "ok", version)


def _toolkit_version(machine: Machine) -> str:
    if match := re.search(r'"cuda"\s*:\s*{[^}]*"version"\s*:\s*"([\d.]+)"', machine.read(f"{CUDA}/version.json") or ""):
        return short(match[1])
    for program in ("nvcc", f"{CUDA}/bin/nvcc"):
        if match := re.search(r"release (\d+\.\d+)", machine.run(program, "--version").out):
            return match[1]
    return ""


def _tensorrt(machine: Machine, board: Board | None) -> Check:
    file = machine.module("tensorrt")
    if file is None:
        return _tensorrt_missing(machine, board)
    ran = machine.python(import_code("tensorrt"))
    if not ran.ok:
        return Check("tensorrt", "failed", f"{file} exists, but `import tensorrt` fails: {ran.problem}", _cure(ran))
    version = ran.out.strip().splitlines()[-1]
    is_system = file.startswith(SYSTEM_PACKAGES)
    detail = f"{short(version)}, {'from the system' if is_system else 'from pip'}"
    if board is None or board.jetpack is None:
        return Check("tensorrt", "ok", detail)
    row, found = board.jetpack, numbers(version)[:2]
    if found == numbers(row.tensorrt):
        return Check("tensorrt", "ok", f"{detail}; matches {board.name}")
    if found in map(numbers, row.upgrades):
        return Check(
            "tensorrt", "info", f"{detail}; {board.name} ships {row.tensorrt} and can be upgraded to this version"
        )
    advice = (
        f"Reinstall the matching packages: {REINSTALL}"
        if is_system
        else "Remove the pip package (`pip uninstall tensorrt` and the tensorrt-cu* packages it installed) and use the system's."
    )
    return Check(
        "tensorrt",
        "warning",
        f"{detail}, but {board.name} ships {row.tensorrt}: loading its libraries or building may fail, and neither version "
        "loads the other's engines",
        advice,
    )


def _tensorrt_missing(machine: Machine, board: Board | None) -> Check:
    files = machine.glob("/usr/lib/python3*/dist-packages/tensorrt/__init__.py")
    if files:
        folder = PurePosixPath(files[0]).parents[1]
        interpreter, named = machine.interpreter, re.search(r"python(3\.\d+)/", files[0])
        other = named is not None and named[1] != ".".join(map(str, interpreter.version[:2]))
        why = f"it is built for Python {named[1]}, but edgead runs in {interpreter.text}" if named and other else (
            "the virtual environment was created without --system-site-packages"
            if interpreter.in_venv
            else "it searches for modules elsewhere (conda, pyenv?)"
        )  # fmt: skip
        python = f"/usr/bin/python{named[1]}" if named else "/usr/bin/python3"
        return Check(
            "tensorrt",
            "warning",
            f"the system's package in {folder} is not visible to this Python: {why}",
            f"Recreate the environment with the system's Python: {python} -m venv --clear --system-site-packages .venv",
        )
    if board is None:
        return Check("tensorrt", "info", "not installed; engines run on ONNX Runtime")
    library = debian_version(machine, "libnvinfer10") or debian_version(machine, "libnvinfer8")
    missing = f"; its library is installed ({short(library)}), its Python binding is not" if library else ""
    advice = "sudo apt install python3-libnvinfer" if library else REINSTALL
    return Check("tensorrt", "warning", f"not installed{missing}; engines run on ONNX Runtime's CPU provider", advice)


def _cure(ran: CommandResult) -> str:
    text = f"{ran.err} {ran.out}"
    if is_about_numpy(text) or "no attribute 'bool'" in text:
        return f"It was compiled for an older numpy: {OLD_NUMPY}"
    if "libnvdla_compiler" in text:
        return "Since JetPack 7.2 there is no DLA compiler library: use the TensorRT of this JetPack, not an older container."
    if "libnvinfer" in text or "libcudart" in text:
        return "Its libraries are missing or have another version; on a Jetson: " + REINSTALL
    return "Reinstall it the way it was installed; on a Jetson: " + REINSTALL


def _install(board: Board | None, cuda: tuple[int, ...]) -> str:
    """Command that installs pycuda and the cuda-bindings for this CUDA; pip alone would choose the newest for any CUDA."""
    if board is not None:
        return f"pip install 'edgead[{JETPACK_EXTRAS.get(cuda[0] if cuda else 0, 'jetson')}]'"
    return "pip install pycuda" + (f" 'cuda-bindings=={cuda[0]}.*'" if cuda else "")


def _pycuda(machine: Machine, wanted: bool, install: str) -> Check:
    version = machine.package("pycuda")
    if version is not None:
        ran = machine.python(import_code("pycuda.driver"))
        if ran.ok:
            return Check("pycuda", "ok", short(version))
        return Check(
            "pycuda",
            "failed" if wanted else "info",
            f"{short(version)} is installed, but `import pycuda.driver` fails: {ran.problem}",
            "It is compiled for one CUDA version: pip install --force-reinstall --no-cache-dir --no-binary pycuda pycuda",
        )
    if not wanted:
        return Check("pycuda", "info", "not installed; only TensorRT engines need it")
    steps = list(_missing_steps(machine))
    if steps:
        return Check(
            "pycuda",
            "warning",
            "not installed, and compiling it would fail: " + ", ".join(seen for seen, _ in steps),
            "; ".join(cure for _, cure in steps) + f"; then: {install}",
        )
    return Check(
        "pycuda",
        "warning",
        "not installed; nvcc, cuda.h, a C++ compiler and Python's headers are available to compile it",
        install,
    )


def _missing_steps(machine: Machine) -> Iterator[tuple[str, str]]:
    """Problems that pip would meet when compiling pycuda, in that order, with the fix."""
    if machine.program("nvcc") is None:
        if machine.exists(f"{CUDA}/bin/nvcc"):
            yield f"nvcc is in {CUDA}/bin, which is not on PATH", ON_PATH
        else:
            yield "there is no nvcc", "sudo apt install cuda-toolkit (on a Jetson it comes with nvidia-jetpack)"
    if not any(machine.glob(pattern) for pattern in HEADERS):
        yield "there is no cuda.h", "install the toolkit's headers (cuda-cudart-dev and cuda-driver-dev of its version)"
    if machine.program("g++") is None:
        yield "there is no C++ compiler", "sudo apt install build-essential"
    major, minor = machine.interpreter.version[:2]
    if not machine.exists(f"/usr/include/python{major}.{minor}/Python.h"):
        yield f"there is no Python.h for {major}.{minor}", f"sudo apt install python{major}.{minor}-dev"


def _cuda_bindings(machine: Machine, wanted: bool, cuda: tuple[int, ...]) -> Check:
    version = machine.package("cuda-bindings")
    if version is None:
        return Check(
            "cuda-bindings",
            "info",
            "not installed; with it a TensorRT engine is launched as one CUDA graph",
            f"pip install 'cuda-bindings=={cuda[0]}.*'" if wanted and cuda else "",
        )
    if wanted and cuda and numbers(version)[:1] != cuda[:1]:
        return Check(
            "cuda-bindings",
            "warning",
            f"{short(version)} is for CUDA {numbers(version)[0]}, but this machine has CUDA {cuda[0]}",
            f"pip install 'cuda-bindings=={cuda[0]}.*'",
        )
    return Check("cuda-bindings", "ok" if wanted else "info", short(version))
