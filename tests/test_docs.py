"""What README and docs/ promise is there: files, headings, verbs and options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from edgead.cli import app
from edgead.commands.doctor.jetson import JETPACKS

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
# the first two name the tools that make them, the third is for programs
WITHOUT_COMMANDS = ("docs/results.md", "docs/precision.md", "docs/events.md")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: str, text: str) -> list[str]:
    """Local links that lead to no file or no heading."""
    dead = []
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = PAGES[page].parent / name if name else PAGES[page]
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def commands(text: str) -> list[str]:
    """Every `edgead …` in code: lines of blocks, and inline code."""
    blocks = re.findall(r"^(?: {4,}|\$ )(?:.*&& )?(edgead .+)$", text, re.MULTILINE)
    fenced = [line for block in FENCE.findall(text) for line in re.findall(r"^ *(edgead .+)$", block, re.MULTILINE)]
    return blocks + fenced + [" ".join(code.split()) for code in re.findall(r"`(edgead [^`]+)`", FENCE.sub("", text))]


def refusal(command: str) -> str:
    """Why the command line would not take a command; empty where it would."""
    current: Any = typer.main.get_command(app)
    words = shlex.split(command.partition(" #")[0])[1:]
    while getattr(current, "commands", None):
        if words and words[0] in ("--help", "--version"):
            return ""
        if not words or words[0] not in current.commands:
            return f"no verb in {command!r}"
        current = current.commands[words.pop(0)]
    if not words:
        return ""  # the verb's name alone, as in a heading
    try:
        current.make_context(command, [*words])
    except Exception as error:  # Typer's own click classes are private
        return f"{command!r}: {error}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_local_links_resolve(page: str) -> None:
    """Every file and heading that a page links to is there."""
    text = text_of(page)
    assert LINK.findall(text)
    assert not dead_links(page, text)


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    """Every command that a page names has a verb and options that the command line takes."""
    found = commands(text_of(page))
    assert len(found) >= 5 or page in WITHOUT_COMMANDS
    assert not [why for why in map(refusal, found) if why]


def test_these_checks_can_fail() -> None:
    """A missing file, a missing heading, an unknown verb, an unknown option and a wrong value are found."""
    text = "[a](no.md) [b](#no-such-heading) [c](README.md#the-tour) [d](docs/jetson.md#nowhere)"
    assert dead_links("README.md", text) == ["no.md", "#no-such-heading", "docs/jetson.md#nowhere"]
    page = "x `edgead fly` y `edgead train --colour red`\n\n    edgead stream --camera left # no\n    edgead doctor # yes\n"
    assert [bool(refusal(command)) for command in commands(page)] == [True, False, True, True]


def test_the_jetson_page_and_doctor_know_the_same_jetpacks() -> None:
    """Each row that doctor judges by stands in the page with the same L4T, Python, CUDA and TensorRT."""
    rows = [line for line in text_of("docs/jetson.md").splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(JETPACKS)
    for row, jetpack in zip(rows, JETPACKS, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if jetpack.python >= (3, 10):  # of the older one all releases count alike
            assert cells[1] == ", ".join(f"{major}.{minor}" for major, minor in jetpack.l4t)
            assert cells[0] == jetpack.name.replace(" or ", ", ")
        assert cells[2].endswith(", " + ".".join(map(str, jetpack.python)))
        assert cells[3].removesuffix(" *(known)*") == jetpack.cuda
        assert cells[4] == jetpack.tensorrt


def test_the_references_of_the_jetson_page_are_numbered() -> None:
    """Every [n] in the text has its line in the list, and every line of the list is used."""
    text, _, sources = text_of("docs/jetson.md").partition("## Where this is from")
    used = {int(number) for number in re.findall(r"\[(\d+)\](?!\()", text)}
    listed = {int(number) for number in re.findall(r"^(\d+)\. \[", sources, re.MULTILINE)}
    assert used == listed
    assert len(listed) >= 10
