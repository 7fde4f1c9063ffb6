"""Tables and columns of a spool's database: by them, and not by its version number alone, a database is recognised."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache

Layout = Mapping[str, frozenset[str]]


def layout_of(connection: sqlite3.Connection) -> Layout:
    """Columns of every table."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    names = [str(name) for (name,) in rows.fetchall()]
    query = "SELECT name FROM pragma_table_info(?)"
    return {name: frozenset(str(column) for (column,) in connection.execute(query, (name,))) for name in names}


@cache
def layouts(scripts: tuple[str, ...]) -> tuple[Layout, ...]:
    """Layout of each schema version, from 0, the empty database, to the last."""
    connection = sqlite3.connect(":memory:")
    try:
        found = [layout_of(connection)]
        for script in scripts:
            connection.executescript(script)
            found.append(layout_of(connection))
        return tuple(found)
    finally:
        connection.close()


def version_of(found: Layout, known: Sequence[Layout]) -> int | None:
    """Schema version whose tables and columns these are; None if they are of no version."""
    return next((version for version, layout in enumerate(known) if layout == found), None)


def missing_from(found: Layout, expected: Layout) -> str:
    """What a database lacks, in words; empty if nothing."""
    for table, columns in expected.items():
        if table not in found:
            return f"its table {table} is missing"
        if lacking := columns - found[table]:
            return f"its table {table} lacks the column {min(lacking)}"
    return ""


def has_unknown(found: Layout, latest: Layout) -> bool:
    """Whether a database has tables or columns that the latest known version does not have."""
    return any(columns - latest.get(table, frozenset()) or table not in latest for table, columns in found.items())
