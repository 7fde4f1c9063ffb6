"""Bytes of image files, and detection of truncated or damaged ones, which some decoders pad with grey."""

from __future__ import annotations

import stat
import struct
import zlib
from pathlib import Path

from edgead.data.image_header import JPEG_MARKER, JPEG_WITHOUT_LENGTH
from edgead.errors import DataError

MAX_FILE_BYTES = 1 << 30

_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_END_OF_IMAGE = 0xD9


def read_content(path: Path) -> bytes:
    """Read the bytes of a regular file of at most 1 GB.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(
                f"{path} is a folder, pipe or device and no image file.", hint="Remove it from the folder of images."
            )
        if status.st_size > MAX_FILE_BYTES:
            raise DataError(
                f"The image {path} has {status.st_size / 1e6:,.0f} MB; at most {MAX_FILE_BYTES / 1e6:,.0f} MB are read.",
                hint="Save it smaller or compressed.",
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"The image {path} cannot be read: {error.strerror or error}.", hint="Check the path and the permissions."
        ) from error


def beginning_of(path: Path, length: int) -> bytes:
    """First bytes of a file; empty for one that cannot be read or is no regular file, such as a pipe."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(length)
    except OSError:
        return b""


def find_damage(content: bytes) -> str:
    """Describe the damage in an image file's structure; an empty string for a whole file or an unknown format.

    JPEG: all segments up to the end-of-image marker. PNG: all chunks up to IEND, with their checksums.
    BMP: the file size stated in the header. TIFF is left to the decoder, which refuses missing strips.
    """
    if not content:
        return "the file is empty"
    if content.startswith(_JPEG):
        return "" if _is_whole_jpeg(content) else "the JPEG is truncated: its end-of-image marker is missing"
    if content.startswith(_PNG):
        return _png_damage(content)
    if content.startswith(_BMP) and len(content) >= 6:
        stated = int(struct.unpack_from("<I", content, 2)[0])
        if len(content) < stated:
            return f"the BMP is truncated: {len(content)} of {stated} bytes"
    return ""


def _is_whole_jpeg(content: bytes) -> bool:
    position = 2
    while (marker := JPEG_MARKER.search(content, position)) is not None:
        code = content[marker.start() + 1]
        position = marker.end()
        if code == _END_OF_IMAGE:
            return True
        if code not in JPEG_WITHOUT_LENGTH and position + 2 <= len(content):
            position += int(struct.unpack_from(">H", content, position)[0])
    return False


def _png_damage(content: bytes) -> str:
    position = len(_PNG)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            break
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(content[position + 4 : end - 4]) != checksum:
            return "the PNG is damaged: a checksum does not match"
        if kind == b"IEND":
            return ""
        position = end
    return "the PNG is truncated: its end chunk is missing"
