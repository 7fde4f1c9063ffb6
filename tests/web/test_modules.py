"""The page's JavaScript modules import each other without a cycle, and know every word that the device may say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import get_args

import pytest

from edgead.stream.alerts import Ending, EventKind
from edgead.stream.spool.alert_record import JUDGEMENTS, State
from edgead.web.camera_models import Verdict
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


# beside the endings of the state machine: a process that died closes nothing
ENDINGS = {*get_args(Ending), "interrupted"}


@pytest.mark.parametrize(
    ("module", "name", "known"),
    [
        ("alert_detail.js", "ENDINGS", ENDINGS),
        ("alert_state.js", "STATES", {"", *get_args(State)}),
        ("judging.js", "JUDGEMENTS", set(JUDGEMENTS)),
        ("verdict.js", "WORDS", set(get_args(Verdict))),
        ("verdict.js", "ORDER", set(get_args(Verdict))),
    ],
)
def test_every_word_of_the_device_has_words_on_the_page(module: str, name: str, known: set[str]) -> None:
    """The page would print the key itself."""
    assert keys(module, name) == known


def test_only_known_events_are_announced() -> None:
    """The events of the page have the names that the device gives them."""
    assert keys("app.js", "ANNOUNCED") <= {f"alert_{kind}" for kind in get_args(EventKind)}


def keys(module: str, name: str) -> set[str]:
    """Keys of an object, or of a list of strings or of lists, at the top of a module."""
    text = (FOLDER / module).read_text(encoding="utf-8")
    found = re.search(rf"^(?:export )?const {name} = ([\[{{].*?[\]}}]);$", text, re.DOTALL | re.MULTILINE)
    assert found is not None, (module, name)
    content = found[1]
    if content.startswith("{"):
        return set(re.findall(r"[{,]\s*(\w+):", content))
    return set(re.findall(r'\["([^"]*)",' if content.startswith("[[") else r'"([^"]*)"', content))
