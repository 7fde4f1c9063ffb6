"""Sources by address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgead.errors import SourceError
from edgead.redaction import ESCAPES, check_address, is_login, redact
from edgead.stream.sources.camera import camera_source, names_camera
from edgead.stream.sources.folder import FolderSource, is_image_file
from edgead.stream.sources.gstreamer import csi_source, launch_source
from edgead.stream.sources.network import network_source
from edgead.stream.sources.source import Source, SourceOptions
from edgead.stream.sources.video import VideoSource
from edgead.stream.sources.watched_folder import watched_folder


def source_from_uri(uri: str, options: SourceOptions) -> Source:
    """Make, but do not open, the source that an address names.

    Args:
        uri: `camera:N`, `N`, `/dev/videoN`, or a path that leads to one, as `/dev/v4l/by-id/...`; `csi:N`; `rtsp://`, `rtsps://`, `http://`, `https://`; `gst:LAUNCH LINE`;
            `watch:FOLDER`; `synthetic[:PART]`; otherwise (also as `file://`) a video file, a folder of images or a
            single image.
        options: Time limits, formats, pace and pixel range.

    Raises:
        SourceError: If no source matches the address, or a URL has no meaning or several.
    """
    check_address(uri)
    return SOURCES[_kind(uri)](uri, options)


def _kind(uri: str) -> str:
    if names_camera(uri):
        return "camera"
    scheme = uri.split(":", 1)[0].lower()
    if scheme in SOURCES and (":" in uri or scheme == "synthetic"):
        return scheme
    if "://" in uri:
        raise SourceError(
            f"There is no source for {redact(uri)!r}; a URL starts with rtsp, rtsps, http or https.",
            hint="Give a URL, a file, a folder, camera:N, csi:N, gst:LAUNCH LINE, watch:FOLDER or synthetic.",
        )
    return "file"


def _synthetic(uri: str, options: SourceOptions) -> Source:
    from edgead.stream.sources.synthetic import synthetic_source  # only this source needs the generator

    return synthetic_source(uri)


def _file(uri: str, options: SourceOptions) -> Source:
    path = Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri).expanduser()
    if not path.exists():
        if is_login(uri):
            raise SourceError(
                f"There is no source {redact(uri)!r}: it looks like a camera's address without rtsp:// or http:// before it.",
                hint=f"For example rtsp://user:password@camera/stream. {ESCAPES}",
            )
        raise SourceError(
            f"There is no file or folder {path}.",
            hint="Give a video, a folder of pictures, a URL, camera:N or synthetic.",
        )
    if path.is_dir() or is_image_file(path):
        return FolderSource(path, fps=options.folder_fps, reading=options.reading)
    return VideoSource(path, loop=options.loop)


SOURCES: dict[str, Callable[[str, SourceOptions], Source]] = {
    "camera": camera_source,
    "rtsp": network_source,
    "rtsps": network_source,
    "http": network_source,
    "https": network_source,
    "csi": csi_source,
    "gst": launch_source,
    "watch": watched_folder,
    "synthetic": _synthetic,
    "file": _file,
}
