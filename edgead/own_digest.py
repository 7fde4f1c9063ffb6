"""JSON files that hold a digest of themselves, so that a flipped bit anywhere in them is found.

The digest is the SHA-256 of the file with full stops in place of its own 64 digits.
"""

from __future__ import annotations

import hashlib
import re

# Stands in the file in place of the digest while the digest is computed.
BLANK = "." * 64
_DIGEST = re.compile(r"[0-9a-f]{64}")


def with_own_digest(content: bytes) -> bytes:
    """Replace `BLANK`, which occurs once in `content`, with the digest of `content`."""
    blank = BLANK.encode()
    if content.count(blank) != 1:
        raise ValueError(f"the blank digest must occur once, got {content.count(blank)}")
    return content.replace(blank, hashlib.sha256(content).hexdigest().encode())


def has_own_digest(content: bytes, digest: str) -> bool:
    """Whether `digest`, which stands in `content`, is the digest of `content`."""
    if not _DIGEST.fullmatch(digest) or content.count(digest.encode()) != 1:
        return False
    return hashlib.sha256(content.replace(digest.encode(), BLANK.encode())).hexdigest() == digest
