"""Calls: of the bindings, of our own functions, and of the few builtins that the walk understands."""

from __future__ import annotations

import ast
from functools import reduce
from typing import TYPE_CHECKING

from . import lookup
from .values import (
    EVERY,
    PLAIN,
    UNKNOWN,
    ApiClass,
    ApiFunction,
    ApiModule,
    ApiObject,
    Builtin,
    Entered,
    Function,
    Gives,
    Guard,
    Literal,
    Many,
    Maybe,
    OwnClass,
    OwnFunction,
    OwnObject,
    Row,
    State,
    Value,
    join,
    parts_of,
)

if TYPE_CHECKING:
    from .expressions import Evaluator

CONTAINERS = ("list", "tuple", "sorted", "reversed", "iter", "set", "frozenset")
PLAIN_CALLS = (
    "int",
    "float",
    "str",
    "bool",
    "bytes",
    "len",
    "range",
    "isinstance",
    "print",
    "repr",
    "sum",
    "any",
    "all",
    "abs",
)


class Calls:
    """The part of an evaluator that looks at calls."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.at = evaluator

    def value(self, node: ast.Call, state: State) -> Value:
        function = self.at.value(node.func, state, called=True)
        special = self._special_call(node, function, state)
        if special is not None:
            return special
        positional = [self.at.value(one, state) for one in node.args if not isinstance(one, ast.Starred)]
        keywords = {word.arg: self.at.value(word.value, state) for word in node.keywords if word.arg}
        hidden = [word for word in node.keywords if word.arg is None]
        starred = [one for one in node.args if isinstance(one, ast.Starred)]
        for one in (*(word.value for word in hidden), *(star.value for star in starred)):
            self.at.value(one, state)
        results = [
            self._call_one(part, positional, keywords, bool(hidden), bool(starred), state, node)
            for part in parts_of(function)
        ]
        return reduce(join, results)

    def _call_one(
        self,
        function: Value,
        positional: list[Value],
        keywords: dict[str, Value],
        hidden: bool,
        starred: bool,
        state: State,
        node: ast.Call,
    ) -> Value:
        complain = self.at.complain_at(node)
        if isinstance(function, Maybe):
            inner = state.narrowed(function.claims)
            if state.claims & EVERY - function.claims:
                complain("a call of what some versions do not have: test it against None first")
            return self._call_one(function.value, positional, keywords, hidden, starred, inner, node)
        if isinstance(function, ApiFunction | ApiClass):
            self.at.program.count_use()
            if hidden:
                complain(f"{lookup.shown(function)}: the argument names in ** are hidden; write them out")
                return UNKNOWN
            return lookup.call(function, positional, keywords, state.claims, complain, starred=starred)
        if isinstance(function, OwnFunction):
            self.at.program.call(function.definition, state.claims)
            return self.result_of(function.definition)
        if isinstance(function, OwnClass):
            for name in ("__init__", "__post_init__"):
                if name in function.definition.methods:
                    self.at.program.call(function.definition.methods[name], state.claims)
            return OwnObject(function.definition)
        if isinstance(function, Gives):
            return function.value
        return UNKNOWN

    def _special_call(self, node: ast.Call, function: Value, state: State) -> Value | None:
        """Calls that the walk itself understands; None for the others."""
        text = ast.unparse(node.func)
        if text.endswith("import_module") and node.args:
            (name,) = node.args[:1]
            return self.at.imported(name.value, node) if isinstance(name, ast.Constant) else UNKNOWN
        if text in ("cast", "typing.cast"):
            self.at.value(node.args[1], state)
            return self.at.annotation(node.args[0], state)
        if not isinstance(function, Builtin):
            return None
        name = function.name
        if name in ("hasattr", "getattr", "setattr"):
            return self._by_name(name, node, state)
        if name == "super":
            base = state.owner.base if state.owner else None
            return ApiObject(base.api, base.name) if base else PLAIN
        arguments = [self.at.value(one.value if isinstance(one, ast.Starred) else one, state) for one in node.args]
        arguments += [self.at.value(word.value, state) for word in node.keywords if word.arg in ("default", "key")]
        if name in PLAIN_CALLS:
            return PLAIN
        if name in CONTAINERS and arguments:
            return Many(self.at.element(arguments[0], state, node))
        if name == "enumerate" and arguments:
            return Many(Row((PLAIN, self.at.element(arguments[0], state, node))))
        if name == "zip":
            return Many(Row(tuple(self.at.element(one, state, node) for one in arguments)))
        return self.at.element(arguments[0], state, node) if name in ("next", "min", "max") and arguments else UNKNOWN

    def _by_name(self, function: str, node: ast.Call, state: State) -> Value:
        """`hasattr`, `getattr` and `setattr` on the bindings want names that are written out."""
        base, *rest = [self.at.value(one, state) for one in node.args]
        owner = base.value if isinstance(base, Maybe) else base
        complain = self.at.complain_at(node)
        name = rest[0].value if isinstance(rest[0], Literal) else None
        if isinstance(owner, OwnObject) and owner.definition.base:
            owner = ApiObject(owner.definition.base.api, owner.definition.base.name)
        if not isinstance(owner, ApiModule | ApiClass | ApiObject):
            if lookup.is_unknown(owner) and isinstance(name, str):
                lookup.unresolved(name, complain)
            return UNKNOWN
        self.at.program.count_use()
        if not isinstance(name, str):
            complain(f"{function} on {lookup.shown(owner)} with a name that is not written out")
            return UNKNOWN
        if function == "hasattr":
            return lookup.guard_of(owner, name, complain)
        if function == "setattr":
            lookup.check_store(owner, name, rest[1], state.claims, complain)
            return PLAIN
        if len(rest) == 1:
            return lookup.attribute(owner, name, state.claims, complain)
        guard = lookup.guard_of(owner, name, complain)
        there = state.claims & guard.true
        found = lookup.attribute(owner, name, there, complain) if lookup.releases(owner.api, there) else UNKNOWN
        return Maybe(found, guard.true) if isinstance(rest[1], Literal) else join(found, rest[1])

    def result_of(self, function: Function) -> Value:
        """Result of a call of our own function: its annotation, or the guard that it returns."""
        if isinstance(function.result, Guard | Maybe):
            return function.result
        declared = self.at.program.evaluator(function.module).annotation(function.node.returns, State(function.names))
        if function.has_decorator("contextmanager", "asynccontextmanager"):
            return Entered(self.at.element(declared, State(), function.node))
        return declared if not lookup.is_unknown(declared) else function.result or UNKNOWN
