"""FP16, equalisation, sensitivity and recipes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgead.builder.backends import saturates_in_int8
from edgead.engines.onnx_session import open_session
from edgead.errors import ConfigError
from edgead.precision.cost import node_multiply_adds
from edgead.precision.equalise import equalise
from edgead.precision.fp16 import all_activations, float32_nodes, to_fp16
from edgead.precision.graph import Graph
from edgead.precision.int8 import Int8Options, Layout, quantisable_nodes, tensors_to_calibrate
from edgead.precision.quantiser import LayerError, Quantiser
from edgead.precision.ranges import collect_statistics
from edgead.precision.recipe import Recipe, read_recipe

from ..export.tensorrt_operators import operator_problems, versions
from .graphs import SIDE, make_graph, make_images

ROOT = Path(__file__).parents[2]
HEAD = {"square", "mean", "score"}
FRONT = {"cast", "transpose", "multiply", "add"}


def outputs(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    result: list[np.ndarray] = open_session(model.SerializeToString(), 1).run(None, {"image": images})
    return result


def statistics(model: onnx.ModelProto, images: np.ndarray) -> dict:  # type: ignore[type-arg]
    return collect_statistics(model, tensors_to_calibrate(model), images, threads=1)


def test_fp16_keeps_front_and_score_in_float32() -> None:
    model, images = make_graph(), make_images()
    found = collect_statistics(model, all_activations(model), images, threads=1, histograms=False)
    kept = float32_nodes(model, found)
    assert set(kept) == FRONT | HEAD
    half = to_fp16(model, kept)
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert {types[f"{name}.weight/float16"] for name in quantisable_nodes(model)} == {TensorProto.FLOAT16}
    assert sum(node.op_type == "Cast" for node in half.graph.node) == 3
    assert [o.type.tensor_type.elem_type for o in half.graph.output] == [TensorProto.FLOAT] * 2
    for first, second in zip(outputs(model, images), outputs(half, images), strict=True):
        np.testing.assert_allclose(second, first, rtol=0.02, atol=1e-3)
    assert not any(operator_problems(half, version) for version in versions())


def test_a_node_whose_values_leave_fp16_stays_float32() -> None:
    """Values that a defect could take beyond 65504 decide, weights too."""
    model, images = make_graph(), make_images()
    found = collect_statistics(model, all_activations(model), images, threads=1, histograms=False)
    found["depthwise.out"].high = 5000.0
    found["depthwise.out"].channel_high[0] = 5000.0
    kept = float32_nodes(model, found)
    assert set(kept) == FRONT | HEAD | {"depthwise", "depthwise.out/clip"}
    assert "5e+03" in kept["depthwise"]
    graph = Graph(model)
    graph.set_constant("last.weight", graph.constant("last.weight") * 1e7)
    assert "weights" in float32_nodes(graph.model, found)["last"]


@pytest.mark.parametrize("margin", [1.0, 2.0, float("inf")])
def test_equalised_graph_computes_the_same(margin: float) -> None:
    """Also through clips, as long as values stay within the margin."""
    model, images = make_graph(spread=100.0), make_images()
    same = equalise(model, statistics(model, images), margin=margin, balance=1.0)
    for first, second in zip(outputs(model, images), outputs(same, images), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-4)
    assert node_multiply_adds(same) == node_multiply_adds(model)


def test_channels_of_the_stream_become_equal() -> None:
    """Channels a hundred times apart cover the same range afterwards; all tensors of a sum share their factors."""
    model, images = make_graph(spread=100.0), make_images()
    before = statistics(model, images)
    after = statistics(equalise(model, before, margin=float("inf"), balance=1.0), images)

    def unequal(found: dict, name: str) -> float:  # type: ignore[type-arg]
        reach = np.maximum(-found[name].channel_low, found[name].channel_high)
        return float(reach.max() / reach.min())

    assert unequal(before, "stem.out") > 50
    assert unequal(after, "stem.out") < 3
    assert unequal(after, "sum") < 3


def test_last_bits_of_what_was_measured_change_no_weight() -> None:
    model, images = make_graph(spread=100.0), make_images()
    before = statistics(model, images)
    off = {
        name: dataclasses.replace(
            found, channel_low=found.channel_low * 1.000001, channel_high=found.channel_high * 0.999999
        )
        for name, found in before.items()
    }
    first, second = (equalise(model, seen, margin=float("inf"), balance=1.0) for seen in (before, off))
    assert first.SerializeToString() == second.SerializeToString()


def test_a_shared_constant_is_not_changed_for_others() -> None:
    graph = Graph(make_graph())
    stem, expand = (next(n for n in graph.nodes if n.name == name) for name in ("stem", "expand"))
    expand.input[2] = stem.input[2]
    graph.refresh()
    stem, expand = (next(n for n in graph.nodes if n.name == name) for name in ("stem", "expand"))
    own = graph.own_constant(stem, 2)
    assert own != expand.input[2]
    np.testing.assert_array_equal(graph.constant(own), graph.constant(expand.input[2]))


def quantiser(recipe: Recipe, model: onnx.ModelProto | None = None, layout: Layout = "onnxruntime") -> Quantiser:
    options = Int8Options(layout, reduce_range=layout == "onnxruntime" and saturates_in_int8())
    return Quantiser(model or make_graph(), make_images(8), recipe, options, lambda *_: None, threads=1)


def test_the_sensitive_layer_is_found_and_kept() -> None:
    """A layer whose channels differ by 10^4 within one tensor is the worst, and the only outlier."""
    model = make_graph()
    graph = Graph(model)
    weight = graph.constant("expand.weight")
    weight[0] *= 1e-4
    graph.set_constant("expand.weight", weight)
    bias = graph.constant("expand.bias")
    bias[0] = 1e-5
    graph.set_constant("expand.bias", bias)
    following = graph.constant("depthwise.weight")
    following[0] *= 1e4
    graph.set_constant("depthwise.weight", following)
    found = quantiser(Recipe(min_coverage=0.1, outlier=5.0), graph.model)
    errors = found.sensitivity(make_images(4, 3))
    assert {layer.name for layer in errors} == set(quantisable_nodes(model))
    assert [layer.error for layer in errors] == sorted((layer.error for layer in errors), reverse=True)
    assert errors[0].name in ("expand", "depthwise")  # either end of that tensor
    assert errors[0].name in found.outliers(errors)
    assert "project" not in found.outliers(errors)


def test_outliers_leave_the_wanted_share_in_integers() -> None:
    found = quantiser(Recipe(min_coverage=0.6, outlier=1.0))
    errors = [LayerError(name, error) for name, error in zip(found.candidates, (9, 8, 7, 1, 1, 1), strict=True)]
    kept = found.outliers(errors)
    assert kept
    assert found.coverage(kept) >= 0.6
    assert found.coverage() == 1.0
    costs = node_multiply_adds(make_graph())
    assert costs["stem"] == 3 * 6 * 9 * SIDE * SIDE


@pytest.mark.parametrize(("layout", "outlier", "number"), [
    ("onnxruntime", None, 1), ("tensorrt", None, 2), ("tensorrt", 100.0, 1), ("onnxruntime", 10.0, 2),
])  # fmt: skip
def test_how_many_stay_out_depends_on_the_backend(layout: Layout, outlier: float | None, number: int) -> None:
    """Float16 between TensorRT's integers costs little, float32 between a CPU's more; a recipe may say otherwise."""
    found = quantiser(Recipe(min_coverage=0.0, outlier=outlier), layout=layout)
    errors = [LayerError(name, error) for name, error in zip(found.candidates, (200, 50, 1, 1, 1, 1), strict=True)]
    assert found.outliers(errors) == [name.name for name in errors[:number]]


def test_patterns_keep_layers_in_float() -> None:
    found = quantiser(Recipe(keep_float=("st*", "last")))
    assert found.candidates == ["expand", "depthwise", "project", "latent"]


def test_default_recipe_file_is_the_default() -> None:
    assert read_recipe(ROOT / "calibration" / "default.yaml") == read_recipe(None) == Recipe()


@pytest.mark.parametrize("path", sorted((ROOT / "calibration").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_read(path: Path) -> None:
    assert isinstance(read_recipe(path), Recipe)
    assert path.read_text().startswith("# edgead build-engine --int8 --recipe calibration/" + path.name)


@pytest.mark.parametrize(
    ("text", "words"),
    [("method: magic", "method"), ("imagse: 3", "imagse"), ("[", "cannot be read"), ("images: 1", "images")],
)
def test_a_wrong_recipe_says_where(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_recipe(tmp_path / "r.yaml")
