"""Walk the statements of one module: names get their values, tests narrow the versions, functions wait their turn."""

from __future__ import annotations

import ast

from tools.bindings.signatures import split_arguments

from ..facts import Release
from . import lookup
from .expressions import Evaluator
from .values import (
    EVERY,
    MODULE_NAMES,
    PLAIN,
    UNKNOWN,
    ApiClass,
    ApiFunction,
    ApiModule,
    ApiObject,
    Class,
    Entered,
    Function,
    Many,
    OwnClass,
    OwnFunction,
    OwnObject,
    State,
    Unknown,
    Value,
    join_names,
)


class Walker:
    """Executes the statements of a module in their order, without running anything."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.at = evaluator
        self.program = evaluator.program

    def block(self, statements: list[ast.stmt], state: State) -> bool:
        """Walk a block; whether it always leaves: by `return`, `raise`, `continue` or `break`."""
        for statement in statements:
            handler = getattr(self, f"_{type(statement).__name__.lower()}", None)
            if handler is None:
                self._plain(statement, state)
            elif handler(statement, state):
                return True
        return False

    def function(self, function: Function) -> None:
        """The body of a function, for the versions that it is claimed for."""
        claims = self.program.claims_of(function)
        if claims is None:
            return
        node, owner = function.node, function.owner
        state = State(dict(function.names), claims, function, owner)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for place, argument in enumerate(arguments):
            state.names[argument.arg] = self._parameter(argument, state)
            if place == 0 and owner and not function.has_decorator("staticmethod"):
                is_class = function.has_decorator("classmethod")
                state.names[argument.arg] = OwnClass(owner) if is_class else OwnObject(owner)
        for many in (node.args.vararg, node.args.kwarg):
            if many:
                state.names[many.arg] = Many(self._parameter(many, state))
        self.block(node.body, state)

    def _parameter(self, argument: ast.arg, state: State) -> Value:
        if argument.arg in MODULE_NAMES:
            return ApiModule(MODULE_NAMES[argument.arg])
        return self.at.annotation(argument.annotation, state)

    # definitions

    def _functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, state: State) -> bool:
        for default in (*node.args.defaults, *node.args.kw_defaults, *node.decorator_list):
            self.at.value(default, state)
        function = self.program.function(node, self.at.module, state, owner=None)
        state.names[node.name] = OwnFunction(function)
        return False

    _asyncfunctiondef = _functiondef

    def _classdef(self, node: ast.ClassDef, state: State) -> bool:
        bases = [self.at.value(base, state) for base in node.bases]
        cls = self.program.own_class(node, self.at.module)
        cls.base = next((base for base in bases if isinstance(base, ApiClass)), None)
        cls.parents = [base.definition for base in bases if isinstance(base, OwnClass)]
        state.names[node.name] = OwnClass(cls)
        inner = State(dict(state.names), state.claims, state.function, cls)
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                for value in (*statement.args.defaults, *statement.args.kw_defaults, *statement.decorator_list):
                    self.at.value(value, inner)
                cls.methods[statement.name] = self.program.function(statement, self.at.module, inner, owner=cls)
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                cls.declared[statement.target.id] = self.at.annotation(statement.annotation, inner)
                self.at.value(statement.value, inner)
            elif isinstance(statement, ast.Assign):
                self._assign(statement, inner)
                for target in statement.targets:
                    if isinstance(target, ast.Name):
                        cls.assigned[target.id] = inner.names[target.id]
            else:
                self.block([statement], inner)
        if cls.base:
            self._check_subclass(cls, cls.base, state)
        return False

    def _check_subclass(self, cls: Class, base: ApiClass, state: State) -> None:
        """A subclass of the bindings': it starts its base, and what it overrides takes the arguments that arrive."""
        complain = self.at.complain_at(cls.node)
        own_init = cls.methods.get("__init__")
        calls = [node for node in ast.walk(own_init.node) if isinstance(node, ast.Call)] if own_init else []
        if own_init and not any(isinstance(c.func, ast.Attribute) and c.func.attr == "__init__" for c in calls):
            complain(f"{cls.node.name} does not call {base.name}.__init__: the bindings refuse such an object")
        overridden = 0
        for version, release in lookup.releases(base.api, state.claims).items():
            for name, counts in self._overridable(cls, base.name, release).items():
                overridden += 1
                arguments = cls.methods[name].node.args
                most = len([*arguments.posonlyargs, *arguments.args]) - 1
                least = most - len(arguments.defaults)
                if not arguments.vararg and not any(least <= count <= most for count in counts):
                    complain(
                        f"{cls.node.name}.{name} takes {most} arguments, {base.api} {version} gives {sorted(counts)}"
                    )
        if not overridden and lookup.releases(base.api, state.claims):
            complain(f"{cls.node.name} overrides nothing of {base.name}")

    def _overridable(self, cls: Class, base: str, release: Release) -> dict[str, set[int]]:
        """Methods of `cls` that the bindings call, with how many arguments they may bring."""
        if base not in release.classes:
            return {}
        callbacks = release.classes[base].get("callbacks", {})
        found: dict[str, set[int]] = {}
        for name in cls.methods.keys() - {"__init__"}:
            real = release.attribute(base, name)
            if name in callbacks:
                found[name] = {len(split_arguments(callbacks[name].strip("()")))}
            elif real and real.kind == "method":
                found[name] = {len(signature.parameters) for signature in real.signatures}
        return found

    def _import(self, node: ast.Import, state: State) -> bool:
        for alias in node.names:
            path = alias.name if alias.asname else alias.name.split(".")[0]
            state.names[alias.asname or path] = self.at.imported(path, node)
        return False

    def _importfrom(self, node: ast.ImportFrom, state: State) -> bool:
        for alias in node.names:
            state.names[alias.asname or alias.name] = self.at.imported(f"{node.module}.{alias.name}", node)
        return False

    # assignments

    def _assign(self, node: ast.Assign, state: State) -> bool:
        value = self.at.value(node.value, state)
        for target in node.targets:
            self.at.bind(target, value, state)
        return False

    def _annassign(self, node: ast.AnnAssign, state: State) -> bool:
        if ast.unparse(node.annotation).endswith("TypeAlias"):
            named = self.at.annotation(node.value, state)
            value: Value = ApiClass(named.api, named.name) if isinstance(named, ApiObject) else UNKNOWN
        else:
            value = self.at.annotation(node.annotation, state)
            given = self.at.value(node.value, state)
            value = given if isinstance(value, Unknown) else value
        if node.value is not None or isinstance(node.target, ast.Name):
            self.at.bind(node.target, value, state)
        if isinstance(node.target, ast.Attribute):
            base = self.at.value(node.target.value, state)
            if isinstance(base, OwnObject):
                base.definition.declared[node.target.attr] = value
        return False

    def _augassign(self, node: ast.AugAssign, state: State) -> bool:
        value = self.at.value(node.value, state)
        if isinstance(node.target, ast.Attribute):
            self.at.value(node.target, state)
            self.at.bind(node.target, PLAIN, state)
        elif not isinstance(node.target, ast.Name):
            self.at.value(node.target, state)
        else:
            state.names[node.target.id] = value if isinstance(value, Many) else PLAIN
        return False

    # control

    def _if(self, node: ast.If, state: State) -> bool:
        guard = self.at.guard(node.test, state)
        then, otherwise = state.narrowed(guard.true), state.narrowed(guard.false)
        then_leaves, otherwise_leaves = self.block(node.body, then), self.block(node.orelse, otherwise)
        self._merge(
            state, [branch for branch, left in ((then, then_leaves), (otherwise, otherwise_leaves)) if not left]
        )
        return then_leaves and otherwise_leaves

    def _merge(self, state: State, branches: list[State]) -> None:
        """Go on with what the branches that do not leave have in common."""
        if branches:
            names = branches[0].names
            for branch in branches[1:]:
                names = join_names(names, branch.names)
            state.names.update(names)  # in place: a module's names are looked up by its functions
            state.claims = frozenset().union(*(branch.claims for branch in branches))

    def _for(self, node: ast.For | ast.AsyncFor, state: State) -> bool:
        body = state.narrowed(EVERY)
        self.at.bind(node.target, self.at.element(self.at.value(node.iter, state), state, node), body)
        self.block(node.body, body)
        state.names.update(join_names(state.names, body.names))
        self.block(node.orelse, state)
        return False

    _asyncfor = _for

    def _while(self, node: ast.While, state: State) -> bool:
        body = state.narrowed(self.at.guard(node.test, state).true)
        self.block(node.body, body)
        state.names.update(join_names(state.names, body.names))
        return self.block(node.orelse, state)

    def _try(self, node: ast.Try, state: State) -> bool:
        body = state.narrowed(EVERY)
        body_leaves = self.block(node.body, body) or (bool(node.orelse) and self.block(node.orelse, body))
        going = [] if body_leaves else [body]
        for handler in node.handlers:
            self.at.value(handler.type, state)
            branch = state.narrowed(EVERY)
            branch.names = join_names(branch.names, body.names)
            if handler.name:
                branch.names[handler.name] = UNKNOWN
            if not self.block(handler.body, branch):
                going.append(branch)
        self._merge(state, going)
        return self.block(node.finalbody, state) or not going

    _trystar = _try

    def _with(self, node: ast.With | ast.AsyncWith, state: State) -> bool:
        for item in node.items:
            value = self.at.value(item.context_expr, state)
            if isinstance(value, ApiObject):
                lookup.attribute(value, "__enter__", state.claims, self.at.complain_at(node))
            entered = value.value if isinstance(value, Entered) else value.element if isinstance(value, Many) else value
            if item.optional_vars is not None:
                self.at.bind(item.optional_vars, entered, state)
        return self.block(node.body, state)

    _asyncwith = _with

    def _match(self, node: ast.Match, state: State) -> bool:
        self.at.value(node.subject, state)
        going = [state.narrowed(EVERY)]
        for case in node.cases:
            branch = state.narrowed(EVERY)
            names = [one.name for one in ast.walk(case.pattern) if isinstance(one, ast.MatchAs | ast.MatchStar)]
            branch.names |= {name: UNKNOWN for name in names if name}
            if case.guard:
                branch = branch.narrowed(self.at.guard(case.guard, branch).true)
            if not self.block(case.body, branch):
                going.append(branch)
        self._merge(state, going)
        return False

    def _assert(self, node: ast.Assert, state: State) -> bool:
        state.claims &= self.at.guard(node.test, state).true
        return False

    def _return(self, node: ast.Return, state: State) -> bool:
        value = self.at.value(node.value, state)
        if state.function and not isinstance(value, ApiFunction):
            self.program.returned(state.function, value)
        return True

    def _raise(self, node: ast.Raise, state: State) -> bool:
        self._plain(node, state)
        return True

    def _continue(self, node: ast.Continue | ast.Break, state: State) -> bool:
        return True

    _break = _continue

    def _plain(self, node: ast.stmt, state: State) -> None:
        """Any other statement: its expressions are looked at."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.at.value(child, state)
