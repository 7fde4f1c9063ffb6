"""No secret of an address gets out, and none changes what is connected to."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.config.sinks import sink_from_url
from edgead.errors import ConfigError, SourceError
from edgead.redaction import address_problem, escape_credentials, redact, redact_message, split_credentials
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
        ("http://ad:x@y:secret/z@127.0.0.1:8701/a.mjpg", "http://***@127.0.0.1:8701/a.mjpg"),
        ("rtsp://admin:12/secret@cam/live", "rtsp://***@cam/live"),
        ("rtsp://admin:secret/live", "rtsp://***"),
        ("rtsp://admin%3Asecret%40cam/live", "rtsp://***"),
        ("rtsp:/admin:secret@cam", "rtsp:***"),
        ("http:secret", "http:***"),
        ("admin:secret@cam/live", "***@cam/live"),
        ("admin:secret@cam://x", "***"),
        ("http://cam/x?password=a@secret", "http://cam/x?password=***"),
        ("http://cam/x?mail=b:c&password=a@secret", "http://***"),
        ("http://cam/x?password=a#secret", "http://cam/x?password=***"),
        ("http://cam/x?password=a&secret&w=1", "http://cam/x?password=***&w=1"),
        (
            "rtsp://10.0.0.5:554/user=admin&password=secret&channel=1",
            "rtsp://10.0.0.5:554/user=***&password=***&channel=1",
        ),
        ("rtsp://10.0.0.5:554/user=admin_password=secret_channel=1", "rtsp://10.0.0.5:554/user=***"),
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
    "url", ["rtsp://cam/live", "http://cam/mail?to=a@b", "rtsp://[fe80::1]/a@b", "http://10.0.0.5:80/a@b", "http://cam"]
)
def test_an_at_sign_elsewhere_is_no_credential(url: str) -> None:
    """A URL without credentials is opened as it was typed, also with an @ behind a host that cannot be a user."""
    assert address_problem(url) is None
    assert split_credentials(url) == (url, None)
    assert escape_credentials(url) == url


# pieces that a message cannot contain by chance, and what separates them in a password
PIECES = st.lists(st.sampled_from(["QZX1", "Q2ZX", "7QZX", "QZ99", "12345", "QX=Z"]), min_size=1, max_size=4)
SEPARATORS = st.sampled_from(["@", ":", "/", "?", "#", "%", "@/", ":/", "/@", "?pass=", " ", "[", "]", "\\", "'", '"'])
ROUTES = st.sampled_from(["@camera.example:8554/live", "@camera.example", "@10.0.0.7/live?fps=5"])


@st.composite
def typed_logins(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A user and a password with a separator somewhere, typed without escapes, and the pieces of both."""
    pieces = ["QZUSER", *draw(PIECES)]
    text = "QZUSER:"
    for piece in pieces[1:]:
        text += draw(SEPARATORS) + piece
    return text + draw(st.sampled_from(["", "/", "#", "@", ":"])), pieces


@given(typed_logins(), ROUTES, st.sampled_from(["rtsp", "rtsps", "http", "https", "mqtt", "mqtts", "rtmp", "RTSP"]))
def test_no_piece_of_a_typed_password_shows(login: tuple[str, list[str]], route: str, scheme: str) -> None:
    """An address is either understood by everyone alike or refused with the escapes; no message shows a piece of it."""
    typed, pieces = login
    address = f"{scheme}://{typed}{route}"
    told = [redact(address), redact(f"{typed}{route}"), redact_message(f"Failed: {address}, for {typed}.", address)]
    for open_it in (source_from_uri, lambda uri, _: sink_from_url(uri)):
        for one in (address, f"{typed}{route}"):
            try:
                opened = open_it(one, SOURCE_OPTIONS)
                told.append(getattr(opened, "identity", None) or repr(opened))
                assert urlsplit(escape_credentials(one)).hostname in ("camera.example", "10.0.0.7")
            except (ConfigError, SourceError) as error:
                told += [error.message, error.hint]
    found = [(piece, text) for text in told for piece in pieces if piece in text]
    assert not found


@pytest.mark.parametrize(
    "address",
    [
        "http://ad:x@y:QZX/z@127.0.0.1:8701/auth.mjpg", "rtsp://a:pa/s#s?@cam/x", "http://a:8/s@cam/x", "rtsp://a:/b@cam",
        "rtsp://a:b@cam/x?mail=q@z", "rtsp://admin:QZX/live", "rtsp:/a:b@cam", "rtsp://a:b@cam:99999/x", "http:///a@b",
        "rtsp://a:b@[cam/x", "http://cam:80/mail?to=a@b", "rtsp://a:b@",
    ],
)  # fmt: skip
def test_ambiguous_addresses_are_refused(address: str) -> None:
    """An address with no meaning or several is refused before anything is opened, and the hint names the escapes."""
    with pytest.raises(SourceError, match="no usable address") as caught:
        source_from_uri(address, SOURCE_OPTIONS)
    assert all(escape in caught.value.hint for escape in ("%40", "%3A", "%2F", "%3F", "%23"))
    assert "QZX" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["mqtt://u:12/QZX@broker", "https://u:12/QZX@host/hook", "https://u:QZX/z@host", "mqtt://u:QZX"]
)
def test_ambiguous_sinks_are_refused(url: str) -> None:
    """A sink of an ambiguous address would send the password to a host named like the user."""
    with pytest.raises(ConfigError) as caught:
        sink_from_url(url)
    assert "%2F" in caught.value.hint
    assert "QZX" not in caught.value.message


def test_an_address_without_a_scheme_is_no_file() -> None:
    """A camera's address without its scheme is told as such, without its password."""
    with pytest.raises(SourceError, match="without rtsp://") as caught:
        source_from_uri("admin:QZX@cam/live", SOURCE_OPTIONS)
    assert "QZX" not in caught.value.message


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
    assert shown in ("rtsp://***@camera.example/live", "rtsp://***")
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
