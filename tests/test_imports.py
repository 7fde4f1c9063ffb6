"""Import rules between packages, checked in the syntax trees and in a process without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgead"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TORCH_SIDE = ("flows", "models", "train")
HEAVY = ("torch", "timm", "torchvision", "scipy", "safetensors")
# what each package may import from edgead beside itself; commands, api and cli import more, but inside functions only
ALLOWED = {
    "kernel": {"kernel"},
    "config": {"kernel"},
    "data": {"kernel"},
    "evaluation": {"kernel"},
    "flows": {"kernel"},
    "launch": {"kernel"},
    "models": {"kernel", "config", "flows"},
    "train": {"kernel", "evaluation", "flows", "models"},
    "precision": {"kernel", "engines"},
    "export": {"kernel", "flows", "models", "precision"},
    "engines": {"kernel", "evaluation"},
    "builder": {"kernel", "data", "evaluation", "engines", "precision"},
    "stream": {"kernel", "config", "data", "evaluation"},
    "web": {"kernel", "evaluation", "stream"},
    "line": {"kernel", "config", "evaluation", "stream", "web"},
    "teach": {"kernel", "config", "data", "evaluation", "engines", "stream"},
    "commands": {
        "kernel",
        "config",
        "data",
        "evaluation",
        "engines",
        "precision",
        "builder",
        "stream",
        "line",
        "teach",
        "launch",
    },
    "api": {"kernel", "config", "data", "evaluation", "engines", "builder", "stream", "commands"},
    "cli": {"kernel", "config", "commands", "api"},
}
# the rooms inside `stream`: what each may import from the others; `flat` is the core, the modules without a room
STREAM = {
    "flat": {"sources", "consumers", "monitoring"},
    "sources": {"flat"},
    "spool": {"flat"},
    "delivery": {"spool"},
    "consumers": {"flat", "spool"},
    "monitoring": {"flat", "consumers"},
    "alarms": {"flat", "consumers"},
    "shadow": {"flat", "consumers", "alarms"},
}
FRONT = ("cli", "terminal", "terminal_bench", "__main__")
API = ("api", "model")


def part_of(module: str) -> str:
    """The package of a module: `edgead.data.reader` -> `data`; flat modules are `kernel`, `api`, or `cli`."""
    names = module.split(".")
    if len(names) > 1 and names[1] in API:
        return "api"
    if len(names) > 1 and names[1] in FRONT:
        return "cli"
    return names[1] if len(names) > 1 and (PACKAGE / names[1]).is_dir() else "kernel"


def imports_of(path: Path, *, deep: bool) -> set[str]:
    """Modules that a file imports; `deep`: inside functions too. Imports for type checkers only do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not deep:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else str(node.module) for name in names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def own_imports(module: str, *, deep: bool) -> set[str]:
    return {name for name in imports_of(MODULES[module], deep=deep) if name.split(".")[0] == "edgead"}


def test_the_walk_sees_the_code() -> None:
    """The walk finds the modules and some known imports, so the checks below are not vacuous."""
    assert len(MODULES) > 60
    assert {part_of(module) for module in MODULES} == set(ALLOWED)
    assert {room_of(module) for module in MODULES if part_of(module) == "stream"} == set(STREAM)
    assert "edgead.models.level" in own_imports("edgead.models.detector", deep=False)
    assert "edgead.models.zoo" in own_imports("edgead.commands.training.trained_flow", deep=True)
    assert "edgead.models.zoo" not in own_imports("edgead.commands.training.trained_flow", deep=False)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward(module: str) -> None:
    """At module level a module imports only from the packages that the table allows; relative imports are not used."""
    part = part_of(module)
    for name in own_imports(module, deep=False):
        assert part_of(name) in ALLOWED[part] | {part}, f"{module} imports {name}"
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module) not in ("commands", "api", "cli")])
def test_only_commands_bring_the_sides_together(module: str) -> None:
    """Even inside a function, only commands, api and cli import what the table does not allow."""
    part = part_of(module)
    for name in own_imports(module, deep=True):
        assert part_of(name) in ALLOWED[part] | {part}, f"{module} imports {name}"


def room_of(module: str) -> str:
    """The package of a module inside `stream`; `flat` for a module directly in it."""
    names = module.split(".")
    return names[2] if len(names) > 2 and (PACKAGE / "stream" / names[2]).is_dir() else "flat"


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module) == "stream"])
def test_rooms_of_the_stream_stay_apart(module: str) -> None:
    """Inside `stream`, even in a function, a room imports only from the rooms that its table allows."""
    room = room_of(module)
    for name in own_imports(module, deep=True):
        if part_of(name) == "stream":
            assert room_of(name) in STREAM[room] | {room}, f"{module} imports {name}"


def test_there_are_no_cycles() -> None:
    """No chain of module-level imports leads back to its start."""
    graph = {module: own_imports(module, deep=False) & set(MODULES) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in graph[module]:
                visit(name, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_backends_are_imported_by_their_own_module_alone() -> None:
    """At module level onnxruntime is imported by `onnx_session` and `onnx_runner` only, tensorrt nowhere."""
    for module, path in MODULES.items():
        tops = {name.split(".")[0] for name in imports_of(path, deep=False)}
        if module not in ("edgead.engines.onnx_session", "edgead.engines.onnx_runner"):
            assert "onnxruntime" not in tops, module
        assert "tensorrt" not in tops, module


def run_without(refused: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    hook = f"""
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
"""
    return subprocess.run(
        [sys.executable, "-c", hook + code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_device_side_needs_no_torch() -> None:
    """With torch, timm, torchvision, scipy and safetensors refused, every module of the device side still imports."""
    modules = [m for m in MODULES if part_of(m) not in (*TORCH_SIDE, "export") and m != "edgead.__main__"]
    assert len(modules) > 50
    done = run_without(HEAVY, f"import importlib\nfor m in {modules!r}:\n    importlib.import_module(m)\nprint('all')")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "all\n"


def test_the_refusal_works() -> None:
    """The same hook does stop a module of the training side."""
    done = run_without(HEAVY, "import edgead.models.zoo")
    assert done.returncode != 0
    assert "refused: " in done.stderr


def test_the_command_line_is_light() -> None:
    """`edgead.cli` imports without numpy, OpenCV, pydantic, YAML and everything heavier."""
    refused = (*HEAVY, "numpy", "cv2", "pydantic", "yaml", "onnx", "onnxruntime")
    done = run_without(refused, "import edgead.cli\nprint('all')")
    assert done.returncode == 0, done.stderr[-2000:]
