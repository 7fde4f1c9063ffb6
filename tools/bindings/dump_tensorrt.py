"""Import one version of the bindings, in a process of its own, and print its public names as JSON.

Usage: `python -m tools.bindings.dump_tensorrt FOLDER` with the stub libraries in `LD_LIBRARY_PATH`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from types import ModuleType
from typing import Any

from tools.bindings.signatures import property_type, shown_callbacks, signatures, type_name

# what the package's own start-up leaves in its namespace
LEFTOVERS = {"attr", "value", "common_enter", "common_exit"}
PROTOCOL = {
    "__init__",
    "__len__",
    "__getitem__",
    "__setitem__",
    "__contains__",
    "__iter__",
    "__next__",
    "__call__",
    "__enter__",
    "__exit__",
    "__buffer__",
}


def is_public(name: str) -> bool:
    return not name.startswith("_") or name in PROTOCOL


def public_name(cls: type) -> str:
    return cls.__qualname__


def value_text(value: Any) -> str | int:
    """An enum member as `Class.MEMBER`, a number as itself."""
    if hasattr(type(value), "__members__"):
        return f"{public_name(type(value))}.{value.name}"
    return value if isinstance(value, int) else type_name(str(value))


def method_facts(name: str, member: Any) -> list[str]:
    """Overloads of one method; for a method written in Python, the signature from `inspect`."""
    is_static = isinstance(member, staticmethod)
    function = member.__func__ if is_static else member
    found = list(signatures(name, function.__doc__, bound=not is_static))
    if found or not inspect.isfunction(function):
        return found
    names = list(inspect.signature(function).parameters.values())[0 if is_static else 1 :]
    return [f"({', '.join(str(parameter).replace(': ', ':').replace(':', ': ') for parameter in names)})"]


def property_facts(member: property) -> str:
    """The type, and whether it can be set."""
    if member.fget is None:
        return "write only"
    kind = property_type(member.fget.__doc__) or "object"
    return f"{kind}, writable" if member.fset else kind


def class_facts(cls: type) -> dict[str, Any]:
    """Facts that `cls` itself adds to its bases."""
    facts: dict[str, Any] = {
        "bases": [public_name(base) for base in cls.__bases__ if base.__module__.startswith("tensorrt_bindings")],
        "callbacks": shown_callbacks(cls.__doc__),
        "members": {},
        "methods": {},
        "properties": {},
        "values": {},
    }
    members = getattr(cls, "__members__", {})
    facts["members"] = {name: int(value) for name, value in members.items()}
    handled = {*members, "name", "value", "__init__"} if members else set()  # every enum has those three
    for name, member in vars(cls).items():
        if not is_public(name) or name in handled or isinstance(member, type):
            continue
        if isinstance(member, property):
            facts["properties"][name] = property_facts(member)
        elif callable(member) or isinstance(member, staticmethod):
            overloads = method_facts(name, member)
            if overloads or name != "__init__":  # what cannot be constructed inherits object's
                facts["methods"][name] = overloads
        else:
            facts["values"][name] = value_text(getattr(cls, name))
    return {kind: found for kind, found in facts.items() if found}


def classes_of(space: ModuleType | type) -> dict[str, type]:
    """Public classes with the nested ones, by the name under which the code reaches them first."""
    found: dict[str, type] = {}
    for value in list(vars(space).values()):
        if isinstance(value, type) and value.__module__.startswith("tensorrt_bindings"):
            found[public_name(value)] = value
            found.update({name: cls for name, cls in classes_of(value).items() if name not in found})
    return found


def module_facts(module: ModuleType) -> dict[str, Any]:
    """The whole public surface: classes, other names for them, functions, values."""
    facts: dict[str, Any] = {"classes": {}, "aliases": {}, "functions": {}, "values": {}}
    facts["classes"] = {name: class_facts(cls) for name, cls in classes_of(module).items()}
    for name, value in vars(module).items():
        if name in LEFTOVERS or not is_public(name) or isinstance(value, ModuleType):
            continue
        if isinstance(value, type):
            aliases = {name: value, **{f"{name}.{inner}": cls for inner, cls in inner_classes(value).items()}}
            facts["aliases"] |= {alias: public_name(cls) for alias, cls in aliases.items() if alias != public_name(cls)}
        elif callable(value):
            facts["functions"][name] = list(signatures(name, value.__doc__, bound=False)) or method_facts(
                name, staticmethod(value)
            )
        else:
            facts["values"][name] = value_text(value)
    return facts


def inner_classes(cls: type) -> dict[str, type]:
    return {name: inner for name, inner in vars(cls).items() if isinstance(inner, type) and is_public(name)}


def main() -> None:
    """Dump what the folder given on the command line holds."""
    sys.path.insert(0, sys.argv[1])
    module = importlib.import_module("tensorrt_bindings")
    json.dump({"version": module.__version__, **module_facts(module)}, sys.stdout)


if __name__ == "__main__":
    main()
