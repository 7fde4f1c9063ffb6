"""Size and orientation of an image file, read from its header before anything is decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgead.data import tiff

# Inside a scan, FF is followed by 00 (a literal FF), a restart marker or more FF; anything else is a real marker.
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_WITHOUT_LENGTH = {0x01, 0xD8, *range(0xD0, 0xD8)}
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN, _JPEG_APP1, _JPEG_END = 0xDA, 0xE1, 0xD9
_EXIF = b"Exif\x00\x00"
_JP2_STREAM = b"\xff\x4f\xff\x51"
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


@dataclass(frozen=True)
class ImageHeader:
    """Statements of a file about its picture.

    Attributes:
        kind: Name of the file format.
        size: `(height, width)` in pixels as stored, before the orientation.
        orientation: EXIF orientation, 1 to 8; 1 = upright.
        bytes_per_pixel: Number of bytes of a decoded pixel, at least 4.
        largest_part: `(height, width)` of the largest part that is decoded at once; None = the size.
        directory: Directory of a TIFF file.
    """

    kind: str
    size: tuple[int, int]
    orientation: int = 1
    bytes_per_pixel: int = 4
    directory: tiff.Directory | None = None
    largest_part: tuple[int, int] | None = None

    @property
    def has_more(self) -> bool:
        """Whether the file has more pages, which are not read."""
        return self.directory is not None and self.directory.has_more


def read_header(content: bytes) -> ImageHeader | None:
    """Read the header of a PNG, JPEG, BMP, TIFF, WebP, GIF or JPEG 2000 file.

    Returns:
        None for another format or a header that is cut off.
    """
    for start, read in _READERS:
        if re.match(start, content, re.DOTALL):
            try:
                return read(content)
            except (struct.error, IndexError):
                return None
    return None


def _png(content: bytes) -> ImageHeader | None:
    width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
    exif = next((part for kind, part in _png_chunks(content) if kind == b"eXIf"), b"")
    bytes_per_pixel = _PNG_CHANNELS.get(colour, 4) * max(1, depth // 8)
    return ImageHeader("PNG", (height, width), _exif_orientation(exif), max(4, bytes_per_pixel))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position + 8 : position + 8 + length] if kind == b"eXIf" else b""
        position += 12 + length


def _jpeg(content: bytes) -> ImageHeader | None:
    position, orientation = 2, 1
    while (marker := JPEG_MARKER.search(content, position)) is not None:
        code, position = content[marker.start() + 1], marker.end()
        if code in JPEG_WITHOUT_LENGTH:
            continue
        if code in (_JPEG_SCAN, _JPEG_END):
            return None
        if code in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, position + 3)
            return ImageHeader("JPEG", (height, width), orientation)
        (length,) = struct.unpack_from(">H", content, position)
        if code == _JPEG_APP1 and content.startswith(_EXIF, position + 2) and orientation == 1:
            orientation = _exif_orientation(content[position + 2 : position + length])
        position += length
    return None


def _bmp(content: bytes) -> ImageHeader | None:
    (length,) = struct.unpack_from("<I", content, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", content, 18)
    return ImageHeader("BMP", (abs(height), abs(width)))


def _tiff(content: bytes) -> ImageHeader | None:
    directory = tiff.read_directory(content)
    if directory is None:
        return None

    def largest(tag: int, default: int) -> int:
        return max(directory.values(content, tag), default=default)

    height, width = largest(tiff.LENGTH, 0), largest(tiff.WIDTH, 0)
    # a tile is decoded whole, even where it is larger than the picture
    part = max(height, largest(tiff.TILE_LENGTH, 0)), max(width, largest(tiff.TILE_WIDTH, 0))
    bits = largest(tiff.BITS, 8) * largest(tiff.SAMPLES, 1)
    turned = directory.values(content, tiff.ORIENTATION)[:1]
    orientation = turned[0] if turned and 1 <= turned[0] <= 8 else 1
    return ImageHeader("TIFF", (height, width), orientation, max(4, bits // 8), directory, part)


def _webp(content: bytes) -> ImageHeader | None:
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", content, 26))
    return ImageHeader("WebP", (height, width), _exif_orientation(_webp_exif(content)))


def _webp_exif(content: bytes) -> bytes:
    position = 12
    while position + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, position)
        if kind == b"EXIF":
            return content[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return b""


def _gif(content: bytes) -> ImageHeader | None:
    width, height = struct.unpack_from("<HH", content, 6)
    return ImageHeader("GIF", (height, width))


def _jpeg_2000(content: bytes) -> ImageHeader | None:
    start = 0 if content.startswith(_JP2_STREAM) else _box(content, b"jp2c")
    if start is None or not content.startswith(_JP2_STREAM, start):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", content, start + 8)
    (channels,) = struct.unpack_from(">H", content, start + 40)
    return ImageHeader("JPEG 2000", (bottom - top, right - left), bytes_per_pixel=max(4, 2 * channels))


def _box(content: bytes, wanted: bytes) -> int | None:
    """Start of the content of a box of a JPEG 2000 file."""
    position = 0
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", content, position + 8)
            head = 16
        if kind == wanted:
            return position + head
        if length < head:
            return None
        position += length
    return None


def _exif_orientation(exif: bytes) -> int:
    """Orientation in an EXIF block, 1 to 8; 1 if there is none or it is damaged."""
    block = exif.removeprefix(_EXIF)
    directory = tiff.read_directory(block)
    values = directory.values(block, tiff.ORIENTATION) if directory else ()
    return values[0] if values and 1 <= values[0] <= 8 else 1


_READERS: tuple[tuple[bytes, Callable[[bytes], ImageHeader | None]], ...] = (
    (rb"\xff\xd8\xff", _jpeg),
    (rb"\x89PNG\r\n\x1a\n.{4}IHDR", _png),
    (rb"BM", _bmp),
    (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", _tiff),
    (rb"RIFF.{4}WEBPVP8[ LX]", _webp),
    (rb"GIF8[79]a", _gif),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", _jpeg_2000),
)
