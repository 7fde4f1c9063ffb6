"""First directory of a TIFF structure, as in TIFF files and in the EXIF part of JPEG, PNG and WebP files."""

from __future__ import annotations

import struct
from dataclasses import dataclass

WIDTH, LENGTH, BITS, ORIENTATION, SAMPLES = 256, 257, 258, 274, 277
TILE_WIDTH, TILE_LENGTH, EXTRA_SAMPLES = 322, 323, 338
# number of bytes and format of one value by the type of an entry; signed and fractional types are not read
_INTEGERS = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 16: (8, "Q")}
_MOST_VALUES = 16
_MOST_ENTRIES = 65535


@dataclass(frozen=True)
class Entry:
    """Integer values of a tag: the format of one, their number (at most 16 are read) and where they start."""

    form: str
    count: int
    position: int


@dataclass(frozen=True)
class Directory:
    """Integer tags of the first page.

    Attributes:
        order: `<` or `>`, the byte order.
        entries: Entries by tag; a damaged file may repeat a tag.
        has_more: Whether another page follows.
    """

    order: str
    entries: dict[int, list[Entry]]
    has_more: bool

    def values(self, content: bytes, tag: int) -> tuple[int, ...]:
        """All values of a tag; none if it is absent or lies outside the file."""
        found: list[int] = []
        for entry in self.entries.get(tag, ()):
            size = struct.calcsize(entry.form)
            count = min(entry.count, (len(content) - entry.position) // size)
            found += struct.unpack_from(f"{self.order}{max(0, count)}{entry.form}", content, entry.position)
        return tuple(found)


def read_directory(content: bytes) -> Directory | None:
    """Read the first directory of a classic or a big TIFF structure; None if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 8:
        return None
    (version,) = struct.unpack_from(f"{order}H", content, 2)
    if version not in (42, 43):
        return None
    big = version == 43
    try:
        (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, start)
        first, length = start + (8 if big else 2), 20 if big else 12
        count = min(count, _MOST_ENTRIES, max(0, len(content) - first) // length)
        entries: dict[int, list[Entry]] = {}
        for place in range(first, first + count * length, length):
            tag, entry = _entry(content, order, place, big)
            if entry is not None:
                entries.setdefault(tag, []).append(entry)
    except struct.error:
        return None
    end = first + count * length
    following = content[end : end + (8 if big else 4)]
    return Directory(order, entries, any(following))


def with_value(content: bytes, directory: Directory, tag: int, before: int | None, now: int) -> bytes:
    """Copy of the file in which a tag holds another value.

    Args:
        content: The file.
        directory: Its first directory.
        tag: Tag to change, wherever it occurs.
        before: Value to replace; None = any.
        now: New value.
    """
    changed = bytearray(content)
    for entry in directory.entries.get(tag, ()):
        form = f"{directory.order}{entry.form}"
        size = struct.calcsize(form)
        for place in range(entry.position, min(entry.position + entry.count * size, len(content) - size + 1), size):
            if before is None or struct.unpack_from(form, content, place)[0] == before:
                struct.pack_into(form, changed, place, now)
    return bytes(changed)


def _entry(content: bytes, order: str, place: int, big: bool) -> tuple[int, Entry | None]:
    tag, kind = struct.unpack_from(f"{order}HH", content, place)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, place + 4)
    if kind not in _INTEGERS:
        return tag, None
    size, form = _INTEGERS[kind]
    position = place + (12 if big else 8)
    if count * size > (8 if big else 4):
        (position,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, position)
    inside = position + size <= len(content)
    return tag, Entry(form, min(count, _MOST_VALUES), position) if inside and count else None
