"""GStreamer elements for cameras: hardware ones where the machine has them, software ones elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgead.redaction import split_credentials
from edgead.stream.sources.camera_format import CameraFormat
from edgead.stream.sources.source import SourceOptions

Has = Callable[[str], bool]
Value = str | int | bool

APPSINK = "frames"
SENSOR = "nvarguscamerasrc"
CONVERTER = "nvvidconv"
HARDWARE_DECODER = "nvv4l2decoder"
# what receives RTP and hands over frames
RECEIVING = ("rtspsrc", "rtpjitterbuffer", "queue", "videoconvert", "capsfilter", "appsink")
NVMM = "video/x-raw(memory:NVMM)"


@dataclass(frozen=True)
class Element:
    """An element and its property values, which are set one by one and never become part of a launch line.

    Attributes:
        factory: Name of the element's factory.
        properties: Required properties, by name.
        optional: Properties that only some versions and makes of the element have, by name.
    """

    factory: str
    properties: Mapping[str, Value] = field(default_factory=dict, repr=False)
    optional: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Codec:
    """A video codec of network cameras.

    Attributes:
        depayload: Element that unpacks RTP.
        parse: Element that prepares the stream for decoders.
        software: CPU decoders, the preferred one first.
        in_hardware: Whether Jetson's decoder accepts the codec.
    """

    depayload: str
    parse: str
    software: tuple[str, ...]
    in_hardware: bool = True


# A frame that lacks its key frame or a packet is smeared, and would be scored as a defect.
_WHOLE: Mapping[str, Value] = {"wait-for-keyframe": True, "output-corrupt": False, "discard-corrupted-frames": True}

# by RTP encoding-name
CODECS = {
    "H264": Codec("rtph264depay", "h264parse", ("avdec_h264", "openh264dec")),
    "H265": Codec("rtph265depay", "h265parse", ("avdec_h265", "libde265dec")),
    "JPEG": Codec("rtpjpegdepay", "jpegparse", ("jpegdec", "avdec_mjpeg"), in_hardware=False),
}


def caps(text: str) -> Element:
    """A caps filter."""
    return Element("capsfilter", {"caps": text})


def to_frames(*, in_hardware: bool, is_live: bool) -> tuple[Element, ...]:
    """Elements from decoded frames to RGB arrays.

    Args:
        in_hardware: Whether the frames are in the memory of Jetson's hardware (NVMM).
        is_live: Whether to keep only the newest frame; otherwise every frame is kept and played at its own pace.
    """
    out = (Element(CONVERTER), caps("video/x-raw,format=BGRx")) if in_hardware else ()
    leaky = "downstream" if is_live else "no"
    return (
        Element("queue", {"leaky": leaky, "max-size-buffers": 1, "max-size-bytes": 0, "max-size-time": 0}),
        *out,
        Element("videoconvert"),
        caps("video/x-raw,format=RGB"),
        Element("appsink", {"name": APPSINK, "max-buffers": 1, "drop": is_live, "sync": not is_live}),
    )


def rtsp_source(url: str, options: SourceOptions) -> Element:
    """RTSP source element for a network camera."""
    place, credentials = split_credentials(url)
    limit_us = round(options.read_timeout_s * 1e6)
    login = {"user-id": credentials.user, "user-pw": credentials.password} if credentials else {}
    return Element(
        "rtspsrc",
        {
            "location": place,
            **login,
            "protocols": options.rtsp_transport,
            "latency": options.rtsp_latency_ms,
            "drop-on-latency": True,
            "tcp-timeout": limit_us,
            "timeout": limit_us,
        },
    )


def decoding(encoding: str, has: Has) -> tuple[Element, ...] | None:
    """Elements from RTP packets of an encoding to decoded frames; None if this machine cannot decode it."""
    codec = CODECS.get(encoding.upper())
    if codec is None or not has(codec.depayload):
        return None
    hardware = (HARDWARE_DECODER,) if codec.in_hardware and has(CONVERTER) else ()
    decoder = next((name for name in (*hardware, *codec.software) if has(name)), None)
    if decoder is None:
        return None
    parse = (Element(codec.parse),) if has(codec.parse) else ()
    return Element(codec.depayload, optional=_WHOLE), *parse, Element(decoder, optional=_WHOLE)


def csi_camera(sensor: int, wanted: CameraFormat, flip: int) -> tuple[Element, ...]:
    """Elements from a CSI (ribbon cable) camera of a Jetson to RGB arrays.

    Args:
        sensor: Number of the sensor.
        wanted: Size and frame rate; the driver chooses what is left open.
        flip: Rotation or mirroring: `nvvidconv`'s flip-method, 0..7.
    """
    limits = "".join(
        f",{limit}"
        for limit in (
            f"width={wanted.size[1]},height={wanted.size[0]}" if wanted.size else "",
            f"framerate={round(wanted.fps * 1000)}/1000" if wanted.fps else "",
        )
        if limit
    )
    return (
        Element(SENSOR, {"sensor-id": sensor}),
        caps(f"{NVMM},format=NV12{limits}"),
        Element(CONVERTER, {"flip-method": flip}),
        caps("video/x-raw,format=BGRx"),
        *to_frames(in_hardware=False, is_live=True),
    )
