"""Questions to the tables for all versions that may reach a line, and the complaints that follow."""

from __future__ import annotations

import ast
import enum
import logging
import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, reduce
from pathlib import Path

import numpy as np

from ..facts import Attribute, Release, Signature, load_facts
from .values import (
    EVERY,
    PLAIN,
    UNKNOWN,
    ApiClass,
    ApiFunction,
    ApiModule,
    ApiObject,
    Claims,
    Guard,
    Literal,
    Many,
    Members,
    Row,
    Unknown,
    Value,
    join,
)

Complain = Callable[[str], None]
# clearly not TensorRT's; a name that these have says nothing about an object of unknown type
_COMMON_TYPES = (
    *(str, bytes, bytearray, memoryview, int, float, list, dict, set, tuple, type, property, Exception),
    *(
        Path,
        np.ndarray,
        np.dtype,
        threading.Thread,
        threading.Event,
        logging.Logger,
        ExitStack,
        enum.Enum,
        re.Match,
        ast.AST,
    ),
)
_COMMON_NAMES = {"name", "type", "value", "desc", "file", "line", "node", "message", "log", "parse", "version", "init"}
SEQUENCES = ("list", "Sequence", "Iterable", "Iterator", "Generator", "set", "frozenset", "deque", "Collection")
MAPPINGS = ("dict", "Mapping", "MutableMapping", "defaultdict", "OrderedDict")


@cache
def distinctive_names() -> frozenset[str]:
    """Names of the bindings that ordinary objects do not have."""
    names = frozenset().union(*(release.names for releases in load_facts().values() for release in releases.values()))
    return names - _COMMON_NAMES - {name for cls in _COMMON_TYPES for name in dir(cls)}


def shown(value: Value) -> str:
    """How a message calls a value."""
    if isinstance(value, ApiModule):
        return value.api
    if isinstance(value, ApiFunction):
        return f"{value.owner or value.api}.{value.name}"
    return value.name if isinstance(value, ApiClass | ApiObject | Members) else "?"


def find(release: Release, value: Value, name: str) -> Attribute | None:
    if isinstance(value, ApiModule):
        return release.module_attribute(name)
    owner = release.class_name(value.name) if isinstance(value, ApiClass | ApiObject | Members) else None
    return release.attribute(owner, name) if owner else None


def releases(api: str, claims: Claims) -> dict[str, Release]:
    """Those of the package's versions that are claimed, oldest first."""
    return {version: release for version, release in load_facts()[api].items() if (api, version) in claims}


def versions_with(value: ApiModule | ApiClass | ApiObject | Members, name: str) -> Claims:
    """All versions that have `value.name`."""
    return frozenset((value.api, v) for v, release in load_facts()[value.api].items() if find(release, value, name))


def guard_of(value: ApiModule | ApiClass | ApiObject | Members, name: str, complain: Complain) -> Guard:
    """The condition that `value` has `name`; versions of the other packages are not touched by it."""
    there = versions_with(value, name)
    if not there:
        complain(f"no version has {shown(value)}.{name}: the test never holds")
    others = frozenset(claim for claim in EVERY if claim[0] != value.api)
    return Guard(there | others, EVERY - there)


def attribute(
    value: ApiModule | ApiClass | ApiObject, name: str, claims: Claims, complain: Complain, *, store: bool = False
) -> Value:
    """Value of `value.name`; complains of every claimed version that lacks it, or where it cannot be written."""
    if name in ("__doc__", "__name__", "__class__", "__version__"):
        return PLAIN
    if name == "__members__" and isinstance(value, ApiClass):
        return Members(value.api, value.name)
    claimed = releases(value.api, claims)
    if not claimed:
        complain(f"{shown(value)}.{name}: no version of {value.api} reaches this line")
    found = {version: find(release, value, name) for version, release in claimed.items()}
    missing = [version for version, one in found.items() if one is None]
    if missing:
        complain(f"{shown(value)}.{name} does not exist in {value.api} {', '.join(missing)}")
    there = {version: one for version, one in found.items() if one}
    wrong = [v for v, one in there.items() if not (one.writable if store else one.readable)]
    if wrong:
        complain(f"{shown(value)}.{name} cannot be {'written' if store else 'read'} in {value.api} {', '.join(wrong)}")
    values = [_value_of(value, name, one, load_facts()[value.api][version]) for version, one in there.items()]
    return reduce(join, values) if values else UNKNOWN


def _value_of(owner: ApiModule | ApiClass | ApiObject, name: str, found: Attribute, release: Release) -> Value:
    if found.kind in ("method", "function"):
        cls = None if isinstance(owner, ApiModule) else owner.name
        return ApiFunction(owner.api, cls, name, bound=not isinstance(owner, ApiClass))
    if found.kind == "class":
        return ApiClass(owner.api, found.type)
    return type_value(owner.api, found.type, release)


def type_value(api: str, text: str, release: Release) -> Value:
    """The value that a type's name in the tables stands for."""
    try:
        return _typed(api, ast.parse(text, mode="eval").body, release)
    except SyntaxError:
        return UNKNOWN


def _typed(api: str, node: ast.expr, release: Release) -> Value:
    if isinstance(node, ast.BinOp):
        return join(_typed(api, node.left, release), _typed(api, node.right, release))
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if ast.unparse(node.value) == "tuple":
            return Row(tuple(_typed(api, one, release) for one in inner))
        return Many(_typed(api, inner[-1], release)) if ast.unparse(node.value) in (*SEQUENCES, *MAPPINGS) else UNKNOWN
    text = ast.unparse(node)
    cls = release.class_name(text)
    if cls:
        return ApiObject(api, cls)
    return UNKNOWN if text in ("object", "tuple", "list") or "<" in text else PLAIN


def call(
    function: ApiFunction | ApiClass,
    positional: list[Value],
    keywords: dict[str, Value],
    claims: Claims,
    complain: Complain,
    *,
    starred: bool = False,
) -> Value:
    """Result of a call; complains of every claimed version without an overload that takes these arguments."""
    owner, name = (function.name, "__init__") if isinstance(function, ApiClass) else (function.owner, function.name)
    if isinstance(function, ApiFunction) and not function.bound:
        positional = positional[1:]
    results: list[Value] = []
    misfits: dict[str, list[str]] = {}
    for version, release in releases(function.api, claims).items():
        cls = release.class_name(owner) if owner else None
        if isinstance(function, ApiClass) and cls and release.members(cls):
            _check_number(function.api, cls, positional, release, version, complain)
            continue
        found = release.attribute(cls, name) if cls else release.module_attribute(name) if not owner else None
        if isinstance(function, ApiClass) and cls and found is None:
            complain(f"{cls} cannot be constructed in {function.api} {version}")
        if found is None or not found.signatures:
            continue
        fits = [_misfit(s, positional, keywords, release, function.api, starred=starred) for s in found.signatures]
        if all(fits):
            misfits.setdefault(" / ".join(fits), []).append(version)
        taken = [s for s, misfit in zip(found.signatures, fits, strict=True) if not misfit] or found.signatures
        results += [type_value(function.api, signature.returns, release) for signature in taken]
    for reason, versions in misfits.items():
        complain(f"{owner or function.api}.{name} {reason} ({function.api} {', '.join(versions)})")
    if isinstance(function, ApiClass):
        return ApiObject(function.api, function.name)
    return reduce(join, results) if results else UNKNOWN


def _check_number(
    api: str, enum_name: str, arguments: list[Value], release: Release, version: str, complain: Complain
) -> None:
    """An enum made from a number must be the same member in every version of the tables."""
    for argument in arguments:
        if isinstance(argument, Literal):
            meant = {
                tuple(name for name, number in other.members(enum_name).items() if number == argument.value)[:1]
                for other in load_facts()[api].values()
            }
            if len(meant) != 1 or not next(iter(meant)):
                complain(f"{enum_name}({argument.value!r}) is not the same member in all versions: write its name")
                return


def _misfit(
    signature: Signature,
    positional: list[Value],
    keywords: dict[str, Value],
    release: Release,
    api: str,
    *,
    starred: bool,
) -> str:
    """Why this overload does not take the arguments; empty if it does."""
    reason = signature.misfit(len(positional), keywords, starred=starred)
    if reason or signature.by_position:
        return reason
    given = [*zip(signature.parameters, positional, strict=False)]
    given += [(p, keywords[p.name]) for p in signature.parameters if p.name in keywords]
    for parameter, value in given:
        reason = wrong_value(parameter.name, parameter.kind, value, release, api)
        if reason:
            return reason
    return ""


def wrong_value(name: str, kind: str, value: Value, release: Release, api: str) -> str:
    """Why `value` is nothing for a parameter or property of this name and type; empty if it may be right."""
    wanted = release.class_name(kind)
    is_number = isinstance(value, Literal) and type(value.value) is int
    if wanted and release.members(wanted) and isinstance(value, Literal) and value.value is not None:
        return f"wants a member of {wanted} for {name!r}, not {value.value!r}"
    if name.endswith("flags") and kind == "int":
        if is_number and value.value:
            return f"gets a bare number for {name!r}: numbers move between versions, write 1 << int(member)"
        if isinstance(value, ApiObject):
            return f"gets a member of {value.name} for {name!r}: write 1 << int(member)"
    if wanted and isinstance(value, ApiObject) and value.api == api:
        given = release.class_name(value.name)
        if given and wanted not in release.bases(given):
            return f"wants {wanted} for {name!r}, not {given}"
    return ""


def check_store(
    value: ApiObject | ApiClass | ApiModule, name: str, new: Value, claims: Claims, complain: Complain
) -> None:
    """An assignment to `value.name`."""
    attribute(value, name, claims, complain, store=True)
    for release in releases(value.api, claims).values():
        found = find(release, value, name)
        reason = wrong_value(name, found.type, new, release, value.api) if found else ""
        if reason:
            complain(f"{shown(value)}.{name} {reason}")
            return


def unresolved(name: str, complain: Complain) -> Value:
    """An attribute of something unknown: a problem where the name could be the bindings'."""
    if name in distinctive_names():
        complain(f"unresolved: .{name} of something whose type the walk does not know; annotate it")
    return UNKNOWN


def is_unknown(value: Value) -> bool:
    return isinstance(value, Unknown)
