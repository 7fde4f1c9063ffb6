"""Files, headings, verbs and options that README and docs/ mention exist."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

import edgead
from edgead.cli import app
from edgead.commands.doctor.jetson import JETPACKS
from edgead.commands.train import TrainResult

from .english import PHRASES
from .test_imports import ALLOWED, MODULES, STREAM, part_of

ROOT = Path(__file__).parents[1]
PAPERS = tuple(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))
PAGES = {
    str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *PAPERS, *sorted((ROOT / "docs").rglob("*.md")))
}
# the first two name the tools that make them, the others are about files, words, programs and Python
WITHOUT_COMMANDS = (
    "docs/results.md", "docs/precision.md", "docs/events.md", "docs/glossary.md", "docs/compatibility.md", "docs/index.md",
    "docs/peers.md", "docs/kinds.md", "docs/python.md", "docs/architecture.md", "docs/dependencies.md",
    *(path.name for path in PAPERS),
)  # fmt: skip
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
    own = {"--help"}.union(*(parameter.opts for parameter in current.params))
    while getattr(current, "commands", None):
        if words and words[0] in own:
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


@pytest.mark.parametrize("page", [page for page in PAGES if page not in WITHOUT_COMMANDS[:2]])
def test_english_is_plain(page: str) -> None:
    """No page but the two that tools write has a phrase that plain English does without."""
    text = " ".join(text_of(page).split())
    assert [text[max(0, found.start() - 40) : found.end() + 20] for found in PHRASES.finditer(text)] == []


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
    text = "[a](no.md) [b](#no-such-heading) [c](README.md#measured) [d](docs/jetson.md#nowhere)"
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
    text, _, sources = text_of("docs/jetson.md").partition("## Sources")
    used = {int(number) for number in re.findall(r"\[(\d+)\](?!\()", text)}
    listed = {int(number) for number in re.findall(r"^(\d+)\. \[", sources, re.MULTILINE)}
    assert used == listed
    assert len(listed) >= 10


def test_the_readme_is_short() -> None:
    """The README fits in 200 lines; the rest is in pages by task, each of which it or the overview links to."""
    assert len(text_of("README.md").splitlines()) <= 200
    linked = {link.partition("#")[0] for link in LINK.findall(text_of("docs/index.md"))}
    assert {f"docs/{link}" for link in linked if link.endswith(".md")} == {
        page for page in PAGES if page.startswith("docs/")
    } - {"docs/index.md"}


def test_every_public_name_is_on_the_python_page() -> None:
    """The API reference has a section for each name of `edgead.__all__`, and for nothing else."""
    named = re.findall(r"^::: edgead\.(\w+)$", text_of("docs/python.md"), re.MULTILINE)
    assert sorted(named) == sorted(set(edgead.__all__) - {"__version__"})


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs(
    page: str, tiny_result: TrainResult, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The lines that a page shows run on a bundle at the place that they name; the camera is a generated one."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "latest").symlink_to(tiny_result.bundle.path.parent)
    shutil.copy(next((tiny_data / "train" / "good").glob("*.png")), tmp_path / "part.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)
    assert len(blocks) == (2 if page == "docs/python.md" else 1)
    (tmp_path / "data").symlink_to(tiny_data)
    names: dict[str, Any] = {}
    exec("\n".join(blocks).replace("camera:0", "synthetic:disc").replace("max_frames=100", "max_frames=3"), names)
    assert isinstance(names["result"], edgead.ImageResult)
    assert "False" in capsys.readouterr().out or names["result"].is_anomalous


SUFFIXES = (".yaml", ".service", ".log", ".pth")


def missing_names(text: str) -> list[str]:
    """Paths and dotted names of the package, in inline code, that lead to nothing; and its paths anywhere."""
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    missing = []
    for name in {*inline, *re.findall(r"\bedgead/[\w/]+\.py\b", text)}:
        if re.fullmatch(r"(?:edgead|tests|tools|docs|configs|calibration|examples)/(?!DEVICE)[\w./-]*", name):
            if not (ROOT / name).exists():
                missing.append(name)
        elif re.fullmatch(r"edgead(\.\w+)+", name) and not name.endswith(SUFFIXES) and not is_importable(name):
            missing.append(name)
    return missing


def is_importable(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, found = name, []
    while module:
        try:
            value: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, attribute = module.rpartition(".")
            found.insert(0, attribute)
            continue
        for attribute in found:
            if not hasattr(value, attribute) and attribute not in getattr(value, "__annotations__", {}):
                return False
            value = getattr(value, attribute, None)
        return True
    return False


@pytest.mark.parametrize("page", PAGES)
def test_named_code_exists(page: str) -> None:
    """Every file of the repository and every dotted name of the package that a page names is there."""
    assert not missing_names(text_of(page))


def test_missing_code_is_found() -> None:
    """A file, a folder, a module and a member that are not there are found; what is there is not."""
    text = "`edgead/no.py` (edgead/nope/x.py) `docs/none/` `edgead.no` `edgead.bundle.nothing` `edgead.bundle.Bundle` `edgead/cli/`"
    assert sorted(missing_names(text)) == [
        "docs/none/", "edgead.bundle.nothing", "edgead.no", "edgead/no.py", "edgead/nope/x.py"
    ]  # fmt: skip


def test_the_floors_are_those_of_the_imports() -> None:
    """The table of floors has every room, what it may import as the tests of imports know it, and only lower floors there."""
    rows = re.findall(
        r"^\| (\d) \| `edgead/(\w+)[^|]*\|[^|]*\| *([^|]*?) *\|$", text_of("docs/architecture.md"), re.MULTILINE
    )
    floors = {room: int(floor) for floor, room, _ in rows}
    for _, room, allowed in rows:
        names = set(filter(None, allowed.split(", ")))
        assert names == ALLOWED[room] - {"kernel"}, room
        assert all(floors[name] < floors[room] for name in names), room
    assert floors.keys() == ALLOWED.keys() - {"kernel"}


def test_every_room_and_kernel_module_is_named() -> None:
    """The page on the architecture names each package, at any depth, and each module of the kernel, and no others there."""
    text = text_of("docs/architecture.md")
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "edgead").glob("*/**/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in text} == set()
    (kernel,) = re.findall(r"^\| 0 \| kernel[^|]*\|([^|]*)\|", text, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", kernel)) == sorted(
        name.removeprefix("edgead.") for name in MODULES if "." in name and part_of(name) == "kernel"
    )


def test_the_rooms_of_the_stream_are_those_of_the_imports() -> None:
    """The second table has every room of the stream and what it may import, as the tests of imports know it."""
    rows = re.findall(
        r"^\| (the core|`edgead/stream/\w+/`) \|[^|]*\| *([^|]*?) *\|$", text_of("docs/architecture.md"), re.MULTILINE
    )
    found = {room.strip("`/").rpartition("/")[2]: set(allowed.split(", ")) for room, allowed in rows}
    names = {"flat": "the core"}
    assert found == {
        names.get(room, room): {names.get(one, one) for one in allowed} for room, allowed in STREAM.items()
    }


def test_phrases_are_found() -> None:
    """Phrases that the pages had before are refused, and what only looks like one is not."""
    assert PHRASES.findall("for ever, so many pictures; somebody goes on") == [
        "for ever",
        "so many",
        "somebody",
        "goes on",
    ]
    assert PHRASES.findall("as so many as needed, it tends to, a newer one") == []
