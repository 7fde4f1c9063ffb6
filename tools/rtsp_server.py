"""Serve an RTSP camera on 127.0.0.1 with faults on command, for tests: `python tools/rtsp_server.py`.

It sends H.264 or H.265 of the synthetic line, a video or a folder of images, at a steady rate, to any number of clients. Frames
follow the clock, so the delay of a client can be measured: with `--counter` each frame carries its number as black and
white blocks, and frame N was captured at `t0 + N / fps` of the system-wide monotonic clock. `--claim` lets its time
stamps run at another rate than the clock, `--loss` loses packets. The first line of stdout has the address and `t0`:

    ready rtsp://127.0.0.1:41234/live t0=5021.250

Commands are read from stdin, one per line, and answered with `ok COMMAND` once they are in effect:

    freeze, black, blur, over   fault of the image from now on
    still                       the same part all the time, with changing sensor noise
    thaw                        live image again
    lose SHARE                  lose this share of the packets from now on, 0..1
    stall, resume               stop sending data while connections stay open; send data again
    stop                        end; the end of stdin does the same

It needs GStreamer's RTSP server and `gi` (see tools/system_packages.sh).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead.data.folders import list_images
from edgead.data.reader import read_image
from edgead.data.synthetic.video import SyntheticVideo
from edgead.imaging import Image, rgb_from_bgr, silence_opencv

ADDRESS = "127.0.0.1"
BITS = 16
SENSOR_NOISE = 2.0  # grey levels
OVER_EXPOSURE = 8.0
VIEWS = ("thaw", "freeze", "still", "black", "blur", "over")
FLOWS = ("stall", "resume")


@dataclass(frozen=True)
class Codec:
    """Elements of a video codec, and the settings of its encoder that decide in which order frames are sent."""

    encoder: str
    order: str
    payloader: str


CODECS = {
    "h264": Codec("x264enc threads=1", "tune=zerolatency", "rtph264pay"),
    "h264-bframes": Codec("x264enc threads=1", "bframes=2 b-adapt=false ! video/x-h264,profile=main", "rtph264pay"),
    "h265": Codec("x265enc", "tune=zerolatency", "rtph265pay"),
}


def stamp(image: Image, number: int) -> None:
    """Write a number into the top edge of an image `(H, W, 3)` as `BITS` blocks, the lowest bit first."""
    side = image.shape[1] // BITS
    for bit in range(BITS):
        image[:side, bit * side : (bit + 1) * side] = 235 if number >> bit & 1 else 20


def read_stamp(image: Image) -> int:
    """The number that `stamp` wrote, also after compression."""
    side = image.shape[1] // BITS
    inner = slice(side // 4, side - side // 4)
    blocks = [image[inner, bit * side + side // 4 : (bit + 1) * side - side // 4].mean() for bit in range(BITS)]
    return sum(int(mean > 128) << bit for bit, mean in enumerate(blocks))


def load_frames(video: Path | None, images: Path | None, n_frames: int) -> list[Image]:
    """At most `n_frames` frames of one size `(H, W, 3)`, RGB, even sides; from the synthetic line without a path."""
    if images is not None:
        found: Iterator[Image] = (read_image(path) for path in list_images(images))
    elif video is not None:
        found = _video_frames(video)
    else:
        found = (image for image, _ in SyntheticVideo("disc", n_frames=n_frames).frames())
    frames = [np.ascontiguousarray(frame) for frame in islice(found, n_frames)]
    if not frames:
        raise SystemExit("There is no image to serve.")
    height, width = frames[0].shape[0] // 2 * 2, frames[0].shape[1] // 2 * 2
    return [np.asarray(cv2.resize(frame, (width, height)), np.uint8) for frame in frames]


def _video_frames(path: Path) -> Iterator[Image]:
    silence_opencv()
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        yield rgb_from_bgr(np.asarray(read[1], np.uint8))
    capture.release()


class Line:
    """Simulated view of the camera: frames in a loop, timed by the clock, altered by the current fault."""

    def __init__(self, frames: Sequence[Image], fps: float, *, counter: bool) -> None:
        self.t0_s = time.monotonic()
        self.fps = fps
        self.is_stalled = False
        self._frames = frames
        self._counter = counter
        self._view = "thaw"
        self._held = frames[0]
        self._rng = np.random.default_rng(0)

    @property
    def size(self) -> tuple[int, int]:
        return self._frames[0].shape[0], self._frames[0].shape[1]

    def number(self) -> int:
        """Number of the frame that is due now."""
        return int((time.monotonic() - self.t0_s) * self.fps)

    def command(self, word: str) -> bool:
        """Obey; False for a word that is no command."""
        if word in VIEWS:
            self._held = self._live(self.number())
            self._view = word
        elif word in FLOWS:
            self.is_stalled = word == "stall"
        else:
            return False
        return True

    def picture(self, number: int) -> Image:
        """Image that the camera sends as frame `number`: `(H, W, 3)`, RGB."""
        view = self._view
        if view == "freeze":
            return self._held
        if view == "still":
            return np.asarray(
                np.clip(self._held + self._rng.normal(0, SENSOR_NOISE, self._held.shape), 0, 255), np.uint8
            )
        image = self._live(number)
        if view == "black":
            noise = self._rng.normal(3, 1.5, image.shape)
            return np.asarray(np.clip(noise, 0, 12), np.uint8)
        if view == "blur":
            return np.asarray(cv2.GaussianBlur(image, (0, 0), max(image.shape[:2]) / 50), np.uint8)
        if view == "over":
            return np.asarray(np.clip(image.astype(np.float32) * OVER_EXPOSURE, 0, 255), np.uint8)
        return image

    def _live(self, number: int) -> Image:
        image: Image = self._frames[number % len(self._frames)].copy()
        if self._counter:
            stamp(image, number % (1 << BITS))
        return image


class Camera:
    """The RTSP server of one line."""

    def __init__(self, line: Line, options: argparse.Namespace) -> None:
        import gi

        for name in ("Gst", "GstRtsp", "GstRtspServer"):
            gi.require_version(name, "1.0")
        from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

        Gst.init(None)
        self._gst, self._rtsp, self._server_library = Gst, GstRtsp, GstRtspServer
        self._line = line
        self._sources: list[Any] = []
        self._loss = options.loss
        self._claim = options.claim
        self._n_sent = 0
        self._packets: Any = None
        self._loop = GLib.MainLoop()
        self._server = self._make_server(options)
        self._server.attach(None)
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="feeder")

    @property
    def port(self) -> int:
        return int(self._server.get_bound_port())

    def lose(self, share: float) -> None:
        """Lose this share of the packets from now on."""
        self._loss = share
        assert self._packets is not None, "losing packets needs --loss at the start, and a viewer"
        self._packets.set_property("drop-probability", share)

    def run(self) -> None:
        """Serve until `stop`."""
        self._feeder.start()
        self._loop.run()
        self._stop.set()
        self._feeder.join()

    def stop(self) -> None:
        """End `run`; from any thread."""
        self._loop.quit()

    def _make_server(self, options: argparse.Namespace) -> Any:
        library = self._server_library
        height, width = self._line.size
        stamping = "do-timestamp=true" if self._claim is None else "do-timestamp=false"
        caps = (
            f"video/x-raw,format=RGB,width={width},height={height},framerate={round(self._claim or self._line.fps)}/1"
        )
        quality = f"speed-preset=ultrafast bitrate={options.bitrate} key-int-max={options.gop}"
        codec = CODECS[options.codec]
        payload = f"{codec.payloader} pt=96 config-interval=1 mtu={options.mtu}"
        # without `--loss` the payloader itself is the server's element: `identity` costs a warning
        payload += " name=pay0" if options.loss is None else " ! identity name=pay0"
        factory = library.RTSPMediaFactory()
        factory.set_launch(
            f"( appsrc name=line is-live=true {stamping} format=time caps={caps} ! queue leaky=downstream "
            f"max-size-buffers=2 ! videoconvert ! video/x-raw,format=I420 ! {codec.encoder} {quality} {codec.order} ! {payload} )"
        )
        factory.set_shared(True)
        factory.connect("media-configure", self._configure)
        server = library.RTSPServer()
        server.set_address(ADDRESS)
        server.set_service(str(options.port))
        server.get_mount_points().add_factory("/live", factory)
        if options.user:
            self._demand_password(server, factory, options)
        return server

    def _demand_password(self, server: Any, factory: Any, options: argparse.Namespace) -> None:
        library = self._server_library
        auth, token = library.RTSPAuth(), library.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if options.auth == "basic":
            auth.add_basic(library.RTSPAuth.make_basic(options.user, options.password), token)
        else:
            auth.add_digest(options.user, options.password, token)
            auth.set_supported_methods(self._rtsp.RTSPAuthMethod.DIGEST)
        server.set_auth(auth)
        permissions = library.RTSPPermissions()
        for permission in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("viewer", permission, True)
        factory.set_permissions(permissions)

    def _configure(self, factory: Any, media: Any) -> None:
        source = media.get_element().get_child_by_name("line")
        if self._loss is not None:
            self._packets = media.get_element().get_child_by_name("pay0")
            self._packets.set_property("drop-probability", self._loss)
        self._n_sent = 0
        if self._claim is not None:
            # else the server would send at the pace that the time stamps claim
            pipeline = media.get_element().get_parent()
            pipeline.connect("deep-element-added", lambda _, __, element: _play_at_once(element))
        self._sources = [source]

    def _feed(self) -> None:
        number = self._line.number()
        while not self._stop.wait(max(0.0, self._line.t0_s + (number + 1) / self._line.fps - time.monotonic())):
            number = self._line.number()
            sources = self._sources
            if self._line.is_stalled or not sources:
                continue
            content = self._line.picture(number).tobytes()
            for source in sources:
                if source.current_state != self._gst.State.PLAYING:
                    continue  # stamped by a clock without its start, a frame would be due in hours, and all after it wait
                buffer = self._gst.Buffer.new_wrapped(content)
                if self._claim is not None:
                    buffer.pts = round(self._n_sent * 1e9 / self._claim)
                    buffer.duration = round(1e9 / self._claim)
                source.emit("push-buffer", buffer)
            self._n_sent += 1


def _play_at_once(element: Any) -> None:
    if element.find_property("ts-offset") is not None:
        element.set_property("ts-offset", -(1 << 50))


def obey(camera: Camera, line: Line) -> None:
    """Carry out the commands on stdin until it ends."""
    for text in sys.stdin:
        word = text.strip()
        if word == "stop":
            break
        if word.startswith("lose "):
            camera.lose(float(word.removeprefix("lose ")))
            answer = "ok"
        else:
            answer = "ok" if line.command(word) else "unknown"
        print(answer, word, flush=True)
    camera.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument("--video", type=Path, help="a video file, repeated")
    parser.add_argument("--images", type=Path, help="folder of images, repeated")
    parser.add_argument("--frames", type=int, default=100, help="frames of the loop, which are held in memory")
    parser.add_argument("--fps", type=float, default=25.0, help="frames per second")
    parser.add_argument("--claim", type=float, help="frames per second that the time stamps claim; default: true times")
    parser.add_argument(
        "--loss", type=float, help="share of packets that are lost, 0..1; needed for the command `lose`"
    )
    parser.add_argument("--mtu", type=int, default=1400, help="bytes of a packet")
    parser.add_argument("--counter", action="store_true", help="write each frame's number into it")
    parser.add_argument("--bitrate", type=int, default=2000, help="of the video, in kbit/s")
    parser.add_argument("--gop", type=int, default=25, help="frames from one key frame to the next")
    parser.add_argument("--codec", choices=tuple(CODECS), default="h264", help="of the video")
    parser.add_argument("--user", default="", help="ask for this user")
    parser.add_argument("--password", default="", help="and this password")
    parser.add_argument("--auth", choices=("basic", "digest"), default="digest", help="how they are asked for")
    options = parser.parse_args(arguments)
    line = Line(load_frames(options.video, options.images, options.frames), options.fps, counter=options.counter)
    camera = Camera(line, options)
    commands = threading.Thread(target=obey, args=(camera, line), daemon=True)
    print(f"ready rtsp://{ADDRESS}:{camera.port}/live t0={line.t0_s:.6f}", flush=True)
    commands.start()
    with contextlib.suppress(KeyboardInterrupt):
        camera.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
