"""Frames of a running GStreamer pipeline."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from edgead.errors import SourceError
from edgead.redaction import redact_message
from edgead.stream.sources.gst_binding import gstreamer
from edgead.stream.sources.gst_damage import RtpDamage
from edgead.stream.sources.gst_pipelines import APPSINK

_SLICE_S = 0.1
# Packets without a whole picture for this long are handed on as a damaged one.
_DAMAGED_S = 0.3


class UndecodableVideo(SourceError):
    """Video in an encoding that GStreamer cannot decode here; FFmpeg may."""


class GstCapture:
    """A `Capture` that reads from a GStreamer pipeline.

    Args:
        pipeline: A Gst.Pipeline with an appsink of the name `APPSINK` that takes RGB.
        name: Redacted name of the source.
        uri: Address with all secrets, to keep them out of GStreamer's messages.
        read_timeout_s: Longest wait for a frame.
        lost: Tracker of lost packets, if the frames come in packets that can be lost.
    """

    def __init__(
        self, pipeline: Any, name: str, uri: str, read_timeout_s: float, lost: RtpDamage | None = None
    ) -> None:
        self.damage = ""
        self._gst = gstreamer()
        self._pipeline = pipeline
        self._sink = pipeline.get_by_name(APPSINK)
        self._bus = pipeline.get_bus()
        self._name = name
        self._uri = uri
        self._read_timeout_s = read_timeout_s
        self._waiting: Any = None
        self._caps: Any = None
        self._info: Any = None
        self._pts_ns = 0
        self._n_read = 0
        self._is_at_end = False
        self._problem = ""
        self._is_undecodable = False
        self._lost = lost
        self._n_packets = 0
        self._heard_s = 0.0

    def start(self, timeout_s: float) -> None:
        """Start the pipeline and wait for the first frame.

        Raises:
            SourceError: If no frame comes within `timeout_s`.
        """
        changed = self._pipeline.set_state(self._gst.State.PLAYING)
        failed = changed == self._gst.StateChangeReturn.FAILURE
        self._waiting = self._pull(0.0 if failed else timeout_s, whole=True)
        if self._waiting is not None:
            self._read_info(self._waiting)
            return
        reason = self._problem or ("it does not start" if failed else f"no video came within {timeout_s:g} s")
        if not self._problem and self._lost is not None and self._lost.n_lost:
            reason = f"no whole picture came within {timeout_s:g} s, as {self._lost.reason() or 'packets are lost'}"
        raise (UndecodableVideo if self._is_undecodable else SourceError)(
            f"{self._name} cannot be opened: {reason.rstrip('.')}.",
            hint="Check address, user, password, cable and network; a slow camera may need a larger "
            "stream.open_timeout_s.",
            retryable=True,
        )

    def fail(self, problem: str, *, is_undecodable: bool = False) -> None:
        """Make the next read fail; may be called from any thread."""
        self._is_undecodable = self._is_undecodable or is_undecodable
        self._problem = self._problem or redact_message(problem, self._uri)

    def read(self) -> tuple[bool, MatLike]:
        self.damage = ""
        sample, self._waiting = self._waiting or self._pull(self._read_timeout_s), None
        if sample is None:
            if self.damage:
                return True, np.empty(0, np.uint8)
            if self._problem and not self._is_at_end:
                raise SourceError(self._problem, retryable=True)
            return False, np.empty(0, np.uint8)
        self._n_read += 1
        image = self._image(sample)
        if self._lost is not None:
            self.damage = self._lost.reason(self._pts_ns)
        return True, image

    def get(self, property_id: int, /) -> float:
        if property_id == cv2.CAP_PROP_POS_MSEC:
            return float(self._pts_ns / 1e6)
        if property_id == cv2.CAP_PROP_FRAME_COUNT:
            return self._n_read if self._is_at_end else -1
        info = self._info
        if info is None:
            return 0.0
        if property_id == cv2.CAP_PROP_FPS:
            return float(info.fps_n / info.fps_d) if info.fps_d else 0.0
        sides = {cv2.CAP_PROP_FRAME_WIDTH: info.width, cv2.CAP_PROP_FRAME_HEIGHT: info.height}
        return float(sides.get(property_id, 0))

    def release(self) -> None:
        self._waiting = None
        self._pipeline.set_state(self._gst.State.NULL)

    def _pull(self, timeout_s: float, *, whole: bool = False) -> Any:
        """Wait for the next sample; None on timeout, at the end of the stream or if the pipeline fails.

        Unless `whole` is asked for, None also while packets come and no whole picture; `damage` then says why.
        """
        began_s = self._heard_s = time.monotonic()
        while not self._is_broken():
            now_s = time.monotonic()
            left_s = max(self._heard_s + timeout_s - now_s, 0.0)
            sample = self._sink.try_pull_sample(round(min(left_s, _SLICE_S) * 1e9))
            if sample is not None:
                return sample
            if self._sink.is_eos() and not self._is_broken():
                # only recorded material is played with sync, and this is then its end
                self._is_at_end = bool(self._sink.get_property("sync"))
                self.fail("the stream ended")
            elif not whole and now_s - began_s > _DAMAGED_S and self._is_damaged():
                return None
            elif left_s == 0:
                return None
        return None

    def _is_damaged(self) -> bool:
        """Whether packets come, but no whole picture."""
        reason = "" if self._lost is None else self._lost.reason()
        if self._lost is None or not reason:
            return False
        before, self._n_packets = self._n_packets, self._lost.n_packets()
        if self._n_packets != before:
            self.damage = reason
        return bool(self.damage)

    def _is_broken(self) -> bool:
        # also discards all other messages, which are not used
        message = self._bus.pop_filtered(self._gst.MessageType.ERROR)
        if message is not None:
            self.fail(message.parse_error()[0].message)
        return bool(self._problem)

    def _read_info(self, sample: Any) -> Any:
        from gi.repository import GstVideo

        caps = sample.get_caps()
        if self._caps is None or not caps.is_equal(self._caps):
            self._caps, self._info = caps, GstVideo.VideoInfo.new_from_caps(caps)
        return self._info

    def _image(self, sample: Any) -> MatLike:
        info, buffer = self._read_info(sample), sample.get_buffer()
        self._pts_ns = buffer.pts
        width, height, stride = info.width, info.height, info.stride[0]
        # a copy: the buffer goes back to the pipeline
        content = np.frombuffer(buffer.extract_dup(info.offset[0], stride * height), np.uint8)
        return np.ascontiguousarray(content.reshape(height, stride)[:, : width * 3]).reshape(height, width, 3)
