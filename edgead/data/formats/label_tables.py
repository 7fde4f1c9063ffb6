"""Tables beside images that label them, such as `labels.csv`; they are noticed, not read."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from edgead.data.file_checks import beginning_of
from edgead.data.names import names_kind, role_of

_SUFFIXES = (".csv", ".tsv", ".txt")
_READ_BYTES = 1 << 20
_SHARE = 0.2
_BINARY = {"0", "1", "0.0", "1.0", "true", "false", "yes", "no", "y", "n"}


def labels_images(path: Path, names: set[str]) -> bool:
    """Whether a table lists images with what may be labels.

    Its lines name at least a fifth of the images (and two), beside words such as `ok` or `scratch`, a column of yes and
    no, or under a heading such as `label`. Lists of names and tables of times and exposures are no labels.

    Args:
        path: File.
        names: Names and stems of the images, in lower case.
    """
    if path.suffix.lower() not in _SUFFIXES:
        return False
    lines = beginning_of(path, _READ_BYTES).decode("utf-8", "replace").splitlines()
    rows = [[cell.strip(" \"'") for cell in re.split(r"[,;\t]|\s{1,}", line.strip())] for line in lines if line.strip()]
    found: set[str] = set()
    columns: dict[int, set[str]] = defaultdict(set)
    has_words = False
    for row in rows:
        named = next((index for index, cell in enumerate(row) if _name(cell) in names), None)
        if named is None:
            continue
        found.add(_name(row[named]))
        for index, cell in enumerate(row):
            if index != named:
                columns[index].add(cell.casefold())
                has_words |= role_of(cell) in ("good", "defect") or names_kind(cell)
    if len(found) < max(2, _SHARE * len(names) / 2) or not columns:
        return False
    is_binary = any(values <= _BINARY and len(values) == 2 for values in columns.values())
    heading = rows[0] if not any(_name(cell) in names for cell in rows[0]) else []
    is_headed = any(
        role_of(cell) in ("mask", "defect", "good") or cell.casefold() in ("class", "target") for cell in heading
    )
    return has_words or is_binary or is_headed


def _name(cell: str) -> str:
    return cell.replace("\\", "/").rsplit("/", 1)[-1].casefold()
