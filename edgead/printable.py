"""Text of people and devices for a terminal, with characters that would control it written as escapes."""

from __future__ import annotations

import os
import re
from pathlib import Path

# control characters (also of ISO 6429, U+0080 to U+009F), invisible and direction-changing ones, line separators, halves of pairs
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_UNSAFE_BUT_LAYOUT = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str, *, lines: bool = False) -> str:
    r"""Text in which unsafe characters are escapes, such as `\x1b`.

    Args:
        text: Any text, for example a note from the dashboard.
        lines: Keep line feeds and tabs.
    """
    return (_UNSAFE_BUT_LAYOUT if lines else _UNSAFE).sub(_escape, text)


def printable_json(text: str) -> str:
    r"""A line of JSON with unsafe characters as `\uXXXX`, which JSON reads as the same text."""
    return _UNSAFE.sub(lambda match: "".join(f"\\u{unit:04x}" for unit in _utf16(match[0])), text)


def path_text(path: Path | str) -> str:
    r"""Text of a path for records and pages: bytes of its name that are not UTF-8 are written as `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _utf16(character: str) -> list[int]:
    content = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(content[i : i + 2], "big") for i in range(0, len(content), 2)]
