"""Cameras, and GStreamer with the elements that edgead uses."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.commands.doctor.check import Check
from edgead.commands.doctor.jetson import Board
from edgead.commands.doctor.machine import Machine

if TYPE_CHECKING:
    from edgead.stream.sources.camera import CameraDevice

BINDING = "import gi\ngi.require_version('Gst', '1.0')\nfrom gi.repository import Gst\nprint(Gst.version_string())"
INSPECT = "gst-inspect-1.0"


@dataclass(frozen=True)
class Purpose:
    """A purpose of GStreamer elements.

    Attributes:
        name: Name of the check.
        elements: Debian package by element name.
        without: Consequence if an element is missing.
        jetson_only: Whether the elements exist on Jetsons only.
    """

    name: str
    elements: dict[str, str]
    without: str
    jetson_only: bool = False


BASE, GOOD, BAD, UGLY, LIBAV = (
    "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good", "gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-ugly",
    "gstreamer1.0-libav",
)  # fmt: skip
HARDWARE_ENCODER = "gst hw encoder"
L4T, CAMERA = "nvidia-l4t-gstreamer", "nvidia-l4t-camera"
PURPOSES = (
    Purpose("gst frames", {"appsink": BASE, "videoconvert": BASE}, "edgead cannot receive frames"),
    Purpose("gst usb camera", {"v4l2src": GOOD, "jpegdec": GOOD}, "USB cameras work through OpenCV only"),
    Purpose("gst csi camera", {"nvarguscamerasrc": CAMERA, "nvvidconv": L4T}, "no CSI (ribbon cable) camera", True),
    Purpose("gst rtsp", {"rtspsrc": GOOD, "rtph264depay": GOOD, "h264parse": BAD}, "no network cameras over RTSP"),
    Purpose("gst hw decoder", {"nvv4l2decoder": L4T}, "H.264 and H.265 are decoded by the CPU", True),
    Purpose("gst decoder", {"avdec_h264": LIBAV}, "H.264 needs the hardware decoder"),
    Purpose(HARDWARE_ENCODER, {"nvv4l2h264enc": L4T}, "recordings are encoded by the CPU", True),
    Purpose("gst encoder", {"x264enc": UGLY}, "recording as H.264 needs the hardware encoder"),
)


# queries all elements at once through the Python binding, which edgead uses
ELEMENTS = f"""import json, gi
gi.require_version('Gst', '1.0')
from gi.repository import Gst
Gst.init(None)
names = {[name for purpose in PURPOSES for name in purpose.elements]!r}
print(json.dumps([name for name in names if Gst.ElementFactory.find(name)]))"""


def check_video(machine: Machine, board: Board | None) -> Iterator[Check]:
    """Check cameras and GStreamer."""
    yield _cameras(machine)
    binding = _binding(machine, board)
    yield binding
    has_tool = machine.program(INSPECT) is not None
    if not has_tool and binding.status != "ok":
        yield Check(
            "gstreamer",
            "info",
            f"{INSPECT} is not installed, so GStreamer's elements cannot be checked; CSI cameras and hardware decoding need them",
            f"sudo apt install gstreamer1.0-tools {BASE} {GOOD} {BAD} {UGLY} {LIBAV}" if board else "",
        )
        return
    said = machine.run(INSPECT, "--version").out if has_tool else binding.detail
    match = re.search(r"GStreamer (\d+\.\d+\.\d+)", said)
    yield Check("gstreamer", "ok", match[1] if match else "installed, version unknown")
    known = None if has_tool else _known_to_binding(machine)
    for purpose in PURPOSES:
        if purpose.name == HARDWARE_ENCODER and board is not None and "orin nano" in board.model.lower():
            yield Check(purpose.name, "info", "Orin Nano has none: recordings are encoded by the CPU")
        elif board is not None or not purpose.jetson_only:
            yield _elements(machine, purpose, known)


def _cameras(machine: Machine) -> Check:
    try:
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # OpenCV without numpy prints a message, which must not mix with --json
            from edgead.stream.sources.camera import list_cameras
    except ImportError as error:  # reported by the check of OpenCV
        return Check("cameras", "info", f"not checked: {error}")
    cameras = list_cameras(machine.folder("/dev"), machine.folder("/sys/class/video4linux"))
    if not cameras:
        return Check("cameras", "info", "no /dev/video*; files, folders, URLs and `synthetic` work without a camera")
    return Check("cameras", "ok", "; ".join(map(camera_text, cameras)))


def camera_text(camera: CameraDevice) -> str:
    """Camera with its name for `edgead stream --source` and its modes."""
    from edgead.stream.sources.camera_format import describe_modes

    if not camera.captures_video:
        return f"{camera.path.name} delivers no frames ({camera.name})"
    place = f"camera:{camera.index}, {camera.link}," if camera.link else f"camera:{camera.index}"
    return f"{place} is {camera.name}{f' ({describe_modes(camera.modes)})' if camera.modes else ''}"


def _binding(machine: Machine, board: Board | None) -> Check:
    name = "gstreamer binding"
    without = "sources are V4L2, files and URLs through OpenCV"
    install = "sudo apt install python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0"
    if machine.module("gi") is not None:
        ran = machine.python(BINDING)
        if ran.ok:
            return Check(name, "ok", f"gi, {ran.out.strip()}")
        return Check(name, "info", f"gi is installed, but cannot use GStreamer ({ran.problem}): {without}", install)
    if machine.exists("/usr/lib/python3/dist-packages/gi/__init__.py"):
        advice = (
            "Create the environment with the system's Python: /usr/bin/python3 -m venv --system-site-packages .venv"
        )
        detail = f"the system's gi is not visible to this Python: {without}"
        return Check(name, "info", detail, advice if board else "")
    return Check(name, "info", f"gi is not installed: {without}", install if board else "")


def _known_to_binding(machine: Machine) -> set[str]:
    ran = machine.python(ELEMENTS)
    try:
        return set(json.loads(ran.out.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        return set()


def _elements(machine: Machine, purpose: Purpose, known: set[str] | None) -> Check:
    """Check that the elements exist: by the names in `known`, or with gst-inspect if None."""
    missing = [
        name
        for name in purpose.elements
        if not (machine.run(INSPECT, "--exists", name, timeout_s=60).ok if known is None else name in known)
    ]
    if not missing:
        return Check(purpose.name, "ok", ", ".join(purpose.elements))
    packages = " ".join(sorted({purpose.elements[name] for name in missing}))
    return Check(
        purpose.name, "info", f"no {' and no '.join(missing)}: {purpose.without}", f"sudo apt install {packages}"
    )
