"""Settings from a YAML file and from the command line, and the list of all settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edgead.config.root import Config, Origin
from edgead.config.section import Section
from edgead.errors import ConfigError
from edgead.migration import upgrade_settings
from edgead.safe_yaml import parse_yaml, read_yaml_text, shown
from edgead.suggestion import did_you_mean

DEFAULT_CONFIG = Path("edgead.yaml")
INCLUDE = "include"
_MAX_INCLUDES = 50
_MAX_PROBLEMS = 20


def load_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """Read a YAML file, apply overrides and validate.

    A file may include others, `include: base.yaml` or a list: their keys come first, in order, and its own keys win.

    Args:
        path: YAML file; None reads `./edgead.yaml` if it exists, and otherwise uses the defaults.
        overrides: Value per dotted key, for example `{"train.epochs": 20}`; overrides the file.

    Raises:
        ConfigError: If a file cannot be read, or if keys are unknown or values out of range; it lists all of them.
    """
    if path is None and DEFAULT_CONFIG.is_file():
        path = DEFAULT_CONFIG
    config = validate(read_values(path, overrides), str(path) if path is not None else "the options")
    config._origin = Origin(path, dict(overrides))
    return config


def read_values(path: Path | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Read the sections of a YAML file, if one is given, with overrides applied; the values are not validated.

    Raises:
        ConfigError: If a file cannot be read, or an override names no section.
    """
    values = _read_yaml(path) if path is not None else {}
    for key, value in overrides.items():
        _set_dotted(values, key, value)
    return values


def validate(values: dict[str, Any], where: str) -> Config:
    """Make a configuration of parsed sections.

    Args:
        values: Value per key, per section.
        where: Origin of the values, for the message.

    Raises:
        ConfigError: If keys are unknown or values out of range; it lists all of them.
    """
    try:
        return Config.model_validate(upgrade_settings(values))
    except ValidationError as error:
        lines = [f"{_dotted(item['loc'])}: {item['msg']}{_given(item)}{_near(item)}" for item in error.errors()]
        more = [f"and {len(lines) - _MAX_PROBLEMS} more"] if len(lines) > _MAX_PROBLEMS else []
        raise ConfigError(
            f"{len(lines)} setting(s) in {where} cannot be used:\n  " + "\n  ".join([*lines[:_MAX_PROBLEMS], *more]),
            hint="`edgead config` lists every key with its meaning, range and default.",
        ) from error


def _given(item: Mapping[str, Any]) -> str:
    # sinks and sources may contain passwords, and unknown keys are lines of another file
    section, *rest = item["loc"] or ("",)
    is_whole = isinstance(item["input"], (dict, list))
    if section in ("", "sinks") or (section == "cameras" and (is_whole or "source" in rest)):
        return ""
    if item["type"] == "extra_forbidden":
        return ""
    return f" (got {shown(item['input'])})"


def _near(item: Mapping[str, Any]) -> str:
    """Sentence with the known key or value that is nearest to a wrong one; empty if none is near."""
    near = ""
    if item["type"] == "extra_forbidden":
        near = did_you_mean(".".join(part for part in item["loc"] if isinstance(part, str)), _known_keys())
    elif item["type"] == "literal_error" and isinstance(item["input"], str):
        near = did_you_mean(item["input"], re.findall(r"'([^']+)'", item["ctx"]["expected"]))
    return f".{near}" if near else ""


def _known_keys() -> list[str]:
    keys = [re.sub(r"\[.*?\]", "", key) for key, _, _ in describe_config()]
    return [*dict.fromkeys(key.split(".")[0] for key in keys), *keys]


def parse_override(text: str) -> tuple[str, Any]:
    """Split `section.key=value`; the value is read as YAML.

    Raises:
        ConfigError: If there is no `=` or no dotted key.
    """
    key, separator, value = text.partition("=")
    if not separator or "." not in key:
        raise ConfigError(
            f"--set takes section.key=value, got one that begins with {shown(key)}.",
            hint=f"For example: --set train.epochs=20.{did_you_mean(f'.{key}', _known_keys()) if key else ''}",
        )
    return key.strip(), parse_yaml(value, f"The value of --set {key.strip()}")


def describe_config() -> list[tuple[str, str, str]]:
    """Dotted key, default and meaning of every setting, in order; `[]` stands for each item of a list."""
    return _describe("", Config, Config())


def _describe(prefix: str, section: type[BaseModel], values: BaseModel | None) -> list[tuple[str, str, str]]:
    rows = []
    for name, field in section.model_fields.items():
        key, value = f"{prefix}{field.alias or name}", getattr(values, name, field.default)
        if isinstance(value, Section):
            rows += _describe(f"{key}.", type(value), value)
            continue
        rows.append((key, "required" if field.is_required() else str(value), field.description or ""))
        for inner in _models_in(field.annotation):
            kind = inner.model_fields["kind"].default if "kind" in inner.model_fields else ""
            rows += _describe(f"{key}[{kind}].", inner, None)
    return rows


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models that a list may contain."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _read_yaml(path: Path, chain: tuple[Path, ...] = (), read: list[Path] | None = None) -> dict[str, Any]:
    """Sections of a file, merged over those of the files that it includes.

    Args:
        path: Path of the file.
        chain: Files that include it.
        read: All files read so far, which is extended.
    """
    read = [] if read is None else read
    read.append(path)
    if len(read) > _MAX_INCLUDES:
        raise ConfigError(f"The configuration {read[0]} includes more than {_MAX_INCLUDES - 1} files.")
    source = f"{path}, included by {chain[-1]}," if chain else str(path)
    text = read_yaml_text(path, source)
    if path.resolve() in [before.resolve() for before in chain]:
        raise ConfigError(f"The configuration includes itself: {' -> '.join(map(str, (*chain, path)))}.")
    content = parse_yaml(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        kind = "keys that are no text" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ConfigError(f"{path} must contain sections with keys, got {kind}.")
    values: dict[str, Any] = {}
    for name in _includes(path, content.pop(INCLUDE, [])):
        _merge_into(values, _read_yaml(path.parent / name, (*chain, path), read))
    # a section whose keys are all commented out is read as None
    own = {key: {} if value is None and key in Config.model_fields else value for key, value in content.items()}
    _merge_into(values, own)
    return values


def _includes(path: Path, value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f"{path} must name in `{INCLUDE}` one file or a list of files, got {shown(value)}.",
            hint="Their paths are relative to the file that names them.",
        )
    return names


def _merge_into(values: dict[str, Any], above: dict[str, Any]) -> None:
    """Replace values by those of `above`, key by key within each section."""
    for name, section in above.items():
        below = values.get(name)
        values[name] = {**below, **section} if isinstance(below, dict) and isinstance(section, dict) else section


def _set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key} cannot be set: {section} is not a section.")
    values[name] = value


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) if len(str(part)) <= 60 and str(part).isprintable() else shown(part) for part in location)
