"""A bundle with right digests and a hostile graph is refused before it judges a frame: no crash, no hang, no blind verdict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import defs
from typer.testing import CliRunner

from edgead.bundle import open_bundle
from edgead.bundle_files import MANIFEST, MODEL, file_digest
from edgead.cli import app
from edgead.commands.build_engine import build_engine
from edgead.commands.doctor.model import check_model
from edgead.engines.graph_check import (
    FURTHER_OPERATORS,
    OPERATORS,
    TESTED_OPERATORS,
    check_graph,
)
from edgead.engines.onnx_session import run_first, write_optimised
from edgead.engines.opening import open_engine
from edgead.errors import EdgeadError, EngineError
from edgead.progress import Silent

from ..resealing import rewrite
from .hostile_graphs import REFUSED, WRONG, Change, changed, endless_loop

OLD = Path(__file__).parents[1] / "fixtures" / "bundle-schema-1"
TABLE = Path(__file__).parents[1] / "export" / "tensorrt_operators.yaml"


def with_graph(folder: Path, graph: bytes) -> Path:
    """A copy of the bundle with this graph, under right digests."""
    shutil.copytree(OLD, folder, ignore=shutil.ignore_patterns("engines"))
    (folder / MODEL).write_bytes(graph)
    digest = file_digest(folder / MODEL)
    rewrite(folder / MANIFEST, lambda content: content["sha256"].update({MODEL: digest}))
    return folder


def hostile(folder: Path, change: Change) -> Path:
    return with_graph(folder, changed(onnx.load(str(OLD / MODEL)), change).SerializeToString())


@pytest.mark.parametrize("name", [*REFUSED, *WRONG])
def test_a_hostile_graph_is_refused_and_says_why(name: str, tmp_path: Path) -> None:
    """Nothing opens it, and nothing is built from it."""
    change, message = {**REFUSED, **WRONG}[name]
    bundle = open_bundle(hostile(tmp_path / "bundle", change))
    with pytest.raises(EdgeadError, match=message) as caught:
        open_engine(bundle, None, threads=1)
    assert caught.value.exit_code == 1
    assert caught.value.hint
    with pytest.raises(EdgeadError, match=message):
        build_engine(bundle, "fp32", "onnxruntime", Silent())


def test_a_command_and_a_check_report_it(tmp_path: Path) -> None:
    """`bench` ends with an error for the user, `doctor` with a failed check."""
    folder = hostile(tmp_path / "bundle", endless_loop)
    done = CliRunner().invoke(app, ["bench", str(folder), "--frames", "1"])
    assert isinstance(done.exception, EngineError)
    found = [check for check in check_model(folder, True, 1) if check.name == "engine reference"]
    assert [check.status for check in found] == ["failed"]
    assert "Loop is not allowed" in found[0].detail


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x08" * 1000], ids=["empty", "text", "bytes"])
def test_a_file_that_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    """Whatever the bytes are."""
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(EngineError, match="is not a graph that edgead exports"):
        check_graph(tmp_path / "graph.onnx", optimised=True)


def test_the_optimised_graph_is_taken_as_an_engine_only(tmp_path: Path) -> None:
    """ONNX Runtime's own operators are right in an engine and wrong in a bundle."""
    write_optimised(OLD / MODEL, tmp_path / "optimised.onnx")
    check_graph(tmp_path / "optimised.onnx", optimised=True)
    check_graph(OLD / MODEL, optimised=False)
    with pytest.raises(EngineError, match=r"is of the domain 'com\.microsoft"):
        check_graph(tmp_path / "optimised.onnx", optimised=False)


def test_a_loop_is_refused_in_an_engine_too(tmp_path: Path) -> None:
    """The record beside an engine has digests, and whoever writes the engine writes the record."""
    onnx.save(changed(onnx.load(str(OLD / MODEL)), endless_loop), str(tmp_path / "graph.onnx"))
    with pytest.raises(EngineError, match="Loop is not allowed"):
        check_graph(tmp_path / "graph.onnx", optimised=True)


def test_the_first_image_has_a_time_limit() -> None:
    """A graph that does not end is stopped, should one pass the check."""
    graph = changed(onnx.load(str(OLD / MODEL)), endless_loop).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"did not finish its first image within 0\.3 s"):
        run_first(session, ["pred_score"], {"image": np.zeros((1, 64, 64, 3), np.uint8)}, 0.3)
    assert time.monotonic() - started < 10


def test_the_operators_are_those_of_the_exporters_table() -> None:
    """What the export is tested with is allowed, and nothing that branches, repeats, draws lots or holds sequences."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    assert set(table["operators"]) == TESTED_OPERATORS
    assert not FURTHER_OPERATORS & TESTED_OPERATORS
    for schema in defs.get_all_schemas():
        if schema.name in OPERATORS and not schema.domain:
            assert not any(one.type.name in ("GRAPH", "GRAPHS") for one in schema.attributes.values()), schema.name
    assert not [
        name for name in OPERATORS for word in ("Random", "Sequence", "Optional", "Multi", "Image") if word in name
    ]


def judged(folder: Path, first: int, count: int, timeout_s: float) -> list[tuple[str, dict[str, Any]]]:
    """Mutations by number with their outcome; fails if the process that judges them crashes or hangs."""
    words = [sys.executable, "-m", "tests.engines.mutated_bundles", str(OLD), str(folder), str(first), str(count)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        words, cwd=root, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])
    return [(f"{one['seed']}: {one['mutation']}", other) for one, other in zip(lines[::2], lines[1::2], strict=True)]


def assert_right_or_refused(outcomes: list[tuple[str, dict[str, Any]]]) -> None:
    bundle = open_bundle(OLD)
    reference, threshold = bundle.reference()["pred_score"], bundle.thresholds().threshold.value
    for mutation, outcome in outcomes:
        if outcome["code"] == 0:
            np.testing.assert_allclose(outcome["scores"], reference, rtol=0.15, err_msg=mutation)
            assert outcome["threshold"] == pytest.approx(threshold), mutation
        else:
            assert outcome["code"] == 1, (mutation, outcome)


@pytest.mark.slow
def test_mutated_bundles_judge_rightly_or_are_refused(tmp_path: Path) -> None:
    """Under right digests, no mutation of manifest, graph or arrays gives another exit code than 0 or 1, or other scores."""
    outcomes = judged(tmp_path, 0, 45, 120)
    assert_right_or_refused(outcomes)
    assert {outcome["code"] for _, outcome in outcomes} == {0, 1}


@pytest.mark.slow
def test_many_mutated_bundles_judge_rightly_or_are_refused(tmp_path: Path) -> None:
    """The same for five hundred."""
    assert_right_or_refused(judged(tmp_path, 1000, 500, 600))
