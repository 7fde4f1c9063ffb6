"""Our TensorRT, pycuda and CUDA code uses only names that the real bindings have, in every version that it claims.

None of the three is installed here: the tables in `facts` come from the real packages (see `tools.bindings`), and the
walk in `surface` says what the code must look like. It proves names and arguments, not that anything runs.
"""

from __future__ import annotations

import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import pytest

from .facts import assert_same_members, assert_same_signature, load_facts, tensorrt_facts
from .surface import Program, Report, uses_bindings

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgead"
ENGINES = PACKAGE / "engines" / "tensorrt"
VERSIONS = ("8.6.1", "10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106")


def sources() -> dict[str, str]:
    """Everything in `edgead/engines/tensorrt`, and every other module of edgead that imports one of the bindings."""
    found = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): text
        for path, text in found.items()
        if path.is_relative_to(ENGINES) or uses_bindings(text)
    }


MODULES = sources()


@pytest.fixture(scope="module")
def report() -> Report:
    return Program(MODULES, ROOT).check()


@pytest.mark.parametrize("module", MODULES)
def test_every_name_exists_in_every_version(module: str, report: Report) -> None:
    """No problem in this module."""
    found = [str(problem) for problem in report.problems if problem.module == module]
    assert not found, "\n".join(["", *found])


@pytest.mark.skipif(not ENGINES.is_dir(), reason="edgead has no TensorRT code yet")
def test_the_walk_sees_the_code(report: Report) -> None:
    """Modules are found, and uses of the bindings are resolved in each one that imports them."""
    assert [module for module in MODULES if module.startswith("edgead.engines.tensorrt.")]
    importing = [module for module, text in MODULES.items() if uses_bindings(text)]
    assert importing
    assert not [module for module in importing if not report.uses.get(module)]
    assert sum(report.uses.values()) > 100


@pytest.mark.skipif(not ENGINES.is_dir(), reason="edgead has no TensorRT code yet")
def test_the_walk_sees_a_mistake_in_the_code() -> None:
    """One name misspelt in the real code is a problem: it is looked at where it stands."""
    name = "build_serialized_network"
    module = next(module for module, text in MODULES.items() if f".{name}(" in text)
    changed = {**MODULES, module: MODULES[module].replace(f".{name}(", f".{name}s(")}
    assert [p for p in Program(changed, ROOT).check().problems if p.module == module and f"{name}s" in p.text]


def test_the_tables_hold_the_supported_versions() -> None:
    """One entry per version, with the names whose coming and going the builder lives by."""
    facts = tensorrt_facts()
    assert tuple(facts) == VERSIONS
    assert [("FP16" in facts[version].members("BuilderFlag")) for version in VERSIONS] == [True] * 4 + [False]
    numbers = [facts[v].members("NetworkDefinitionCreationFlag").get("STRONGLY_TYPED") for v in VERSIONS]
    assert numbers == [None, 1, 1, 1, 0]
    for release in facts.values():
        assert len(release.classes) > 150
        assert release.attribute("IExecutionContext", "execute_async_v3")
    assert set(load_facts()) == {"tensorrt", "pycuda", "cuda.bindings"}


def test_fakes_are_held_against_the_tables() -> None:
    """A fake passes with the real names; a wrong argument, a missing name and a method for a property do not."""

    class Right:
        num_io_tensors: int

        def get_tensor_name(self, index: int) -> str: ...

        def _helper(self) -> None: ...

    class Renamed:
        def get_tensor_name(self, i: int) -> str: ...

    class Invented:
        def get_tensor_names(self) -> list[str]: ...

    class Called:
        def num_io_tensors(self) -> int: ...

    class Removed:
        def get_binding_name(self, index: int) -> str: ...

    class Hidden:
        def get_tensor_name(self, *arguments: int) -> str: ...

    class Recording(Right):
        calls: list[str]

    class Module:
        Builder = Right

        def volume(iterable: list[int]) -> int: ...

    assert_same_signature(Right, "ICudaEngine")
    assert_same_signature(Removed, "ICudaEngine", versions=["8.6.1"])
    assert_same_signature(Recording, "ICudaEngine", own=["calls"])
    assert_same_signature(Module, "tensorrt")
    for wrong in (Renamed, Invented, Called, Removed, Hidden, Recording):
        with pytest.raises(AssertionError, match=wrong.__name__):
            assert_same_signature(wrong, "ICudaEngine")


def test_fake_enums_are_held_against_the_tables() -> None:
    """Numbers are those of the version which the fake stands for."""

    class Flags(IntEnum):
        STRONGLY_TYPED = 1

    class Plain:
        STRONGLY_TYPED = 0

    assert_same_members(Flags, "NetworkDefinitionCreationFlag", "10.3.0")
    assert_same_members(Plain, "NetworkDefinitionCreationFlag", "11.4.0.106")
    for version, match in (("11.4.0.106", "11.4.0.106 has 0"), ("8.6.1", "no such member")):
        with pytest.raises(AssertionError, match=match):
            assert_same_members(Flags, "NetworkDefinitionCreationFlag", version)


@pytest.mark.slow
def test_the_tables_are_those_of_the_real_packages(tmp_path: Path) -> None:
    """A fresh dump of the downloaded packages is the committed tables."""
    command = [sys.executable, "-m", "tools.bindings", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode == 3:
        pytest.skip(f"the bindings cannot be downloaded or no C compiler is here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
