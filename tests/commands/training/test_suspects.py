"""Good images that look defective are found by the tail of the others, and rarely without cause."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgead.commands.train import train
from edgead.commands.training import suspects as suspects_module
from edgead.commands.training.suspects import MIN_IMAGES, SHEET, scores_by_share, suspected_defects, suspects_note
from edgead.data.dataset import Sample
from edgead.evaluation.threshold import threshold_from_scores
from edgead.models.scoring import ScoreHead
from tests.notes import Notes
from tests.tiny_run import tiny_config

SHARES = (0.0025, 0.005, 0.01, 0.02, 0.04)


def good_scores(tail: str, n: int, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    draws = {
        "normal": random.normal(size=n),
        "exponential": random.exponential(size=n),
        "gamma": random.gamma(3.0, size=n),
    }
    return draws[tail]


@pytest.mark.parametrize("tail", ["normal", "exponential", "gamma"])
def test_mislabelled_images_are_found(tail: str) -> None:
    """Of 400 images with 2 % defects far above the others, all eight are found, the highest first."""
    for seed in range(20):
        scores = good_scores(tail, 400, seed)
        defects = np.max(scores) + np.ptp(scores) * np.linspace(2.0, 3.0, 8)
        scores[100:108] = defects
        assert suspected_defects(scores)[:8] == [107, 106, 105, 104, 103, 102, 101, 100]


@pytest.mark.parametrize(("n", "rate", "slack"), [(40, 1 / 41, 1.2), (300, 0.005, 1.1)])
@pytest.mark.parametrize("tail", ["normal", "exponential", "gamma"])
def test_good_images_are_rarely_suspected(tail: str, n: int, rate: float, slack: float) -> None:
    """Without defects fewer than 0.08 images of a training are suspected, and the promise is kept on average."""
    found, rates = [], []
    later = good_scores(tail, 200_000, 1_000)
    for seed in range(200 if n > 100 else 600):
        scores = good_scores(tail, n, seed)
        suspects = suspected_defects(scores)
        found.append(len(suspects))
        rates.append(
            np.mean(
                later > threshold_from_scores(np.delete(scores, suspects), max(rate, 1 / (n - len(suspects) + 1))).value
            )
        )
    assert np.mean(found) < 0.08
    assert np.mean(rates) < slack * rate


def maps_of(n: int, seed: int) -> NDArray[np.float32]:
    """Maps `(n, 2, 20, 20)` of two tiles of good images; some images are higher than others all over."""
    random = np.random.default_rng(seed)
    level = random.gamma(3.0, size=(n, 1, 1, 1))
    return (0.3 * level + random.gamma(2.0, size=(n, 2, 20, 20))).astype(np.float32)


def test_several_shares_of_the_map_suspect_no_more_good_images() -> None:
    """The median over shares suspects as rarely as one share does."""
    found = [
        [len(suspected_defects(part)) for part in (scores, scores[:1])]
        for seed in range(200)
        for scores in (scores_by_share(maps_of(100, seed), SHARES),)
    ]
    assert np.mean([several for several, _ in found]) <= np.mean([one for _, one in found]) + 0.02
    assert np.mean([several for several, _ in found]) < 0.08


def test_a_defect_is_suspected_whatever_share_was_chosen() -> None:
    """A defect over 16 positions is overlooked by the highest value alone, and found by the median of the shares; a single odd
    position is left to the share that sees it.
    """
    maps = maps_of(200, 0)
    rows = np.arange(16)
    maps[5, 1, 3, rows] = maps.max()
    maps[9, 0, 2, 2] = 1.3 * maps.max()
    scores = scores_by_share(maps, SHARES)
    assert 5 not in suspected_defects(scores[0])
    assert suspected_defects(scores) == [5]


def test_scores_by_share_are_those_of_the_head() -> None:
    """The mean of the highest values of the map, the highest of an image's tiles."""
    maps = maps_of(7, 1)
    found = scores_by_share(maps, SHARES)
    for share, own in zip(SHARES, found, strict=True):
        head = ScoreHead([(20, 20)], [1.0], share)
        expected = head.pooled(torch.from_numpy(maps).flatten(0, 1)).reshape(7, 2).amax(dim=1)
        np.testing.assert_allclose(own, expected.numpy(), rtol=1e-6)


def test_few_or_constant_scores_are_never_suspected() -> None:
    """Fewer than 40 images tell too little about their tail, and equal scores have none."""
    scores = good_scores("normal", MIN_IMAGES, 0)
    scores[7] = 1e3
    assert suspected_defects(scores) == [7]
    assert suspected_defects(scores[:-1]) == []
    assert suspected_defects(np.ones(200)) == []


def test_the_note_says_what_suspects_cost() -> None:
    """The warning names the worst five, and the rate that holds if all of them are good parts."""
    scores = [float(score) for score in range(1, 200)] + [1e3 + number for number in range(6)]
    samples = [Sample(Path(f"{i}.png"), f"{i}.png", "part") for i in range(len(scores))]
    text = suspects_note(samples, scores, [204, 203, 202, 201, 200, 199], 0.005, Path("run") / SHEET)
    assert "6 of 205 good images look defective" in text
    assert "204.png (1e+03)" in text
    assert "and 1 more" in text
    # the threshold is the highest kept score, and six more lie above it
    assert f"{7 / 206:.2%} of good parts will raise alarms instead of 0.50%" in text
    assert str(Path("run") / SHEET) in text


def test_a_training_leaves_suspects_out(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect among the good images is named, drawn, and neither fitted nor behind the threshold."""
    monkeypatch.setattr(suspects_module, "MIN_IMAGES", 30)
    data = tmp_path / "parts"
    (data / "good").mkdir(parents=True)
    for path in sorted((tiny_data / "train" / "good").glob("*.png")):
        image = cv2.imread(str(path))
        assert image is not None
        if path.stem == "007":
            cv2.rectangle(image, (20, 30), (90, 100), (255, 0, 255), -1)
        cv2.imwrite(str(data / "good" / path.name), image)
    config = tiny_config(
        data, model__couplings="never", train__forms=["positions"], train__shrinkage=[0.5], train__pseudo_defects=1
    )
    notes = Notes()
    result = train(config, notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    images, record = result.bundle.manifest.provenance.n_images, result.bundle.thresholds()
    assert images["fit"] == images["threshold"] == len(record.scores) == len(list((data / "good").iterdir())) - 1
    (warning,) = [text for text in notes.texts if "look defective" in text]
    found = re.search(r"007\.png \((.*?)\)", warning)
    assert found is not None
    assert float(found[1]) > 2.0 * max(record.scores)
    assert (result.run / SHEET).exists()
