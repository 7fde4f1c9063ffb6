"""Values that every JSON reader takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """A copy without NaN, infinity or lone surrogates from odd file names.

    Anything that is not text, a number, a list or a mapping becomes its text.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, int)) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return plain(str(value))
    return number if math.isfinite(number) else None


def json_object(text: Any) -> dict[str, Any] | None:
    """The object of a JSON text; None for anything else, such as a text with a flipped bit."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
