"""Marks of a model of several classes: each class has a rule, wherever images are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_writer import write_bundle
from edgead.commands.bundle import bundle_facts, first_facts
from edgead.commands.scored_images import ImageScorer
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.contexts import OwnsNothing
from edgead.evaluation.marking import hysteresis_at, marking_at
from edgead.evaluation.threshold import at_rate
from edgead.line.cameras import make_camera
from edgead.manifest import POOLED, Manifest, MaskRule
from edgead.model import Model
from edgead.runner import Outputs, TensorSpec

from .stream.fakes import ListSource
from .tiny import SIDE, make_files, make_manifest, make_thresholds

CLASSES = ("dark", "light")
POOLED_RULE = MaskRule(extent=0.6, seed=0.6)
RULES = {"dark": MaskRule(extent=0.9, seed=0.9), "light": MaskRule(extent=0.3, seed=0.3)}
# the thresholds of scores are all 1, the values of ordinary positions 0.5, 0.5 and 0.2
THRESHOLDS = {POOLED: make_thresholds(1.0, 2.0), "dark": make_thresholds(1.0, 2.0), "light": make_thresholds(1.0, 0.8)}
# levels: 0.95 for dark, 0.44 for light, 0.8 for both together
ANOMALY_MAP = np.array([[3.0, 0.9, 0.6, 0.0]] + 3 * [4 * [0.0]], np.float32)
N_DARK, N_LIGHT, N_POOLED = 1, 3, 2
IMAGES = np.stack([np.full((SIDE, SIDE, 3), value, np.uint8) for value in (20, 220)])


class ClassRunner(OwnsNothing):
    """Runner that takes a bright image for `light`, and shows the same defect on all of them."""

    engine_name = "fake-fp32"
    device = "cpu"
    input_spec = TensorSpec("image", (None, SIDE, SIDE, 3), "uint8")
    output_specs = (TensorSpec("anomaly_map", (None, 4, 4), "float32"), TensorSpec("pred_score", (None,), "float32"))

    def __init__(self, *, tells_class: bool = True) -> None:
        self.tells_class = tells_class

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        n = len(batch)
        outputs = {"anomaly_map": np.stack([ANOMALY_MAP] * n), "pred_score": np.full(n, 3.0, np.float32)}
        if self.tells_class:
            is_light = batch.mean(axis=(1, 2, 3)) > 128
            outputs["class_score"] = np.stack([-1.0 * is_light, is_light - 1.0], axis=1).astype(np.float32)
        return outputs


def manifest_with(rules: dict[str, MaskRule], *, pooled: MaskRule | None = POOLED_RULE) -> Manifest:
    manifest = make_manifest()
    update = {
        "classes": CLASSES, "thresholds": THRESHOLDS, "mask_rule": pooled, "class_mask_rules": rules,
        "graph": manifest.graph.model_copy(update={"class_bias": "class_bias"}),
    }  # fmt: skip
    return manifest.model_copy(update=update)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle", manifest_with(RULES), make_files(tmp_path / "sources"))


def test_the_bundle_keeps_the_rules(bundle: Bundle) -> None:
    """They are read as they were written, and a person can read them; a bundle without them has no such key."""
    assert open_bundle(bundle.path).manifest.class_mask_rules == RULES
    assert "class_mask_rules" not in manifest_with({}).model_dump(mode="json")


def test_a_person_can_read_the_rules(bundle: Bundle) -> None:
    """One line for each class, and one for all of them together; a bundle of one rule has one line."""
    facts = dict(bundle_facts(bundle.path))
    shares = {
        name: text.split("above ")[1].split(" of")[0] for name, text in facts.items() if name.startswith("region")
    }
    assert shares == {"regions all": "60%", "regions dark": "90%", "regions light": "30%"}
    thresholds = [name for name, _ in first_facts(bundle_facts(bundle.path)) if name.startswith("threshold")]
    assert thresholds == ["threshold all", "threshold dark", "threshold light"]


@pytest.mark.parametrize(
    ("rules", "pooled"), [({"bolt": POOLED_RULE}, POOLED_RULE), ({POOLED: POOLED_RULE}, POOLED_RULE), (RULES, None)]
)
def test_rules_that_do_not_fit_are_refused(rules: dict[str, MaskRule], pooled: MaskRule | None) -> None:
    """A rule of no class of the bundle, or of classes without one for all, is damage."""
    with pytest.raises(ValueError, match="class_mask_rules, beside mask_rule, must be of dark, light"):
        Manifest.model_validate(manifest_with(rules, pooled=pooled).model_dump())


@pytest.mark.parametrize("rate", [None, 0.05])
def test_an_unknown_class_has_the_rule_that_it_would_have_if_it_were_given(rate: float | None) -> None:
    """Levels of the predicted class lie between its own ordinary value and the threshold that judges the image."""
    manifest = manifest_with(RULES)
    thresholds = {name: one if rate is None else at_rate(one, rate) for name, one in THRESHOLDS.items()}
    unknown = marking_at(manifest, thresholds[POOLED], None)
    for index, name in enumerate(CLASSES):
        given = marking_at(manifest, thresholds[name], name)
        assert given.rule == hysteresis_at(RULES[name], thresholds[name].heatmap_low, thresholds[name].threshold.value)
        found = unknown.of_image(ClassRunner().infer(IMAGES), index)
        assert (found.rule, found.level, found.scale) == (given.rule, given.level, unknown.scale)


def test_the_rule_of_a_predicted_class_moves_with_the_threshold_of_a_zone() -> None:
    """A threshold chosen by hand moves the levels as far as it moves those of a given class."""
    by_hand = THRESHOLDS[POOLED].threshold.model_copy(update={"value": 2.0})
    unknown = marking_at(manifest_with(RULES), THRESHOLDS[POOLED], None, threshold=by_hand)
    assert unknown.of_image(ClassRunner().infer(IMAGES), 1).level == pytest.approx(0.2 + 0.3 * 1.8)


def test_without_a_class_from_anyone_the_rule_is_that_of_all() -> None:
    """A graph that does not tell the class leaves the rule that was chosen on all classes together."""
    unknown = marking_at(manifest_with(RULES), THRESHOLDS[POOLED], None)
    found = unknown.of_image(ClassRunner(tells_class=False).infer(IMAGES), 1)
    assert found.rule == hysteresis_at(POOLED_RULE, 0.5, 1.0)


@pytest.mark.parametrize("rules", [{}, {"light": RULES["light"]}])
def test_a_class_without_a_rule_of_its_own_keeps_that_of_all(rules: dict[str, MaskRule]) -> None:
    """Bundles of before have one rule, also for the classes that they had before another one was added."""
    manifest, outputs = manifest_with(rules), ClassRunner().infer(IMAGES)
    one_rule = hysteresis_at(POOLED_RULE, 0.5, 1.0)
    assert marking_at(manifest, THRESHOLDS["dark"], "dark").rule == one_rule
    unknown = marking_at(manifest, THRESHOLDS[POOLED], None)
    assert unknown.of_image(outputs, 0).rule == one_rule
    own = hysteresis_at(RULES["light"], 0.2, 1.0)
    assert unknown.of_image(outputs, 1).rule == (own if "light" in rules else one_rule)


@pytest.mark.parametrize(
    ("class_name", "marked"), [(None, [N_DARK, N_LIGHT]), ("dark", 2 * [N_DARK]), ("light", 2 * [N_LIGHT])]
)
def test_a_prediction_has_the_marks_of_its_class(bundle: Bundle, class_name: str | None, marked: list[int]) -> None:
    """Images of one batch have the marks of the class that was given, or else of that which each is taken for."""
    results = Model(bundle, ClassRunner()).predict(list(IMAGES), class_name=class_name)
    assert [int(result.prediction.pred_mask.sum()) for result in results] == marked
    levels = {N_DARK: 0.95, N_LIGHT: 0.44}
    assert [result.prediction.pixel_threshold for result in results] == pytest.approx([levels[n] for n in marked])


@pytest.mark.parametrize(
    ("mode", "marked"),
    [("none", [N_DARK, N_LIGHT]), ("predicted", [N_DARK, N_LIGHT]), ("given", 2 * [N_LIGHT]), (None, 2 * [N_LIGHT])],
)
def test_evaluation_marks_by_class(
    bundle: Bundle, mode: Literal["none", "predicted", "given"] | None, marked: list[int]
) -> None:
    """The class is that of the mode: predicted, or the folder's, where `given` and a graph without class input have it from."""
    manifest = bundle.manifest
    markings = {name: marking_at(manifest, one, None if name == POOLED else name) for name, one in THRESHOLDS.items()}
    scorer = ImageScorer(bundle, ClassRunner(tells_class=mode is not None), mode, THRESHOLDS, markings)
    outputs, names = scorer.score(IMAGES, ["light", "light"])
    assert [int(scorer.segmentation(outputs, i, name).mask.sum()) for i, name in enumerate(names)] == marked


@pytest.mark.parametrize(
    ("class_name", "marked"), [(None, [N_DARK, N_LIGHT, N_DARK]), ("dark", 3 * [N_DARK]), ("light", 3 * [N_LIGHT])]
)
def test_a_stream_marks_each_frame_by_its_class(bundle: Bundle, class_name: str | None, marked: list[int]) -> None:
    """Without a class every frame has the rule of its own, also after a frame of another class."""
    runner = ClassRunner()
    config = CameraConfig.model_validate({"name": "line", "source": "camera:0", "class": class_name})
    camera = make_camera(config, ListSource([]), bundle, runner, Config())
    outputs = runner.infer(IMAGES[[0, 1, 0]], camera.class_bias)
    found = [camera.judge(outputs, i, frame_index=i, time_s=float(i))[0] for i in range(3)]
    assert [int(prediction.pred_mask.sum()) for prediction in found] == marked
