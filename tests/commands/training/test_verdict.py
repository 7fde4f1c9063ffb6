"""The verdict of a training: each weakness is told by its own numbers, with the command that helps."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgead.commands.dataset import add_pictures, take_snapshot
from edgead.commands.training.defect_sizes import DefectSizes
from edgead.commands.training.verdict import (
    _OPTIONS,
    _REPEATED,
    Finding,
    Verdict,
    commands_of,
    of_copies,
    of_far_motion,
    of_high_scores,
    of_images,
    of_motion,
    of_power,
    of_sizes,
    option_words,
)
from edgead.config.file import load_config, parse_override
from edgead.data.pose_reference import PoseReference
from edgead.evaluation.threshold import class_thresholds
from edgead.manifest import ClassThresholds
from edgead.pose import Pose, PoseRange

COMMAND = "edgead train data"


def thresholds(n: int, rate: float, highest: float = 1.0) -> ClassThresholds:
    """Thresholds of n evenly spread scores from 0 to 1, of which the three highest are `highest`."""
    scores = np.linspace(0.0, 1.0, n)
    scores[-3:] = highest
    return class_thresholds(scores, scores, 0.1, rate)


@pytest.mark.parametrize(
    ("n", "rate", "grade"),
    [(199, 0.005, None), (600, 0.002, None), (60, 0.0164, "fair"), (30, 0.033, "weak"), (300, 0.02, None)],
)
def test_few_images(n: int, rate: float, grade: str | None) -> None:
    """Images are few if they do not certify the usual rate, unless a higher one was asked for; the number lacking is told."""
    found = of_images(thresholds(n, rate), COMMAND)
    assert (found and found.grade) == grade
    assert found is None or (f"Add {199 - n} good images" in found.advice and found.advice.endswith(COMMAND))


def test_advice_after_training_on_a_data_set_names_the_data_set(tmp_path: Path) -> None:
    """Files added to the folder of a snapshot would damage it."""
    dataset, pictures = tmp_path / "my set", tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64)).save(pictures / "one.png")
    add_pictures(dataset, pictures, verdict="good")
    command, add = commands_of(take_snapshot(dataset).root)
    found = of_images(thresholds(30, 0.033), command, add)
    assert found is not None
    assert found.advice.endswith(
        f"with: edgead dataset add '{dataset}' FOLDER --as good; then train again: edgead train --from-dataset '{dataset}'"
    )
    assert commands_of(pictures) == (f"edgead train {pictures}", "")


def test_advice_keeps_the_settings_of_the_training(tmp_path: Path) -> None:
    """A command to train again gives the same settings: what its options and --set parse to is what was given."""
    (tmp_path / "line.yaml").write_text("train: {seed: 3}", encoding="utf-8")
    given = {
        "data.root": "parts", "data.exclude": ["a b.png", "c.png"], "model.backbone": "vit_tiny_patch16_224",
        "model.weights": "my weights.pth", "model.levels": ["16@6", "16@9"], "model.image_size": 128, "train.variation": None,
    }  # fmt: skip
    config = load_config(tmp_path / "line.yaml", given)
    words = shlex.split(" ".join(option_words(config.origin)))
    assert words[:2] == ["--config", str(tmp_path / "line.yaml")]
    pairs = list(zip(words[2::2], words[3::2], strict=True))
    assert [value for name, value in pairs if name == "--exclude"] == ["a b.png", "c.png"]
    assert ("--backbone", "vit_tiny_patch16_224") in pairs
    assert ("--weights", "my weights.pth") in pairs
    assert ("--image-size", "128") in pairs
    assert dict(parse_override(value) for name, value in pairs if name == "--set") == {
        "model.levels": ["16@6", "16@9"],
        "train.variation": None,
    }


def test_the_words_of_the_advice_are_options_of_train() -> None:
    """Every option that advice may name is one that `edgead train` has."""
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    section = page.partition("## `edgead train`")[2].partition("\n## ")[0]
    assert all(f"`{option} " in section for option in (*_OPTIONS.values(), *_REPEATED.values()))


def test_high_good_scores() -> None:
    """Three good images that raise the threshold by a quarter are named; evenly spread ones are not."""
    names = [f"{index}.png" for index in range(199)]
    found = of_high_scores(thresholds(199, 0.005, highest=3.0), names, Path("runs/1"), COMMAND)
    assert found is not None
    assert found.advice.endswith("edgead train data --exclude 196.png --exclude 197.png --exclude 198.png")
    assert "runs/1/bundle/threshold-images.jpg" in found.advice
    assert of_high_scores(thresholds(199, 0.005), names, Path("runs/1"), COMMAND) is None


def test_near_copies() -> None:
    """A fifth of repeated images counts; fewer do not."""
    assert of_copies(20, 80) is not None
    assert of_copies(19, 81) is None


def test_parts_that_move() -> None:
    """Places that find clearly less than features without a place point at motion, unless parts are aligned already."""
    choices = [
        {"form": "positions", "power": 0.4},
        {"form": "positions", "power": 0.5},
        {"form": "centres", "power": 0.7},
    ]
    found = of_motion(choices, "off", COMMAND)
    assert found is not None
    assert found.advice.endswith("--align auto")
    assert of_motion(choices, "on", COMMAND) is None
    assert of_motion([*choices, {"form": "positions", "power": 0.65}], "off", COMMAND) is None
    assert of_motion(choices[:2], "off", COMMAND) is None


def test_parts_that_turn_and_shift_far() -> None:
    """Motion that alignment would take away is a weak verdict, with how far parts moved and the option."""
    search = PoseRange(20.0, 0.1, 0.08)
    poses = tuple(
        Pose(np.asarray(cv2.getRotationMatrix2D((50.0, 50.0), -angle, 1.0), np.float64), (101, 101), 0.9)
        for angle in (-14.0, 12.0)
    )
    motion = PoseReference(np.zeros((8, 8), np.uint8), search, 0.9, 0.4, 1.0, 0.98, 0.48, poses)
    found = of_far_motion(motion, COMMAND)
    assert found.grade == "weak"
    assert "turned by -14.0 to 12.0 degrees" in found.what
    assert "by 0.98 when aligned, 0.48 as they are" in found.what
    assert found.advice == f"Align the parts: {COMMAND} --align auto"


def test_small_defects() -> None:
    """Missed small defects lead to tiles where the images have the pixels, and to a weak verdict where no size is found."""

    def sizes(frame: int, **found: float) -> DefectSizes:
        shares = {int(key[1:]): share for key, share in found.items()}
        return DefectSizes(shares, 24, (frame, frame), (frame, frame), (320, 320), (1, 1))

    tiled = of_sizes(sizes(640, _4=0.1, _8=0.5, _16=0.9, _32=1.0), COMMAND)
    assert tiled is not None
    assert (tiled.grade, tiled.advice[-len("train data --tiles 2x2") :]) == ("fair", "train data --tiles 2x2")
    nothing = of_sizes(sizes(300, _4=0.0, _8=0.1, _16=0.2, _32=0.3), COMMAND)
    assert nothing is not None
    assert (nothing.grade, nothing.advice) == ("weak", "")
    assert of_sizes(sizes(640, _4=0.9, _8=0.9), COMMAND) is None


def test_power_and_the_lines() -> None:
    """Few artificial defects found make a training weak; the lines give verdict, weaknesses and at most two pieces of advice."""
    weak = of_power(0.3, has_reason=True)
    assert weak is not None
    assert (weak.grade, weak.advice) == ("weak", "")
    assert of_power(0.3, has_reason=False).advice.startswith("See what a lower threshold finds")  # type: ignore[union-attr]
    assert of_power(0.9, has_reason=False) is None
    verdict = Verdict("weak", 0.3, (weak, *(Finding("fair", f"thing {i}", f"Do {i}.") for i in range(3))))
    assert verdict.lines() == [
        "Verdict: weak. 30% of the artificial defects are found.",
        "  - artificial defects: 70% are missed",
        "  - thing 0",
        "  - thing 1",
        "  - thing 2",
        "What would help most:",
        "  1. Do 0.",
        "  2. Do 1.",
    ]
    assert Verdict("good", 0.9, ()).lines() == ["Verdict: good. 90% of the artificial defects are found."]
