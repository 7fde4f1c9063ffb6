"""Read pycuda's names out of its sources: its compiled half does not import without CUDA's driver library.

`pycuda.driver` is the compiled `pycuda._driver`, described with Boost.Python in one C++ file, plus a Python file. Argument
names stand in the C++ where the author gave them; elsewhere `(*)` says that arguments go by position and are not counted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_START = re.compile(r"(?:class_|enum_)<|py::def\(|DEF_SIMPLE_FUNCTION(?:_WITH_ARGS)?\(|DECLARE_EXC\((?=\w+, )")
_ARGUMENT = re.compile(r'py::args?\(((?:"\w+"(?:, )?)+)\)(?:\s*=\s*([^,()]+(?:\([^()]*\))?))?')
_NAME = re.compile(r'"(\w+)"')


def statements(text: str) -> Iterator[str]:
    """The parts of the module's body, each from one class, enum or function to the next."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/|\\\n", " ", text[text.index("BOOST_PYTHON_MODULE") :], flags=re.DOTALL)
    places = [match.start() for match in _START.finditer(text)]
    yield from (text[a:b] for a, b in zip(places, [*places[1:], len(text)], strict=True))


def call_text(text: str, start: int) -> str:
    """`text` from the bracket at `start` to the one that closes it."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return text[start : place + 1]
    return text[start:]


def arguments(call: str) -> str:
    """The named arguments in a definition, without the object itself; `(*)` where none is named."""
    found: list[str] = []
    for names, default in _ARGUMENT.findall(call):
        plain = {"py::object()": "None", "py::list()": "[]"}.get(default.strip(), default.strip())
        found += [f"{name} = {plain}" if plain else name for name in _NAME.findall(names) if name != "self"]
    return f"({', '.join(found)})" if found else "(*)"


def class_facts(text: str) -> dict[str, Any]:
    """Methods, properties and flags in one class's statement."""
    facts: dict[str, Any] = {"methods": {}, "properties": {}, "values": {}}
    for match in re.finditer(r'\.def\(\s*"(\w+)"', text):
        if not match[1].startswith("_") or match[1] in ("__int__", "__index__", "__call__"):
            facts["methods"].setdefault(match[1], []).append(arguments(call_text(text, match.start() + 4)))
    for match in re.finditer(r"DEF_SIMPLE_METHOD\((\w+)\)", text):
        facts["methods"].setdefault(match[1], ["(*)"])
    for match in re.finditer(r'add_property\(\s*"(\w+)"', text):
        facts["properties"][match[1]] = "int"
    for match in re.finditer(r'def_readwrite\(\s*"(\w+)"', text):
        facts["properties"][match[1]] = "object, writable"
    for match in re.finditer(r'cls\.attr\("(\w+)"\)', text):
        facts["values"][match[1]] = "int"
    if "py::no_init" not in text or "make_constructor" in text:
        place = re.search(r"py::init<", text)
        is_plain = place is not None and "py::optional" not in text
        first_line = text[place.start() :].partition("\n")[0] if place else ""
        facts["methods"]["__init__"] = [arguments(first_line) if is_plain else "(*)"]
    base = re.search(r"py::bases<(\w+)>", text)
    if base:
        facts["bases"] = ["".join(part.capitalize() for part in base[1].split("_"))]
    return facts


def compiled_facts(text: str) -> dict[str, Any]:
    """Everything that the C++ file puts into the module."""
    facts: dict[str, Any] = {"classes": {}, "functions": {}, "aliases": {}}
    for part in statements(text):
        name = re.search(r'"(\w+)"', part)
        if part.startswith("DECLARE_EXC"):
            facts["classes"][part[len("DECLARE_EXC(") :].partition(",")[0]] = {}
        elif part.startswith("DEF_SIMPLE_FUNCTION"):
            call = call_text(part, part.index("("))
            names = _NAME.findall(call)
            if first := re.match(r"\(\s*(\w+)", call):
                facts["functions"][first[1]] = [f"({', '.join(names)})" if names else "(*)"]
        elif name and part.startswith("py::def"):
            facts["functions"][name[1]] = [arguments(call_text(part, part.index("(")))]
        elif name and part.startswith("enum_"):
            facts["classes"][name[1]] = {"members": dict.fromkeys(re.findall(r'\.value\(\s*"(\w+)"', part))}
        elif name and not name[1].startswith("Memcpy"):  # those are written in nested macros
            found = class_facts(part)
            facts["classes"][name[1]] = {kind: value for kind, value in found.items() if value}
        for alias in re.findall(r'py::scope\(\)\.attr\("(\w+)"\) = wrp', part):
            if name:
                facts["aliases"][alias] = name[1]
    return facts


def python_arguments(function: ast.FunctionDef, skip: int = 0) -> str:
    plain = function.args.args
    texts = [argument.arg for argument in plain]
    for argument, default in zip(reversed(plain), reversed(function.args.defaults), strict=False):
        texts[plain.index(argument)] += f" = {ast.unparse(default)}"
    return f"({', '.join([*texts[skip:], *(['*'] if function.args.vararg else [])])})"


def add_python(facts: dict[str, Any], text: str) -> None:
    """Functions and classes of `driver.py`, and the methods that it adds to the compiled classes."""
    tree = ast.parse(text)
    defined = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            facts["functions"][node.name] = [python_arguments(node)]
        elif isinstance(node, ast.ClassDef):
            facts["classes"][node.name] = {"bases": [ast.unparse(base) for base in node.bases]}
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Attribute):
            owner, name = ast.unparse(inner.targets[0].value), inner.targets[0].attr
            added = defined.get(ast.unparse(inner.value))
            if owner in facts["classes"] and added and not name.startswith("_"):
                facts["classes"][owner].setdefault("methods", {})[name] = [python_arguments(added, skip=1)]


def source_facts(folder: Path) -> dict[str, Any]:
    """The facts of an unpacked source archive."""
    facts = compiled_facts(next(folder.rglob("wrap_cudadrv.cpp")).read_text(encoding="utf-8"))
    add_python(facts, next(folder.rglob("pycuda/driver.py")).read_text(encoding="utf-8"))
    return facts
