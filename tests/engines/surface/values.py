"""Values of expressions, as far as the walk needs them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from ..facts import load_facts

Claims = frozenset[tuple[str, str]]
EVERY: Claims = frozenset((api, version) for api, releases in load_facts().items() for version in releases)
# names that are a module wherever they stand
MODULE_NAMES = {"trt": "tensorrt", "drv": "pycuda", "cudart": "cuda.bindings"}
IMPORTS = {
    "tensorrt": "tensorrt",
    "pycuda.driver": "pycuda",
    "cuda.bindings.runtime": "cuda.bindings",
    "cuda.cudart": "cuda.bindings",
}
PACKAGES = ("tensorrt", "pycuda", "cuda")


@dataclass(frozen=True, order=True)
class Problem:
    """One line that the tables contradict."""

    module: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.text}"


class Value:
    """Base of everything below."""


@dataclass(frozen=True)
class Plain(Value):
    """Something that is none of the bindings' objects; what its methods give is unknown."""


@dataclass(frozen=True)
class Unknown(Value):
    """Could be anything."""


@dataclass(frozen=True)
class Literal(Value):
    """A number or a string that stands in the code."""

    value: Any


@dataclass(frozen=True)
class Package(Value):
    """A package on the way to one of the modules: `pycuda` in `pycuda.driver`."""

    name: str


@dataclass(frozen=True)
class ApiModule(Value):
    api: str


@dataclass(frozen=True)
class ApiClass(Value):
    api: str
    name: str


@dataclass(frozen=True)
class ApiObject(Value):
    api: str
    name: str


@dataclass(frozen=True)
class ApiFunction(Value):
    """A method, or with no owner a function of the module; an unbound one gets its object as first argument."""

    api: str
    owner: str | None
    name: str
    bound: bool = True


@dataclass(frozen=True)
class Members(Value):
    """`__members__` of an enum."""

    api: str
    name: str


@dataclass(frozen=True)
class Many(Value):
    """A container or an iterable with elements of one kind."""

    element: Value


@dataclass(frozen=True)
class Row(Value):
    """A tuple with known elements."""

    elements: tuple[Value, ...]


@dataclass(frozen=True)
class Either(Value):
    parts: frozenset[Value]


@dataclass(frozen=True)
class Guard(Value):
    """A condition: the versions that are possible where it holds, and where it does not."""

    true: Claims
    false: Claims


@dataclass(frozen=True)
class Maybe(Value):
    """Result of `getattr(x, "name", None)`: `value` in the versions of `claims`, the default in the others."""

    value: Value
    claims: Claims


@dataclass(frozen=True)
class Gives(Value):
    """Something that can be called, with the value of every call."""

    value: Value


@dataclass(frozen=True)
class Entered(Value):
    """A context manager of our own, with what it gives to the `with` statement."""

    value: Value


@dataclass(frozen=True)
class Builtin(Value):
    name: str


@dataclass(eq=False)
class Class:
    """A class of our own. `base` is the class of the bindings which it extends, if it does."""

    node: ast.ClassDef
    module: str
    base: ApiClass | None = None
    parents: list[Class] = field(default_factory=list)
    declared: dict[str, Value] = field(default_factory=dict)
    assigned: dict[str, Value] = field(default_factory=dict)
    methods: dict[str, Function] = field(default_factory=dict)


@dataclass(eq=False)
class Function:
    """A function of our own, with what the walk learned about it."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    module: str
    names: dict[str, Value]
    owner: Class | None = None
    nested: bool = False
    defined: Claims = EVERY
    called: Claims = frozenset()  # in the round before
    calling: Claims = frozenset()  # so far in this round
    is_referenced: bool = False
    result: Value | None = None

    @property
    def is_private(self) -> bool:
        name = self.node.name
        return name.startswith("_") and not name.endswith("__") and not self.nested

    def has_decorator(self, *names: str) -> bool:
        return any(ast.unparse(decorator).rpartition(".")[2] in names for decorator in self.node.decorator_list)


@dataclass(frozen=True)
class OwnClass(Value):
    definition: Class


@dataclass(frozen=True)
class OwnObject(Value):
    definition: Class


@dataclass(frozen=True)
class OwnFunction(Value):
    definition: Function


PLAIN, UNKNOWN = Plain(), Unknown()


@dataclass
class State:
    """Knowledge at one point of the code: names, versions that may reach it, and the enclosing function and class."""

    names: dict[str, Value] = field(default_factory=dict)
    claims: Claims = EVERY
    function: Function | None = None
    owner: Class | None = None

    def narrowed(self, claims: Claims) -> State:
        """The same with its own names, and only those versions left that `claims` has too."""
        return State(dict(self.names), self.claims & claims, self.function, self.owner)


def join(a: Value, b: Value) -> Value:
    """Value where two control paths meet; if either side is an object of the bindings, so is the result."""
    if a == b:
        return a
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Literal | Plain | Guard):
            return PLAIN if isinstance(other, Literal | Plain | Guard) else other
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Unknown):
            return other
    return Either(parts_of(a) | parts_of(b))


def parts_of(value: Value) -> frozenset[Value]:
    return value.parts if isinstance(value, Either) else frozenset([value])


def join_names(a: dict[str, Value], b: dict[str, Value]) -> dict[str, Value]:
    return {
        name: join(a[name], b[name]) if name in a and name in b else (a.get(name) or b[name]) for name in {**a, **b}
    }


def joined(values: Iterable[Value]) -> Value:
    """All of them together; unknown if there is none."""
    found = list(values)
    return reduce(join, found) if found else UNKNOWN
