"""RTSP and HTTP streams."""

from __future__ import annotations

import logging
import time

from edgead.errors import SourceError
from edgead.redaction import escape_credentials, redact
from edgead.stream.sources.capture import Capture, VideoRefused, frame_count, open_url_capture
from edgead.stream.sources.gst_binding import decodes_rtsp
from edgead.stream.sources.gst_capture import UndecodableVideo
from edgead.stream.sources.gstreamer import open_rtsp_pipeline
from edgead.stream.sources.http_camera import SnapshotCapture, open_http_camera
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.newest import NewestCapture
from edgead.stream.sources.source import SourceOptions

_LOG = logging.getLogger(__name__)


def network_source(uri: str, options: SourceOptions) -> LiveSource:
    """A network stream by its URL; the source's name is redacted."""
    name = redact(uri)
    is_http = uri.lower().startswith("http")
    is_rtsp = uri.lower().startswith("rtsp")

    def connect() -> Capture:
        if is_http:
            camera = open_http_camera(
                uri,
                open_timeout_s=options.open_timeout_s,
                read_timeout_s=options.read_timeout_s,
                snapshot_fps=options.snapshot_fps,
                reading=options.reading,
            )
            if isinstance(camera, SnapshotCapture):
                return camera
            if camera is not None:
                return newest(camera)
        if is_rtsp and (options.decoder == "gstreamer" or (options.decoder == "auto" and decodes_rtsp())):
            try:
                return open_rtsp_pipeline(uri, options)
            except UndecodableVideo as error:
                if options.decoder == "gstreamer":
                    raise
                _LOG.warning("%s FFmpeg tries it.", error.message)
        began_s = time.monotonic()
        try:
            capture = open_url_capture(
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

        return newest(capture) if is_http and frame_count(capture) is None else capture

    def newest(capture: Capture) -> Capture:
        return NewestCapture(capture, count_stale) if options.max_frame_age_s > 0 else capture

    def count_stale() -> None:
        source.report.stale_frames += 1

    # MJPEG frames have no times; FFmpeg numbers them as if they came at 25 a second.
    source = LiveSource(name, connect, options, has_times=is_rtsp)
    return source
