"""Pictures of an RTP stream that lack packets, found in a GStreamer pipeline."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from edgead.stream.sources.gst_binding import gstreamer

_LOST = "GstRTPPacketLost"
# More than any decoder holds back.
_N_UNITS = 256


class RtpDamage:
    """Which decoded pictures lack packets: those from a loss to the next key frame that came whole.

    Probes on events and on whole access units alone: one on every packet would wait for Python's lock hundreds of times
    a second.

    Attributes:
        n_lost: Number of losses since the connection.
    """

    def __init__(self) -> None:
        self.n_lost = 0
        self._gst = gstreamer()
        self._buffers: list[Any] = []
        # until the first key frame
        self._is_broken = True
        self._is_reported = False
        self._is_packet_awaited = False
        self._torn_pts: int | None = None
        self._healed_pts: int | None = None
        self._units: OrderedDict[int, bool] = OrderedDict()

    def watch_source(self, source: Any) -> None:
        """Let the jitter buffers of an `rtspsrc` report lost packets; call before it starts."""
        source.connect("new-manager", self._manage)

    def watch_packets(self, pad: Any) -> None:
        """Watch the pad that gives the video's RTP packets."""
        pad.add_probe(self._gst.PadProbeType.EVENT_DOWNSTREAM, self._see_event)

    def watch_units(self, pad: Any) -> None:
        """Watch the pad through which access units (encoded pictures) reach the decoder."""
        pad.add_probe(self._gst.PadProbeType.BUFFER, self._see_unit)

    def reason(self, pts_ns: int | None = None) -> str:
        """Reason why the decoded picture of this time is damaged, or the coming ones for None; empty if they are not."""
        is_damaged = self._is_broken if pts_ns is None else self._units.get(pts_ns, self._is_broken)
        if not is_damaged:
            return ""
        return f"packets are lost ({self.n_lost} times so far)" if self.n_lost else "no key frame has come yet"

    def n_packets(self) -> int:
        """Number of packets that have arrived or are known to be lost."""
        names = ("num-pushed", "num-lost", "num-late")
        return sum(buffer.get_property("stats").get_uint64(name)[1] for buffer in self._buffers for name in names)

    # On threads of GStreamer

    def _manage(self, source: Any, manager: Any) -> None:
        if manager.find_property("do-lost") is not None:
            manager.set_property("do-lost", True)
            manager.connect("new-jitterbuffer", lambda _, buffer, *rest: self._buffers.append(buffer))

    def _see_event(self, pad: Any, info: Any) -> Any:
        structure = info.get_event().get_structure()
        if structure is not None and structure.get_name() == _LOST:
            self.n_lost += 1
            self._is_broken = self._is_reported = True
            if self._units:
                # the loss may be the end of the unit before
                self._units[next(reversed(self._units))] = True
            if not self._is_packet_awaited:
                self._is_packet_awaited = True
                pad.add_probe(self._gst.PadProbeType.BUFFER | self._gst.PadProbeType.BUFFER_LIST, self._see_packet)
        return self._gst.PadProbeReturn.OK

    def _see_packet(self, pad: Any, info: Any) -> Any:
        """The first packet after a loss: its picture may lack the packets before it."""
        packets = info.get_buffer_list() if info.type & self._gst.PadProbeType.BUFFER_LIST else None
        packet = info.get_buffer() if packets is None else packets.get(0)
        self._torn_pts = None if packet is None else packet.pts
        self._is_packet_awaited = False
        return self._gst.PadProbeReturn.REMOVE

    def _see_unit(self, pad: Any, info: Any) -> Any:
        unit = info.get_buffer()
        is_key = not unit.has_flags(self._gst.BufferFlags.DELTA_UNIT)
        if unit.has_flags(self._gst.BufferFlags.DISCONT) and self._units:
            self._see_gap(unit)
        if self._is_broken and is_key and not self._is_packet_awaited and unit.pts != self._torn_pts:
            self._is_broken, self._healed_pts = False, unit.pts
        # pictures that are shown before the key frame but sent after it refer to lost ones
        is_early = self._healed_pts is not None and unit.pts < self._healed_pts
        self._units[unit.pts] = self._is_broken or is_early
        while len(self._units) > _N_UNITS:
            self._units.popitem(last=False)
        return self._gst.PadProbeReturn.OK

    def _see_gap(self, unit: Any) -> None:
        """A gap before this unit: soon after its start the jitter buffer does not report what is lost."""
        if not self._is_reported:
            self.n_lost += 1
            self._is_broken, self._torn_pts = True, unit.pts
        self._is_reported = False
