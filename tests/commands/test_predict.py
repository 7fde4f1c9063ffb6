"""`edgead predict`: the verdicts of `edgead eval` and the API, as files."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest

import edgead
from edgead.aligner import PartNotFoundError
from edgead.bundle import Bundle
from edgead.commands.predict import Judgement, heatmap_names, list_pictures, new_folder, predict
from edgead.commands.train import TrainResult
from edgead.errors import ConfigError, DataError
from edgead.imaging import Image
from edgead.manifest import ClassThresholds
from edgead.progress import Silent


def test_command_writes_what_the_api_says(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """Scores, verdicts and regions in JSON and CSV are those of `Model.predict`; a bad file is named; torch stays out."""
    folder = tmp_path / "in"
    defect = next(path for path in sorted((tiny_data / "test").iterdir()) if path.name != "good")
    shutil.copytree(defect, folder / "crack")
    (folder / "broken.png").write_bytes(b"no picture")
    script = "import sys, edgead.cli as cli\ntry: cli.main()\nfinally: assert 'torch' not in sys.modules"
    good = sorted((tiny_data / "test" / "good").iterdir())[0]
    done = subprocess.run(
        [sys.executable, "-c", script, "predict", str(folder), str(good), "--bundle", str(tiny_result.bundle.path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "broken.png" in done.stderr
    assert "1 could not be judged" in done.stdout
    content = json.loads((tmp_path / "predictions" / "predictions.json").read_text(encoding="utf-8"))
    table = (tmp_path / "predictions" / "predictions.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(table)))
    paths = [*sorted((folder / "crack").iterdir()), good]
    assert [image["image"] for image in content["images"]] == [str(path) for path in paths]
    assert [row["image"] for row in rows] == [*(str(path) for path in paths), str(folder / "broken.png")]
    assert rows[-1]["verdict"] == "left out"
    with edgead.load(tiny_result.bundle.path, threads=1) as model:
        for path, image, row in zip(paths, content["images"], rows, strict=False):
            result = model.predict(model.read_image(path))
            assert image["score"] == float(row["score"]) == pytest.approx(result.score, rel=1e-4)
            assert image["verdict"] == row["verdict"] == ("anomalous" if result.is_anomalous else "good")
            assert len(image["regions"]) == int(row["n_regions"]) == len(result.regions)
            heatmap = cv2.imread(str(tmp_path / "predictions" / image["heatmap"]))
            assert heatmap is not None
            assert heatmap.shape == result.image.shape
    assert content["n_anomalous"] == sum(image["verdict"] == "anomalous" for image in content["images"])


@dataclass(frozen=True)
class Bright:
    """Verdict of `LooksForPart`: the mean brightness."""

    image: Image

    score, threshold, is_anomalous, regions = 0.5, 1.0, False, ()

    @property
    def mask(self) -> np.ndarray:
        return np.zeros(self.image.shape[:2], bool)

    def heatmap(self) -> Image:
        return self.image


class LooksForPart:
    """Judge of a bundle that aligns: a black image shows no part."""

    engine_name = "fake"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def thresholds(self, class_name: str | None = None) -> ClassThresholds:
        return self.bundle.thresholds(class_name)

    def read_image(self, path: Path) -> Image:
        return np.asarray(cv2.imread(str(path)), np.uint8)

    def predict(self, images: Sequence[Image], *, class_name: str | None = None) -> Sequence[Judgement]:
        if any(not image.any() for image in images):
            raise PartNotFoundError("The part was not found.")
        return [Bright(image) for image in images]  # type: ignore[misc]


@pytest.fixture
def judge(tiny_result: TrainResult) -> LooksForPart:
    return LooksForPart(tiny_result.bundle)


def test_a_picture_without_the_part_costs_only_itself(judge: LooksForPart, tmp_path: Path) -> None:
    """The other pictures of its batch are judged, in order."""
    for name, value in (("1", 9), ("2", 0), ("3", 9)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((8, 8, 3), value, np.uint8))
    found = predict(judge, [tmp_path], Silent(), out=None)
    assert [image.path.name for image in found.images] == ["1.png", "3.png"]
    assert [(path.name, reason) for path, reason in found.left_out] == [("2.png", "The part was not found.")]
    with pytest.raises(DataError, match=r"None of the 1 pictures .* of .*2\.png: The part was not found\."):
        predict(judge, [tmp_path / "2.png"], Silent(), out=None)


def test_nothing_is_overwritten(judge: LooksForPart, tmp_path: Path) -> None:
    """A folder that holds something is refused before anything is judged; without a name a new one is taken."""
    cv2.imwrite(str(tmp_path / "1.png"), np.full((8, 8, 3), 9, np.uint8))
    with pytest.raises(ConfigError, match="not an empty folder"):
        predict(judge, [tmp_path], Silent(), out=tmp_path)
    base = tmp_path / "predictions"
    assert new_folder(base) == base
    base.mkdir()
    assert new_folder(base) == tmp_path / "predictions-2"


def test_wrong_paths_are_refused(tmp_path: Path) -> None:
    """A missing path, a file that is no picture and a folder without pictures are named."""
    (tmp_path / "notes.txt").touch()
    for path, said in (
        (tmp_path / "no.png", "no file"),
        (tmp_path / "notes.txt", "no picture"),
        (tmp_path, "holds no"),
    ):
        with pytest.raises(DataError, match=said):
            list_pictures([path])


def test_a_run_and_a_picture_of_a_phone_are_told_what_to_do(tmp_path: Path) -> None:
    """The folder of a run, which other commands take first, is not judged as pictures; other formats have their advice."""
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    (tmp_path / "run" / "bundle" / "bundle.json").touch()
    (tmp_path / "run" / "suspected-defects.png").touch()
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "IMG_1.HEIC").touch()
    for path, advice in (
        (tmp_path / "run", f"--bundle {tmp_path / 'run'}"),
        (tmp_path / "run" / "bundle", "--bundle"),
        (tmp_path / "phone", "Most Compatible"),
        (tmp_path / "phone" / "IMG_1.HEIC", "Most Compatible"),
    ):
        with pytest.raises(DataError) as caught:
            list_pictures([path])
        assert advice in caught.value.hint


def test_names_of_heatmaps_differ() -> None:
    """Pictures of the same name from several folders and formats have a heatmap each."""
    pictures = [
        (Path(p), PurePosixPath(r)) for p, r in (("a/1.png", "1.png"), ("b/1.JPG", "1.JPG"), ("c/1.png", "d/1.png"))
    ]
    assert [str(name) for name in heatmap_names(pictures).values()] == ["1.png", "1-2.png", "d/1.png"]
