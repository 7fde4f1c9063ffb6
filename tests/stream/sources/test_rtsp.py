"""RTSP from a real server that stalls, hangs, dies and comes back, through FFmpeg and through GStreamer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import numpy as np
import pytest

from edgead.errors import SourceError
from edgead.imaging import Image
from edgead.stream.frame import Frame
from edgead.stream.sources import gstreamer as gstreamer_sources
from edgead.stream.sources.gst_pipelines import Element
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import Decoder, SourceOptions
from tools.rtsp_server import load_frames, read_stamp, stamp

from ...stalls import Stalls
from ..fakes import SOURCE_OPTIONS
from ..servers import RtspCamera, cable, needs_gstreamer, rtsp_camera

pytestmark = [needs_gstreamer, pytest.mark.usefixtures("ahead_of_other_work")]
DECODERS: tuple[Decoder, ...] = ("ffmpeg", "gstreamer")
# FFmpeg looks at a stream for a second before it opens it, which adds up
ONE_QUICK = (pytest.param("ffmpeg", marks=pytest.mark.slow), "gstreamer")
# far longer than a busy machine stalls: its pauses are no lost cameras
OPTIONS = replace(SOURCE_OPTIONS, open_timeout_s=30.0, read_timeout_s=30.0, max_restarts=20)
# what encoder, network and decoder together hold back of a stream that nothing delays
USUAL_S = 0.45


@dataclass
class Watcher:
    """Reads a source on a thread and notes of each frame its number, its true age and the age that it claims."""

    source: LiveSource
    camera: RtspCamera
    stalls: Stalls
    seen: list[tuple[float, int, float, float]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def run(self) -> None:
        try:
            with self.source:
                for frame in self.source.frames(self.stop):
                    self._note(frame)
        except SourceError as error:
            self.error = error

    def _note(self, frame: Frame) -> None:
        if frame.damage:
            return  # it shows the last whole frame, and is not judged
        now_s, number = time.monotonic(), read_stamp(frame.image)
        captured_s = self.camera.t0_s + number / self.camera.fps
        self.seen.append((now_s, number, now_s - captured_s, now_s - frame.captured_at_s))

    def true_ages(self, first: int = 0) -> list[float]:
        """Ages of the frames that were seen, less what the machine's own pauses added to them."""
        return [age - self.stalls.lost_s(now_s - age, now_s) for now_s, _, age, _ in self.seen[first:]]

    def errors(self) -> list[float]:
        """Difference of each frame's true age from the one that it claims, less the machine's own pauses."""
        found = ((now_s, age, abs(age - claimed)) for now_s, _, age, claimed in self.seen)
        return [error - self.stalls.lost_s(now_s - max(age, error), now_s) for now_s, age, error in found]

    def wait_for(self, n_more: int, limit_s: float = 60.0) -> None:
        """Wait for `n_more` further frames."""
        target, deadline_s = len(self.seen) + n_more, time.monotonic() + limit_s
        while len(self.seen) < target and self.error is None and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert len(self.seen) >= target, (self.error, self.source.state)


@contextmanager
def watching(url: str, camera: RtspCamera, options: SourceOptions) -> Iterator[Watcher]:
    source = source_from_uri(url, options)
    assert isinstance(source, LiveSource)
    with Stalls() as stalls:
        watcher = Watcher(source, camera, stalls)
        thread = threading.Thread(target=watcher.run)
        thread.start()
        try:
            yield watcher
        finally:
            watcher.stop.set()
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_frame_is_stale(decoder: Decoder) -> None:
    """After the connection and after a cable that was pinched, no frame is older than it says, nor than allowed.

    The server's frames carry their numbers, so that their true ages are known.
    """
    options = replace(OPTIONS, decoder=decoder, max_frame_age_s=0.5)
    with rtsp_camera() as camera, cable(camera.port) as wire:
        with watching(f"rtsp://127.0.0.1:{wire.port}/live", camera, options) as watcher:
            watcher.wait_for(5)
            wire.pinch()
            time.sleep(1.0)
            wire.release()
            watcher.wait_for(15)
        assert watcher.source.report.restarts == 0
        assert watcher.source.fps == 25.0
    assert max(watcher.true_ages()) < options.max_frame_age_s + USUAL_S
    assert max(watcher.errors()) < USUAL_S
    numbers = [number for _, number, _, _ in watcher.seen]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("claimed", "decoder"),
    [("25", "ffmpeg"), pytest.param("25", "gstreamer", marks=pytest.mark.slow), ("16", "gstreamer")],
)
def test_a_camera_that_sends_at_another_rate_than_it_says_keeps_its_connection(claimed: str, decoder: Decoder) -> None:
    """A camera that sends 20 frames a second and stamps them as 25 or 16 a second is neither late nor lost."""
    options = replace(OPTIONS, decoder=decoder, max_frame_age_s=0.5)
    with rtsp_camera("--claim", claimed, fps=20.0) as camera:
        with watching(camera.url, camera, options) as watcher:
            watcher.wait_for(5)
            n_stale, began_s = watcher.source.report.stale_frames, time.monotonic()
            # a delay of 0.25 s a second, if the time stamps were believed
            watcher.wait_for(80)
            n_held_up = round(2 * camera.fps * watcher.stalls.lost_s(began_s))  # none, where the machine does not pause
        assert watcher.source.report.stale_frames <= n_stale + n_held_up
        assert watcher.source.report.restarts == 0
    assert max(watcher.errors()) < USUAL_S


def difference(frame: Frame, sent: list[Image]) -> float:
    """Largest difference of a block of 16 px from what the server sent, in grey levels."""
    number = read_stamp(frame.image)
    expected = sent[number % len(sent)].copy()
    stamp(expected, number)
    blocks = np.abs(frame.image.astype(np.float32) - expected).mean(axis=2)
    return float(blocks.reshape(20, 16, 20, 16).mean(axis=(1, 3)).max())


@pytest.mark.parametrize(
    ("decoder", "codec"),
    [
        ("ffmpeg", "h264"),
        ("gstreamer", "h264"),
        *(
            pytest.param(decoder, codec, marks=pytest.mark.slow)
            for decoder in DECODERS
            for codec in ("h264-bframes", "h265")
        ),
    ],
)
def test_frames_that_lack_packets_are_marked(decoder: Decoder, codec: str) -> None:
    """With lost packets no damaged frame passes for a whole one, the camera is not lost, and whole frames come again.

    Each frame is compared with what the server sent: without the marks, most frames of a lossy stream are smeared.
    """
    sent = load_frames(None, None, 25)
    frames: list[Frame] = []
    with rtsp_camera("--loss", "0", "--mtu", "400", "--codec", codec) as camera:
        with source_from_uri(camera.url, replace(OPTIONS, decoder=decoder)) as source:
            for frame in source.frames(threading.Event()):
                frames.append(frame)
                n_damaged = sum(bool(each.damage) for each in frames)
                if len(frames) == 5:
                    clean = max(difference(each, sent) for each in frames)
                    camera.command("lose 0.03")
                elif n_damaged == 8 and frame.damage:
                    camera.command("lose 0")
                elif n_damaged >= 8 and not any(each.damage for each in frames[-10:]):
                    break
                assert len(frames) < 400
            assert source.report.restarts == 0
            assert source.report.damaged_frames >= 8
    assert max(difference(frame, sent) for frame in frames if not frame.damage) < 1.5 * clean + 5


@pytest.mark.slow
def test_without_the_limit_the_same_frames_would_be_stale() -> None:
    """The counterpart: with the check switched off, FFmpeg does hand over frames of a second ago as new."""
    with rtsp_camera() as camera:
        with watching(camera.url, camera, replace(OPTIONS, decoder="ffmpeg", max_frame_age_s=0)) as watcher:
            watcher.wait_for(30)
    assert max(age for _, _, age, _ in watcher.seen) > 0.8
    assert watcher.source.report.stale_frames == 0


@pytest.mark.parametrize("decoder", ONE_QUICK)
def test_a_camera_that_loses_power_is_taken_up_again(decoder: Decoder) -> None:
    """A killed server is noticed and said so, its successor on the same port is found, and only its new frames come."""
    options = replace(OPTIONS, decoder=decoder)
    with rtsp_camera() as first:
        with watching(first.url, first, options) as watcher:
            watcher.wait_for(5)
            assert watcher.source.state.phase == "running"
            first.close()
            killed_s = time.monotonic()
            while watcher.source.state.phase == "running" and time.monotonic() < killed_s + options.read_timeout_s / 2:
                time.sleep(0.02)
            assert watcher.source.state.phase == "reconnecting"
            assert watcher.source.state.last_error
            n_before = len(watcher.seen)
            with rtsp_camera(port=first.port) as second:
                watcher.camera = second
                watcher.wait_for(10)
            assert watcher.source.report.restarts >= 1
    assert max(watcher.true_ages(n_before)) < options.max_frame_age_s + USUAL_S


@pytest.mark.parametrize("decoder", ["ffmpeg", pytest.param("gstreamer", marks=pytest.mark.slow)])
def test_a_server_that_hangs_is_left_after_the_read_limit(decoder: Decoder) -> None:
    """A stopped process keeps its connections open and sends nothing: that is a loss, within the limit."""
    options = replace(OPTIONS, decoder=decoder, read_timeout_s=1.0)
    with rtsp_camera() as camera:
        with watching(camera.url, camera, options) as watcher:
            watcher.wait_for(3)
            camera.hang()
            hung_s = time.monotonic()
            while watcher.source.state.phase == "running" and time.monotonic() < hung_s + 60:
                time.sleep(0.02)
            assert watcher.source.state.phase == "reconnecting"
            noticed_s = watcher.source.state.since_s
            assert noticed_s - hung_s - watcher.stalls.lost_s(hung_s, noticed_s) < options.read_timeout_s + 0.8


@pytest.mark.slow
@pytest.mark.parametrize("auth", ["digest", "basic"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_hostile_password_logs_in(decoder: Decoder, auth: str) -> None:
    """A password full of what means something to a URL or a launch line reaches the server as it is."""
    password = "p@ss w/o:rd?#%41&! user-id=x \"'\\ä"
    options = replace(OPTIONS, decoder=decoder)
    with rtsp_camera("--user", "opera", "--password", password, "--auth", auth) as camera:
        assert opens(camera.url.replace("rtsp://", f"rtsp://opera:{quote(password, safe='')}@"), options)
        assert not opens(camera.url.replace("rtsp://", "rtsp://opera:wrong-one@"), options)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_password_of_any_characters_is_taken_escaped_and_refused_as_typed(decoder: Decoder) -> None:
    """With its slashes escaped it opens the camera; as it is typed the address is refused."""
    options = replace(OPTIONS, decoder=decoder)
    with rtsp_camera("--user", "opera", "--password", "sl/ash#1? :@") as camera:
        assert opens(camera.url.replace("rtsp://", "rtsp://opera:sl%2Fash%231%3F%20%3A%40@"), options)
        with pytest.raises(SourceError, match="no usable address"):
            source_from_uri(camera.url.replace("rtsp://", "rtsp://opera:sl/ash#1? :@@"), options)


def opens(url: str, options: SourceOptions) -> bool:
    """Whether a frame comes."""
    try:
        with source_from_uri(url, options) as source:
            return next(iter(source.frames(threading.Event()))).image.shape[2] == 3
    except SourceError:
        return False


def test_gstreamer_comes_first_and_ffmpeg_takes_what_it_cannot_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """RTSP goes through GStreamer where it can decode; an encoding that it cannot decode is left to FFmpeg."""
    tried: list[bool] = []
    usual = gstreamer_sources.decoding

    def decoding(encoding: str, has: Callable[[str], bool]) -> tuple[Element, ...] | None:
        tried.append(True)
        return None if len(tried) > 1 else usual(encoding, has)

    monkeypatch.setattr(gstreamer_sources, "decoding", decoding)
    with rtsp_camera() as camera:
        for n_tried in (1, 2):
            assert opens(camera.url, OPTIONS)
            assert len(tried) == n_tried
        assert not opens(camera.url, replace(OPTIONS, decoder="gstreamer"))


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_pictures_travel_as_they_are_told(decoder: Decoder, transport: str) -> None:
    """Over TCP they come through the connection, and stop with it; over UDP they come beside it."""
    # at its end a reader waits as long for the pinched cable
    read_timeout_s = 5.0 if transport == "tcp" else OPTIONS.read_timeout_s
    options = replace(OPTIONS, decoder=decoder, rtsp_transport=transport, read_timeout_s=read_timeout_s)  # type: ignore[arg-type]
    with rtsp_camera() as camera, cable(camera.port) as wire:
        with watching(f"rtsp://127.0.0.1:{wire.port}/live", camera, options) as watcher:
            watcher.wait_for(3)
            wire.pinch()
            if transport == "udp":
                watcher.wait_for(50)  # more than any buffer still held
            else:
                assert comes_to_rest(watcher)


def comes_to_rest(watcher: Watcher) -> bool:
    """Whether no frame comes for a second, sooner or later: those that are on their way still come."""
    deadline_s, n_before = time.monotonic() + 20, -1
    while time.monotonic() < deadline_s and n_before != len(watcher.seen):
        n_before = len(watcher.seen)
        time.sleep(1.0)
    return n_before == len(watcher.seen)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_who_comes_later_sees_whole_pictures(decoder: Decoder) -> None:
    """Between two key frames a second viewer gets nothing that is smeared: every number can be read from the first on."""
    options = replace(OPTIONS, decoder=decoder, max_frame_age_s=0)
    with rtsp_camera("--gop", "40") as camera:
        with watching(camera.url, camera, OPTIONS) as first:
            first.wait_for(20)
            with watching(camera.url, camera, options) as second:
                second.wait_for(15)
    for (before_s, earlier, *_), (after_s, later, *_) in itertools.pairwise(second.seen):
        n_missed = round(camera.fps * second.stalls.lost_s(before_s, after_s))
        assert 1 <= later - earlier <= 3 + n_missed, [number for _, number, *_ in second.seen]
