"""Evaluation of expressions, checked against the bindings."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

from . import lookup
from .annotations import Annotations
from .calls import Calls
from .values import (
    EVERY,
    IMPORTS,
    MODULE_NAMES,
    PACKAGES,
    PLAIN,
    UNKNOWN,
    ApiClass,
    ApiFunction,
    ApiModule,
    ApiObject,
    Builtin,
    Either,
    Gives,
    Guard,
    Literal,
    Many,
    Maybe,
    Members,
    OwnClass,
    OwnFunction,
    OwnObject,
    Package,
    Row,
    State,
    Unknown,
    Value,
    join,
    joined,
)

if TYPE_CHECKING:
    from .program import Program

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


class Evaluator:
    """Evaluates the expressions of one module."""

    def __init__(self, program: Program, module: str, names: dict[str, Value]) -> None:
        self.program = program
        self.module = module
        self.names = names
        self.calls = Calls(self)

    def complain_at(self, node: ast.AST) -> Callable[[str], None]:
        return lambda text: self.program.complain(self.module, getattr(node, "lineno", 0), text)

    def guard(self, node: ast.expr, state: State) -> Guard:
        """The condition as versions; one that says nothing about them leaves all of them on both sides."""
        value = self.value(node, state)
        if isinstance(value, Maybe):
            return Guard(value.claims, EVERY)
        return value if isinstance(value, Guard) else Guard(EVERY, EVERY)

    def value(self, node: ast.expr | None, state: State, *, called: bool = False) -> Value:
        """Value of `node`; `called` marks the function part of a call."""
        if node is None:
            return PLAIN
        handler = getattr(self, f"_{type(node).__name__.lower()}", None)
        if handler is None:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child, state)
            return PLAIN if isinstance(node, ast.JoinedStr | ast.Compare | ast.Slice) else UNKNOWN
        found: Value = handler(node, state)
        if isinstance(found, OwnFunction) and not called:
            self.program.reference(found.definition)
        return found

    # names and attributes

    def _constant(self, node: ast.Constant, state: State) -> Value:
        return Literal(node.value)

    def _name(self, node: ast.Name, state: State) -> Value:
        found = state.names.get(node.id) or self.names.get(node.id)
        if node.id in MODULE_NAMES and (found is None or isinstance(found, Unknown | Literal)):
            return ApiModule(MODULE_NAMES[node.id])
        if found is None:
            return Builtin(node.id) if hasattr(builtins, node.id) else UNKNOWN
        return found

    def _attribute(self, node: ast.Attribute, state: State) -> Value:
        base = self.value(node.value, state)
        return self.attribute(base, node.attr, state, node)

    def attribute(self, base: Value, name: str, state: State, node: ast.AST) -> Value:
        """`base.name`."""
        complain = self.complain_at(node)
        if isinstance(base, Either):
            found = [self.attribute(part, name, state, node) for part in base.parts if not isinstance(part, Literal)]
            return reduce(join, found) if found else UNKNOWN
        if isinstance(base, Maybe):
            if state.claims & EVERY - base.claims:
                complain(f".{name} of what some versions do not have: test it against None first")
            return self.attribute(base.value, name, state.narrowed(base.claims), node)
        if isinstance(base, ApiModule | ApiClass | ApiObject):
            self.program.count_use()
            return lookup.attribute(base, name, state.claims, complain)
        if isinstance(base, OwnObject | OwnClass):
            return self._own_attribute(base, name, state, node)
        if isinstance(base, Package):
            return self.imported(f"{base.name}.{name}", node)
        if isinstance(base, Many):
            return self._container_method(base, name)
        if name.lstrip("_") in MODULE_NAMES:
            return ApiModule(MODULE_NAMES[name.lstrip("_")])
        if isinstance(base, OwnFunction | Builtin | ApiFunction | Members | Row | Guard | Literal):
            return UNKNOWN
        return lookup.unresolved(name, complain) if lookup.is_unknown(base) else UNKNOWN

    def _own_attribute(self, base: OwnObject | OwnClass, name: str, state: State, node: ast.AST) -> Value:
        definition = base.definition
        for cls in self.program.line_of(definition):
            if name in cls.methods:
                method = cls.methods[name]
                if method.has_decorator("property", "cached_property"):
                    return self.calls.result_of(method)
                return OwnFunction(method)
            for table in (cls.declared, cls.assigned):
                if name in table and not isinstance(table[name], Unknown):
                    return table[name]
            if cls.base:
                self.program.count_use()
                kind = ApiObject if isinstance(base, OwnObject) else ApiClass
                known = any(
                    lookup.find(release, cls.base, name) for release in lookup.releases(cls.base.api, EVERY).values()
                )
                if known:
                    return lookup.attribute(
                        kind(cls.base.api, cls.base.name), name, state.claims, self.complain_at(node)
                    )
        if name.lstrip("_") in MODULE_NAMES:
            return ApiModule(MODULE_NAMES[name.lstrip("_")])
        return UNKNOWN if name.startswith("_") else lookup.unresolved(name, self.complain_at(node))

    def _container_method(self, base: Many, name: str) -> Value:
        element = base.element
        results = {"values": base, "items": Many(Row((PLAIN, element))), "get": element, "pop": element, "copy": base}
        return Gives(results.get(name, PLAIN))

    def imported(self, path: str, node: ast.AST) -> Value:
        """Value of `import path`, or of an attribute chain of that name."""
        if path in IMPORTS:
            return ApiModule(IMPORTS[path])
        api, _, name = path.rpartition(".")
        if api in IMPORTS:
            self.program.count_use()
            return lookup.attribute(ApiModule(IMPORTS[api]), name, EVERY, self.complain_at(node))
        if path in PACKAGES or path in ("cuda.bindings",):
            return Package(path)
        if path.split(".")[0] in PACKAGES:
            self.complain_at(node)(f"there are no facts about {path}")
            return UNKNOWN
        return self.program.imported(path)

    def _call(self, node: ast.Call, state: State) -> Value:
        return self.calls.value(node, state)

    def annotation(self, node: ast.expr | None, state: State) -> Value:
        """The value of something that is annotated so."""
        names = Annotations(lambda name: state.names.get(name) or self.names.get(name), self.complain_at)
        return names.value(node)

    # conditions

    def _boolop(self, node: ast.BoolOp, state: State) -> Value:
        is_and = isinstance(node.op, ast.And)
        values: list[Value] = []
        true, false = (EVERY, frozenset()) if is_and else (frozenset(), EVERY)
        inner = state
        for operand in node.values:
            values.append(self.value(operand, inner))
            one = values[-1]
            guard = Guard(one.claims, EVERY) if isinstance(one, Maybe) else one
            guard = guard if isinstance(guard, Guard) else Guard(EVERY, EVERY)
            true, false = (
                (true & guard.true, false | guard.false) if is_and else (true | guard.true, false & guard.false)
            )
            inner = inner.narrowed(guard.true if is_and else guard.false)
        if any(isinstance(value, Guard | Maybe) for value in values):
            return Guard(true, false)
        return reduce(join, values)

    def _unaryop(self, node: ast.UnaryOp, state: State) -> Value:
        if isinstance(node.op, ast.Not):
            guard = self.guard(node.operand, state)
            return Guard(guard.false, guard.true)
        value = self.value(node.operand, state)
        return Literal(-value.value) if isinstance(value, Literal) and isinstance(value.value, int) else PLAIN

    def _compare(self, node: ast.Compare, state: State) -> Value:
        left, *rest = [self.value(one, state) for one in (node.left, *node.comparators)]
        right, operator = rest[0], node.ops[0]
        if isinstance(left, Maybe) and isinstance(right, Literal) and right.value is None:
            there = Guard(left.claims, EVERY - left.claims)
            return there if isinstance(operator, ast.IsNot | ast.NotEq) else Guard(there.false, there.true)
        if isinstance(left, Literal) and isinstance(right, Members) and isinstance(operator, ast.In | ast.NotIn):
            guard = lookup.guard_of(right, str(left.value), self.complain_at(node))
            return guard if isinstance(operator, ast.In) else Guard(guard.false, guard.true)
        return PLAIN

    def _ifexp(self, node: ast.IfExp, state: State) -> Value:
        guard = self.guard(node.test, state)
        return join(
            self.value(node.body, state.narrowed(guard.true)), self.value(node.orelse, state.narrowed(guard.false))
        )

    # the rest

    def _binop(self, node: ast.BinOp, state: State) -> Value:
        left, right = self.value(node.left, state), self.value(node.right, state)
        if isinstance(left, Literal) and isinstance(right, Literal) and isinstance(node.op, ast.LShift | ast.BitOr):
            if type(left.value) is int and type(right.value) is int:
                return Literal(
                    left.value << right.value if isinstance(node.op, ast.LShift) else left.value | right.value
                )
        return PLAIN

    def _namedexpr(self, node: ast.NamedExpr, state: State) -> Value:
        state.names[node.target.id] = value = self.value(node.value, state)
        return value

    def _subscript(self, node: ast.Subscript, state: State) -> Value:
        base, place = self.value(node.value, state), self.value(node.slice, state)
        if isinstance(base, Row) and isinstance(place, Literal) and isinstance(place.value, int):
            return base.elements[place.value] if -len(base.elements) <= place.value < len(base.elements) else UNKNOWN
        if isinstance(base, Members) and isinstance(place, Literal):
            enum = ApiClass(base.api, base.name)
            return lookup.attribute(enum, str(place.value), state.claims, self.complain_at(node))
        return base if isinstance(node.slice, ast.Slice) else self.element(base, state, node)

    def _starred(self, node: ast.Starred, state: State) -> Value:
        return self.value(node.value, state)

    def _await(self, node: ast.Await, state: State) -> Value:
        return self.value(node.value, state)

    def _tuple(self, node: ast.Tuple, state: State) -> Value:
        return Row(tuple(self.value(one, state) for one in node.elts))

    def _list(self, node: ast.List | ast.Set, state: State) -> Value:
        return Many(joined([self.value(one, state) for one in node.elts]))

    _set = _list

    def _dict(self, node: ast.Dict, state: State) -> Value:
        for key in node.keys:
            self.value(key, state)
        return Many(joined([self.value(one, state) for one in node.values]))

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, state: State) -> Value:
        inner = state.narrowed(EVERY)
        for generator in node.generators:
            self.bind(generator.target, self.element(self.value(generator.iter, inner), inner, node), inner)
            for test in generator.ifs:
                inner = inner.narrowed(self.guard(test, inner).true)
        if isinstance(node, ast.DictComp):
            self.value(node.key, inner)
            return Many(self.value(node.value, inner))
        return Many(self.value(node.elt, inner))

    _listcomp = _setcomp = _generatorexp = _dictcomp = _comprehension

    def _lambda(self, node: ast.Lambda, state: State) -> Value:
        inner = state.narrowed(EVERY)
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        inner.names |= {argument.arg: UNKNOWN for argument in arguments}
        return Gives(self.value(node.body, inner))

    def element(self, value: Value, state: State, node: ast.AST) -> Value:
        """Result of iterating over or indexing `value`."""
        if isinstance(value, Many):
            return value.element
        if isinstance(value, Row):
            return joined(value.elements)
        if isinstance(value, ApiObject):
            got = lookup.attribute(value, "__getitem__", state.claims, self.complain_at(node))
            return (
                lookup.call(got, [PLAIN], {}, state.claims, lambda text: None) if isinstance(got, ApiFunction) else got
            )
        return PLAIN if isinstance(value, Literal) else UNKNOWN

    def bind(self, target: ast.expr, value: Value, state: State) -> None:
        """`target = value`."""
        if isinstance(target, ast.Name):
            state.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            is_row = isinstance(value, Row) and len(value.elements) == len(target.elts)
            for place, one in enumerate(target.elts):
                self.bind(one, value.elements[place] if is_row else self.element(value, state, target), state)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, UNKNOWN, state)
        elif isinstance(target, ast.Attribute):
            self._store(target, value, state)
        elif isinstance(target, ast.Subscript):
            self.value(target, state)

    def _store(self, target: ast.Attribute, value: Value, state: State) -> None:
        base = self.value(target.value, state)
        complain = self.complain_at(target)
        if isinstance(base, OwnObject):
            inherited = base.definition.base
            if inherited and any(
                lookup.find(release, inherited, target.attr)
                for release in lookup.releases(inherited.api, EVERY).values()
            ):
                base = ApiObject(inherited.api, inherited.name)
            else:
                self.program.assign(base.definition, target.attr, value)
        if isinstance(base, ApiModule | ApiClass | ApiObject):
            self.program.count_use()
            lookup.check_store(base, target.attr, value, state.claims, complain)
        elif lookup.is_unknown(base):
            lookup.unresolved(target.attr, complain)
