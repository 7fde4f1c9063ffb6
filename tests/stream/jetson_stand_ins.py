"""NVIDIA's GStreamer elements played by software ones, in a process of its own: `python -m tests.stream.jetson_stand_ins`.

They have the names, the properties and the label of the memory (NVMM) that edgead's pipelines rely on, nothing else.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from typing import Any, ClassVar

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
from gi.repository import GObject, Gst, GstBase

from edgead.stream.sources.registry import source_from_uri
from tests.stream.fakes import SOURCE_OPTIONS
from tests.stream.servers import rtsp_camera

Gst.init(None)
NVMM = "video/x-raw(memory:NVMM)"
H264 = "video/x-h264,stream-format=byte-stream,alignment=au"
SEEN: dict[str, Any] = {}


def relabelled(caps: Any, *, as_nvmm: bool) -> Any:
    """The same formats, said to lie in the other kind of memory."""
    changed = Gst.Caps.new_empty()
    for index in range(caps.get_size()):
        features = Gst.CapsFeatures.from_string("memory:NVMM") if as_nvmm else None
        changed.append_structure_full(caps.get_structure(index).copy(), features)
    return changed


class Relabel(GstBase.BaseTransform):
    """Passes pictures on under the label of the other kind of memory."""

    gives_nvmm = True

    def do_transform_caps(self, direction: Any, caps: Any, limits: Any) -> Any:
        changed = relabelled(caps, as_nvmm=(direction == Gst.PadDirection.SINK) == self.gives_nvmm)
        return limits.intersect(changed) if limits is not None else changed

    def do_transform_ip(self, buffer: Any) -> Any:
        return Gst.FlowReturn.OK


class ToNvmm(Relabel):
    """From ordinary memory to NVMM."""

    pads: ClassVar = {"sink": "video/x-raw", "src": NVMM}


class FromNvmm(Relabel):
    """And back."""

    pads: ClassVar = {"sink": NVMM, "src": "video/x-raw"}
    gives_nvmm = False


class StandIn(Gst.Bin):
    """A bin around a chain of software elements, with one property that it remembers."""

    line = ""

    def __init__(self) -> None:
        super().__init__()
        inner = Gst.parse_bin_from_description(self.line, True)
        self.add(inner)
        for name in ("sink", "src"):
            if (pad := inner.get_static_pad(name)) is not None:
                self.add_pad(Gst.GhostPad.new(name, pad))
        self.value = 0
        SEEN[type(self).__name__] = self

    def do_set_property(self, spec: Any, value: Any) -> None:
        self.value = value

    def do_get_property(self, spec: Any) -> Any:
        return self.value


class Sensor(StandIn):
    """`nvarguscamerasrc`."""

    pads: ClassVar = {"src": NVMM}
    __gproperties__: ClassVar = {"sensor-id": (int, "sensor", "number", 0, 9, 0, GObject.ParamFlags.READWRITE)}
    line = "videotestsrc is-live=true ! video/x-raw,format=NV12 ! tonvmm"


class Converter(StandIn):
    """`nvvidconv`, from NVMM to ordinary memory."""

    pads: ClassVar = {"sink": NVMM, "src": "video/x-raw"}
    __gproperties__: ClassVar = {"flip-method": (int, "flip", "how", 0, 7, 0, GObject.ParamFlags.READWRITE)}
    line = "fromnvmm ! videoconvert"


class Decoder(StandIn):
    """`nvv4l2decoder`, H.264 to NVMM."""

    pads: ClassVar = {"sink": H264, "src": NVMM}
    line = f"capsfilter caps={H264} ! avdec_h264 ! videoconvert ! video/x-raw,format=NV12 ! tonvmm"


def register(name: str, kind: Any) -> None:
    """Make a class known as an element."""
    kind.set_metadata(name, "Filter", "stand-in", "edgead")
    for pad, caps in kind.pads.items():
        direction = Gst.PadDirection.SRC if pad == "src" else Gst.PadDirection.SINK
        kind.add_pad_template(Gst.PadTemplate.new(pad, direction, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(caps)))
    assert Gst.Element.register(None, name, 0, kind), name


def main() -> None:
    options = replace(SOURCE_OPTIONS, open_timeout_s=5.0, camera_format="1280x720@25", csi_flip=2)
    for name, kind in (
        ("tonvmm", ToNvmm),
        ("fromnvmm", FromNvmm),
        ("nvarguscamerasrc", Sensor),
        ("nvvidconv", Converter),
    ):
        register(name, kind)
    with source_from_uri("csi:1", options) as source:
        frame = next(itertools.islice(source.frames(threading.Event()), 3, None))
        print("csi", frame.image.shape, source.fps, "sensor", SEEN["Sensor"].value, "flip", SEEN["Converter"].value)
    register("nvv4l2decoder", Decoder)
    with rtsp_camera() as camera:
        SEEN.clear()
        # a first connection of GStreamer's own two ends may stall; like one of several cameras it is tried again
        with source_from_uri(camera.url, replace(options, give_up=False)) as source:
            frame = next(itertools.islice(source.frames(threading.Event()), 3, None))
            print("rtsp", frame.image.shape, "nvv4l2decoder" if "Decoder" in SEEN else "another decoder")
    assert options.decoder == "auto"


if __name__ == "__main__":
    main()
