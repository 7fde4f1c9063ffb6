"""No secret of an address gets out, and none changes what is connected to."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.redaction import escape_credentials, redact, redact_message, split_credentials
from edgead.stream.sources.gst_pipelines import rtsp_source
from edgead.stream.sources.registry import source_from_uri

from .stream.fakes import SOURCE_OPTIONS

# what a password may hold, the characters that mean something to a URL, a launch line or a shell among them
HOSTILE = st.text(
    st.sampled_from("abzAZ09:/?#[]@!$&'()*+,;=%\" \\<>{}|^`~äß€") | st.characters(codec="utf-8", exclude_categories=("C",)),
    min_size=6, max_size=24,
)  # fmt: skip


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
        ("gst:rtspsrc location=rtsp://a:secret@cam user-pw=secret ! rtph264depay", "gst:rtspsrc …"),
        ('gst:"secret', "gst:…"),
        ("gst:rtspsrc user-pw=a ! secret", "gst:rtspsrc …"),
        ("GST:user-pw=secret", "gst:…"),
        ("gst:", "gst:…"),
    ],
)
def test_redact(uri: str, expected: str) -> None:
    """Credentials, secret-looking query values and properties of launch lines are masked, everything else is kept."""
    assert redact(uri) == expected
    assert "secret" not in redact(uri)


@pytest.mark.parametrize(
    ("url", "bare", "user", "password"),
    [
        ("rtsp://a:b@cam:554/live", "rtsp://cam:554/live", "a", "b"),
        ("rtsp://a:b@[::1]:554/live", "rtsp://[::1]:554/live", "a", "b"),
        ("rtsp://a:p%40ss%2F@cam/x", "rtsp://cam/x", "a", "p@ss/"),
        ("rtsp://a:pa/s#s?@cam/x", "rtsp://cam/x", "a", "pa/s#s?"),
        ("rtsp://a:p@ss@cam/x", "rtsp://cam/x", "a", "p@ss"),
        ("rtsp://a@cam/x", "rtsp://cam/x", "a", ""),
    ],
)
def test_credentials_are_found(url: str, bare: str, user: str, password: str) -> None:
    """User and password are found escaped and unescaped, and the place stays what it was."""
    found, credentials = split_credentials(url)
    assert credentials is not None
    assert (found, credentials.user, credentials.password) == (bare, user, password)
    assert password == "" or password not in repr(credentials)


@pytest.mark.parametrize(
    "url", ["rtsp://cam/live", "http://cam:80/mail?to=a@b", "rtsp://[fe80::1]/a@b", "video.mp4", "a@b", "http://cam"]
)
def test_an_at_sign_elsewhere_is_no_credential(url: str) -> None:
    """A URL without credentials is opened as it was typed."""
    assert split_credentials(url) == (url, None)
    assert escape_credentials(url) == url


@given(user=HOSTILE, password=HOSTILE)
def test_no_password_survives_or_changes_the_place(user: str, password: str) -> None:
    """Whatever user and password hold, the name shows none of it, and an escaped URL leads to the same camera with them."""
    url = f"rtsp://{quote(user, safe='')}:{quote(password, safe='')}@camera.example:8554/live?profile=1"
    name = redact(url)
    assert name == "rtsp://***@camera.example:8554/live?profile=1"
    bare, credentials = split_credentials(url)
    assert credentials is not None
    assert (bare, credentials.user, credentials.password) == (
        "rtsp://camera.example:8554/live?profile=1", user, password,
    )  # fmt: skip
    parts = urlsplit(escape_credentials(url))
    assert (parts.hostname, parts.port, parts.path) == ("camera.example", 8554, "/live")
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    properties = rtsp_source(url, SOURCE_OPTIONS).properties
    assert properties["location"] == "rtsp://camera.example:8554/live?profile=1"
    assert (properties["user-id"], properties["user-pw"]) == (user, password)
    assert password not in repr(rtsp_source(url, SOURCE_OPTIONS))
    source = source_from_uri(url, SOURCE_OPTIONS)
    assert repr(source) == f"LiveSource({name!r})"


@given(password=HOSTILE)
def test_no_password_typed_as_it_is_shows(password: str) -> None:
    """Also an unescaped password is hidden, in a URL and in a launch line."""
    shown = redact(f"rtsp://operator:{password}@camera.example/live")
    assert shown == "rtsp://***@camera.example/live"
    assert redact(f"gst:rtspsrc user-pw={password} ! decodebin") == "gst:rtspsrc …"
    assert redact(f'gst:rtspsrc user-pw="{password}" ! decodebin') == "gst:rtspsrc …"


@given(password=HOSTILE, before=st.sampled_from(["", "Could not open ", "401: "]))
def test_messages_of_libraries_are_cleaned(password: str, before: str) -> None:
    """A redacted GStreamer message shows neither its URL's password nor that of another."""
    uri = f"rtsp://operator:{quote(password, safe='')}@camera.example/live"
    for written in (password, quote(password), quote(password, safe="")):
        assert written not in redact_message(f"{before}{written} for operator", uri).replace("***", "")
    assert "hidden" not in redact_message("Could not open rtsp://a:hidden@b/c.", uri)


def test_messages_about_launch_lines_show_no_value() -> None:
    """A value of a launch line's properties is masked where GStreamer repeats it."""
    uri = 'gst:rtspsrc user-pw="my secret" location=rtsp://cam/live ! decodebin name=d'
    assert redact_message("my secret is wrong at rtsp://cam/live", uri) == "*** is wrong at ***"
