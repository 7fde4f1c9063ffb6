"""YAML within limits: files that are no settings end with a message, not with a hang or a line of their content."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from edgead.errors import ConfigError

MAX_BYTES = 256 * 1024
_MAX_VALUES = 30_000
_MAX_DEPTH = 100
_SHOWN = 60
_QUOTED = re.compile(r"'[^'\n]{2,}'")
_EXAMPLES = (
    "Its path is relative to the current folder, that of an included file to the file that names it. Examples "
    "are in `configs/`, and `edgead config` lists every key."
)


def read_yaml_text(path: Path, described: str, *, kind: str = "configuration", hint: str = _EXAMPLES) -> str:
    """Text of a settings file.

    Args:
        path: Path of the file.
        described: Name of the file for messages.
        kind: Kind of file for messages.
        hint: Advice if it cannot be read.

    Raises:
        ConfigError: If it is no regular file of at most 256 KiB of UTF-8, or cannot be read.
    """
    if str(path) == os.devnull:  # the usual way to say: no settings
        return ""
    try:
        # a pipe would block the opening without O_NONBLOCK
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(f"The {kind} {described} cannot be read: it is not a regular file.", hint=hint)
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The {kind} {described} cannot be read: {reason}.", hint=hint) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"The {kind} {described} cannot be read: it is larger than {MAX_BYTES // 1024} KiB.",
            hint="Settings are a few KiB; is this another file?",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{described} is not valid YAML: byte {error.start} is not UTF-8.", hint="Save the file as UTF-8."
        ) from error


def parse_yaml(text: str, described: str) -> Any:
    """Parse one YAML document; messages name line and column and show nothing of the text.

    Raises:
        ConfigError: If it is not YAML, has more than 30,000 values with all aliases replaced, or is nested more than
            100 deep.
    """
    try:
        loader = _LimitedLoader(text, described)
    except yaml.YAMLError as error:
        raise ConfigError(f"{described} is not valid YAML: it contains control characters.") from error
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root, described)
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = _QUOTED.sub("…", error.problem or error.context or "it cannot be read")
        raise ConfigError(f"{described} is not valid YAML: {problem}{where}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{described} is not valid YAML.") from error
    except (ValueError, OverflowError, TypeError) as error:
        # a date such as 2026-13-45, or a number of ten thousand digits
        raise ConfigError(f"{described} is not valid YAML: it has a number or a date that does not exist.") from error
    finally:
        loader.dispose()


def shown(value: Any) -> str:
    """A value for a message: one short line without control characters."""
    text = repr(value[: 2 * _SHOWN]) if isinstance(value, (str, bytes)) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class _LimitedLoader(yaml.SafeLoader):
    """A loader that stops at too many or too deeply nested values, before they take time and memory."""

    def __init__(self, text: str, described: str) -> None:
        super().__init__(text)
        self._described = described
        self._n = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._n += 1
        self._depth += 1
        if self._n > _MAX_VALUES:
            raise _too_many(self._described)
        if self._depth > _MAX_DEPTH:
            raise _too_deep(self._described)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _check_size(root: yaml.Node, described: str) -> None:
    """Refuse a document that grows beyond the limit when each alias becomes a copy of what it names."""
    sizes: dict[int, int] = {}
    # nodes that contain the current one; each with its children that are still to be counted
    path: list[tuple[yaml.Node, list[yaml.Node]]] = [(root, _children(root))]
    open_nodes = {id(root)}
    while path:
        node, left = path[-1]
        if left:
            child = left.pop()
            if id(child) in open_nodes:
                raise ConfigError(f"{described} cannot be used: an alias in it contains itself.")
            if id(child) not in sizes:
                path.append((child, _children(child)))
                open_nodes.add(id(child))
            continue
        path.pop()
        open_nodes.discard(id(node))
        sizes[id(node)] = 1 + sum(sizes[id(child)] for child in _children(node))
        if sizes[id(node)] > _MAX_VALUES:
            raise _too_many(described)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _too_many(described: str) -> ConfigError:
    return ConfigError(
        f"{described} cannot be used: it has more than {_MAX_VALUES:,} values, with each alias (*name) replaced by its value.",
        hint="Is this a file with settings of edgead?",
    )


def _too_deep(described: str) -> ConfigError:
    return ConfigError(
        f"{described} cannot be used: it is nested more than {_MAX_DEPTH} deep.",
        hint="`edgead config` lists every key with its place.",
    )
