"""Choice of a rule of the marks for each class of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.commands.training.data import TrainingData
from edgead.commands.training.mask_rule import MaskRules, fit_mask_rules
from edgead.data.dataset import Sample
from edgead.data.split import Split
from edgead.manifest import POOLED, ClassThresholds, Manifest, MaskRule
from edgead.runner import FakeRunner, Outputs

from ...tiny import make_manifest, make_thresholds
from .test_closed_form import Notes

# thresholds of 5 over ordinary positions of 1
ORDINARY, THRESHOLD = 1.0, 5.0
EXTENTS = {"a": 0.9, "b": 0.3}
COUNT = 24


@dataclass
class Images:
    """Stands in for the images of a training: defects whose masks are above the level of their class, and no files.

    Attributes:
        classes: Classes of the model.
        new: Classes of the images.
    """

    classes: tuple[str, ...]
    new: tuple[str, ...]
    known: None = None
    n_tiles: int = 1

    @property
    def split(self) -> Split:
        samples = tuple(Sample(Path(f"{i}"), f"{i}", name) for name in self.new for i in range(COUNT))
        return Split(fit=samples, early_stop=(), threshold=samples)

    def read_pseudo_masked(
        self, sample: Sample, donor: Sample, key: tuple[int, ...], size_range: tuple[float, float]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        seed = int(sample.name)
        full = cv2.resize(map_of(seed), (80, 80), interpolation=cv2.INTER_LINEAR)
        level = ORDINARY + EXTENTS[sample.class_name] * (THRESHOLD - ORDINARY)
        image = np.array([[[seed, "ab".index(sample.class_name), "ab".index(donor.class_name)]]], np.uint8)
        return image, np.asarray(full > level, np.bool_)


def map_of(seed: int) -> NDArray[np.float32]:
    """Map `(20, 20)` of a defect somewhere."""
    y, x = np.random.default_rng(seed).integers(4, 16, 2)
    distance = np.hypot(*(np.mgrid[:20, :20] - np.array([y, x])[:, None, None]))
    return np.asarray(0.5 + 9.0 * np.exp(-((distance / 4.0) ** 2)), np.float32)


class Told(FakeRunner):
    """Runner that notes the class it was told, of which class the image was, and of which its donor."""

    def __init__(self, classes: str) -> None:
        super().__init__()
        self.classes = classes
        self.told: list[tuple[str | None, str, str]] = []

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        seed, own, donated = (int(value) for value in batch[0, 0, 0])
        told = None if class_bias is None else self.classes[int(class_bias[0].argmax())]
        self.told.append((told, "ab"[own], "ab"[donated]))
        return {"anomaly_map": map_of(seed)[None], "pred_score": np.array([6.0], np.float32)}


def thresholds_of(names: tuple[str, ...]) -> dict[str, ClassThresholds]:
    return {name: make_thresholds(THRESHOLD, 4.0 * ORDINARY) for name in (POOLED, *names)}


def fit(
    classes: tuple[str, ...], runner: Told, *, base: Manifest | None = None, knows_classes: bool = True
) -> tuple[MaskRules | None, list[str]]:
    """Rules of the classes that `base` does not have, and the notes."""
    notes, before = Notes(), () if base is None else base.classes
    data = cast("TrainingData", Images(classes, tuple(name for name in classes if name not in before)))
    thresholds = thresholds_of(classes)
    return fit_mask_rules(runner, data, thresholds, notes, knows_classes=knows_classes, base=base), notes.texts


def test_each_class_gets_the_rule_that_it_would_have_alone() -> None:
    """Where the masks of classes lie at other levels, one rule suits the class with the larger ones, and their own ones both."""
    rules, notes = fit(("a", "b"), runner := Told("ab"))
    assert rules is not None
    alone = {name: fit((name,), Told(name))[0] for name in "ab"}
    for name, extent in EXTENTS.items():
        assert rules.by_class[name].extent == pytest.approx(extent, abs=0.051)
        one = alone[name]
        assert one is not None
        assert (one.pooled, one.by_class) == (rules.by_class[name], {})
    assert rules.pooled != rules.by_class["a"]
    told = [told for told in runner.told if told[0] is not None]
    assert set(told) == {("a", "a", "a"), ("b", "b", "b")}
    assert len(told) == 2 * COUNT
    assert [note for note in notes if "a share (a 90%, b 30%) of the way" in note and "of each class" in note]


def test_a_graph_without_class_input_is_told_nothing() -> None:
    """A model that does not know classes has a rule for each all the same."""
    rules, _ = fit(("a", "b"), runner := Told("ab"), knows_classes=False)
    assert rules is not None
    assert rules.by_class["a"].extent > rules.by_class["b"].extent
    assert {told for told, *_ in runner.told} == {None}


BASE_RULE, RULE_OF_A = MaskRule(extent=0.5, seed=0.7), MaskRule(extent=0.4, seed=2.0)


@pytest.mark.parametrize(
    ("own", "kept"),
    [({"a": RULE_OF_A, "c": BASE_RULE}, {"a": RULE_OF_A, "c": BASE_RULE}), ({}, {})],
    ids=["rules", "one rule"],
)
def test_an_added_class_leaves_the_rules_of_the_others(own: dict[str, MaskRule], kept: dict[str, MaskRule]) -> None:
    """The new class is judged alone; the rule of all, and those of the classes before, stay as they are."""
    base = make_manifest().model_copy(update={"classes": ("a", "c"), "mask_rule": BASE_RULE, "class_mask_rules": own})
    rules, _ = fit(("a", "c", "b"), runner := Told("acb"), base=base)
    assert rules is not None
    assert rules.pooled == BASE_RULE
    assert dict(rules.by_class) == {**kept, "b": rules.by_class["b"]}
    assert rules.by_class["b"].extent == pytest.approx(EXTENTS["b"], abs=0.051)
    assert set(runner.told) == {("b", "b", "b")}


def test_the_rule_of_a_single_class_stays_with_it_when_another_is_added() -> None:
    """The one rule of a model of one class is that of the class; a bundle without any stays without."""
    base = make_manifest().model_copy(update={"classes": ("a",), "mask_rule": BASE_RULE})
    rules, _ = fit(("a", "b"), Told("ab"), base=base)
    assert rules is not None
    assert (rules.pooled, rules.by_class["a"]) == (BASE_RULE, BASE_RULE)
    assert fit(("a", "b"), Told("ab"), base=base.model_copy(update={"mask_rule": None}))[0] is None
