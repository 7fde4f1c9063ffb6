"""How a receiver knows that a webhook comes from whoever knows the secret, and is not an old one sent again.

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
    """The header's value for a body sent at a time in seconds since 1970."""
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={mac.hexdigest()}"


def is_genuine(secret: str, body: bytes, value: str, now_s: float, *, tolerance_s: float = 300.0) -> bool:
    """What a receiver does: whether the header's value is right for the body, and not too old."""
    match = re.fullmatch(r"t=(\d{1,12}),v1=([0-9a-f]{64})", value)
    if match is None or abs(now_s - int(match[1])) > tolerance_s:
        return False
    return hmac.compare_digest(sign(secret, body, int(match[1])), value)
