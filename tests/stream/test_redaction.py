"""No secret of an address gets out."""

from __future__ import annotations

import pytest

from edgead.stream.redaction import redact


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("rtsp://user:secret@cam:554/live", "rtsp://***@cam:554/live"),
        ("rtsp://user:se/cr@et@cam/live", "rtsp://***@cam/live"),
        ("http://cam/video?user=u&password=secret&w=640", "http://cam/video?user=***&password=***&w=640"),
        ("https://cam/v?access_token=secret", "https://cam/v?access_token=***"),
        ("http://cam/stream.mjpg?fps=5", "http://cam/stream.mjpg?fps=5"),
        ("videos/a@b.mp4", "videos/a@b.mp4"),
        ("camera:0", "camera:0"),
    ],
)
def test_redact(uri: str, expected: str) -> None:
    """Credentials and secret-looking query values are masked, everything else is kept."""
    assert redact(uri) == expected
    assert "secret" not in redact(uri)
