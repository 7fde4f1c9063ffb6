"""Pictures and videos that cannot be read as images, and what to do with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

OTHER_PICTURES = frozenset(
    ".heic .heif .avif .webp .gif .jp2 .jxl .jfif .dng .cr2 .cr3 .nef .arw .orf .raf .rw2 .psd".split()
)
VIDEOS = frozenset(".mov .mp4 .m4v .avi .mkv .webm .3gp .mpg .mpeg .wmv .mts".split())


def unread_sentences(files: Iterable[Path]) -> list[str]:
    """Sentences about pictures in other formats and about videos, each with what to do; none if there are none."""
    files = sorted(path for path in files if not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in OTHER_PICTURES]
    videos = [path for path in files if path.suffix.lower() in VIDEOS]
    sentences = []
    if pictures:
        sentences.append(f"Not read: {_counts(pictures)}. Save such pictures as JPEG or PNG{_on_a_phone(pictures)}.")
    if videos:
        sentences.append(
            f"Not read: {_counts(videos)}. `edgead collect --source VIDEO --out FOLDER` saves the pictures of a video."
        )
    return sentences


def _counts(files: list[Path]) -> str:
    kinds = Counter(path.suffix.lower() for path in files)
    counts = ", ".join(f"{count} {kind} file{'' if count == 1 else 's'}" for kind, count in kinds.most_common())
    return f"{counts} ({files[0].name}{'' if len(files) == 1 else ', …'})"


def _on_a_phone(pictures: list[Path]) -> str:
    if not any(path.suffix.lower() in {".heic", ".heif"} for path in pictures):
        return ""
    return "; an iPhone takes JPEG with Settings > Camera > Formats > Most Compatible"
