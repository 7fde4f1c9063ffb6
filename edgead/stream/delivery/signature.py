"""Signature of webhooks, which proves the shared secret and prevents replays.

The header `Edgead-Signature: t=SECONDS,v1=HEX` holds the time of this attempt, in seconds since 1970, and the HMAC-SHA256
of `SECONDS.BODY` (the digits, a full stop, the bytes of the body) with the secret as its key, in hexadecimal. A receiver
computes it over the body as it arrived, compares in constant time and refuses times too far from its own clock.
"""

from __future__ import annotations

import hashlib
import hmac
import re

HEADER = "Edgead-Signature"


def sign(secret: str, body: bytes, at_s: int) -> str:
    """Value of the header for a body sent at `at_s`, in seconds since 1970."""
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={mac.hexdigest()}"


def is_genuine(secret: str, body: bytes, value: str, now_s: float, *, tolerance_s: float = 300.0) -> bool:
    """Whether a header is valid for a body and recent, as a receiver checks it."""
    match = re.fullmatch(r"t=(\d{1,12}),v1=([0-9a-f]{64})", value)
    if match is None or abs(now_s - int(match[1])) > tolerance_s:
        return False
    return hmac.compare_digest(sign(secret, body, int(match[1])), value)
