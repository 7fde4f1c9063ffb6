"""RTSP and HTTP streams."""

from __future__ import annotations

from edgead.errors import SourceError
from edgead.stream.redaction import redact
from edgead.stream.sources.capture import Capture, open_url_capture
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.restart import RestartBudget
from edgead.stream.sources.source import SourceOptions


def network_source(uri: str, options: SourceOptions) -> LiveSource:
    """A stream by its URL; the name that anybody gets to see is redacted."""
    name = redact(uri)

    def connect() -> Capture:
        capture = open_url_capture(uri, open_timeout_s=options.open_timeout_s, read_timeout_s=options.read_timeout_s)
        if capture is None:
            raise SourceError(
                f"{name} cannot be opened: no video came within {options.open_timeout_s:g} s.",
                hint="Check address, user, password and network (`ffprobe URL` says more); a slow camera may need a "
                "larger stream.open_timeout_s.",
                retryable=True,
            )
        return capture

    return LiveSource(name, connect, RestartBudget(options.max_restarts, options.restart_window_s))
