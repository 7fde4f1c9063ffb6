"""Captures through GStreamer: CSI cameras, hardware decoding of RTSP, and launch lines."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from edgead.errors import SourceError
from edgead.redaction import redact, redact_message
from edgead.stream.sources.camera_format import parse_camera_format
from edgead.stream.sources.capture import Capture
from edgead.stream.sources.gst_binding import (
    PACKAGES,
    decodes_in_hardware,
    gstreamer,
    has_element,
    make_element,
    set_properties,
)
from edgead.stream.sources.gst_capture import GstCapture
from edgead.stream.sources.gst_damage import RtpDamage
from edgead.stream.sources.gst_pipelines import (
    CONVERTER,
    SENSOR,
    Element,
    csi_camera,
    decoding,
    rtsp_source,
    to_frames,
)
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.source import SourceOptions

_END = "edgead_end"


def csi_source(uri: str, options: SourceOptions) -> LiveSource:
    """A CSI (ribbon cable) camera of a Jetson by `csi:N`.

    Raises:
        SourceError: If the text names no camera, or `options.camera_format` no format.
    """
    match = re.fullmatch(r"csi:(\d+)", uri)
    if match is None:
        raise SourceError(f"{uri!r} names no CSI camera.", hint="Give its number, for example csi:0.")
    elements = csi_camera(int(match[1]), parse_camera_format(options.camera_format), options.csi_flip)

    def connect() -> Capture:
        missing = [name for name in (SENSOR, CONVERTER) if not has_element(name)]
        if missing:
            raise SourceError(
                f"{uri} cannot be opened: GStreamer has no {' and no '.join(missing)} here.",
                hint="CSI (ribbon cable) cameras need a Jetson with the packages nvidia-l4t-camera and "
                "nvidia-l4t-gstreamer. A USB camera is camera:N.",
            )
        return _Pipeline(uri, options).play(elements)

    return LiveSource(uri, connect, options, has_times=True)


def launch_source(uri: str, options: SourceOptions) -> LiveSource:
    """A GStreamer launch line, `gst:LINE`, whose last element outputs video."""
    line = uri.partition(":")[2]
    return LiveSource(redact(uri), lambda: _Pipeline(uri, options).launch(line), options, has_times=True)


def open_rtsp_pipeline(url: str, options: SourceOptions) -> Capture:
    """Open a network camera, with hardware decoding where available.

    Raises:
        SourceError: If the camera does not answer or its video cannot be decoded on this machine.
        MissingDependencyError: If the binding is not installed.
    """
    return _Pipeline(url, options).rtsp()


class _Pipeline:
    """Builder of a pipeline and its capture; shuts the pipeline down on failure."""

    def __init__(self, uri: str, options: SourceOptions) -> None:
        self._gst = gstreamer()
        self._uri = uri
        self._name = redact(uri)
        self._options = options
        self._pipeline = self._gst.Pipeline.new(None)

    def play(self, elements: Sequence[Element]) -> Capture:
        """Open a capture of a chain that ends in an appsink."""
        return self._start(lambda: self._link(self._add(elements)))

    def launch(self, line: str) -> Capture:
        """Open a capture of a launch line."""
        return self._start(functools.partial(self._launch, line))

    def rtsp(self) -> Capture:
        """Open a capture of the network camera at the address."""
        tail: list[Any] = []
        source = make_element(rtsp_source(self._uri, self._options))
        lost = RtpDamage()
        lost.watch_source(source)

        def build() -> None:
            self._pipeline.add(source)
            tail.extend(self._add(to_frames(in_hardware=decodes_in_hardware(), is_live=True)))
            self._link(tail)

        def connect(capture: GstCapture) -> None:
            # both callbacks run on threads of GStreamer
            source.connect("select-stream", lambda _, number, caps: _text_of(caps, "media") == "video")
            source.connect("pad-added", lambda _, pad: self._decode(pad, tail[0], capture, lost))

        return self._start(build, connect, lost)

    def _start(
        self,
        build: Callable[[], None],
        prepare: Callable[[GstCapture], None] | None = None,
        lost: RtpDamage | None = None,
    ) -> Capture:
        try:
            build()
            capture = GstCapture(self._pipeline, self._name, self._uri, self._options.read_timeout_s, lost)
            if prepare is not None:
                prepare(capture)
            capture.start(self._options.open_timeout_s)
        except BaseException:
            self._pipeline.set_state(self._gst.State.NULL)
            raise
        return capture

    def _launch(self, line: str) -> None:
        try:
            # a line may end in a format, or in an element that determines its output later
            head = self._gst.parse_bin_from_description(f"{line} ! identity name={_END}", False)
        except Exception as error:  # GLib.Error, which is only there with the binding
            # the message ends with the value of a property, which may be a secret
            said = redact_message(str(getattr(error, "message", "")).partition(' to "')[0], self._uri)
            raise SourceError(
                f"{self._name}: GStreamer does not understand the launch line: {said.rstrip('.')}.",
                hint="Try it with `gst-launch-1.0 LINE ! fakesink`. It has no sink of its own, as edgead adds "
                "`videoconvert ! appsink`: gst:videotestsrc is-live=true ! video/x-raw,width=640,height=480",
            ) from None
        head.add_pad(self._gst.GhostPad.new("src", head.get_by_name(_END).get_static_pad("src")))
        self._pipeline.add(head)
        tail = self._add(to_frames(in_hardware=False, is_live=False))
        self._link([head, *tail])
        if self._pipeline.set_state(self._gst.State.PAUSED) == self._gst.StateChangeReturn.NO_PREROLL:
            for made, element in zip(tail, to_frames(in_hardware=False, is_live=True), strict=True):
                set_properties(made, element)

    def _decode(self, pad: Any, tail: Any, capture: GstCapture, lost: RtpDamage) -> None:
        if tail.get_static_pad("sink").is_linked():
            return  # use the first video of a camera that sends several
        encoding = _text_of(pad.get_current_caps() or pad.query_caps(None), "encoding-name")
        elements = decoding(encoding, has_element)
        if elements is None:
            capture.fail(
                f"nothing here decodes its {encoding or 'unknown'} video; install {PACKAGES}", is_undecodable=True
            )
            return
        try:
            made = self._add(elements)
            self._link([*made, tail])
            lost.watch_packets(pad)
            lost.watch_units(made[-1].get_static_pad("sink"))
        except SourceError as error:
            capture.fail(error.message)
            return
        for element in reversed(made):
            element.sync_state_with_parent()
        if pad.link(made[0].get_static_pad("sink")) != self._gst.PadLinkReturn.OK:
            capture.fail(f"its {encoding} video does not fit {elements[0].factory}")

    def _add(self, elements: Sequence[Element]) -> list[Any]:
        made = [make_element(element) for element in elements]
        for element in made:
            self._pipeline.add(element)
        return made

    def _link(self, elements: Sequence[Any]) -> None:
        for before, after in itertools.pairwise(elements):
            if not before.link(after):
                names = " and ".join(element.get_factory().get_name() for element in (before, after))
                raise SourceError(f"{self._name}: GStreamer cannot connect {names}: their formats do not meet.")


def _text_of(caps: Any, name: str) -> str:
    return (caps.get_structure(0).get_string(name) or "") if caps is not None and caps.get_size() else ""
