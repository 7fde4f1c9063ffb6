"""Dump of the bindings: signatures are read as written, and changes are reported. No network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bindings.__main__ import CANNOT_DOWNLOAD, main
from tools.bindings.packages import Package, fetch
from tools.bindings.pycuda_source import compiled_facts
from tools.bindings.signatures import property_type, shown_callbacks, signatures, split_arguments
from tools.bindings.table import differences, table_text

ONE = "make(self: tensorrt_bindings.tensorrt.Builder, flags: typing.SupportsInt = 0) -> tensorrt_bindings.tensorrt.INet\n\nText."
TWO = """get(*args, **kwargs)
Overloaded function.

1. get(self: tensorrt_bindings.tensorrt.Dims, arg0: int) -> int

    Text with get(1) -> 2 in it.

2. get(self: tensorrt_bindings.tensorrt.Dims, mode: nvinfer1::v_1_0::Mode = <Mode.A: 0>, x: List[Tuple[int, str]]) -> None
"""
SOURCE = """
namespace { }
BOOST_PYTHON_MODULE(_driver)
{
  py::enum_<CUevent_flags>("event_flags")
    .value("DEFAULT", CU_EVENT_DEFAULT)
    .value("BLOCKING_SYNC", CU_EVENT_BLOCKING_SYNC)
    ;
  // a comment with .value("NOT", X)
  py::class_<cl, boost::noncopyable, shared_ptr<cl> >
    ("Stream", py::init<unsigned int>(py::arg("flags")=0))
    .DEF_SIMPLE_METHOD(synchronize)
    .add_property("handle", &cl::handle_int)
    ;
  py::def("copy", copy, (py::args("dest", "src"), py::arg("stream")=py::object()));
  DEF_SIMPLE_FUNCTION(mem_get_info);
}
"""


def test_signatures_are_read_from_docstrings() -> None:
    """Each overload with its defaults, the object left out, one spelling for types; nothing out of the prose."""
    assert list(signatures("make", ONE, bound=True)) == ["(flags: int = 0) -> INet"]
    assert list(signatures("get", TWO, bound=True)) == [
        "(arg0: int) -> int",
        "(mode: Mode = Mode.A, x: list[tuple[int, str]]) -> None",
    ]
    assert list(signatures("get", "Just text.", bound=True)) == []
    assert property_type("(arg0: tensorrt_bindings.tensorrt.ICudaEngine) -> nvinfer1::Mode\n") == "Mode"
    assert split_arguments("a: Dict[int, str] = {}, b: Callable[[int], str]") == [
        "a: Dict[int, str] = {}",
        "b: Callable[[int], str]",
    ]


def test_shown_callbacks_are_read_from_a_class() -> None:
    """Methods that users write, without the constructor."""
    text = "class L(trt.ILogger):\n  def __init__(self):\n    pass\n\n  def log(self, severity, msg):\n    ..."
    assert shown_callbacks(text) == {"log": "(severity, msg)"}


def test_pycuda_is_read_from_its_source() -> None:
    """Classes, enums and functions with the names that their author gave; `(*)` where there are none."""
    facts = compiled_facts(SOURCE)
    assert facts["classes"]["event_flags"] == {"members": {"DEFAULT": None, "BLOCKING_SYNC": None}}
    assert facts["classes"]["Stream"]["methods"] == {"__init__": ["(flags = 0)"], "synchronize": ["(*)"]}
    assert facts["classes"]["Stream"]["properties"] == {"handle": "int"}
    assert facts["functions"] == {"copy": ["(dest, src, stream = None)"], "mem_get_info": ["(*)"]}


def test_differences_name_what_came_went_and_changed() -> None:
    """One line each; none for the same content, whatever its order."""
    old = {"a": {"x": 1, "y": [2]}, "b": 3}
    new = {"b": 3, "a": {"y": [4], "z": 5}}
    assert list(differences(old, new)) == ["- a / x", "! a / y: [2] -> [4]", "+ a / z"]
    assert list(differences(old, {"b": 3, "a": {"y": [2], "x": 1}})) == []
    assert json.loads(table_text(old)) == old


def test_a_failed_download_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a network the command ends with its own status, so that CI skips instead of failing."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert main(["--check", "--cache", str(tmp_path)]) == CANNOT_DOWNLOAD
    assert "tensorrt-bindings==8.6.1" in capsys.readouterr().err


def test_downloads_are_unpacked_once(tmp_path: Path) -> None:
    """Cached packages are not downloaded again."""
    package = Package("tensorrt", "name", "1.2")
    files = tmp_path / f"name-1.2-{sys.implementation.cache_tag}" / "files"
    files.mkdir(parents=True)
    assert fetch(package, tmp_path) == files
    assert package.major == 1


def test_help_needs_nothing() -> None:
    """`--help` works without the network."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.bindings", "--help"], capture_output=True, text=True, check=True
    )
    assert "--check" in done.stdout
