"""A bundle that aligns frames, from training to engine, evaluation and stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import edgead
from edgead.aligner import PartNotFoundError
from edgead.bundle import open_bundle
from edgead.bundle_files import ALIGNMENT
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.export import export
from edgead.commands.train import TrainResult, train
from edgead.commands.training.alignment import align_split
from edgead.commands.training.data import prepare_data
from edgead.config.training import DataConfig
from edgead.data.dataset import Sample
from edgead.data.masks import read_mask
from edgead.data.split import Split
from edgead.data.synthetic.make import make_part
from edgead.errors import BundleError, DataError
from edgead.evaluation.metrics import auroc
from edgead.imaging import Image, png_from_rgb
from edgead.pose import align
from edgead.progress import Silent
from edgead.stream.frame import Frame
from edgead.stream.part_search import KIND
from edgead.stream.scorer import Scorer
from tests.notes import Notes
from tests.tiny_run import SIDE, tiny_config
from tools.moving_parts import MOVED, moved_part, write_parts

QUICK = {"train__epochs": 0, "train__shrinkage": [0.2], "train__reference_images": 4, "train__calibration_images": 12}


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boards that are turned by up to 15 degrees and shifted by up to 5 %."""
    folder = tmp_path_factory.mktemp("boards")
    write_parts(folder, "board", (SIDE, SIDE), MOVED, n_train=48, n_test=2)
    return folder


@pytest.fixture(scope="module")
def aligned(boards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A bundle that aligns them; do not change its files."""
    runs = tmp_path_factory.mktemp("runs")
    return train(tiny_config(boards, data__align="on", **QUICK), Silent(), out=None, runs=runs, resume=False)


def empty(size: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(20, 40, (size, size, 3), np.uint8)


def test_the_bundle_holds_its_rule_and_its_reference_picture(aligned: TrainResult) -> None:
    """Rule in the manifest, picture in a file with a digest; a bundle without alignment names neither."""
    bundle = aligned.bundle
    rule = bundle.manifest.preprocessing.alignment
    assert rule is not None
    assert 0.3 < rule.least_likeness < rule.usual_likeness <= 1
    assert (rule.angle_deg, rule.shift, rule.scale) == (20, 0.1, 0.08)
    assert ALIGNMENT in bundle.manifest.sha256
    assert bundle.aligner is not None
    assert bundle.aligner.reference.shape == (128, 128)


def test_a_bundle_without_alignment_is_as_before(tiny_result: TrainResult) -> None:
    """The manifest of a bundle without alignment does not name it, and no file is added."""
    assert "alignment" not in tiny_result.bundle.manifest.preprocessing.model_dump(mode="json")
    assert ALIGNMENT not in tiny_result.bundle.manifest.sha256
    assert tiny_result.bundle.aligner is None


def test_stored_images_are_aligned(aligned: TrainResult) -> None:
    """Held-out images, from which thresholds and engines come, show the part where the reference does."""
    held_out, aligner = aligned.bundle.held_out(), aligned.bundle.aligner
    assert held_out is not None
    assert aligner is not None
    poses = [aligner.found(image) for image in held_out[0]]
    assert max(abs(pose.angle_deg) for pose in poses) < 1
    assert max(abs(value) for pose in poses for value in pose.shift) < 0.01


def test_python_evaluation_and_stream_judge_the_aligned_frame(aligned: TrainResult, boards: Path) -> None:
    """All of them give the score of the frame that was aligned by hand, and a map that lies over the frame's own mask."""
    by_hand, scores, streamed, labels, maps, masks = [], [], [], [], [], []
    with edgead.load(aligned.bundle.path, engine="reference") as model:
        bundle, scorer = model.bundle, Scorer.of(model.bundle, model.runner)
        for file in sorted((boards / "test").rglob("*.png")):
            image = model.read_image(file)
            pose = model.pose(image)
            assert pose is not None
            by_hand.append(float(model.runner.infer(bundle.overview(align(image, pose))[None])["pred_score"][0]))
            result = model.predict(image)
            scores.append(result.score)
            prepared = scorer.prepare(Frame(image, 0, 0.0, "f"))
            streamed.append(float(scorer.score([prepared])["pred_score"][0]))
            defect = file.parent.name
            mask = boards / "ground_truth" / defect / f"{file.stem}_mask.png"
            labels.append(defect != "good")
            maps.append(result.anomaly_map)
            masks.append(read_mask(mask, (SIDE, SIDE)) if labels[-1] else np.zeros((SIDE, SIDE), np.bool_))
        evaluation = evaluate_bundle(bundle, model.runner, boards, Silent(), false_alarm_rate=None, report=None)
    for found in (scores, streamed):
        np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    mean = evaluation.result.mean
    assert mean.image_auroc == pytest.approx(auroc(by_hand, labels))
    assert mean.pixel_auroc == pytest.approx(auroc(np.stack(maps).ravel(), np.stack(masks).ravel()), abs=1e-3)


def test_the_map_lies_over_the_frame_as_it_is(aligned: TrainResult) -> None:
    """A white spot on a turned board peaks in the map where it is in the frame."""
    image = moved_part("board", 2, (SIDE, SIDE))[0]
    with edgead.load(aligned.bundle.path, engine="reference") as model:
        pose = model.pose(image)
        assert pose is not None
        assert abs(pose.angle_deg) > 5
        x, y = np.rint(pose.place(np.array([[0.3, 0.36]]))[0] * SIDE).astype(int)
        image[y - 5 : y + 6, x - 5 : x + 6] = 255
        result = model.predict(image)
    row, column = np.unravel_index(int(result.anomaly_map.argmax()), result.anomaly_map.shape)
    assert abs(row - y) <= 12
    assert abs(column - x) <= 12
    assert result.prediction.pose is not None
    assert result.heatmap().shape[1] == image.shape[1]


def test_an_image_without_the_part_is_refused_and_not_scored(
    aligned: TrainResult, boards: Path, tmp_path: Path
) -> None:
    """The Python API raises, the stream calls the frame a fault, and evaluation leaves the image out with the reason."""
    for name, image in (("good", moved_part("board", 7, (SIDE, SIDE))[0]), ("bad", empty())):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.png").write_bytes(png_from_rgb(image))
        (tmp_path / "test" / name / "1.png").write_bytes(png_from_rgb(moved_part("board", 9, (SIDE, SIDE))[0]))
    with edgead.load(aligned.bundle.path, engine="reference") as model:
        with pytest.raises(PartNotFoundError, match="part was not found"):
            model.predict(empty())
        prepared = Scorer.of(model.bundle, model.runner).prepare(Frame(empty(), 0, 0.0, "f"))
        result = evaluate_bundle(model.bundle, model.runner, tmp_path, Silent(), false_alarm_rate=None, report=None)
    assert prepared.lacks_part
    assert prepared.pose is None
    assert [path.parent.name for path, _ in result.broken] == ["bad"]
    assert "not found" in result.broken[0][1]
    assert result.to_json()["part_not_found"] == {"good": 0, "defective": 1}
    assert KIND == "part-not-found"


def test_training_leaves_out_images_without_the_part(tmp_path: Path) -> None:
    """An empty conveyor among the good images is named and counted, and is not learnt."""
    write_parts(tmp_path, "board", (SIDE, SIDE), MOVED, n_train=24, n_test=1)
    (tmp_path / "train" / "good" / "empty.png").write_bytes(png_from_rgb(empty()))
    notes = Notes()
    data = prepare_data(tiny_config(tmp_path, data__align="on"), notes)
    assert any("empty.png" in text and "part was not found" in text for text in notes.texts)
    assert data.n_without_part == 1
    assert "empty.png" not in [sample.path.name for part in vars(data.split).values() for sample in part]


@pytest.mark.slow
def test_a_texture_is_refused_when_alignment_is_on_and_left_alone_by_auto() -> None:
    """`on` says that the part is not found; `auto` leaves a texture as it is, and aligns parts that move."""
    samples = [Sample(Path(f"{seed}.png"), f"{seed}.png", "part") for seed in range(24)]
    split = Split(tuple(samples[:14]), tuple(samples[14:18]), tuple(samples[18:]))

    def reader(part: str) -> Callable[[Sample], Image]:
        return cache(lambda sample: moved_part(part, int(sample.path.stem), (96, 96))[0])

    cloth, board = reader("fabric"), reader("board")
    with pytest.raises(DataError, match="found in only"):
        align_split(DataConfig(align="on"), split, cloth, Silent())
    assert align_split(DataConfig(align="auto"), split, cloth, Silent()).aligner is None
    found = align_split(DataConfig(align="auto"), split, board, Silent())
    assert found.aligner is not None
    assert found.split == split
    assert align_split(DataConfig(), split, board, Silent()).aligner is None


def test_parts_that_move_far_are_said_before_a_training_without_alignment() -> None:
    """Turned parts give a warning with the option; parts at rest, textures and aligned parts give none."""
    samples = [Sample(Path(f"{seed}.png"), f"{seed}.png", "part") for seed in range(16)]
    split = Split(tuple(samples), (), ())

    def said(read: Callable[[Sample], Image]) -> tuple[bool, str]:
        notes = Notes()
        found = align_split(DataConfig(), split, cache(read), notes)
        assert found.aligner is None
        return found.motion is not None, " ".join(notes.texts)

    moves, text = said(lambda sample: moved_part("board", int(sample.path.stem), (128, 128))[0])
    assert moves
    assert "Warning: the parts do not lie still" in text
    assert "--align auto" in text
    at_rest = {
        part: said(
            lambda sample, part=part: make_part(part, np.random.default_rng(int(sample.path.stem)), (128, 128))[0]
        )
        for part in ("board", "fabric")
    }
    assert at_rest == {"board": (False, ""), "fabric": (False, "")}


def test_an_export_keeps_the_reference_picture(aligned: TrainResult, tmp_path: Path) -> None:
    """The exported bundle aligns as before; one without the picture is refused."""
    import shutil

    shutil.copytree(aligned.bundle.path, tmp_path / "bundle")
    bundle = export(tmp_path / "bundle", Silent()).bundle
    assert bundle.aligner is not None
    (bundle.path / ALIGNMENT).unlink()
    with pytest.raises(BundleError, match=ALIGNMENT):
        open_bundle(bundle.path)
