"""Files that are no settings end with a message that shows none of their content."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgead.config.file import load_config, parse_override
from edgead.errors import ConfigError
from edgead.precision.recipe import read_recipe
from edgead.safe_yaml import MAX_BYTES, parse_yaml, shown

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 30,000 values"),
        (MERGE_BOMB, "more than 30,000 values"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: {c: *a}}", "contains itself"),
        ("[" * 100_000, "nested more than 100 deep"),
        ("- " * 100_000, "nested more than 100 deep"),
        ("{a: " * 60_000, "nested more than 100 deep"),
        ("? " * 60_000, "nested more than 100 deep"),
        ("a:\n" + "- 1\n" * 50_000, "more than 30,000 values"),
        ("a: 2026-13-45", "a number or a date that does not exist"),
        (f"a: {'9' * 5000}", "a number or a date that does not exist"),
        ("a: 2026-01-01 10:00:00 +99:99", "a number or a date that does not exist"),
        ("a: \x1b[31m", "control characters"),
        ("a: *QZX", "found undefined alias"),
        ("a: !QZX b", "could not determine a constructor"),
        ("a: %QZX", "cannot start any token in line 1, column 4"),
        ("a: {QZX", "line 1"),
        ("QZX: a\n---\nQZX: b", "line 2"),
        ("? [QZX]\n: b", "found unhashable key"),
        ("3: QZX", "keys that are no text"),
        ("- QZX", "got a list"),
        ("QZX: QZX: QZX", "mapping values are not allowed here in line 1"),
    ],
)  # fmt: skip
def test_what_is_no_settings_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """Bombs, deep nesting and other texts are refused within seconds, without a piece of the text."""
    path = tmp_path / "line.yaml"
    path.write_text(text)
    began_s = time.monotonic()
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path, {})
    assert time.monotonic() - began_s < 30
    assert "QZX" not in caught.value.message
    assert "line.yaml" in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full", "pipe", ".", "large.bin", "binary", "loop.yaml"])
@pytest.mark.parametrize("is_included", [False, True])
def test_what_is_no_regular_small_text_is_not_read(name: str, is_included: bool, tmp_path: Path) -> None:
    """Devices, pipes, folders, large and binary files are named, alone and where they are included."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.bin").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    path = tmp_path / name
    if is_included:
        path = tmp_path / "line.yaml"
        path.write_text(f"include: {name}\n")
    with pytest.raises(
        ConfigError, match=r"not a regular file|larger than|not UTF-8|symbolic links|Is a directory"
    ) as caught:
        load_config(path, {})
    assert Path(name).name in caught.value.message


def test_a_text_file_that_is_included_shows_no_line(tmp_path: Path) -> None:
    """Values of another program's file do not appear in the message, and long keys are cut."""
    (tmp_path / "secrets.yaml").write_text(
        f"password: QZX\n{'k' * 500}: 1\n" + "".join(f"name{i}: QZX\n" for i in range(50))
    )
    (tmp_path / "line.yaml").write_text("include: secrets.yaml\n")
    with pytest.raises(ConfigError, match="and 32 more") as caught:
        load_config(tmp_path / "line.yaml", {})
    assert "QZX" not in caught.value.message
    assert "k" * 60 not in caught.value.message
    assert "password: Extra inputs" in caught.value.message


def test_includes_are_counted(tmp_path: Path) -> None:
    """Files that include each other twice are not read two to the power of their number times."""
    for number in range(30):
        (tmp_path / f"{number}.yaml").write_text(f"include: [{number + 1}.yaml, {number + 1}.yaml]\n")
    (tmp_path / "30.yaml").write_text("train: {epochs: 3}\n")
    with pytest.raises(ConfigError, match="includes more than 49 files"):
        load_config(tmp_path / "0.yaml", {})


def test_overrides_have_the_same_limits() -> None:
    """A value of --set is parsed within the same limits, and neither a value nor a whole assignment is repeated."""
    assert parse_override("train.epochs=[1, {a: 2}]") == ("train.epochs", [1, {"a": 2}])
    for text in (f"train.epochs={'[' * 5000}", "train.epochs=[QZX", "train.epochs=*QZX", "sinks=[{password: QZX}]"):
        with pytest.raises(ConfigError) as caught:
            parse_override(text)
        assert "QZX" not in caught.value.message


def test_anchors_and_merges_stay_usable() -> None:
    """Aliases that stand for something small work as in every YAML file."""
    text = "base: &base {fps: 5, zones: [1, 2]}\nleft: {<<: *base, fps: 7}\nright: *base\n"
    assert parse_yaml(text, "x") == yaml.safe_load(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_any_small_document_is_read_as_yaml_defines_it(value: object) -> None:
    """The limits change nothing about a document within them."""
    assert parse_yaml(yaml.safe_dump(value), "x") == value


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text ends with another exception than a ConfigError."""
    try:
        parse_yaml(text, "x")
    except ConfigError:
        pass


@given(st.text(max_size=500) | st.binary(max_size=500) | st.lists(st.integers(), max_size=100))
def test_values_are_shown_short(value: object) -> None:
    """A value in a message is a short line without control characters."""
    assert len(shown(value)) <= 60
    assert shown(value).isprintable()
    assert shown(SimpleNamespace(a="x" * 100)).endswith("…")


def test_the_null_device_is_an_empty_file() -> None:
    """`--config /dev/null` is the usual way to read no settings of the current folder."""
    assert load_config(Path("/dev/null"), {}) == load_config(None, {})


@pytest.mark.parametrize("name", ["/dev/zero", "bomb.yaml"])
def test_a_recipe_is_read_within_the_same_limits(name: str, tmp_path: Path) -> None:
    """An endless file and aliases that grow without bound end with an error in a recipe too."""
    levels = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(levels))
    with pytest.raises(ConfigError):
        read_recipe(tmp_path / name)
