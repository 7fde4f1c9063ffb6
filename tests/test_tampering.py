"""What decides alarms cannot change without a word: flipped bits, edited numbers, thresholds that follow from nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import MANIFEST
from edgead.commands.bundle import verify_bundle
from edgead.engines.fingerprint import RECORD, read_record
from edgead.engines.opening import open_engine
from edgead.errors import BundleError, EdgeadError, EngineMismatchError
from edgead.evaluation.stored_thresholds import check_thresholds
from edgead.own_digest import BLANK, has_own_digest, with_own_digest

from .resealing import resealed, rewrite

OLD = Path(__file__).parent / "fixtures" / "bundle-schema-1"


def verified(path: Path) -> Bundle:
    bundle = open_bundle(path)
    check_thresholds(bundle.manifest.thresholds, bundle.manifest.nfa, MANIFEST)
    return bundle


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of a bundle of schema 1, whose manifest has no digest of its own."""
    return Path(shutil.copytree(OLD, tmp_path / "bundle"))


@pytest.fixture
def sealed(old: Path) -> Path:
    """The same with a digest of the manifest."""
    rewrite(old / MANIFEST, lambda content: content["sha256"].update({MANIFEST: "to come"}))
    verified(old)
    return old


def test_every_flipped_bit_of_a_manifest_with_a_digest_is_found(sealed: Path) -> None:
    """No bit of the file can change: each of several thousand flips is refused."""
    raw = (sealed / MANIFEST).read_bytes()
    for place in range(0, len(raw), 11):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << (place % 8)
        (sealed / MANIFEST).write_bytes(flipped)
        with pytest.raises(BundleError):
            open_bundle(sealed)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_flipped_bit_that_an_older_bundle_accepts_leaves_its_thresholds(old: Path, data: st.DataObject) -> None:
    """Without a digest of the manifest, a flip is refused or all thresholds stay."""
    raw = (OLD / MANIFEST).read_bytes()
    first, last = raw.index(b'"calibration"'), raw.index(b'"parity"')
    place = data.draw(st.integers(first, last))
    flipped = bytearray(raw)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    (old / MANIFEST).write_bytes(flipped)
    try:
        found = verified(old)
    except BundleError:
        return
    expected = open_bundle(OLD).manifest
    for name, thresholds in expected.thresholds.items():
        assert found.thresholds(name).threshold.value == pytest.approx(thresholds.threshold.value, rel=1e-5)
        assert found.thresholds(name).pixel_threshold.value == pytest.approx(thresholds.pixel_threshold.value, rel=1e-5)


def test_an_older_bundle_is_read_and_says_that_its_manifest_has_no_digest(old: Path) -> None:
    """`edgead bundle verify` accepts it and says how to add one."""
    assert "`edgead export` adds one" in verify_bundle(old)


def _threshold(content: dict[str, Any], **values: Any) -> None:
    content["calibration"]["all"]["threshold"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: _threshold(m, value=1e300), "the scores stored with it give 58.8877"),
        (lambda m: _threshold(m, value=94.1), "threshold of all is 94.1"),
        (lambda m: _threshold(m, value=-1.0), "below a score of a good image"),
        (lambda m: _threshold(m, n_images=999_999), "999999 images beside 5 scores"),
        (lambda m: _threshold(m, certified=True), "none of its scores"),
        (lambda m: _threshold(m, false_alarm_rate=7), "false_alarm_rate"),
        (lambda m: _threshold(m, false_alarm_rate=0), "must be between 0 and 1"),
        (lambda m: _threshold(m, false_alarm_rate=0.02), "the scores stored with it give"),
        (lambda m: _threshold(m, interval=[134.0, 13.0]), "must be ordered"),
        (lambda m: _threshold(m, interval=None), "has no interval"),
        (lambda m: m["calibration"]["all"].update(scores=[]), "beside 0 scores"),
        (lambda m: m["calibration"]["all"].update(map_maxima=[1.0] * 4), "beside 4 scores"),
        (lambda m: m["calibration"]["all"]["pixel_threshold"].update(value=60.0), "pixel threshold of all is 60"),
        (lambda m: m["calibration"]["all"].update(heatmap_low=90.0), "must contain the pixel threshold"),
        (lambda m: m["calibration"]["all"].update(heatmap_high=1e9), "heatmap scale of all"),
        (lambda m: m["calibration"].pop("data"), "thresholds must be of all, data"),
        (lambda m: m["nfa"]["calibration"]["all"]["log_epsilon"].update(value=-900.0), "limit of regions of all"),
        (lambda m: m["nfa"]["calibration"]["all"]["log_epsilon"].update(value=90.0), "below a score of a good image"),
        (lambda m: m["nfa"].update(levels=[]), r"nfa\.levels"),
        (lambda m: m["nfa"]["levels"][0].update(good_mean=0.0), "good_mean"),
        (lambda m: m["preprocessing"].update(white_level=0), "white_level"),
        (lambda m: m["preprocessing"].update(image_size=[0, 64]), "image_size"),
        (lambda m: m["graph"].update(map_size=[65, 8]), "larger than the image"),
        (lambda m: m.update(classes=["data", "data"]), "distinct"),
        (lambda m: m["parity"].update(verdict_flips=-1), "verdict_flips"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, sealed: Path
) -> None:
    """With a right digest too: a number out of its range, or one that does not follow from the scores beside it."""
    rewrite(sealed / MANIFEST, change)
    with pytest.raises(BundleError, match=message):
        verified(sealed)


def test_an_engine_does_not_open_with_an_edited_threshold(sealed: Path) -> None:
    """Every way to judge an image opens an engine, and that recomputes the thresholds."""
    rewrite(sealed / MANIFEST, lambda content: _threshold(content, value=94.1))
    with pytest.raises(BundleError, match=r"threshold of all is 94\.1"):
        open_engine(open_bundle(sealed), "reference", threads=1)


def test_every_flipped_bit_of_an_engine_record_with_a_digest_is_found(old: Path) -> None:
    """The thresholds of a lower-precision engine are in its record."""
    folder = old / "engines" / "onnxruntime-int8"
    content = json.loads((folder / RECORD).read_bytes())
    raw = resealed({**content, "record_sha256": "to come"})
    (folder / RECORD).write_bytes(raw)
    read_record(folder)
    for place in range(0, len(raw), 23):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << (place % 8)
        (folder / RECORD).write_bytes(flipped)
        with pytest.raises(EngineMismatchError):
            read_record(folder)


@pytest.mark.parametrize("name", ["calibration.npz", "reference.npz"])
def test_damaged_arrays_with_a_right_digest_are_a_bundle_error(name: str, sealed: Path) -> None:
    """Cut, emptied, overwritten or of the wrong type: never a crash."""
    content = (sealed / name).read_bytes()
    with np.load(sealed / name) as arrays:
        other = {key: arrays[key].astype(np.float64) for key in arrays}
    np.savez(sealed / "other.npz", **other)  # type: ignore[arg-type]  # numpy's stub forbids any dict here
    wrong_type = (sealed / "other.npz").read_bytes()
    middle = len(content) // 2
    for damaged in (
        b"",
        content[:middle],
        content[:middle] + bytes(64) + content[middle + 64 :],
        b"x" * 99,
        wrong_type,
    ):
        (sealed / name).write_bytes(damaged)
        bundle = open_bundle(OLD)
        bundle = Bundle(sealed, bundle.manifest, bundle.digest)
        with pytest.raises(EdgeadError, match=name):
            bundle.reference() if name == "reference.npz" else (bundle.calibration_images(), bundle.held_out())


def test_a_digest_of_itself() -> None:
    """It is found right, and wrong after any change, in another place, or in another spelling."""
    content = with_own_digest(b'{"sha256": "' + BLANK.encode() + b'", "more": 1}')
    digest = json.loads(content)["sha256"]
    assert has_own_digest(content, digest)
    assert not has_own_digest(content + b" ", digest)
    assert not has_own_digest(content, digest.upper())
    assert not has_own_digest(content + digest.encode(), digest)
    with pytest.raises(ValueError, match="must occur once"):
        with_own_digest(b"{}")
