"""Constants in the file of a graph: found where they are, and left out without a change of anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.graph_file import constants_of, without_constants

OLD = Path(__file__).parent / "fixtures" / "bundle-schema-1" / "model.onnx"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph with a large and a small constant, one of another type, and one whose numbers are fields."""
    random = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(random.normal(size=(40, 30, 7)).astype(np.float32), "large"),
        numpy_helper.from_array(np.arange(3, dtype=np.int64), "shape"),
        helper.make_tensor("fields", TensorProto.FLOAT, [2], [1.0, 2.0]),
        numpy_helper.from_array(np.float32(2.5), "scalar"),
    ]
    node = helper.make_node("Add", ["x", "large"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [40, 30, 7]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], tensors))
    model.metadata_props.add(key="made", value="here")
    path = tmp_path / "graph.onnx"
    onnx.save(model, str(path))
    return path


def test_constants_are_where_they_are_said_to_be(graph: Path) -> None:
    """Bit for bit, read from the file alone; those whose numbers are no bytes in one piece are left out."""
    found = constants_of(graph)
    assert found.keys() == {"large", "shape", "scalar"}
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(graph)).graph.initializer}
    for name in ("large", "scalar"):
        assert found[name].is_float
        np.testing.assert_array_equal(found[name].read(graph), expected[name])
    assert not found["shape"].is_float
    assert found["shape"].dims == (3,)


def test_a_changed_number_is_read_by_everybody(graph: Path) -> None:
    """What is written at the place of a constant is what onnx reads there, and nothing else changes."""
    place = constants_of(graph)["large"]
    before = onnx.load(str(graph))
    with graph.open("r+b") as file:
        file.seek(place.start + 4 * 7)
        file.write(np.float32(99.0).tobytes())
    after = onnx.load(str(graph))
    expected = numpy_helper.to_array(before.graph.initializer[0]).copy()
    expected.ravel()[7] = 99.0
    np.testing.assert_array_equal(numpy_helper.to_array(after.graph.initializer[0]), expected)
    before.graph.initializer[0].raw_data = after.graph.initializer[0].raw_data
    assert after == before


@pytest.mark.parametrize("path", [None, OLD], ids=["small", "bundle"])
def test_only_large_numbers_are_left_out(path: Path | None, graph: Path) -> None:
    """All operators, names, shapes and small constants stay."""
    path = path or graph
    whole = onnx.load(str(path))
    slim = onnx.ModelProto.FromString(without_constants(path, 1024))
    n_left_out = 0
    for tensor in whole.graph.initializer:
        if len(tensor.raw_data) >= 1024:
            tensor.ClearField("raw_data")
            n_left_out += 1
    assert n_left_out
    assert slim == whole


def test_a_graph_in_two_parts_is_joined(graph: Path) -> None:
    """Messages that follow each other are one message: a constant of the second part is found too."""
    more = onnx.ModelProto(
        graph=onnx.GraphProto(initializer=[numpy_helper.from_array(np.ones((9, 9, 9), np.float32), "more")])
    )
    with graph.open("ab") as file:
        file.write(more.SerializeToString())
    assert constants_of(graph)["more"].read(graph).sum() == 9**3
    slim = onnx.ModelProto.FromString(without_constants(graph, 1024))
    assert [tensor.name for tensor in slim.graph.initializer][-1] == "more"


def test_files_that_are_no_graph_are_refused(graph: Path) -> None:
    """Empty ones, text, and every place at which a graph may be cut off inside a field; none is read beyond its end."""
    content = graph.read_bytes()
    for wrong in (
        b"",
        b"text of no graph",
        b"\x3a\xff\xff\xff\xff\x7f",
        b"\x3a" + b"\xff" * 12,
        content[:-1],
        content[:2000],
    ):
        graph.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"it (ends inside|has a field)|mmap"):
            without_constants(graph, 1024)
        with pytest.raises(ValueError, match=r"it (ends inside|has a field)|mmap"):
            constants_of(graph)


def test_numbers_that_are_stated_twice_are_refused(graph: Path) -> None:
    """Programs differ in which of them they take."""
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "twice").SerializeToString()
    twice = tensor + TensorProto(raw_data=bytes(16)).SerializeToString()
    inside = b"\x2a" + bytes([len(twice)]) + twice
    graph.write_bytes(graph.read_bytes() + b"\x3a" + bytes([len(inside)]) + inside)
    with pytest.raises(ValueError, match="states its numbers twice"):
        without_constants(graph, 1024)
