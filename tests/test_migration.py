"""Files of an older edgead: a bundle, an engine record and settings of schema 1 are read as what they meant."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.bundle import open_bundle
from edgead.config.file import load_config
from edgead.engines.fingerprint import read_record
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError
from edgead.imaging import Image, resize
from edgead.manifest import POOLED, SCHEMA_VERSION, Preprocessing
from edgead.migration import upgrade_engine_record, upgrade_manifest, upgrade_settings
from edgead.runner import REFERENCE, FakeRunner
from edgead.stream.frame import Frame
from edgead.stream.scorer import Scorer

OLD = Path(__file__).parent / "fixtures" / "bundle-schema-1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of a bundle that edgead 0.1.0 wrote."""
    return Path(shutil.copytree(OLD, tmp_path / "bundle"))


def content_of(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_a_bundle_of_schema_1_keeps_its_thresholds_and_scores(old: Path) -> None:
    """Every threshold is the stored one, and the graph still gives the reference maps."""
    content = content_of(old / "bundle.json")
    assert content["schema_version"] == 1
    bundle = open_bundle(old)
    assert set(bundle.manifest.thresholds) == set(content["calibration"]) == {POOLED, "data"}
    for name, stored in content["calibration"].items():
        assert bundle.manifest.thresholds[name].model_dump(mode="json") == stored
    assert bundle.manifest.nfa is not None
    stored = content["nfa"]["calibration"]
    assert {n: one.model_dump(mode="json") for n, one in bundle.manifest.nfa.thresholds.items()} == stored
    assert bundle.manifest.provenance.n_images["threshold"] == content["provenance"]["n_images"]["calibration"] == 5
    reference = bundle.reference()
    with open_engine(bundle, REFERENCE, threads=1) as runner:
        outputs = runner.infer(reference["images"])
    for name in bundle.reference_outputs:
        np.testing.assert_allclose(outputs[name], reference[name], rtol=1e-3, atol=1e-4)


def test_a_bundle_of_schema_1_gives_its_model_back(old: Path) -> None:
    """The torch model is built from the stored settings and weights and gives the reference scores."""
    torch = pytest.importorskip("torch")
    from edgead.models.zoo import load_model

    bundle = open_bundle(old)
    reference = bundle.reference()
    with torch.no_grad():
        scores = load_model(bundle).eval()(torch.from_numpy(reference["images"]))[1]
    np.testing.assert_allclose(scores.numpy(), reference["pred_score"], rtol=1e-3)


def test_an_engine_record_of_before_keeps_its_thresholds(old: Path) -> None:
    """The thresholds of an INT8 engine that edgead 0.1.0 built are read, those of its regions too."""
    folder = old / "engines" / "onnxruntime-int8"
    stored = content_of(folder / "engine.json")["lower"]
    record = read_record(folder).lower
    assert record is not None
    assert {n: one.model_dump(mode="json") for n, one in record.thresholds.items()} == stored["calibration"]
    assert record.nfa is not None
    assert {n: one.model_dump(mode="json") for n, one in record.nfa.thresholds.items()} == stored["nfa"]["calibration"]


def test_settings_keep_their_old_names(tmp_path: Path) -> None:
    """A setting that was renamed is read under its old name, from a file and from the command line; two names are refused."""
    file = tmp_path / "old.yaml"
    file.write_text("data: {calibration_fraction: 0.2}\n", encoding="utf-8")
    assert load_config(file, {}).data.threshold_fraction == 0.2
    assert load_config(None, {"data.calibration_fraction": 0.3}).data.threshold_fraction == 0.3
    with pytest.raises(ConfigError, match="calibration_fraction"):
        load_config(file, {"data.threshold_fraction": 0.3})


@pytest.mark.parametrize("upgrade", [upgrade_manifest, upgrade_engine_record, upgrade_settings])
@pytest.mark.parametrize(
    "content",
    [None, [], "text", {}, {"schema_version": 1, "nfa": 3, "provenance": []}, {"lower": None}, {"data": None}],
    ids=str,
)
def test_anything_goes_in_and_is_left_to_the_validation(upgrade: Any, content: Any) -> None:
    """Content that does not look like a record keeps its type, and the validation reports what is wrong."""
    upgraded = upgrade(content)
    assert type(upgraded) is type(content)


def test_todays_records_are_left_alone() -> None:
    """An upgrade changes neither what is current nor what it was given."""
    content = content_of(OLD / "bundle.json")
    before = json.dumps(content)
    upgraded = upgrade_manifest(content)
    assert json.dumps(content) == before
    assert upgrade_manifest(upgraded) == upgraded


def strip() -> Image:
    """A strip `(24, 700, 3)` of which one side grows to the old bundle's input and the other one shrinks."""
    y, x = np.mgrid[:24, :700]
    return np.stack([(x * 37 + y * 11) % 256, (x * x // 7 + y) % 256, (x // 3 * y) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize("schema", [1, 2])
def test_old_bundles_keep_their_pixels(old: Path, schema: int) -> None:
    """A strip becomes the input that it was for edgead 0.1, to the last digit, in files as well as in a stream."""
    content = content_of(old / "bundle.json")
    if schema == 2:
        content = {**upgrade_manifest(content), "schema_version": 2}
        for key in ("float_white_level", "decoding"):
            content["preprocessing"].pop(key, None)
        (old / "bundle.json").write_text(json.dumps(content), encoding="utf-8")
    bundle = open_bundle(old)
    assert bundle.manifest.schema_version == SCHEMA_VERSION
    assert bundle.manifest.preprocessing.reading == {
        "white_level": 255, "float_white_level": None, "decoding": "as-stored"
    }  # fmt: skip
    prepared = bundle.preprocess(strip())
    assert prepared[3, ::9, 0].tolist() == [193, 147, 53, 111, 169, 195, 49, 88]
    assert hashlib.sha256(prepared.tobytes()).hexdigest().startswith("ceb006c701d384db")
    rule = bundle.manifest.preprocessing.resize
    scorer = Scorer(FakeRunner(bundle.image_size), image_size=bundle.image_size, resize_rule=rule)
    np.testing.assert_array_equal(scorer.prepare(Frame(strip(), 0, 0.0, "x")).image, prepared)


def test_a_new_bundle_has_the_new_rules(tmp_path: Path) -> None:
    """A bundle that is made now averages the side that shrinks, and turns images upright."""
    preprocessing = Preprocessing.current((64, 64))
    assert (preprocessing.resize, preprocessing.decoding) == ("area-then-bilinear", "upright")
    prepared = resize(strip(), (64, 64), preprocessing.resize)
    assert hashlib.sha256(prepared.tobytes()).hexdigest().startswith("2c1c3ceca4e2f67b")
