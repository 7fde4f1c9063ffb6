"""Fake machines for the tests of doctor.

None of them was recorded from a device. They are written after public descriptions (docs/jetson.md names them): they show
what the checks expect, and prove nothing about the answers of a real board.
"""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgead.commands.doctor.gpu import CUDA
from edgead.commands.doctor.machine import NOT_FOUND, CommandResult, Interpreter, import_code
from edgead.commands.doctor.packages import IMPORTS
from edgead.commands.doctor.video import BINDING, INSPECT, PURPOSES

SITE = "/home/erika/line/.venv/lib/python3/site-packages"
SYSTEM_SITE = "/usr/lib/python3.10/dist-packages"


@dataclass
class FakeMachine:
    """A machine that answers from tables; whatever stands in none of them is absent.

    Attributes:
        files: Path -> content.
        commands: Command line -> what it prints, or how it ended.
        modules: Name -> file.
        packages: Name -> version.
        code: Code -> how a fresh interpreter ended on it.
        root: Where `folder` points.
    """

    files: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str | CommandResult] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    code: dict[str, CommandResult] = field(default_factory=dict)
    version: tuple[int, int, int] = (3, 10, 12)
    in_venv: bool = True
    driver: tuple[int, int] | None = None
    free: float = 20_000
    cores: int = 6
    system: str = "Linux 5.15.148-tegra aarch64"
    root: Path = Path("/nonexistent")

    @property
    def interpreter(self) -> Interpreter:
        return Interpreter(self.version, "/home/erika/line/.venv/bin/python", self.in_venv, (SITE,))

    def folder(self, path: str) -> Path:
        return self.root / path.removeprefix("/")

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def exists(self, path: str) -> bool:
        return path in self.files

    def glob(self, pattern: str) -> list[str]:
        found = {
            path for path in self.files if fnmatch.fnmatch(path, pattern) and path.count("/") == pattern.count("/")
        }
        folders = {path.rpartition("/")[0] for path in self.files}
        return sorted(
            found | {f for f in folders if fnmatch.fnmatch(f, pattern) and f.count("/") == pattern.count("/")}
        )

    def run(self, *command: str, timeout_s: float = 15) -> CommandResult:
        answer = self.commands.get(" ".join(command))
        if isinstance(answer, CommandResult):
            return answer
        return CommandResult(0, out=answer) if answer is not None else CommandResult(None, err=NOT_FOUND)

    def python(self, code: str, timeout_s: float = 60) -> CommandResult:
        return self.code.get(code, CommandResult(1, err="ModuleNotFoundError: no such module on this machine"))

    def program(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if any(command.split()[0] == name for command in self.commands) else None

    def package(self, name: str) -> str | None:
        return self.packages.get(name)

    def module(self, name: str) -> str | None:
        return self.modules.get(name)

    def free_mb(self) -> float:
        return self.free

    def cuda_driver(self) -> tuple[int, int] | None:
        return self.driver


def _meminfo(total_mb: int, available_mb: int, swap_mb: int) -> str:
    sizes = {"MemTotal": total_mb, "MemFree": 100, "MemAvailable": available_mb, "SwapTotal": swap_mb}
    return "\n".join(f"{name}:  {int(size * 1e6 / 1024)} kB" for name, size in sizes.items())


def _imports(numpy: str, **entries: dict[str, Any]) -> CommandResult:
    found = {
        "numpy": {"version": numpy, "file": f"{SITE}/numpy/__init__.py", "noise": ""},
        "cv2": {"version": "4.11.0", "file": f"{SITE}/cv2/__init__.py", "noise": "", "gstreamer": False},
        "onnx": {"version": "1.19.0", "file": f"{SITE}/onnx/__init__.py", "noise": ""},
        "onnxruntime": {"version": "1.23.2", "file": f"{SITE}/onnxruntime/__init__.py", "noise": ""},
    }
    return CommandResult(0, out=json.dumps(found | entries))


def _debian(**versions: str) -> dict[str, str | CommandResult]:
    query = "dpkg-query --show --showformat=${db:Status-Status} ${Version}"
    return {f"{query} {name.replace('_', '-')}": f"installed {version}" for name, version in versions.items()}


def _elements(*absent: str) -> dict[str, str | CommandResult]:
    names = [name for purpose in PURPOSES for name in purpose.elements]
    known = {f"{INSPECT} --exists {name}": CommandResult(1) if name in absent else CommandResult(0) for name in names}
    return {f"{INSPECT} --version": "gst-inspect-1.0 version 1.20.3\nGStreamer 1.20.3\n", **known}


def _modules(**more: str) -> dict[str, str]:
    names = ("numpy", "cv2", "onnx", "onnxruntime")
    return {name: f"{SITE}/{name}/__init__.py" for name in names} | more


_ORIN_GPU = "/sys/class/devfreq/17000000.gpu"
_CPU = "/sys/devices/system/cpu/cpu0/cpufreq/scaling"
_MODES = "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"


def orin_nano() -> FakeMachine:
    """An Orin Nano with JetPack 6.2 where all is as docs/jetson.md advises, in its 25 W mode."""
    return FakeMachine(
        files={
            "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "/proc/device-tree/serial-number": "1424023012345",
            "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
            "/etc/hostname": "orin-line3",
            "/etc/nvpmodel.conf": _MODES,
            "/proc/meminfo": _meminfo(7990, 5200, 3995),
            f"{_ORIN_GPU}/min_freq": "306000000",
            f"{_ORIN_GPU}/cur_freq": "306000000",
            f"{_ORIN_GPU}/max_freq": "918000000",
            "/sys/class/devfreq/other/min_freq": "1",
            f"{_CPU}_min_freq": "1344000",
            f"{_CPU}_cur_freq": "1344000",
            f"{_CPU}_max_freq": "1344000",
            f"{CUDA}/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
            f"{CUDA}/targets/aarch64-linux/include/cuda.h": "",
            f"{CUDA}/bin/nvcc": "",
            f"{SYSTEM_SITE}/tensorrt/__init__.py": "",
            "/usr/lib/python3/dist-packages/gi/__init__.py": "",
            "/usr/include/python3.10/Python.h": "",
        },
        commands={
            "nvpmodel -q": "NV Power Mode: 25W\n1\n",
            "nvcc --version": "Cuda compilation tools, release 12.6, V12.6.68",
            "g++ --version": "g++ 11.4.0",
            **_debian(nvidia_jetpack="6.2+b77", libnvinfer10="10.3.0.30-1+cuda12.5"),
            **_elements("nvv4l2h264enc"),
        },
        modules=_modules(
            tensorrt=f"{SYSTEM_SITE}/tensorrt/__init__.py", gi="/usr/lib/python3/dist-packages/gi/__init__.py"
        ),
        packages={"pycuda": "2025.1.2", "cuda-bindings": "12.9.4"},
        code={
            IMPORTS: _imports("1.26.4"),
            import_code("tensorrt"): CommandResult(0, out="10.3.0\n"),
            import_code("pycuda.driver"): CommandResult(0, out="\n"),
            BINDING: CommandResult(0, out="GStreamer 1.20.3\n"),
        },
        driver=(12, 6),
    )


def thor() -> FakeMachine:
    """A Thor with JetPack 7.1, all right, in its highest mode with fixed clocks."""
    gpu, site = "/sys/class/devfreq/gpu-gpc-0", "/usr/lib/python3.12/dist-packages"
    fake = orin_nano()
    keep = ("/etc/hostname", "/proc/device-tree/serial-number", "/usr/lib/python3/dist-packages/gi/__init__.py")
    fake.files = {path: fake.files[path] for path in keep} | {
        "/proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit",
        "/etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 43443517, BOARD: generic, EABI: aarch64",
        "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n",
        "/proc/meminfo": _meminfo(128_000, 120_000, 0),
        f"{gpu}/min_freq": "1575000000",
        f"{gpu}/cur_freq": "0",
        f"{gpu}/max_freq": "1575000000",
        f"{CUDA}/version.json": '{"cuda": {"name": "CUDA SDK", "version": "13.0.48"}}',
        f"{CUDA}/include/cuda.h": "",
        f"{CUDA}/bin/nvcc": "",
        f"{site}/tensorrt/__init__.py": "",
        "/usr/include/python3.12/Python.h": "",
    }
    fake.commands |= {"nvpmodel -q": "NV Power Mode: MAXN\n0\n", **_debian(nvidia_jetpack="7.1-b95"), **_elements()}
    fake.modules["tensorrt"] = f"{site}/tensorrt/__init__.py"
    fake.packages["cuda-bindings"] = "13.0.3"
    fake.code |= {import_code("tensorrt"): CommandResult(0, out="10.13.3\n"), IMPORTS: _imports("2.2.6")}
    fake.version, fake.driver, fake.system = (3, 12, 3), (13, 0), "Linux 6.8.12-tegra aarch64"
    return fake


def blind_venv() -> FakeMachine:
    """The Orin Nano with a fresh environment without the system's packages, and nvcc not on PATH."""
    fake = orin_nano()
    for name in ("tensorrt", "gi"):
        del fake.modules[name]
    del fake.commands["nvcc --version"]
    fake.commands[f"{CUDA}/bin/nvcc --version"] = "Cuda compilation tools, release 12.6, V12.6.68"
    fake.packages = {}
    fake.code = {IMPORTS: _imports("2.2.6")}
    return fake


def bare_x86() -> FakeMachine:
    """A computer without GPU, camera and GStreamer."""
    return FakeMachine(
        files={"/proc/meminfo": _meminfo(16_000, 9000, 2000), "/etc/hostname": "desk"},
        modules=_modules(),
        code={IMPORTS: _imports("2.4.0")},
        version=(3, 11, 7),
        cores=2,
        system="Linux 6.1.0 x86_64",
    )


DEVICES = {"orin nano": orin_nano, "thor": thor, "blind venv": blind_venv, "bare x86": bare_x86}
