"""A bundle is what was written, or it is refused."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgead.bundle import open_bundle
from edgead.bundle_files import CALIBRATION, MANIFEST, MODEL, REFERENCE, WEIGHTS, file_digest
from edgead.bundle_writer import write_bundle
from edgead.errors import BundleError, StorageError
from edgead.manifest import SCHEMA_VERSION, ClassThresholds

pytest.importorskip("torch")
from .resealing import rewrite
from .tiny import make_bundle, make_files, make_manifest

FILES = (MODEL, WEIGHTS, CALIBRATION, REFERENCE)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite(path / MANIFEST, change)


def test_round_trip(tmp_path: Path) -> None:
    """An opened bundle has the written manifest, calibration images, reference and digest."""
    written = make_bundle(tmp_path / "bundle")
    opened = open_bundle(tmp_path / "bundle")
    assert opened.manifest == written.manifest
    assert opened.digest == written.digest == file_digest(tmp_path / "bundle" / MANIFEST)
    assert set(opened.manifest.sha256) == {*FILES, MANIFEST}
    assert opened.manifest.model_copy(update={"sha256": {}}) == make_manifest()
    assert opened.calibration_images().shape == (2, 64, 64, 3)
    assert opened.reference().keys() == {"images", "anomaly_map", "pred_score"}
    assert opened.image_size == (64, 64)
    assert opened.preprocess(np.zeros((10, 20, 3), np.uint8)).shape == (64, 64, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "bundle-sources"}
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {MANIFEST, *FILES}


def test_the_run_of_a_bundle_names_it(tmp_path: Path) -> None:
    """The folder of a run opens the bundle inside it; a bundle that holds a folder of that name opens itself."""
    written = make_bundle(tmp_path / "run" / "bundle")
    assert open_bundle(tmp_path / "run").path == written.path
    make_bundle(written.path / "bundle")
    assert open_bundle(written.path).path == written.path


def test_thresholds_by_class(tmp_path: Path) -> None:
    """Without a name the pooled values are given; an unknown class names the known ones."""
    bundle = make_bundle(tmp_path / "bundle")
    assert bundle.thresholds() == bundle.thresholds("part")
    assert bundle.thresholds().heatmap_scale.threshold == 2.0
    with pytest.raises(BundleError, match="no class 'bolt'; it has: part"):
        bundle.thresholds("bolt")


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found(name: str, tmp_path: Path) -> None:
    """Any change of any file, its first and its last byte included, is refused with the file's name."""
    make_bundle(tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    content = bytearray(path.read_bytes())
    for position in (0, len(content) // 2, len(content) - 1):
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(BundleError, match=rf"{name} was changed after the bundle was made"):
            open_bundle(tmp_path / "bundle")
        content[position] ^= 1
    path.write_bytes(content)
    open_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(name: str, tmp_path: Path) -> None:
    """An incomplete copy is refused with the name of what is missing."""
    make_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / name).unlink()
    with pytest.raises(BundleError, match=f"incomplete: .*{name} is missing"):
        open_bundle(tmp_path / "bundle")


def test_folders_that_are_no_bundle(tmp_path: Path) -> None:
    """No folder, and a folder without a manifest, say what to name instead."""
    with pytest.raises(BundleError, match="There is no bundle at"):
        open_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"holds no bundle\.json") as caught:
        open_bundle(tmp_path)
    assert "runs/latest/bundle" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=SCHEMA_VERSION + 1), "bundle schema 4.*reads up to 3"),
        (lambda m: m.update(schema_version="1"), "no schema_version"),
        (lambda m: m.pop("schema_version"), "no schema_version"),
        (lambda m: m.pop("graph"), "graph: Field required"),
        (lambda m: m.update(surprise=1), "surprise: Extra inputs"),
        (lambda m: m["graph"].update(map_size=["x", 1]), r"graph\.map_size\.0"),
        (lambda m: m["sha256"].pop(WEIGHTS), f"no digest for {WEIGHTS}"),
        (lambda m: m["sha256"].update({"../evil": "0"}), "leaves the bundle folder"),
        (lambda m: m["sha256"].update({"a/../../evil": "0"}), "leaves the bundle folder"),
        (lambda m: m["sha256"].update({"/etc/passwd": "0"}), "leaves the bundle folder"),
        (lambda m: m["sha256"].update({"..\\evil": "0"}), "leaves the bundle folder"),
        (lambda m: m["sha256"].update({"": "0"}), "leaves the bundle folder"),
        (lambda m: m["sha256"].update({"more.bin": "0"}), r"more\.bin is missing"),
    ],
)
def test_manifests_that_are_refused(change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    """A newer schema, missing or unknown keys, and paths that leave the folder are refused with the reason."""
    make_bundle(tmp_path / "bundle")
    (tmp_path / "evil").write_bytes(b"x")
    edit(tmp_path / "bundle", change)
    with pytest.raises(BundleError, match=message):
        open_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": NaN}'],
    ids=["empty", "cut", "list", "null", "binary", "deep", "nan"],
)
def test_damaged_manifests_are_refused(content: bytes, tmp_path: Path) -> None:
    """Whatever bytes the manifest holds, the answer is a BundleError that names it."""
    make_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", [MANIFEST, MODEL])
def test_links_are_refused(name: str, tmp_path: Path) -> None:
    """A link inside the bundle is refused, even when what it points at has the right content."""
    make_bundle(tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError):
        open_bundle(tmp_path / "bundle")


def test_a_bundle_may_be_reached_through_a_link(tmp_path: Path) -> None:
    """`runs/latest` is a link to the run: the folder itself may be reached so."""
    make_bundle(tmp_path / "run" / "bundle")
    (tmp_path / "latest").symlink_to("run")
    assert open_bundle(tmp_path / "latest" / "bundle").path == tmp_path / "run" / "bundle"


def test_numbers_that_are_not_finite_are_refused() -> None:
    """A threshold of NaN would silence every alarm."""
    record = make_manifest().thresholds["part"].model_dump()
    record["threshold"]["value"] = float("nan")
    with pytest.raises(ValidationError, match="finite"):
        ClassThresholds.model_validate(record)


def test_replacing_takes_the_whole_old_bundle_away(tmp_path: Path) -> None:
    """A second bundle of the same name replaces the first, engines and stray files included."""
    first = make_bundle(tmp_path / "bundle")
    (first.engines_path / "x").mkdir(parents=True)
    second = write_bundle(tmp_path / "bundle", make_manifest(), make_files(tmp_path / "new", model=b"another graph"))
    assert second.model_path.read_bytes() == b"another graph"
    assert second.digest != first.digest
    assert not second.engines_path.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "bundle-sources", "new"}


def test_a_bundle_may_be_rewritten_from_its_own_files(tmp_path: Path) -> None:
    """`edgead export` takes weights and calibration images from the bundle that it replaces."""
    first = make_bundle(tmp_path / "bundle")
    files = make_files(tmp_path / "new", model=b"another graph")
    own = {name: first.path / name for name in (WEIGHTS, CALIBRATION, REFERENCE)}
    second = write_bundle(first.path, make_manifest(), {MODEL: files[MODEL], **own})
    assert second.model_path.read_bytes() == b"another graph"
    assert second.manifest.sha256[WEIGHTS] == first.manifest.sha256[WEIGHTS]


def test_a_failed_write_leaves_the_old_bundle(tmp_path: Path) -> None:
    """When a source file is missing, or the place cannot be written, the old bundle stays and nothing else."""
    first = make_bundle(tmp_path / "bundle")
    files = make_files(tmp_path / "new")
    files[REFERENCE].unlink()
    with pytest.raises(StorageError):
        write_bundle(tmp_path / "bundle", make_manifest(), files)
    assert open_bundle(tmp_path / "bundle").digest == first.digest
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "bundle-sources", "new"}
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="could not be written"):
        write_bundle(tmp_path / "file" / "bundle", make_manifest(), make_files(tmp_path / "new"))


REPLACES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from edgead.bundle_writer import write_bundle
from edgead.manifest import Manifest
manifest = Manifest.model_validate_json(Path(sys.argv[1], "bundle.json").read_bytes())
files = {name: Path(sys.argv[2]) / name for name in manifest.sha256 if name != "bundle.json"}
print("ready", flush=True)
number = 0
while True:
    number += 1
    files["model.onnx"].write_bytes(b"graph %d" % number)
    write_bundle(Path(sys.argv[1]), manifest.model_copy(update={"sha256": {}}), files)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="two names are exchanged in one step on Linux only")
def test_there_is_a_whole_bundle_at_every_moment(tmp_path: Path) -> None:
    """While another process replaces the bundle without pause, and is killed, its name always holds a whole bundle."""
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("this C library has no renameat2")
    bundle = make_bundle(tmp_path / "bundle").path
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", REPLACES, str(bundle), str(tmp_path / "bundle-sources"), root],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    until, looks, versions = time.monotonic() + 2.0, 0, set()
    while time.monotonic() < until:
        versions.add((bundle / MANIFEST).read_bytes())
        looks += 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    open_bundle(bundle)
    assert looks > 500
    assert len(versions) > 5
