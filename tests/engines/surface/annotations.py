"""Values that annotations stand for."""

from __future__ import annotations

import ast
from collections.abc import Callable

from . import lookup
from .values import (
    EVERY,
    IMPORTS,
    MODULE_NAMES,
    PLAIN,
    UNKNOWN,
    ApiClass,
    ApiModule,
    ApiObject,
    Gives,
    Literal,
    Many,
    OwnClass,
    OwnObject,
    Package,
    Row,
    Value,
    join,
    joined,
)


class Annotations:
    """Reads annotations with the names of one place."""

    def __init__(
        self, look_up: Callable[[str], Value | None], complain_at: Callable[[ast.AST], lookup.Complain]
    ) -> None:
        self.look_up = look_up
        self.complain_at = complain_at

    def value(self, node: ast.expr | None) -> Value:
        """The value of something that is annotated so."""
        if node is None:
            return UNKNOWN
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.value(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.Constant):
            return Literal(node.value)
        if isinstance(node, ast.BinOp):
            return join(self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Subscript):
            return self._generic(node)
        if isinstance(node, ast.Attribute):
            return self._annotated_attribute(node)
        if isinstance(node, ast.Name):
            if node.id in ("Any", "object", "ModuleType", "Self"):
                return UNKNOWN
            found = self.look_up(node.id)
            if isinstance(found, ApiClass):
                return ApiObject(found.api, found.name)
            if isinstance(found, OwnClass):
                return OwnObject(found.definition)
        return PLAIN

    def _annotated_attribute(self, node: ast.Attribute) -> Value:
        """`trt.ICudaEngine`, which some version must have; an annotation is not run, so not all of them need it."""
        path, base = ast.unparse(node), node.value
        names = path.split(".")
        root = self.look_up(names[0])
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

    def _generic(self, node: ast.Subscript) -> Value:
        name = ast.unparse(node.value).rpartition(".")[2]
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Optional":
            return self.value(inner[0])
        if name == "Union":
            return joined(self.value(one) for one in inner)
        if name == "tuple":
            elements = tuple(self.value(one) for one in inner)
            is_open = len(inner) == 2 and isinstance(inner[1], ast.Constant) and inner[1].value is Ellipsis
            return Many(elements[0]) if is_open else Row(elements)
        if name in ("Generator", "AsyncGenerator"):
            return Many(self.value(inner[0]))
        if name == "type":
            value = self.value(inner[0])
            return ApiClass(value.api, value.name) if isinstance(value, ApiObject) else UNKNOWN
        if name == "Callable":
            return Gives(self.value(inner[-1]))
        if name in ("Annotated", "Final", "ClassVar"):
            return self.value(inner[0])
        is_container = name in (*lookup.SEQUENCES, *lookup.MAPPINGS, "AbstractContextManager")
        return Many(self.value(inner[-1])) if is_container else PLAIN
