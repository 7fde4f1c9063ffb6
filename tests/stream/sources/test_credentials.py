"""Everything that a process writes while it uses cameras with passwords: none of it shows one."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from ..servers import ROOT, MjpegRequest, at_pace, jpeg, mjpeg_camera, needs_gstreamer, part, rtsp_camera
from .test_network import noisy

PASSWORD = "Hunter2/p@ss w:rd#?&%\"'\\"
USER = "opera"
# reads a few frames of each address, then goes on until the camera does not come back, and tells all that it knows
READS = """
import logging, sys, threading
from dataclasses import replace
from edgead.errors import SourceError
from edgead.stream.sources.registry import source_from_uri
from tests.stream.fakes import SOURCE_OPTIONS
logging.basicConfig(level=logging.DEBUG)
for uri in sys.argv[2:]:
    options = replace(SOURCE_OPTIONS, open_timeout_s=3.0, max_restarts=1, decoder=sys.argv[1])
    source = None
    try:
        source = source_from_uri(uri, options)
        print(source, source.name, source.report)
        with source:
            for number, frame in enumerate(source.frames(threading.Event())):
                print(frame.source, frame.index)
                if number == 3 and uri.startswith(("rtsp", "gst")):
                    break
    except SourceError as error:
        print(error, error.hint, source and source.report)
        logging.exception("all of it")
print("done")
"""


def forms() -> set[str]:
    """Forms that the password could take in a text, whole and in part."""
    whole = {PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), repr(PASSWORD)[1:-1]}
    return whole | {"Hunter2", "hunter2", "ss%20w", base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}


def run(*arguments: str, **environment: str) -> str:
    """All that a process writes."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, text=True, timeout=90, check=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip
    return done.stdout


def assert_silent(text: str) -> None:
    assert not [form for form in forms() if form in text], text


@needs_gstreamer
@pytest.mark.parametrize("decoder", ["ffmpeg", "gstreamer"])
def test_rtsp_shows_no_password(decoder: str) -> None:
    """Frames, errors and logs show no password, whether it is right, wrong or the camera is unreachable."""
    with rtsp_camera("--user", USER, "--password", PASSWORD) as camera:
        place = camera.url.removeprefix("rtsp://")
        right = f"rtsp://{USER}:{quote(PASSWORD, safe='')}@{place}"
        wrong = f"rtsp://{USER}:{quote(PASSWORD + 'x', safe='')}@{place}"
        nobody = f"rtsp://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:9/live"
        unescaped = f"rtsp://{USER}:Hunter2 p/a:s@{place}"
        # GStreamer's own log of errors and warnings goes to stderr too
        text = run("-c", READS, decoder, right, wrong, nobody, unescaped, GST_DEBUG="2")
    assert text.rstrip().endswith("done")
    assert re.search(rf"rtsp://\*\*\*@{re.escape(place)} \d+\n", text), "frames must have come"
    assert text.count("cannot be opened") >= 3
    assert_silent(text)


@needs_gstreamer
def test_launch_lines_show_no_password() -> None:
    """A line with a password in it is named by its first element, in errors as well."""
    with rtsp_camera("--user", USER, "--password", "Hunter2") as camera:
        right = f'gst:rtspsrc location={camera.url} user-id={USER} user-pw="Hunter2" latency=100 ! decodebin'
        wrong = right.replace('user-pw="Hunter2"', "user-pw=Hunter2x")
        broken = right.replace("latency=100", "latency=Hunter2")
        inside = f"gst:rtspsrc location={camera.url.replace('rtsp://', f'rtsp://{USER}:Hunter2y@')} ! decodebin"
        text = run("-c", READS, "auto", right, wrong, broken, inside)
    assert text.rstrip().endswith("done")
    assert re.search(r"gst:rtspsrc … \d+\n", text), "frames must have come"
    assert text.count("error") >= 1
    assert_silent(text)


def test_http_shows_no_password() -> None:
    """MJPEG that is lost, refused and not there: no text shows the password, and the server did get it."""

    def serve(request: MjpegRequest, connection: int) -> None:
        if connection > 0:
            request.send_error(503)
            return
        request.begin()
        for number in at_pace(50.0, 40):
            request.send(part(jpeg(noisy(number))))

    with mjpeg_camera(serve, user=USER, password=PASSWORD) as (place, logins):
        login = f"{USER}:{quote(PASSWORD, safe='')}@"
        text = run(
            "-c",
            READS,
            "auto",
            f"http://{login}{place}/live",
            f"http://{login}127.0.0.1:9/",
            f"http://{USER}:Hunter2 no@{place}/",
        )
    assert text.rstrip().endswith("done")
    assert re.search(rf"http://\*\*\*@{re.escape(place)}/live \d+\n", text), "frames must have come"
    assert base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() in "".join(logins)
    assert_silent(text)


@pytest.mark.slow
@needs_gstreamer
def test_the_command_and_its_records_show_no_password(tmp_path: Path) -> None:
    """`edgead stream` on a camera with a password: terminal, alert records and recording's folder are free of it."""
    subprocess.run(
        [sys.executable, "tools/make_tiny_bundle.py", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    with rtsp_camera("--user", USER, "--password", PASSWORD) as camera:
        url = camera.url.replace("rtsp://", f"rtsp://{USER}:{quote(PASSWORD, safe='')}@")
        text = run(
            "-m", "edgead", "stream", str(tmp_path / "bundle"), "--source", url, "--max-frames", "12",
            "--alerts", str(tmp_path / "alerts"), "--set", "alerts.open_frames=1",
        )  # fmt: skip
    assert "12 frames in" in text, text
    assert_silent(text)
    files = [path for path in (tmp_path / "alerts").rglob("*") if path.is_file()]
    assert files, "an alert must have been written"
    for path in files:
        assert_silent(path.name + path.read_bytes().decode("latin-1"))
