"""HGAD's head as an ONNX graph: plain operators, the same numbers."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from edgead.models.hgad_head import HgadHead

from .test_hgad_head import fitted, make_head, make_latents, one_hot_bias


class _Graph(torch.nn.Module):
    """The head with plain arguments, as a graph has them."""

    def __init__(self, head: HgadHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, class_bias: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.head(list(zip(flat[::2], flat[1::2], strict=True)), class_bias)  # type: ignore[no-any-return]


VARIANTS: dict[str, dict[str, Any]] = {
    "product": {},
    "likelihood-top": {"mode": "likelihood", "top_fraction": 0.02},
    "one-class": {"classes": 1},
    "one-small-level": {"sizes": [(7, 5)]},
}


@pytest.fixture(scope="module", params=VARIANTS)
def exported(request: pytest.FixtureRequest) -> tuple[HgadHead, onnx.ModelProto]:
    """A fitted head and its graph with a free batch."""
    torch.manual_seed(0)
    head = fitted(make_head(**VARIANTS[request.param]))
    flat = [x for pair in make_latents(2, head) for x in pair]
    names = ["class_bias", *(f"x{i}" for i in range(len(flat)))]
    outputs = ["anomaly_map", "pred_score", "class_score"]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(head),
            (torch.zeros(2, head.classes), *flat),
            buffer,  # type: ignore[arg-type]
            opset_version=17,
            dynamo=False,
            input_names=names,
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in names + outputs},
        )
    return head, onnx.load_from_string(buffer.getvalue())


def test_only_operators_that_tensorrt_computes_well(exported: tuple[HgadHead, onnx.ModelProto]) -> None:
    """No fused log-sum-exp or softmax, no gathering, no shape arithmetic, no padding, no resizing."""
    _, proto = exported
    onnx.checker.check_model(proto, full_check=True)
    found = {node.op_type for node in proto.graph.node}
    allowed = {"Add", "Cast", "Clip", "Concat", "Constant", "Conv", "Div", "Exp", "Identity", "Log", "MatMul", "Max", "Min",
               "Mul", "Neg", "Pow", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Squeeze", "Sub", "TopK", "Transpose",
               "Unsqueeze"}  # fmt: skip
    assert found <= allowed, found - allowed


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_gives_torchs_numbers(
    exported: tuple[HgadHead, onnx.ModelProto], batch: int, scale: float
) -> None:
    """All outputs agree to 1e-5, for other batch sizes, far latents, and a class given, excluded or unknown."""
    head, proto = exported
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    latents = make_latents(batch, head, scale)
    for bias in (torch.zeros(batch, head.classes), one_hot_bias([0] * batch, head.classes)):
        inputs = [bias, *(x for pair in latents for x in pair)]
        names = [value.name for value in session.get_inputs()]
        found = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
        for name, ours, theirs in zip(("map", "score", "class"), head(latents, bias), found, strict=True):
            assert bool(torch.isfinite(ours).all()), name
            assert ours.shape == theirs.shape, name
            np.testing.assert_allclose(
                theirs, ours.numpy(), rtol=1e-5, atol=1e-5 * float(ours.abs().max()), err_msg=name
            )
