"""Roofline of `edgead bench`."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest
from typer.testing import CliRunner

from edgead.cli import app
from edgead.commands.roofline import BOARDS, points, predict
from edgead.commands.train import TrainResult
from edgead.engines.machine_peak import Peak
from edgead.engines.operator_times import OperatorTime
from edgead.errors import ConfigError
from edgead.precision.layers import LayerCost


def test_the_slower_of_operations_and_bytes_is_the_limit() -> None:
    """At 2 GFLOP/s and 1 GB/s, a million multiply-adds and a million bytes take 1 ms each."""
    peak = Peak(2e9, 1e9, 1)
    costs = [
        LayerCost("a/conv", "Conv", 3_000_000, 1_000_000, {"a/conv", "a/relu", "a_out"}),
        LayerCost("b/product", "MatMul", 1_000_000, 4_000_000, {"b/product"}),
        LayerCost("c/pool", "MaxPool", 0, 500_000, {"c/pool"}),
    ]
    times = [
        OperatorTime("a_out_nchwc", "Conv", 6.0),
        OperatorTime("b/product", "MatMul", 8.0),
        OperatorTime("x", "y", 9.0),
    ]
    first, second, third = points(costs, peak, times)
    assert [round(one.bound_ms, 6) for one in (first, second, third)] == [3.0, 4.0, 0.5]
    assert [one.bound_by for one in (first, second, third)] == ["compute", "memory", "memory"]
    assert [one.measured_ms for one in (first, second, third)] == [6.0, 8.0, None]


def test_boards_are_those_of_the_data_sheets() -> None:
    """Dense INT8 and FP16 operations follow from cores and clock; half the bytes are moved in FP16, a quarter in INT8."""
    rates = {board.name: board.operations_per_s("int8") / 1e12 for board in BOARDS}
    assert rates["Orin Nano 8 GB"] == pytest.approx(20, rel=0.03)
    assert rates["Orin Nano 8 GB Super"] == pytest.approx(33, rel=0.03)
    assert rates["AGX Orin 64 GB"] == pytest.approx(170 / 2, rel=0.03)
    nano = BOARDS[0]
    of_bytes = predict([LayerCost("a", "Conv", 0, 68_000_000)], nano)
    assert (of_bytes.fp16_ms, of_bytes.int8_ms) == pytest.approx((0.5, 0.25))
    of_operations = predict([LayerCost("a", "Conv", 10_240_000_000 // 2, 0)], nano)
    assert (of_operations.fp16_ms, of_operations.int8_ms) == pytest.approx((1.0, 0.5))


@pytest.mark.slow
def test_bench_draws_it(tiny_result: TrainResult, tmp_path: Path) -> None:
    """Table, JSON and both kinds of picture; every measured layer has its dot, and boards are called predictions."""
    words = [
        "bench",
        str(tiny_result.bundle.path),
        "--engine",
        "reference",
        "--frames",
        "1",
        "--set",
        "engine.threads=1",
    ]
    svg, png, file = tmp_path / "r.svg", tmp_path / "r.png", tmp_path / "r.json"
    done = CliRunner().invoke(app, [*words, "--roofline", str(svg), "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "predicted, never measured" in done.output
    found = json.loads(file.read_text(encoding="utf-8"))["roofline"]
    assert found["peak_gflops"] > 1
    measured = [one for one in found["layers"] if one["measured_ms"] and one["multiply_adds"]]
    assert len(measured) > 10
    assert sum(one["multiply_adds"] for one in measured) > 0.95 * tiny_result.bundle.manifest.cost.multiply_adds
    assert {one["measured"] for one in found["predictions"]} == {False}
    drawing = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    assert len(drawing.findall("{*}circle")) == len(measured)
    assert CliRunner().invoke(app, [*words, "--roofline", str(png)], catch_exceptions=False).exit_code == 0
    assert cv2.imread(str(png)).shape == (960, 1720, 3)


def test_another_kind_of_file_is_refused_before_measuring(tiny_result: TrainResult) -> None:
    with pytest.raises(ConfigError, match=r"\.svg or \.png, got 'roofline.pdf'"):
        CliRunner().invoke(
            app, ["bench", str(tiny_result.bundle.path), "--roofline", "roofline.pdf"], catch_exceptions=False
        )
