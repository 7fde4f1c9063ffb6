"""The page's JavaScript modules import each other without a cycle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from edgead.web.static_files import FOLDER

_IMPORT = re.compile(r'^import\s[^;]*?from "\./(\w+\.js)";', re.MULTILINE)


def order(sources: Mapping[str, str]) -> list[str]:
    """Modules, each after those that it imports."""
    return list(TopologicalSorter({name: _IMPORT.findall(text) for name, text in sources.items()}).static_order())


def test_imports_have_no_cycle() -> None:
    """Every imported module exists, all hang together, and the page's own module comes last."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js")}
    found = order(sources)
    assert set(found) == set(sources)
    assert found[-1] == "app.js"
    assert len(re.findall(r"^import\b", "".join(sources.values()), re.MULTILINE)) == sum(
        len(_IMPORT.findall(text)) for text in sources.values()
    )


def test_a_cycle_is_found() -> None:
    """Two modules that import each other fail the check."""
    with pytest.raises(CycleError):
        order({"a.js": 'import { b } from "./b.js";\n', "b.js": 'import * as a from "./a.js";\n'})
