"""Names of sources without the secrets that their addresses may hold."""

from __future__ import annotations

import re

_SECRET_KEY = re.compile(
    r"(?i)([?&;][^=&;?]*(?:user|login|pass|pwd|token|key|secret|auth|sig|sid|cred)[^=&;]*=)[^&;#]*"
)


def redact(uri: str) -> str:
    """Mask user, password and secret-looking query values of an address; other texts stay as they are.

    Everything up to the last `@` counts as credentials, because passwords with `/`, `#` or `@` are typed unescaped:
    hiding too much of a path is better than showing half a password.
    """
    if "://" not in uri:
        return uri
    scheme, rest = uri.split("://", 1)
    if "@" in rest:
        rest = "***@" + rest.rsplit("@", 1)[1]
    return scheme + "://" + _SECRET_KEY.sub(r"\1***", rest)
