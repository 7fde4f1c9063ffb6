"""What an expression is, and whether the bindings agree."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

from . import lookup
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
    Claims,
    Class,
    Either,
    Function,
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
    Unknown,
    Value,
    join,
    parts_of,
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


@dataclass
class State:
    """What is known at one place: names, versions that may get here, and whose code it is."""

    names: dict[str, Value] = field(default_factory=dict)
    claims: Claims = EVERY
    function: Function | None = None
    owner: Class | None = None

    def narrowed(self, claims: Claims) -> State:
        """The same with its own names, and only those versions left that `claims` has too."""
        return State(dict(self.names), self.claims & claims, self.function, self.owner)


class Evaluator:
    """Evaluates the expressions of one module."""

    def __init__(self, program: Program, module: str, names: dict[str, Value]) -> None:
        self.program = program
        self.module = module
        self.names = names

    def complain_at(self, node: ast.AST) -> Callable[[str], None]:
        return lambda text: self.program.complain(self.module, getattr(node, "lineno", 0), text)

    def guard(self, node: ast.expr, state: State) -> Guard:
        """The condition as versions; one that says nothing about them leaves all of them on both sides."""
        value = self.value(node, state)
        if isinstance(value, Maybe):
            return Guard(value.claims, EVERY)
        return value if isinstance(value, Guard) else Guard(EVERY, EVERY)

    def value(self, node: ast.expr | None, state: State, *, called: bool = False) -> Value:
        """What `node` is; `called` is for the function part of a call."""
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
                    return self.result_of(method)
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
        return _Gives(results.get(name, PLAIN))

    def imported(self, path: str, node: ast.AST) -> Value:
        """What `import path`, or an attribute chain of that name, is."""
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

    # calls

    def _call(self, node: ast.Call, state: State) -> Value:
        function = self.value(node.func, state, called=True)
        special = self._special_call(node, function, state)
        if special is not None:
            return special
        positional = [self.value(one, state) for one in node.args if not isinstance(one, ast.Starred)]
        keywords = {word.arg: self.value(word.value, state) for word in node.keywords if word.arg}
        hidden = [word for word in node.keywords if word.arg is None]
        starred = [one for one in node.args if isinstance(one, ast.Starred)]
        for one in (*(word.value for word in hidden), *(star.value for star in starred)):
            self.value(one, state)
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
        complain = self.complain_at(node)
        if isinstance(function, Maybe):
            inner = state.narrowed(function.claims)
            if state.claims & EVERY - function.claims:
                complain("a call of what some versions do not have: test it against None first")
            return self._call_one(function.value, positional, keywords, hidden, starred, inner, node)
        if isinstance(function, ApiFunction | ApiClass):
            self.program.count_use()
            if hidden:
                complain(f"{lookup.shown(function)}: the argument names in ** are hidden; write them out")
                return UNKNOWN
            return lookup.call(function, positional, keywords, state.claims, complain, starred=starred)
        if isinstance(function, OwnFunction):
            self.program.call(function.definition, state.claims)
            return self.result_of(function.definition)
        if isinstance(function, OwnClass):
            for name in ("__init__", "__post_init__"):
                if name in function.definition.methods:
                    self.program.call(function.definition.methods[name], state.claims)
            return OwnObject(function.definition)
        if isinstance(function, _Gives):
            return function.value
        return UNKNOWN

    def _special_call(self, node: ast.Call, function: Value, state: State) -> Value | None:
        """Calls that the walk itself understands; None for the others."""
        text = ast.unparse(node.func)
        if text.endswith("import_module") and node.args:
            (name,) = node.args[:1]
            return self.imported(name.value, node) if isinstance(name, ast.Constant) else UNKNOWN
        if text in ("cast", "typing.cast"):
            self.value(node.args[1], state)
            return self.annotation(node.args[0], state)
        if not isinstance(function, Builtin):
            return None
        name = function.name
        if name in ("hasattr", "getattr", "setattr"):
            return self._by_name(name, node, state)
        if name == "super":
            base = state.owner.base if state.owner else None
            return ApiObject(base.api, base.name) if base else PLAIN
        arguments = [self.value(one.value if isinstance(one, ast.Starred) else one, state) for one in node.args]
        arguments += [self.value(word.value, state) for word in node.keywords if word.arg in ("default", "key")]
        if name in PLAIN_CALLS:
            return PLAIN
        if name in CONTAINERS and arguments:
            return Many(self.element(arguments[0], state, node))
        if name == "enumerate" and arguments:
            return Many(Row((PLAIN, self.element(arguments[0], state, node))))
        if name == "zip":
            return Many(Row(tuple(self.element(one, state, node) for one in arguments)))
        return self.element(arguments[0], state, node) if name in ("next", "min", "max") and arguments else UNKNOWN

    def _by_name(self, function: str, node: ast.Call, state: State) -> Value:
        """`hasattr`, `getattr` and `setattr` on the bindings want names that are written out."""
        base, *rest = [self.value(one, state) for one in node.args]
        owner = base.value if isinstance(base, Maybe) else base
        complain = self.complain_at(node)
        name = rest[0].value if isinstance(rest[0], Literal) else None
        if isinstance(owner, OwnObject) and owner.definition.base:
            owner = ApiObject(owner.definition.base.api, owner.definition.base.name)
        if not isinstance(owner, ApiModule | ApiClass | ApiObject):
            if lookup.is_unknown(owner) and isinstance(name, str):
                lookup.unresolved(name, complain)
            return UNKNOWN
        self.program.count_use()
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
        """What a call of our own function gives: its annotation, or the guard that it returns."""
        if isinstance(function.result, Guard | Maybe):
            return function.result
        declared = self.program.evaluator(function.module).annotation(function.node.returns, State(function.names))
        if function.has_decorator("contextmanager", "asynccontextmanager"):
            return _Entered(self.element(declared, State(), function.node))
        return declared if not lookup.is_unknown(declared) else function.result or UNKNOWN

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
        return Many(self._joined([self.value(one, state) for one in node.elts]))

    _set = _list

    def _dict(self, node: ast.Dict, state: State) -> Value:
        for key in node.keys:
            self.value(key, state)
        return Many(self._joined([self.value(one, state) for one in node.values]))

    def _joined(self, values: Iterable[Value]) -> Value:
        found = list(values)
        return reduce(join, found) if found else UNKNOWN

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
        return _Gives(self.value(node.body, inner))

    def element(self, value: Value, state: State, node: ast.AST) -> Value:
        """What iteration or an index gives."""
        if isinstance(value, Many):
            return value.element
        if isinstance(value, Row):
            return self._joined(value.elements)
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

    def annotation(self, node: ast.expr | None, state: State) -> Value:
        """The value of something that is annotated so."""
        if node is None:
            return UNKNOWN
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.annotation(ast.parse(node.value, mode="eval").body, state)
        if isinstance(node, ast.Constant):
            return Literal(node.value)
        if isinstance(node, ast.BinOp):
            return join(self.annotation(node.left, state), self.annotation(node.right, state))
        if isinstance(node, ast.Subscript):
            return self._generic(node, state)
        if isinstance(node, ast.Attribute):
            return self._annotated_attribute(node, state)
        if isinstance(node, ast.Name):
            if node.id in ("Any", "object", "ModuleType", "Self"):
                return UNKNOWN
            found = state.names.get(node.id) or self.names.get(node.id)
            if isinstance(found, ApiClass):
                return ApiObject(found.api, found.name)
            if isinstance(found, OwnClass):
                return OwnObject(found.definition)
        return PLAIN

    def _annotated_attribute(self, node: ast.Attribute, state: State) -> Value:
        """`trt.ICudaEngine`, which some version must have; an annotation is not run, so not all of them need it."""
        path, base = ast.unparse(node), node.value
        names = path.split(".")
        root = state.names.get(names[0]) or self.names.get(names[0])
        api = MODULE_NAMES.get(names[0]) if not isinstance(root, ApiModule) else root.api
        if api is None and isinstance(base, ast.Attribute | ast.Name) and isinstance(root, Package):
            api = IMPORTS.get(".".join(names[:-1]))
        if api is None:
            return UNKNOWN if names[-1] in ("Any", "ModuleType") else PLAIN
        known = path.partition(".")[2] if names[0] in MODULE_NAMES or isinstance(root, ApiModule) else names[-1]
        for release in reversed(list(lookup.releases(api, EVERY).values())):
            if release.class_name(known):
                return ApiObject(api, known)
        self.complain_at(node)(f"no version of {api} has the type {known}")
        return UNKNOWN

    def _generic(self, node: ast.Subscript, state: State) -> Value:
        name = ast.unparse(node.value).rpartition(".")[2]
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Optional":
            return self.annotation(inner[0], state)
        if name == "Union":
            return self._joined(self.annotation(one, state) for one in inner)
        if name == "tuple":
            elements = tuple(self.annotation(one, state) for one in inner)
            is_open = len(inner) == 2 and isinstance(inner[1], ast.Constant) and inner[1].value is Ellipsis
            return Many(elements[0]) if is_open else Row(elements)
        if name in ("Generator", "AsyncGenerator"):
            return Many(self.annotation(inner[0], state))
        if name == "type":
            value = self.annotation(inner[0], state)
            return ApiClass(value.api, value.name) if isinstance(value, ApiObject) else UNKNOWN
        if name == "Callable":
            return _Gives(self.annotation(inner[-1], state))
        if name in ("Annotated", "Final", "ClassVar"):
            return self.annotation(inner[0], state)
        is_container = name in (*lookup.SEQUENCES, *lookup.MAPPINGS, "AbstractContextManager")
        return Many(self.annotation(inner[-1], state)) if is_container else PLAIN


@dataclass(frozen=True)
class _Gives(Value):
    """Something that can be called, with the value of every call."""

    value: Value


@dataclass(frozen=True)
class _Entered(Value):
    """A context manager of our own, with what it gives to the `with` statement."""

    value: Value
