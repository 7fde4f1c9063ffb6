"""The change of a closed-form model by a picture, its maps on disk, and how they are written back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgead.graph_file import constants_of
from edgead.stored_once import from_graph, header, places_in_graph
from edgead.teach.changed_files import _write_rows
from edgead.teach.closed_form import ClosedForm, Level
from edgead.teach.maps import TriangularMaps, WholeMaps
from edgead.teach.tolerance import apply, tolerate
from edgead.triangles import blocks, split_triangles
from tests.test_triangles import graph_of, triangular


@pytest.mark.parametrize("form", ["positions", "centres"])
def test_the_least_change_that_helps(form: str) -> None:
    """Maps come down to the value and no further, no energy grows, and places that did not differ stay as they are."""
    random = np.random.default_rng(0)
    n, channels, side = 16, 12, 4
    mean, gain = np.ones((side, side), np.float32), np.full((side, side), 2.0, np.float32)
    weight = random.normal(size=(n, channels, channels)).astype(np.float32)
    centres = random.normal(size=(30, channels)).astype(np.float32)
    level = (
        Level(0, WholeMaps(weight), None, mean, gain) if form == "positions" else Level(0, None, centres, mean, gain)
    )
    model = ClosedForm([level], (side, side), 2)
    x = 0.1 * random.normal(size=(3, n, channels)).astype(np.float32)
    x[:, 5] += 3.0
    x[1, 6] -= 2.0
    value = 0.5 * float(model.maps(model.energies([x])).max(axis=(1, 2)).min())
    changes = tolerate(model, [x], value)
    changed = apply(model, changes)
    maps = changed.maps(changed.energies([x]))
    assert maps.max() <= value * 1.001
    assert maps.max() >= value * 0.9, "and no further"
    others = random.normal(size=(50, n, channels)).astype(np.float32)
    old, new = level.energies(others), changed.levels[0].energies(others)
    assert (new <= old * (1 + 1e-4)).all()
    if form == "positions":
        same = [place for place in range(n) if place not in changes[0].positions]
        assert 0 < len(changes[0].positions) < n
        np.testing.assert_array_equal(old[:, same], new[:, same])
        # one picture at a place: the covariance grows by its outer product
        one = tolerate(model, [x[:1]], value)
        d, w = x[0, 5].astype(np.float64), weight[5].astype(np.float64)
        s, limit = float(np.square(w @ d).sum()), (value / 2.0 + 1.0) * channels
        covariance = np.linalg.inv(w.T @ w) + (1.0 / limit - 1.0 / s) * np.outer(d, d)
        row = one[0].rows[5].astype(np.float64)
        np.testing.assert_allclose(np.linalg.inv(row.T @ row), covariance, rtol=1e-2, atol=1e-3)


def test_triangular_maps_of_a_training_are_learned_in_blocks(tmp_path: Path) -> None:
    """A graph that holds its maps as blocks gets them back as blocks, with the norms of the whole ones."""
    random = np.random.default_rng(0)
    matrix = triangular(44)
    weight = np.ascontiguousarray(matrix.transpose(0, 2, 1))
    proto = graph_of(matrix)
    split_triangles(proto)
    onnx.save(proto, str(tmp_path / "before.onnx"))
    shutil.copyfile(tmp_path / "before.onnx", tmp_path / "after.onnx")
    changed = {
        position: (weight[position] + 0.1 * random.normal(size=(44, 44))).astype(np.float32) for position in (0, 3)
    }
    places = places_in_graph({"w": weight}, proto)
    stored = constants_of(tmp_path / "after.onnx")
    _write_rows(tmp_path / "after.onnx", [stored[name] for name in places["w"]], changed)
    found = from_graph(header(places), onnx.load(str(tmp_path / "after.onnx")))["w"]
    for position, before in enumerate(weight):
        own = changed.get(position, before).astype(np.float64)
        np.testing.assert_allclose(found[position].T @ found[position], own.T @ own, rtol=1e-3, atol=1e-3)
        assert not np.triu(found[position], 1).any()
        if position not in changed:
            np.testing.assert_array_equal(found[position], before)


def test_maps_in_blocks_give_the_norms_of_whole_ones() -> None:
    """At all positions and at some, with a changed one among them; a row is the whole map."""
    random = np.random.default_rng(0)
    matrix = triangular(44)
    n = len(matrix)
    parts = [np.ascontiguousarray(block.of(matrix)) for block in blocks("", 44)]
    weight = np.ascontiguousarray(matrix.transpose(0, 2, 1))
    ones = np.ones((1, n), np.float32)
    inputs = random.normal(size=(3, n, 44)).astype(np.float16)
    rows = {1: random.normal(size=(44, 44)).astype(np.float32)}
    split, whole = (Level(0, maps, None, ones, ones, rows) for maps in (TriangularMaps(parts), WholeMaps(weight)))
    expected = np.stack(
        [np.square(inputs[:, p].astype(np.float64) @ rows.get(p, weight[p]).T).mean(axis=1) for p in range(n)], axis=1
    )
    places = [n - 1, 1, 0]
    for level in (split, whole):
        np.testing.assert_allclose(level.energies(inputs), expected, rtol=1e-4)
        np.testing.assert_allclose(level.energies(inputs[:, places], places), expected[:, places], rtol=1e-4)
        np.testing.assert_array_equal(level.row(0), weight[0])
    with pytest.raises(ValueError, match="form no triangular maps"):
        TriangularMaps(parts[:-1])
