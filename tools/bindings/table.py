"""Committed tables of names: one name per line, sorted, so that a diff lists the changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "tests" / "engines" / "facts"


def table_text(value: Any, indent: int = 0) -> str:
    """JSON with sorted keys, one a line; lists stay on their line."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    pad = " " * (indent + 1)
    lines = (f"{pad}{json.dumps(str(key))}: {table_text(value[key], indent + 1)}" for key in sorted(value))
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """`+`, `-` and `!` lines with the place of every name that came, went or changed."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            where = f"{path} / {key}" if path else str(key)
            if key not in new:
                yield f"- {where}"
            elif key not in old:
                yield f"+ {where}"
            else:
                yield from differences(old[key], new[key], where)
    elif old != new:
        yield f"! {path}: {json.dumps(old)} -> {json.dumps(new)}"
