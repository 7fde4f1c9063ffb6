"""The modules under check together: what they import from each other, and who calls whom for which versions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .expressions import Evaluator
from .statements import Walker
from .values import (
    PACKAGES,
    UNKNOWN,
    Claims,
    Class,
    Function,
    Guard,
    Maybe,
    Plain,
    Problem,
    State,
    Unknown,
    Value,
    join,
)

ROUNDS = 12  # of following calls from one private function into the next


@dataclass
class Report:
    """Result of the walk: problems, and the number of resolved uses of the bindings per module."""

    problems: list[Problem] = field(default_factory=list)
    uses: dict[str, int] = field(default_factory=dict)


def uses_bindings(source: str) -> bool:
    """Whether a module imports TensorRT, pycuda or CUDA's bindings, at the top, in a function or by name."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            names = [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
        if any(str(name).split(".")[0] in PACKAGES for name in names):
            return True
    return False


class Program:
    """Modules by name, with their sources; `root` is where other modules of our package are read from if needed."""

    def __init__(self, sources: Mapping[str, str], root: Path | None = None) -> None:
        self.trees = {name: ast.parse(source) for name, source in sources.items()}
        self.root = root
        self.names: dict[str, dict[str, Value]] = {}
        self.functions: dict[ast.AST, Function] = {}
        self.classes: dict[ast.AST, Class] = {}
        self.report = Report()
        self._module = ""
        self._is_changed = False
        self._are_uncalled_included = False
        self._returns: dict[Function, list[Value]] = {}

    def check(self) -> Report:
        """Walk until nothing new is learned; then once more, with private functions that have no caller."""
        for self._are_uncalled_included in (False, True):
            for _ in range(ROUNDS):
                self._walk()
                if not self._is_changed:
                    break
            else:
                raise RecursionError("the walk finds no end")
        self.report.problems = sorted(set(self.report.problems))
        return self.report

    def _walk(self) -> None:
        self.report = Report()
        self._is_changed = False
        self._returns = {}
        for module, tree in self.trees.items():
            self._module = module
            names = self.names.setdefault(module, {})
            walker = Walker(self.evaluator(module))
            walker.block(tree.body, State(names))
            done: set[Function] = set()
            while waiting := [f for f in self.functions.values() if f.module == module and f not in done]:
                for function in waiting:
                    walker.function(function)
                    done.add(function)
        for function in self.functions.values():
            self._is_changed |= function.calling != function.called
            function.called, function.calling = function.calling, frozenset()
        for function, values in self._returns.items():
            result = values[0] if len(values) == 1 else _common(values)
            if result != function.result:
                function.result = result
                self._is_changed = True

    def evaluator(self, module: str) -> Evaluator:
        return Evaluator(self, module, self.names.setdefault(module, {}))

    # what the walk reports

    def complain(self, module: str, line: int, text: str) -> None:
        if module in self.trees:
            self.report.problems.append(Problem(module, line, text))

    def count_use(self) -> None:
        self.report.uses[self._module] = self.report.uses.get(self._module, 0) + 1

    # what the walk learns

    def function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, module: str, state: State, owner: Class | None
    ) -> Function:
        """The one record of a definition, renewed with what is known around it in this round."""
        known = self.functions.get(node)
        if known is None:
            is_nested = state.function is not None
            known = self.functions[node] = Function(node, module, {}, owner, is_nested)
            self._is_changed = True
        known.names = state.names if state.function is not None else {}
        known.defined = state.claims
        return known

    def own_class(self, node: ast.ClassDef, module: str) -> Class:
        return self.classes.setdefault(node, Class(node, module))

    def line_of(self, cls: Class) -> Iterator[Class]:
        """The class, then its parents of our own."""
        yield cls
        for parent in cls.parents:
            yield from self.line_of(parent)

    def claims_of(self, function: Function) -> Claims | None:
        """The versions that may run a function; None while no caller is known."""
        if not function.is_private or function.is_referenced:
            return function.defined
        if function.called:
            return function.called
        return function.defined if self._are_uncalled_included else None

    def call(self, function: Function, claims: Claims) -> None:
        function.calling |= claims

    def reference(self, function: Function) -> None:
        if not function.is_referenced:
            function.is_referenced = self._is_changed = True

    def assign(self, cls: Class, name: str, value: Value) -> None:
        new = join(cls.assigned[name], value) if name in cls.assigned else value
        if new != cls.assigned.get(name):
            cls.assigned[name] = new
            self._is_changed = True

    def returned(self, function: Function, value: Value) -> None:
        self._returns.setdefault(function, []).append(value)

    def imported(self, path: str) -> Value:
        """A name of another of our modules; those that are not under check are read for their definitions alone."""
        module, _, name = path.rpartition(".")
        if path in self.trees or self._file(path):
            return Plain()
        file = self._file(module)
        if module not in self.trees and (file is None or not module):
            return Plain()
        if module not in self.names and file:
            self.names[module] = {}
            current, self._module = self._module, module
            Walker(self.evaluator(module)).block(
                ast.parse(file.read_text(encoding="utf-8")).body, State(self.names[module])
            )
            self._module = current
        return self.names.get(module, {}).get(name, UNKNOWN)

    def _file(self, module: str) -> Path | None:
        if self.root is None or not module:
            return None
        base = self.root.joinpath(*module.split("."))
        return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _common(values: list[Value]) -> Value:
    """Join several results; unknown if only guards are among them."""
    joined = values[0]
    for value in values[1:]:
        joined = join(joined, value)
    return UNKNOWN if isinstance(joined, Guard | Maybe | Unknown) else joined
