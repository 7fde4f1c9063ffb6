"""Digest of scores and JSON keys: a miniature run over the command line, and all kinds of difference."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgead.data.synthetic.make import write_dataset
from tools.score_digest import compare, differences, json_keys, main, table

pytestmark = pytest.mark.slow  # a training and four verbs, each in a process of its own

CASE = "pcb-fastflow-uniform-altub"
TINY = (
    "model.levels=['16:8']",
    "model.blocks=2",
    "model.image_size=96",
    "train.calibration_images=2",
    "train.reference_images=2",
    "train.pseudo_defects=4",
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of one case on small generated parts."""
    root = tmp_path_factory.mktemp("digest")
    write_dataset(root / "data" / "pcb", "disc", n_train=40, n_test_good=8, n_test_per_defect=2, seed=1, size=(96, 96))
    settings = [word for text in TINY for word in ("--set", text)]
    assert main([str(root / "data"), "--out", str(root / "out"), "--only", CASE, *settings]) == 0
    return root / "out"


def read(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return result


def test_a_run_digests_files_and_keys(out: Path) -> None:
    """The digests are those of the bundle's files; every verb that prints JSON is there with its keys."""
    case = read(out)[CASE]
    bundle = out / CASE / "bundle"
    assert set(case["files"]) == {path.name for path in bundle.iterdir() if path.is_file()} - {"bundle.json"}
    for name, digest in case["files"].items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    assert {".mean.image_auroc", ".classes.pcb.defects.dent.n", ".segmentation"} <= set(case["keys"])
    assert {".thresholds.all.threshold.value", ".sha256.model.onnx"} <= set(case["bundle_keys"])
    assert 0.0 <= case["image_auroc"] <= 1.0
    assert case["outputs"].keys() == {"alerts list", "bench", "build-engine", "doctor"}
    assert ".alerts[].regions[].area_px" in case["outputs"]["alerts list"]
    assert ".engine_ms.p95" in case["outputs"]["bench"]
    assert ".gate.verdict_flips" in case["outputs"]["build-engine"]
    assert ".checks[].status" in case["outputs"]["doctor"]


def test_the_same_result_is_equal(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result is equal to itself, with exit code 0."""
    assert compare(read(out), out / "result.json", "*") == 0
    assert "1 cases are equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("files", {"model.onnx": "0"}, "files model.onnx"),
        ("scores", "0", "scores"),
        ("eval", "0", "eval"),
        ("keys", [".engine"], "keys: new .mean"),
        ("bundle_keys", [".schema_version", ".old"], "bundle_keys: missing .old"),
        ("outputs", {"doctor": [".gone"]}, "outputs doctor: missing .gone"),
    ],
)
def test_every_field_can_differ(
    out: Path, tmp_path: Path, field: str, value: object, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change of any field is printed with case and field, with exit code 4."""
    other = copy.deepcopy(read(out))
    other[CASE][field] = {**other[CASE][field], **value} if isinstance(value, dict) else value
    path = tmp_path / "other.json"
    path.write_text(json.dumps(other), encoding="utf-8")
    assert compare(read(out), path, "*") == 4
    assert f"{CASE}: {line}" in capsys.readouterr().out


def test_a_missing_case_differs(out: Path) -> None:
    """A case of one side alone is a difference; one outside the pattern is not."""
    result = read(out)
    assert list(differences(result, {})) == [f"{CASE}: only in the new result"]
    assert list(differences({}, result)) == [f"{CASE}: only in the other result"]
    assert compare({}, out / "result.json", "magnetic*") == 0


def test_fields_that_were_never_recorded_are_not_compared() -> None:
    """A result without the keys of the verbs can still be compared in its digests."""
    new = {"a": {"eval": "1", "scores": "2", "outputs": {"doctor": [".checks"]}}}
    assert list(differences(new, {"a": {"eval": "1", "scores": "2"}})) == []
    assert list(differences(new, {"a": {"eval": "1", "scores": "3"}})) == ["a: scores: 2 is not 3"]


def test_keys_of_nested_json() -> None:
    """Paths go through objects and lists; the items of a list are merged."""
    assert json_keys({"a": {"b": 1}, "c": [{"d": 1}, {"e": [2]}]}) == {".a", ".a.b", ".c", ".c[].d", ".c[].e"}


def test_the_table_names_every_case_once() -> None:
    """No two of the 23 cases share a folder, and every model is among them."""
    cases = table()
    assert len({case.name for case in cases}) == len(cases) == 23
    assert {case.model for case in cases} == {"usf", "fastflow", "cflow", "uflow", "vae-usf", "hgad"}


def test_a_failing_command_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data root without the data sets ends with exit code 1 and the message of the command line."""
    assert main([str(tmp_path), "--out", str(tmp_path / "out"), "--only", CASE]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out" / "result.json").exists()
