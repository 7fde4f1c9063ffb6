"""RTSP and HTTP streams."""

from __future__ import annotations

import logging
import time

from edgead.errors import SourceError
from edgead.redaction import escape_credentials, redact
from edgead.stream.sources.capture import Capture, VideoRefused, open_url_capture
from edgead.stream.sources.gst_binding import decodes_rtsp
from edgead.stream.sources.gst_capture import UndecodableVideo
from edgead.stream.sources.gstreamer import open_rtsp_pipeline
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.mjpeg import open_mjpeg
from edgead.stream.sources.source import SourceOptions

_LOG = logging.getLogger(__name__)


def network_source(uri: str, options: SourceOptions) -> LiveSource:
    """A network stream by its URL; the source's name is redacted."""
    name = redact(uri)
    is_plain_http = uri.lower().startswith("http:")
    is_rtsp = uri.lower().startswith("rtsp")

    def connect() -> Capture:
        if is_plain_http:
            mjpeg = open_mjpeg(
                uri,
                open_timeout_s=options.open_timeout_s,
                read_timeout_s=options.read_timeout_s,
                on_damage=count_damage,
            )
            if mjpeg is not None:
                return mjpeg
        if is_rtsp and (options.decoder == "gstreamer" or (options.decoder == "auto" and decodes_rtsp())):
            try:
                return open_rtsp_pipeline(uri, options)
            except UndecodableVideo as error:
                if options.decoder == "gstreamer":
                    raise
                _LOG.warning("%s FFmpeg tries it.", error.message)
        began_s = time.monotonic()
        try:
            return open_url_capture(
                escape_credentials(uri),
                open_timeout_s=options.open_timeout_s,
                read_timeout_s=options.read_timeout_s,
                rtsp_transport=options.rtsp_transport,
            )
        except VideoRefused as error:
            spent_s = time.monotonic() - began_s
            why = (
                f"no video came within {options.open_timeout_s:g} s"
                if spent_s > 0.9 * options.open_timeout_s
                else f"it refused the connection, the login or the address, or gives no video ({spent_s:.1f} s)"
            )
            raise SourceError(
                f"{name} cannot be opened: {why}{f'; FFmpeg says: {error}' if str(error) else ''}.",
                hint="Check address, user, password and network (`ffprobe URL` says more); a slow camera may need a "
                "larger stream.open_timeout_s.",
                retryable=True,
            ) from None

    def count_damage() -> None:
        source.report.damaged_frames += 1

    # MJPEG frames have no times; FFmpeg numbers them as if they came at 25 a second.
    source = LiveSource(name, connect, options, has_times=is_rtsp)
    return source
