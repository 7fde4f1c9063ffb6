"""The inspector's forms of all versions become the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgead.engines.tensorrt.layers import LayerInfo, layers_from_json
from edgead.engines.tensorrt.power import power_mode


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            {
                "Name": "conv + relu",
                "LayerType": "CaskConvolution",
                "ParameterType": "Convolution",
                "Inputs": [
                    {"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}
                ],
                "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16"}],
                "Weights": {"Type": "Int8", "Count": 864},
            },
            LayerInfo("conv + relu", "Convolution", "int8"),
        ),
        (
            {"Name": "r", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
            LayerInfo("r", "Reformat", "fp32"),
        ),
        (
            {"Name": "n", "LayerType": "kgen", "Inputs": [{"Format": "Row major linear", "Datatype": "BFloat16"}]},
            LayerInfo("n", "kgen", "bf16"),
        ),
        (
            {"Name": "e", "LayerType": "X", "Inputs": [], "Outputs": [{"Format": "linear", "Data Type": "Half"}]},
            LayerInfo("e", "X", "fp16"),
        ),
        ({"Name": "w", "LayerType": "X", "Weights": {"Type": "Half", "Count": 0}}, LayerInfo("w", "X", "unknown")),
        ({"Name": "u", "Inputs": [{"Format/Datatype": "something new"}]}, LayerInfo("u", "unknown", "unknown")),
        ({"Name": "t", "Inputs": "changed", "Outputs": [3], "Weights": 7}, LayerInfo("t", "unknown", "unknown")),
        ("only a name", LayerInfo("only a name", "unknown", "unknown")),
        ({"Name": "b", "Inputs": [{"Datatype": "UInt8"}]}, LayerInfo("b", "unknown", "uint8")),
    ],
)
def test_a_layer_of_any_form_is_read(layer: object, expected: LayerInfo) -> None:
    """Known words give a precision, of the weights first; unknown ones do not raise."""
    for key in ("Bindings", "I/O Tensors"):
        assert layers_from_json(json.dumps({"Layers": [layer], key: []})) == [expected]


@pytest.mark.parametrize("text", ["", "no json", "3", "null", '{"Layers": 3}', "{}"])
def test_anything_else_gives_no_rows(text: str) -> None:
    """Rows are shown, not computed with: no error."""
    assert layers_from_json(text) == []


def test_the_power_mode_is_read_from_nvpmodels_file(tmp_path: Path) -> None:
    """The power mode is a number without leading zeros, or "unknown"."""
    status = tmp_path / "status"
    assert power_mode(status) == "unknown"
    for text, expected in (("pmode:0002 fmode:fanNull", "2"), ("", "unknown"), ("pmode:x", "unknown")):
        status.write_text(text)
        assert power_mode(status) == expected
