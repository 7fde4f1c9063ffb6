"""The committed tables of TensorRT's, pycuda's and cuda-bindings' public names, and questions to them.

`python -m tools.bindings` writes the tables. For the authors of fakes: `assert_same_signature` and `assert_same_members`
hold it against them, so that the fake cannot drift from the real interface.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tools.bindings.signatures import split_arguments

FOLDER = Path(__file__).parent
OBJECT_PROTOCOL = (
    "__enter__",
    "__exit__",
    "__init__",
    "__len__",
    "__getitem__",
    "__setitem__",
    "__iter__",
    "__contains__",
)


@dataclass(frozen=True)
class Parameter:
    """One argument; by position only where the bindings give it no name of its own."""

    name: str
    kind: str
    optional: bool

    @property
    def by_position_only(self) -> bool:
        return re.fullmatch(r"arg\d+", self.name) is not None


@dataclass(frozen=True)
class Signature:
    """One overload: its arguments without the object itself, and the name of what it returns."""

    parameters: tuple[Parameter, ...]
    returns: str
    by_position: bool = False  # nothing but that is known: `(*)`

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Parse `(name: type = default, ...) -> type`."""
        body, is_typed, returns = text.rpartition(" -> ")
        parts = split_arguments((body if is_typed else text).strip()[1:-1])
        parameters = []
        for part in parts:
            left, is_optional, _ = part.partition(" = ")
            name, _, kind = left.partition(": ")
            parameters.append(Parameter(name.strip(), kind.strip(), bool(is_optional)))
        by_position = [parameter.name for parameter in parameters] == ["*"]
        return cls(() if by_position else tuple(parameters), returns if is_typed else "object", by_position)

    def misfit(self, n_positional: int, keywords: Collection[str], *, starred: bool = False) -> str:
        """Why a call with this number of positional arguments and these keywords fails; empty if it does not."""
        if self.by_position:
            return f"takes arguments by position, got {sorted(keywords)}" if keywords else ""
        if n_positional > len(self.parameters):
            return f"takes {len(self.parameters)} arguments, got {n_positional} by position"
        free = self.parameters[n_positional:]
        unknown = [word for word in keywords if word not in {p.name for p in free if not p.by_position_only}]
        if unknown:
            return f"takes no keyword {', '.join(map(repr, unknown))}, but {[p.name for p in self.parameters]}"
        missing = [p.name for p in free if not p.optional and p.name not in keywords]
        return f"lacks {missing}" if missing and not starred else ""


@dataclass(frozen=True)
class Attribute:
    """Attribute of a class or module; `kind` is method, property, member, value, class or function."""

    kind: str
    type: str = "object"
    signatures: tuple[Signature, ...] = ()
    writable: bool = False
    readable: bool = True


class Release:
    """The facts of one version of one package."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.classes: Mapping[str, Any] = raw["classes"]

    def class_name(self, name: str) -> str | None:
        """The class behind a name, an alias, or the C++ name which a docstring shows in its place."""
        name = self.raw.get("aliases", {}).get(name, name)
        if name in self.classes:
            return str(name)
        return name[1:] if name[:1] == "I" and name[1:] in self.classes else None

    def bases(self, name: str) -> Iterator[str]:
        """The class itself, then what it inherits from."""
        yield name
        for base in self.classes[name].get("bases", ()):
            if base in self.classes:
                yield from self.bases(base)

    def attribute(self, owner: str, name: str) -> Attribute | None:
        """Attribute `owner.name`, own or inherited; None if it does not exist."""
        for cls in self.bases(owner):
            found = self._own_attribute(cls, name)
            if found:
                return found
        return None

    def _own_attribute(self, cls: str, name: str) -> Attribute | None:
        facts = self.classes[cls]
        if f"{cls}.{name}" in self.classes or f"{cls}.{name}" in self.raw.get("aliases", {}):
            return Attribute("class", self.class_name(f"{cls}.{name}") or "")
        if name in facts.get("members", {}):
            return Attribute("member", cls)
        if name in facts.get("values", {}):
            value = str(facts["values"][name])
            return Attribute("value", value.rpartition(".")[0] if "." in value else "int")
        if name in facts.get("properties", {}):
            kind, _, access = facts["properties"][name].partition(", ")
            writable = access == "writable" or kind == "write only"
            return Attribute("property", kind, writable=writable, readable=kind != "write only")
        if name in facts.get("methods", {}):
            return Attribute("method", signatures=parse_all(tuple(facts["methods"][name])))
        return Attribute("property", "object") if "members" in facts and name in ("name", "value") else None

    def module_attribute(self, name: str) -> Attribute | None:
        """Attribute `name` of the module itself; None if it does not exist."""
        found = self.class_name(name)
        if name in self.raw["functions"]:
            return Attribute("function", signatures=parse_all(tuple(self.raw["functions"][name])))
        if name in self.raw.get("values", {}):
            value = str(self.raw["values"][name])
            return Attribute("value", value.rpartition(".")[0] if "." in value else "int")
        is_there = found and (name in self.classes or name in self.raw.get("aliases", {}))
        return Attribute("class", str(found)) if is_there else None

    def members(self, enum: str) -> Mapping[str, int | None]:
        found = self.classes.get(enum, {}).get("members", {})
        return dict(found)

    @cached_property
    def names(self) -> frozenset[str]:
        """Every public name of every class and of the module: what a receiver of unknown type must not answer to."""
        found = {*self.raw["functions"], *self.raw["classes"], *self.raw.get("values", {})}
        for facts in self.classes.values():
            for kind in ("methods", "properties", "members", "values", "callbacks"):
                found |= facts.get(kind, {}).keys()
        return frozenset(name for name in found if not name.startswith("_"))


@cache
def parse_all(texts: tuple[str, ...]) -> tuple[Signature, ...]:
    return tuple(Signature.parse(text) for text in texts)


@cache
def load_facts() -> dict[str, dict[str, Release]]:
    """Package -> version -> facts, versions oldest first; the packages are `tensorrt`, `pycuda` and `cuda.bindings`."""
    tables = {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ("tensorrt", "cuda")}
    every = {"tensorrt": tables["tensorrt"], **tables["cuda"]}
    return {
        api: {version: Release(table["versions"][version]) for version in sorted(table["versions"], key=version_key)}
        for api, table in every.items()
    }


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def tensorrt_facts() -> dict[str, Release]:
    return load_facts()["tensorrt"]


def assert_same_signature(
    fake: type,
    real: str,
    facts: Mapping[str, Release] | None = None,
    versions: Collection[str] | None = None,
    *,
    own: Collection[str] = (),
) -> None:
    """Every public method of `fake` exists in `real` with the same argument names, in every version.

    Properties, annotated fields and class values must be properties or values of the real one. Names with an underscore
    and those in `own` are the fake's business.

    Args:
        fake: The class to check.
        real: Name in the table, such as `ICudaEngine`; `tensorrt` for a stand-in of the module itself.
        facts: Version -> facts; TensorRT's if left out.
        versions: Those which the fake stands for; all of them if left out.
        own: Public names which the fake has for the test alone.
    """
    facts = facts or tensorrt_facts()
    for version in versions or facts:
        release = facts[version]
        is_module = real == "tensorrt"
        assert is_module or real in release.classes, f"{version} has no {real}"
        for name, member in _public_members(fake, own):
            found = release.module_attribute(name) if is_module else release.attribute(real, name)
            assert found, f"{fake.__name__}.{name}: {real} of {version} has no such name"
            if inspect.isfunction(member):
                assert found.kind in ("method", "function"), f"{fake.__name__}.{name}: a {found.kind} in {version}"
                _assert_same_arguments(f"{fake.__name__}.{name}", member, found, version, is_static=is_module)
            elif not isinstance(member, type):
                assert found.kind not in ("method", "function"), f"{fake.__name__}.{name}: a {found.kind} in {version}"


def _public_members(fake: type, own: Collection[str]) -> Iterator[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for cls in reversed(fake.__mro__[:-1]):
        if cls.__module__ not in ("typing", "abc", "enum"):
            found |= dict.fromkeys(inspect.get_annotations(cls))
            found |= {name: getattr(member, "__func__", member) for name, member in vars(cls).items()}
    yield from ((name, member) for name, member in found.items() if not name.startswith("_") and name not in own)


def _assert_same_arguments(place: str, function: Any, real: Attribute, version: str, *, is_static: bool) -> None:
    """The fake's argument names in their order are those of one overload of the real method."""
    parameters = list(inspect.signature(function).parameters.values())
    if not is_static and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    names = [parameter.name for parameter in parameters]
    kinds = {parameter.kind for parameter in parameters}
    assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}, (
        f"{place}: arguments are hidden"
    )
    for signature in real.signatures:
        pairs = list(zip(names, signature.parameters, strict=False))
        same = len(names) == len(signature.parameters) and all(p.by_position_only or n == p.name for n, p in pairs)
        if same or signature.by_position:
            return
    known = [[parameter.name for parameter in signature.parameters] for signature in real.signatures]
    raise AssertionError(f"{place}({', '.join(names)}): {version} takes {' or '.join(map(str, known))}")


def assert_same_members(fake: type, real: str, version: str, facts: Mapping[str, Release] | None = None) -> None:
    """Every member of a fake enum (an `Enum`, or a class with numbers) has the real one's number in that version."""
    members = (facts or tensorrt_facts())[version].members(real)
    pairs = {m.name: m.value for m in fake} if issubclass(fake, Enum) else vars(fake)
    for name, value in pairs.items():
        if not name.startswith("_"):
            assert name in members, f"{fake.__name__}.{name}: {real} of {version} has no such member"
            assert int(value) == members[name], f"{fake.__name__}.{name}: {int(value)}, {version} has {members[name]}"
