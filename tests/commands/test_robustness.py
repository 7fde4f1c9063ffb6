"""`edgead eval --robustness`: every change of every image through the engine, on some of the images, with or without labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typer.testing import CliRunner

from edgead.cli import app
from edgead.commands.build_engine import build_engine
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.robustness import STEPS, RobustnessSetting, measure_robustness
from edgead.commands.train import TrainResult
from edgead.data.chosen import FolderRoles
from edgead.engines.opening import open_engine
from edgead.evaluation.evaluate import ScoredImage
from edgead.imaging import Image
from edgead.progress import Silent
from tests.notes import Notes

SIZE = (32, 32)
LIMIT = 120.0


def scored(number: int, *, bad: bool = False, class_name: str = "nut", seen: bool = False) -> ScoredImage:
    empty = np.zeros((1, 1), np.float32)
    return ScoredImage(
        Path(f"{number}.png"), class_name, "dent", bad, 0.0, empty, SIZE, None, was_trained_on=seen
    )  # fmt: skip


def brightness_of(batch: NDArray[np.uint8], class_name: str) -> tuple[NDArray[np.float64], list[float]]:
    """Scores that a detector gives which takes light for defects, with a threshold of its own for bolts."""
    limit = 1000.0 if class_name == "bolt" else LIMIT
    return batch.mean(axis=(1, 2, 3), dtype=np.float64), [limit] * len(batch)


def read(image: ScoredImage) -> Image:
    """Good images have grey level 100, defective ones 140."""
    return np.full((*SIZE, 3), 140 if image.gt_label else 100, np.uint8)


SETTING = RobustnessSetting(read, lambda image: image, brightness_of, SIZE, 0.005, "fake")


def test_light_breaks_what_judges_by_light() -> None:
    """Half of the images get brighter: false alarms begin where 100 grows over 120, and blur or position raise none."""
    images = [scored(i) for i in range(30)] + [scored(30 + i, bad=True) for i in range(10)]
    result = measure_robustness(SETTING, images, 0, Silent())
    changes = {change.name: change for change in result.changes}
    assert (result.n_good, result.n_defective) == (30, 10)
    assert result.unchanged.false_alarms.k == 0
    assert result.unchanged.found.k == 10
    broken = changes["gain"].broken_at(0.005)
    assert broken is not None
    assert broken.strength == 30
    assert {name for name, change in changes.items() if change.broken_at(0.005)} == {"gain", "gamma"}
    assert changes["gain"].points[4].found.k < 10


def test_colour_is_left_out_of_grey_images() -> None:
    """A change of colour is not made to images without colour, and the result says so; coloured images get it."""
    grey = measure_robustness(SETTING, [scored(0)], 0, Silent())
    assert "colour" not in {change.name for change in grey.changes}
    assert grey.left_out == ("Colour cast: the images have no colour.",)
    tint = np.array([1, 0, 0], np.uint8)
    coloured = measure_robustness(replace(SETTING, read=lambda image: read(image) + tint), [scored(0)], 0, Silent())
    assert "colour" in {change.name for change in coloured.changes}
    assert not coloured.left_out


def test_some_images_stand_for_all_and_the_time_is_said_first() -> None:
    """At most as many good and defective images as wanted, from all classes; those of the training never."""
    images = [scored(i, class_name="nut" if i < 40 else "bolt", bad=i % 2 == 1) for i in range(80)]
    images += [scored(100 + i, seen=True) for i in range(20)]
    asked: list[ScoredImage] = []

    def noted(image: ScoredImage) -> Image:
        asked.append(image)
        return read(image)

    notes = Notes()
    result = measure_robustness(replace(SETTING, read=noted), images, 6, notes)
    assert (result.n_good, result.n_defective) == (6, 6)
    assert {image.class_name for image in asked} == {"nut", "bolt"}
    assert not any(image.was_trained_on for image in asked)
    assert f"{12 * len(STEPS)} runs" in notes.texts[0]
    assert " s for" in notes.texts[0] or " min for" in notes.texts[0]


def test_it_repeats_and_does_not_depend_on_other_images() -> None:
    """The change of an image depends on its number alone: fewer images, or another run, give it the same scores."""
    kept: list[list[NDArray[np.uint8]]] = []
    for n_images in (0, 0, 1):
        batches: list[NDArray[np.uint8]] = []

        def score(
            batch: NDArray[np.uint8], name: str, to: list[NDArray[np.uint8]] = batches
        ) -> tuple[NDArray[np.float64], list[float]]:
            to.append(batch)
            return brightness_of(batch, name)

        measure_robustness(replace(SETTING, score=score), [scored(0), scored(1)], n_images, Silent())
        kept.append(batches)
    all_images, again, first = (np.concatenate(batches) for batches in kept)
    assert np.array_equal(all_images, again)
    assert np.array_equal(all_images[: len(first)], first)
    assert not np.array_equal(all_images[: len(first)], all_images[len(first) :])


def test_the_command_shows_writes_and_draws_robustness(
    tiny_result: TrainResult, tiny_data: Path, tmp_path: Path
) -> None:
    """Table, JSON and report have every change, at the rate that was asked for, beside the known results."""
    done = CliRunner().invoke(app, [
        "eval", str(tiny_result.bundle.path), "--data", str(tiny_data), "--engine", "reference", "--false-alarm-rate", "0.1",
        "--robustness", "--robustness-images", "2", "--report", str(tmp_path), "--json", str(tmp_path / "found.json"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Gamma" in done.stdout
    content = json.loads((tmp_path / "found.json").read_text())
    assert {"engine", "classes", "mean", "robustness"} <= content.keys()
    found = content["robustness"]
    assert (found["promise"], found["n_good"], found["n_defective"]) == (0.1, 2, 2)
    assert len(found["changes"]) == 11
    assert all(len(change["strengths"]) == 5 for change in found["changes"].values())
    assert 'id="robustness"' in (tmp_path / "report.html").read_text()


def test_robustness_needs_no_defects_and_is_not_measured_unasked(
    bundle_copy: object, tiny_result: TrainResult, tiny_data: Path
) -> None:
    """Good images alone give false alarms without AUROC, also through an engine of another precision; by default there is nothing."""
    assert callable(bundle_copy)
    bundle = bundle_copy()
    name = build_engine(bundle, "fp32", "auto", Silent()).name
    roles = FolderRoles(good=(tiny_data / "test" / "good",))
    with open_engine(bundle, name, threads=1) as runner:
        found = evaluate_bundle(
            bundle, runner, tiny_data, Silent(), false_alarm_rate=None, report=None, roles=roles, robustness_images=1
        ).robustness
        usual = evaluate_bundle(bundle, runner, tiny_data, Silent(), false_alarm_rate=None, report=None, roles=roles)
    assert found is not None
    assert (found.n_good, found.n_defective) == (1, 0)
    assert found.unchanged.image_auroc is None
    assert usual.robustness is None
    assert "robustness" not in usual.to_json()
