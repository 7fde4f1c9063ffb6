"""Findings of doctor on fake machines, and on this one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.commands.doctor import Check, Diagnosis, doctor
from edgead.commands.doctor.gpu import CUDA
from edgead.commands.doctor.jetson import JETPACKS, find_board
from edgead.commands.doctor.machine import CommandResult, ThisMachine, import_code, numbers, short
from edgead.commands.doctor.packages import IMPORTS
from edgead.commands.doctor.video import BINDING, ELEMENTS, camera_text
from edgead.stream.sources.camera import CameraDevice
from edgead.stream.sources.camera_format import CameraMode, SizeRange
from tests.commands.doctor.devices import DEVICES, FakeMachine, bare_x86, blind_venv, orin_nano, thor
from tests.stream.servers import needs_gstreamer

STATUSES = {"ok", "info", "warning", "failed"}


def examine(fake: FakeMachine, tmp_path: Path) -> dict[str, Check]:
    """The checks by name, of a machine without a bundle."""
    checks = doctor(tmp_path / "none", bundle_named=False, threads=1, machine=fake).checks
    assert len({check.name for check in checks}) == len(checks), "a name that stands twice would hide a check"
    return {check.name: check for check in checks}


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gets_its_lines(device: str, tmp_path: Path) -> None:
    """Each check has a group, one line of text and a known status, and every warning says what to do."""
    for check in examine(DEVICES[device](), tmp_path).values():
        assert check.status in STATUSES
        assert check.group
        assert check.detail
        assert "\n" not in check.detail + check.advice
        assert check.advice or check.status in ("ok", "info"), check


def test_a_right_orin_nano_is_warned_of_its_power_mode_alone(tmp_path: Path) -> None:
    """JetPack 6.2 with TensorRT 10.3 belongs together; the 25 W mode and moving clocks are named, with the cure."""
    checks = examine(orin_nano(), tmp_path)
    assert [name for name, check in checks.items() if check.status in ("warning", "failed")] == ["power mode"]
    assert "sudo nvpmodel -m 2" in checks["power mode"].advice
    assert "L4T 36.4.3" in checks["jetpack"].detail
    assert checks["tensorrt"].detail.startswith("10.3.0, from the system; matches JetPack 6.1 or 6.2")
    assert "306 and 918 MHz" in checks["gpu clock"].detail
    assert checks["cpu clock"].detail == "fixed at 1344 MHz"
    assert "shared with the GPU" in checks["memory"].detail
    assert checks["gst csi camera"].status == "ok"
    assert "Orin Nano" in checks["gst hw encoder"].detail


def test_a_right_thor_gets_no_warning(tmp_path: Path) -> None:
    """JetPack 7.1 with TensorRT 10.13, Python 3.12, CUDA 13 and numpy 2 is as it should be."""
    checks = examine(thor(), tmp_path)
    assert not [check for check in checks.values() if check.status in ("warning", "failed")]
    assert checks["gst hw encoder"].detail == "nvv4l2h264enc"
    assert checks["power mode"].status == checks["gpu clock"].status == checks["cuda-bindings"].status == "ok"


def test_a_venv_that_does_not_see_tensorrt_is_told_how(tmp_path: Path) -> None:
    """The system's TensorRT that this Python cannot import is found, and so is nvcc beside PATH."""
    checks = examine(blind_venv(), tmp_path)
    assert checks["tensorrt"].status == "warning"
    assert "/usr/lib/python3.10/dist-packages" in checks["tensorrt"].detail
    assert "/usr/bin/python3.10 -m venv --clear --system-site-packages" in checks["tensorrt"].advice
    assert "not on PATH" in checks["pycuda"].detail
    assert "export PATH=/usr/local/cuda/bin" in checks["pycuda"].advice
    assert "pip install 'edgead[jetson6]'" in checks["pycuda"].advice
    assert "cuda.h" not in checks["pycuda"].detail
    assert "the system's gi is not visible" in checks["gstreamer binding"].detail
    assert checks["proof onnxruntime"].status == "ok"


def test_a_plain_computer_is_not_troubled_with_jetsons(tmp_path: Path) -> None:
    """Without a GPU nothing is wrong and nothing is to be done: the whole journey works on ONNX Runtime."""
    checks = examine(bare_x86(), tmp_path)
    assert not [check for check in checks.values() if check.status in ("warning", "failed")]
    gpu = [check for check in checks.values() if check.group in ("GPU", "Jetson", "Cameras and video")]
    assert len(gpu) >= 7
    assert not [check for check in gpu if check.advice]


def changed(fake: FakeMachine, change: Callable[[FakeMachine], object]) -> FakeMachine:
    """A fake machine after a change."""
    change(fake)
    return fake


TRT = import_code("tensorrt")
NUMPY_1 = "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.2.6"
CASES: dict[str, tuple[Callable[[FakeMachine], object], str, str, str]] = {
    "tensorrt of another jetpack": (
        lambda p: p.code.update({TRT: CommandResult(0, out="8.6.2\n")}), "tensorrt", "warning", "JetPack 6.1 or 6.2 ships 10.3",
    ),
    "tensorrt upgraded as allowed": (
        lambda p: p.code.update({TRT: CommandResult(0, out="10.7.0.23\n")}), "tensorrt", "info", "10.7.0",
    ),
    "tensorrt broken": (
        lambda p: p.code.update({TRT: CommandResult(1, err="Traceback\nImportError: libnvdla_compiler.so: cannot open")}),
        "tensorrt", "failed", "libnvdla_compiler",
    ),
    "tensorrt from pip": (
        lambda p: (p.modules.update(tensorrt="/x/site-packages/tensorrt/__init__.py"), p.code.update({TRT: CommandResult(0, out="10.13.3.9")})),
        "tensorrt", "warning", "pip uninstall tensorrt",
    ),
    "tensorrt absent, library there": (
        lambda p: (p.modules.pop("tensorrt"), p.files.pop("/usr/lib/python3.10/dist-packages/tensorrt/__init__.py")),
        "tensorrt", "warning", "python3-libnvinfer",
    ),
    "another python": (lambda p: setattr(p, "version", (3, 12, 1)), "python of jetpack", "warning", "Python 3.10 only"),
    "numpy 2 on jetpack 6": (
        lambda p: p.code.update({IMPORTS: CommandResult(0, out=p.code[IMPORTS].out.replace("1.26.4", "2.2.6"))}),
        "numpy 2", "warning", "numpy<2",
    ),
    "opencv for numpy 1": (
        lambda p: p.code.update({IMPORTS: CommandResult(0, out=json.dumps(json.loads(p.code[IMPORTS].out) | {
            "cv2": {"error": "ImportError: numpy.core.multiarray failed to import", "noise": NUMPY_1}}))}),
        "opencv-python", "failed", "numpy<2",
    ),
    "an import that kills the process": (
        lambda p: p.code.update({IMPORTS: CommandResult(-11)}), "onnxruntime", "failed", "exit code -11",
    ),
    "onnxruntime missing": (lambda p: p.modules.pop("onnxruntime"), "onnxruntime", "failed", "pip install onnxruntime"),
    "unknown l4t": (
        lambda p: p.files.update({"/etc/nv_tegra_release": "# R40 (release), REVISION: 1.0, GCID"}),
        "jetpack", "warning", "L4T 40.1.0",
    ),
    "jetpack 5": (
        lambda p: p.files.update({"/etc/nv_tegra_release": "# R35 (release), REVISION: 6.1, GCID"}),
        "jetpack", "warning", "Python 3.8, which edgead does not support",
    ),
    "release known from the package alone": (
        lambda p: (p.files.pop("/etc/nv_tegra_release"), p.commands.update({
            "dpkg-query --show --showformat=${db:Status-Status} ${Version} nvidia-l4t-core": "installed 36.4.3-20250107174145"})),
        "jetpack", "ok", "L4T 36.4.3",
    ),
    "no jetpack package": (
        lambda p: p.commands.pop("dpkg-query --show --showformat=${db:Status-Status} ${Version} nvidia-jetpack"),
        "jetpack", "info", "apt install nvidia-jetpack",
    ),
    "nvpmodel wants the super user": (
        lambda p: p.commands.update({"nvpmodel -q": CommandResult(1, err="NVPM ERROR: need root")}),
        "power mode", "info", "sudo nvpmodel -q",
    ),
    "nvpmodel absent": (lambda p: p.commands.pop("nvpmodel -q"), "power mode", "info", "not installed"),
    "no mode called maxn": (
        lambda p: (p.files.update({"/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >"}),
                   p.commands.update({"nvpmodel -q": "NV Power Mode: 7W\n1\n"})),
        "power mode", "info", "15W (0), 7W (1)",
    ),
    "toolkit of another jetpack": (
        lambda p: p.files.update({f"{CUDA}/version.json": '{"cuda": {"version": "11.4.19"}}'}),
        "cuda toolkit", "warning", "ships 12.6",
    ),
    "no driver in the container": (lambda p: setattr(p, "driver", None), "cuda driver", "warning", "container"),
    "pycuda without cuda.h": (
        lambda p: (p.packages.pop("pycuda"), p.files.pop(f"{CUDA}/targets/aarch64-linux/include/cuda.h")),
        "pycuda", "warning", "no cuda.h",
    ),
    "pycuda of another cuda": (
        lambda p: p.code.update({import_code("pycuda.driver"): CommandResult(1, err="ImportError: libcurand.so.11: cannot open")}),
        "pycuda", "failed", "libcurand.so.11",
    ),
    "cuda-bindings of another cuda": (
        lambda p: p.packages.update({"cuda-bindings": "13.0.1"}), "cuda-bindings", "warning", "cuda-bindings==12.*",
    ),
    "gi without gstreamer": (
        lambda p: p.code.pop(next(code for code in p.code if "require_version" in code)),
        "gstreamer binding", "info", "gir1.2-gstreamer-1.0",
    ),
    "no csi camera": (
        lambda p: p.commands.update({"gst-inspect-1.0 --exists nvarguscamerasrc": CommandResult(1)}),
        "gst csi camera", "info", "nvidia-l4t-camera",
    ),
    "no gstreamer tools": (
        lambda p: [
            p.code.pop(BINDING), *(p.commands.pop(key) for key in list(p.commands) if key.startswith("gst-inspect"))
        ],
        "gstreamer", "info", "gstreamer1.0-tools",
    ),
    "memory used up": (
        lambda p: p.files.update({"/proc/meminfo": "MemTotal: 7800000 kB\nMemAvailable: 500000 kB\nSwapTotal: 0 kB"}),
        "memory", "warning", "desktop",
    ),
    "disk full": (lambda p: setattr(p, "free", 300.0), "disk", "warning", "300 MB"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_with_its_cure(case: str, tmp_path: Path) -> None:
    """One change to the right Orin Nano gives the check, the status and the words that a person needs."""
    change, name, status, said = CASES[case]
    check = examine(changed(orin_nano(), change), tmp_path)[name]
    assert check.status == status
    assert said in f"{check.detail} {check.advice}"


def test_the_table_of_jetpacks_is_unambiguous() -> None:
    """Every release of Linux for Tegra stands in one row, and doctor finds it."""
    releases = [release for row in JETPACKS for release in row.l4t]
    assert len(set(releases)) == len(releases) >= 10
    for row in JETPACKS:
        for major, minor in row.l4t:
            fake = FakeMachine(files={"/etc/nv_tegra_release": f"# R{major} (release), REVISION: {minor}.1, GCID: 1"})
            board = find_board(fake)
            assert board is not None
            assert board.jetpack is row
    assert find_board(bare_x86()) is None


def test_cameras_are_named_as_the_source_is(tmp_path: Path) -> None:
    """A camera is listed with its name and the word that `edgead stream --source` takes."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "video2").touch()
    names = tmp_path / "sys" / "class" / "video4linux" / "video2"
    names.mkdir(parents=True)
    (names / "name").write_text("Line camera\n")
    fake = bare_x86()
    fake.root = tmp_path
    assert examine(fake, tmp_path)["cameras"].detail == "camera:2 is Line camera"


def test_cameras_show_what_they_offer() -> None:
    """Formats, sizes and rates are listed with the name, and a device without frames is marked."""
    modes = (CameraMode("MJPG", SizeRange((720, 1280), (720, 1280)), (30.0,)),)
    camera = CameraDevice(0, Path("/dev/video0"), "Line camera", modes)
    assert camera_text(camera) == "camera:0 is Line camera (MJPG 1280x720@30)"
    second = CameraDevice(1, Path("/dev/video1"), "Line camera", captures_video=False)
    assert camera_text(second) == "video1 delivers no frames (Line camera)"


def test_elements_are_asked_of_the_binding_where_the_tool_is_missing(tmp_path: Path) -> None:
    """Without gst-inspect the Python binding, which is what edgead uses, says what is there."""
    fake = orin_nano()
    for command in [command for command in fake.commands if command.startswith("gst-inspect")]:
        del fake.commands[command]
    fake.code[ELEMENTS] = CommandResult(0, out='["appsink", "videoconvert", "nvv4l2decoder"]\n')
    checks = examine(fake, tmp_path)
    assert checks["gstreamer"].detail == "1.20.3"
    assert checks["gst frames"].status == checks["gst hw decoder"].status == "ok"
    assert checks["gst frames"].detail == "appsink, videoconvert"
    assert "no nvarguscamerasrc" in checks["gst csi camera"].detail
    assert "nvidia-l4t-camera" in checks["gst csi camera"].advice


@needs_gstreamer
def test_elements_of_this_machine_are_found() -> None:
    """The question to the binding is understood by a real one."""
    answer = json.loads(ThisMachine().python(ELEMENTS).out)
    assert {"appsink", "rtspsrc", "x264enc"} <= set(answer)
    assert "nosuchelement" not in answer


def test_versions_are_read_and_shortened() -> None:
    """Versions compare by their numbers; what is shown has three at most and so is never taken for an address."""
    assert numbers("10.3.0.30-1+cuda12.5") == (10, 3, 0, 30)
    assert numbers("b77") == ()
    assert short("10.13.3.9") == "10.13.3"
    assert short("rolling") == "rolling"


def test_this_machine_answers() -> None:
    """The real machine reads, runs and imports: what is absent is None, a slow program is ended, a crash is survived."""
    machine = ThisMachine()
    assert machine.read("/proc/self/status")
    assert machine.read("/no/such/file") is None
    assert machine.module("numpy")
    assert machine.module("no_such_module") is None
    assert machine.package("no-such-package") is None
    assert machine.run("no-such-program").code is None
    assert machine.python("print('a')").out == "a\n"
    assert machine.python("import os; os.abort()").code not in (0, None)
    assert "no answer" in machine.python("import time; time.sleep(9)", timeout_s=0.2).problem
    assert "/proc/self" in machine.glob("/proc/sel*")
    imports = machine.python(IMPORTS)
    assert json.loads(imports.out.splitlines()[-1])["numpy"]["version"], imports.err


@pytest.mark.parametrize("refused", ["cv2", "onnxruntime", "numpy"])
def test_doctor_survives_what_it_looks_for(refused: str, tmp_path: Path) -> None:
    """Where a package cannot be imported, doctor still ends with a diagnosis that names it, and with exit code 4."""
    stub = tmp_path / "path" / refused
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    code = (
        f"import sys; sys.path.insert(0, {str(stub.parent)!r}); sys.argv = ['edgead', 'doctor', '--json']\n"
        f"import os; os.environ['PYTHONPATH'] = {str(stub.parent)!r}\n"
        "from edgead.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 4, done.stderr
    failed = [check["detail"] for check in json.loads(done.stdout)["checks"] if check["status"] == "failed"]
    assert any("libGL.so.1" in detail for detail in failed)


def test_json_keeps_its_keys() -> None:
    """Scripts read name, status and detail of each check, and ok."""
    content = Diagnosis((Check("a", "failed", "b", "c", "d"),)).to_json()
    assert content == {
        "checks": [{"name": "a", "status": "failed", "detail": "b", "advice": "c", "group": "d"}],
        "ok": False,
    }


def test_terminal_groups_and_leaves_commands_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In 80 columns details wrap under their heading, advice stays one line to copy, and the verdict counts."""
    import io

    from rich.console import Console

    from edgead import terminal

    text = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=text, width=80, highlight=False, soft_wrap=True))
    diagnosis = doctor(tmp_path / "none", bundle_named=False, threads=1, machine=blind_venv())
    terminal.show_diagnosis(diagnosis)
    lines = text.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines if "→" not in line)
    assert lines[0] == "Machine"
    assert {"Jetson", "Python packages", "GPU", "Cameras and video", "Model"} <= set(lines)
    for check in diagnosis.checks:
        assert not check.advice or any(line.strip() == f"→ {check.advice}" for line in lines)
    assert lines[-1] == "Nothing failed; 3 warnings."
    terminal.show_diagnosis(Diagnosis((Check("[bold]x", "failed", "[/]", group="g"), Check("y", "warning", "z", "w"))))
    assert "[bold]x" in text.getvalue()
    assert text.getvalue().splitlines()[-1] == "1 failed, 1 warning."


def test_report_is_written_from_the_command_line(tmp_path: Path) -> None:
    """`--report FILE` leaves the file, says where on stderr where stdout is JSON, and changes no exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "edgead", "doctor", "--json", "--report", "here/report.md"], cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]
    assert "here/report.md" in done.stderr
    assert (tmp_path / "here" / "report.md").read_text(encoding="utf-8").startswith("# edgead doctor")
