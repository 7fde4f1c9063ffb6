"""The tiny graph tells a backend that computes from one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from edgead.commands.doctor.proof import ProofTarget, check_backends, expected_outputs, images, write_graph
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import EngineError
from edgead.evaluation.compare import PARITY_LIMIT


def test_the_expected_outputs_are_those_of_the_graph(tmp_path: Path) -> None:
    """ONNX's own reference evaluator, which shares no code with numpy's sums here, gives the same maps and scores."""
    write_graph(tmp_path / "tiny.onnx")
    values: Any = ReferenceEvaluator(str(tmp_path / "tiny.onnx")).run(
        ["anomaly_map", "pred_score"], {"image": images()}
    )
    expected = expected_outputs(images())
    assert np.allclose(values[0], expected["anomaly_map"], rtol=1e-4, atol=1e-5)
    assert np.allclose(values[1], expected["pred_score"], rtol=1e-4)


def test_the_images_have_different_verdicts() -> None:
    """The marked image scores well above the plain one, so that a flipped verdict means something."""
    plain, marked = expected_outputs(images())["pred_score"]
    assert marked > 1.5 * plain


def test_onnx_runtime_proves_itself() -> None:
    """The backend of every machine passes."""
    (check,) = check_backends(1)
    assert (check.name, check.status) == ("proof onnxruntime", "ok")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda maps: maps * 1.001,
        lambda maps: maps.transpose(0, 2, 1),
        lambda maps: np.where(maps == maps.max(), np.nan, maps),
        lambda maps: maps.astype(np.float16).astype(np.float32),
    ],
)
def test_a_backend_that_computes_wrongly_fails(spoil: Any) -> None:
    """A scale, a transposed map, a NaN or half precision where full was promised do not pass."""

    @contextmanager
    def broken(graph: Path, folder: Path, threads: int) -> Iterator[Any]:
        with OnnxRunner(graph, threads=threads, engine_name="broken") as runner:

            class Broken:
                def infer(self, batch: Any) -> Any:
                    outputs = runner.infer(batch)
                    return outputs | {"anomaly_map": spoil(outputs["anomaly_map"])}

            yield Broken()

    (check,) = check_backends(1, (ProofTarget("broken", lambda: True, broken, PARITY_LIMIT),))  # type: ignore[arg-type]
    assert check.status == "failed"
    assert check.advice


def test_absent_backends_are_not_missed_and_failing_ones_are_named() -> None:
    """A backend that this machine lacks gives no line; one that cannot open the graph says why."""

    def refuses(graph: Path, folder: Path, threads: int) -> Any:
        assert graph.is_file()
        assert not list(folder.iterdir())
        raise EngineError("no plugin", hint="install it")

    backends = (
        ProofTarget("absent", lambda: False, refuses, PARITY_LIMIT),
        ProofTarget("refusing", lambda: True, refuses, PARITY_LIMIT),
    )
    (check,) = check_backends(1, backends)
    assert (check.name, check.status, check.detail, check.advice) == (
        "proof refusing",
        "failed",
        "no plugin",
        "install it",
    )
