"""Weights in a graph and in a file of weights: stored once, read as if they were stored twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgead.stored_once import KEY, from_graph, header, places_in_graph
from edgead.triangles import split_triangles
from tests.test_triangles import graph_of, triangular

torch = pytest.importorskip("torch")

from edgead.bundle import Bundle
from edgead.bundle_files import WEIGHTS
from edgead.commands.export import export
from edgead.commands.train import TrainResult
from edgead.errors import BundleError
from edgead.models.zoo import load_model, load_weights, read_weights
from edgead.progress import Silent
from edgead.train.checkpoint import save_tensors


def model_with(*more: np.ndarray) -> tuple[np.ndarray, onnx.ModelProto]:
    """A matrix per position, and a graph with its transposed blocks and further constants."""
    matrix = triangular(44)
    model = graph_of(matrix)
    split_triangles(model)
    model.graph.initializer.extend(numpy_helper.from_array(value, f"more_{i}") for i, value in enumerate(more))
    return np.ascontiguousarray(matrix.transpose(0, 2, 1)), model


def test_the_graph_gives_back_what_it_holds() -> None:
    """Bit for bit: a constant, and a matrix from its blocks; what the graph does not have is left to be stored."""
    weight = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32)
    matrix, model = model_with(weight)
    other = weight + np.float32(1e-3)
    places = places_in_graph({"a.weight": weight, "start": matrix, "other": other, "few": weight[0, 0]}, model)
    assert places.keys() == {"a.weight", "start"}
    found = from_graph(header(places), model)
    np.testing.assert_array_equal(found["a.weight"], weight)
    np.testing.assert_array_equal(found["start"], matrix)


def test_a_changed_matrix_is_stored() -> None:
    """One number of one position, in a block or above the diagonal, where the blocks have none."""
    matrix, model = model_with()
    for place in ((2, 20, 3), (2, 3, 20)):
        changed = matrix.copy()
        changed[place] += 1.0
        assert places_in_graph({"start": changed}, model) == {}


def test_constants_that_the_graph_does_not_have_are_an_error() -> None:
    """A header that names something else."""
    _, model = model_with()
    with pytest.raises(ValueError, match="nothing like it"):
        from_graph({KEY: '{"a": ["nothing like it"]}'}, model)
    assert from_graph(None, model) == {}
    assert from_graph({"format": "pt"}, model) == {}


def test_a_bundle_stores_its_backbone_once(tiny_result: TrainResult) -> None:
    """The file of weights lacks what the graph holds, and the model is whole."""
    bundle = tiny_result.bundle
    stored, whole = read_weights(bundle.weights_path), read_weights(bundle.weights_path, bundle.model_path)
    assert len(stored) < len(whole)
    assert sum(tensor.nbytes for tensor in stored.values()) < 0.5 * sum(tensor.nbytes for tensor in whole.values())
    assert whole.keys() == load_model(bundle).state_dict().keys()
    with pytest.raises(BundleError, match="do not fit"):
        load_weights(load_model(bundle), bundle.weights_path)


def test_a_bundle_with_all_weights_is_read_and_exported(tiny_result: TrainResult, tmp_path: Path) -> None:
    """Bundles of before store every weight; exported again they store each once."""
    shutil.copytree(tiny_result.bundle.path, tmp_path / "bundle")
    old = Bundle(tmp_path / "bundle", tiny_result.bundle.manifest, tiny_result.bundle.digest)
    weights = read_weights(old.weights_path, old.model_path)
    save_tensors(old.weights_path, weights, {})
    model = load_model(old)
    size = (tmp_path / "bundle" / WEIGHTS).stat().st_size
    from tests.commands.test_build_engine import rehashed

    new = export(rehashed(old, WEIGHTS).path, Silent()).bundle
    assert (new.path / WEIGHTS).stat().st_size < 0.5 * size
    for name, tensor in load_model(new).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
