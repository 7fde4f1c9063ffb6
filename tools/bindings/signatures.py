"""Read the signatures that pybind11 and Cython write at the top of a docstring; the prose below them is not kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

# what the generations of pybind11 call the same thing
_SPELLINGS = (
    (re.compile(r"\btensorrt_bindings\.(?:tensorrt\.)?"), ""),
    (re.compile(r"\b(?:typing_extensions|typing|collections\.abc)\."), ""),
    (re.compile(r"\b(?:nvinfer1|nvonnxparser)::(?:v_\d+_\d+::)?"), ""),
    (re.compile(r"\b(?:std|detail)::"), ""),
    (re.compile(r"::"), "."),
    (re.compile(r"\bSupportsInt(?: \| SupportsIndex)?\b"), "int"),
    (re.compile(r"\bSupportsFloat(?: \| SupportsIndex)?\b"), "float"),
    (re.compile(r"\bCapsuleType\b"), "capsule"),
    (re.compile(r"\b(List|Dict|Tuple)\b"), lambda match: match[1].lower()),
)
_ENUM_DEFAULT = re.compile(r"^<(.+): -?\d+>$")


def type_name(text: str) -> str:
    """One spelling for a type in all versions: `typing.SupportsInt` and `int` are both `int`."""
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text)
    return text.strip()


def split_arguments(text: str) -> list[str]:
    """The comma-separated parts of an argument list; commas inside brackets do not separate."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>" and text[place - 1] != "-")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def plain_argument(text: str) -> str:
    """`flags: typing.SupportsInt = <F.X: 0>` becomes `flags: int = F.X`."""
    left, is_default, default = text.partition(" = ")
    name, is_typed, kind = left.partition(":")
    enum = _ENUM_DEFAULT.match(default)
    plain = name.strip() + (f": {type_name(kind)}" if is_typed else "")
    return f"{plain} = {enum[1] if enum else default}" if is_default else plain


def signatures(name: str, docstring: str | None, *, bound: bool) -> Iterator[str]:
    """Each overload as `(argument, argument = default) -> type`; the object itself is left out of a bound method's."""
    pattern = re.compile(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\) -> (.+)$", re.MULTILINE)
    for match in pattern.finditer(docstring or ""):
        arguments = [plain_argument(part) for part in split_arguments(match[1])]
        yield f"({', '.join(arguments[bound:])}) -> {type_name(match[2])}"


def property_type(docstring: str | None) -> str:
    """The type of a property out of its getter's docstring, which is a signature without a name."""
    found = next(signatures("", docstring, bound=True), "")
    return found.rpartition(" -> ")[2]


def shown_callbacks(docstring: str | None) -> dict[str, str]:
    """Methods which a class shows its users how to write: name -> arguments. Some are bound to no method at all."""
    found = re.findall(r"^\s*def (\w+)\(self(?:, *)?([^)]*)\):", docstring or "", re.MULTILINE)
    return {name: f"({', '.join(split_arguments(arguments))})" for name, arguments in found if name != "__init__"}
