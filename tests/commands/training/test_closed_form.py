"""Closed-form training: every good image fits the model and sets the threshold."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from edgead.builder.lower_precision import LowerOptions
from edgead.builder.thresholds import carried_thresholds
from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import THRESHOLD_IMAGES
from edgead.commands.build_engine import EngineOptions, build_engine
from edgead.commands.train import TrainResult, train
from edgead.commands.training import form_search
from edgead.commands.training.best_form import BestForm
from edgead.commands.training.bundle_writing import GRAPH_TASK, PARITY_TASK
from edgead.commands.training.closed_form import CHOICES, CHOICES_CHART, native_side
from edgead.commands.training.form_choice import (
    Choice,
    best_choice,
    best_fraction,
    power,
    rates_to_judge,
)
from edgead.commands.training.groups import _join, _join_by_name, _root, image_groups, warn_of_twins
from edgead.commands.training.variation_choice import WEIGHTS
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.engines.opening import open_engine
from edgead.errors import BundleError, ConfigError
from edgead.evaluation.threshold import class_thresholds
from edgead.manifest import POOLED
from edgead.models.level import Level, LevelSpec
from edgead.models.zoo import load_model
from edgead.progress import Silent
from edgead.runner import REFERENCE
from edgead.train.features import FeatureStore

from ...resealing import rewrite
from ...tiny_run import SIDE, tiny_config

if TYPE_CHECKING:
    from edgead.models.detector import Detector


class Notes(Silent):
    """Progress that keeps its notes and steps."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        self.steps.append((task, done, total))


def settings(data: Path, **overrides: object) -> Config:
    chosen: dict[str, object] = {
        "model__couplings": "never",
        "train__centres": 24,
        "train__pseudo_defects": 1,
        "train__forms": ["positions", "centres"],
        "train__top_fractions": [0.02, 0.1],
        "train__shrinkage": [0.05, 0.5],
        "train__variation": None,
    }
    return tiny_config(data, **(chosen | overrides))


@pytest.fixture(scope="module")
def recorded(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Notes]:
    runs = tmp_path_factory.mktemp("closed-form")
    notes = Notes()
    return train(settings(tiny_data), notes, out=runs / "run", runs=runs, resume=False), notes


@pytest.fixture(scope="module")
def trained(recorded: tuple[TrainResult, Notes]) -> tuple[TrainResult, list[str]]:
    return recorded[0], recorded[1].texts


@pytest.fixture(scope="module")
def bundle(trained: tuple[TrainResult, list[str]]) -> Bundle:
    return trained[0].bundle


def test_every_fit_shows_a_bar_before_it_begins(recorded: tuple[TrainResult, Notes]) -> None:
    """Fits, centres, graph and comparison are announced at 0, and ended."""
    steps = recorded[1].steps
    announced = {task for task, done, _ in steps if done == 0}
    assert announced >= {f"Fits at {SIDE} px", f"Centres at {SIDE} px", GRAPH_TASK, PARITY_TASK}
    last = {task: done == total for task, done, total in steps}
    assert all(last.values()), last
    assert steps.index((f"Fits at {SIDE} px", 0, 2)) < steps.index((f"Fits at {SIDE} px", 1, 2))


def test_every_good_image_sets_the_threshold(trained: tuple[TrainResult, list[str]], tiny_data: Path) -> None:
    """All good images are fitted and all of them are behind the threshold; nothing is trained in steps."""
    result = trained[0]
    n = len(list((tiny_data / "train" / "good").glob("*.png")))
    provenance = result.bundle.manifest.provenance
    assert provenance.n_images["fit"] == provenance.n_images["threshold"] == n
    assert provenance.n_images["early_stop"] == 0
    assert len(result.bundle.thresholds().scores) == n
    assert result.state.epoch == 0


def test_few_images_promise_the_smallest_rate_that_they_certify(trained: tuple[TrainResult, list[str]]) -> None:
    """With 40 images the default rate is 1/41, certified, and the threshold is the highest left-out score; a note says so."""
    result, notes = trained
    threshold = result.bundle.thresholds().threshold
    assert threshold.certified
    assert threshold.false_alarm_rate == pytest.approx(1 / 41, abs=1e-4)
    assert threshold.value == max(result.bundle.thresholds().scores)
    assert any("40 good images certify a false-alarm rate of 2.44%" in note for note in notes)
    assert result.verdict is not None
    assert result.verdict.grade == "weak"
    assert any("Add 159 good images" in finding.advice for finding in result.verdict.findings)


@pytest.mark.slow
def test_a_rate_that_was_asked_for_is_kept(tiny_data: Path, tmp_path: Path) -> None:
    """0.5 % with 40 images is extrapolated from the left-out scores, as before."""
    config = settings(tiny_data, train__false_alarm_rate=0.005, train__forms=["centres"])
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    threshold = result.bundle.thresholds().threshold
    assert (threshold.false_alarm_rate, threshold.certified) == (0.005, False)
    assert threshold.value >= max(result.bundle.thresholds().scores)


def test_choices_are_recorded(trained: tuple[TrainResult, list[str]]) -> None:
    """Every form that was tried is in the run's folder and in a note, and the bundle has the best of them."""
    result, notes = trained
    found = json.loads((result.run / CHOICES).read_text())
    (kept,) = [one for one in found if one["chosen"]]
    choices = [Choice(**{key: value for key, value in one.items() if key != "chosen"}) for one in found]
    assert (result.run / CHOICES_CHART).read_text().startswith("<svg")
    forms = [choice for choice in choices if not choice.variation]
    assert Counter(choice.form for choice in forms) == {"positions": 2, "centres": 1}
    assert all(any(choice.describe() in note for note in notes) for choice in forms)
    best = best_choice(forms)
    model = result.bundle.manifest.provenance.config["model"]
    assert model["top_fraction"] == best.top_fraction
    assert (model["centres"] > 0) == (best.form == "centres")
    # changes of light are learned at the largest weight that is worth it
    varied = choices[len(forms) :]
    assert [choice.variation for choice in varied] == list(WEIGHTS[: len(varied)])
    assert all(
        replace(choice, variation=0.0, power=best.power, varied_alarms=None) == best
        and choice.varied_alarms is not None
        for choice in varied
    )
    assert kept["variation"] == 0.0 or kept["variation"] in [choice.variation for choice in varied]
    assert result.bundle.manifest.provenance.metrics["pseudo_defect_power"] == kept["power"]
    # zones average over as many map values as the whole image
    height, width = result.bundle.manifest.graph.map_size
    assert result.bundle.manifest.graph.top_positions == max(1, round(best.top_fraction * height * width))


@settings_of(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=6))
def test_the_best_form_is_found_without_fitting_those_that_cannot_win(drawn: list[tuple[int, int]]) -> None:
    """The form kept finds most by fits on other images, and none is fitted whose fast scores find no more than it does."""
    by_others = [min(pair) / 20 for pair in drawn]
    forms = [
        SimpleNamespace(choice=Choice(320, "centres", None, 0.01, max(pair) / 20, float(number)))
        for number, pair in enumerate(drawn)
    ]
    fitted: list[int] = []

    def fit(form: SimpleNamespace, _shares: object) -> SimpleNamespace:
        number = int(form.choice.milliseconds)
        fitted.append(number)
        return SimpleNamespace(choice=replace(form.choice, power=by_others[number]))

    search = object.__new__(form_search.FormSearch)
    search.best, search.unsettled = cast(BestForm, forms[0]), cast(list[BestForm], list(forms))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_by_others", fit)
        patch.setattr(search, "_with_variations", lambda form, _basis: form)
        patch.setattr(search, "_fractions", lambda _model: ())
        for form in forms:
            form.model = None
        search.settle()
    assert search.best.choice.power == max(by_others)
    kept = [max(by_others[one] for one in fitted[:place]) for place in range(1, len(fitted))]
    assert all(forms[number].choice.power > best for number, best in zip(fitted[1:], kept, strict=True))


def test_corrections_turn_scores_into_left_out_ones(bundle: Bundle) -> None:
    """The graph's scores of the stored good images plus their corrections are the left-out scores behind the threshold."""
    held_out, corrections = bundle.held_out(), bundle.held_out_corrections()
    assert held_out is not None
    assert corrections is not None
    with open_engine(bundle, REFERENCE, threads=1) as runner:
        outputs = runner.infer(held_out[0])
    scores = outputs["pred_score"] + corrections[1]
    stored = np.array(bundle.thresholds().scores)
    np.testing.assert_allclose(np.sort(scores), np.sort(stored), rtol=5e-3, atol=5e-3)
    maxima = (outputs["anomaly_map"] + corrections[0]).max(axis=(1, 2))
    np.testing.assert_allclose(np.sort(maxima), np.sort(bundle.thresholds().map_maxima), rtol=2e-2, atol=2e-2)
    # without them the images that the model has seen would set a threshold that is too low
    assert float(corrections[1].mean()) > 0.0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["positions", "centres"])
def test_both_forms_deploy(form: str, tiny_data: Path, tmp_path: Path) -> None:
    """Torch, folded torch and ONNX agree, the bundle loads in torch, and INT8 has thresholds of its own."""
    config = settings(tiny_data, train__forms=[form], train__shrinkage=[0.2])
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    parity = result.bundle.manifest.parity
    assert max(parity.scores, parity.peaks) < 1e-4
    model = load_model(result.bundle)
    assert (model.levels[0].centres is not None) == (form == "centres")
    options = EngineOptions(LowerOptions(max_drop=0.5))
    record = build_engine(result.bundle, "int8", "onnxruntime", Silent(), options).record
    assert record.lower is not None
    own, before = record.lower.thresholds[POOLED], result.bundle.thresholds()
    assert len(own.scores) == len(before.scores)
    assert own.threshold.value == pytest.approx(before.threshold.value, rel=0.3)
    assert own.threshold.value != before.threshold.value


@pytest.mark.slow
def test_the_composition_of_an_image_is_judged_in_every_form_of_the_model(tiny_data: Path, tmp_path: Path) -> None:
    """Torch and graph agree, the left-out offsets are behind the threshold, and the engine's scores with corrections too."""
    config = settings(tiny_data, train__forms=["centres"], train__variation=0.0, model__composition="8")
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    parity = result.bundle.manifest.parity
    assert max(parity.scores, parity.peaks) < 1e-4
    composition = load_model(result.bundle).composition
    assert composition is not None
    assert float(composition.get_buffer("gain")) > 0.0
    plain = settings(tiny_data, train__forms=["centres"], train__variation=0.0)
    before = train(plain, Silent(), out=tmp_path / "plain", runs=tmp_path, resume=False).bundle.thresholds().scores
    raised = np.array(result.bundle.thresholds().scores) - np.array(before)
    assert raised.min() == pytest.approx(0.0, abs=1e-4)
    # the half of the 40 good images with the rarer composition
    assert 18 <= (raised > 1e-6).sum() <= 22
    test_corrections_turn_scores_into_left_out_ones(result.bundle)


def test_a_composition_is_of_whole_images_and_one_class(tiny_data: Path, tmp_path: Path) -> None:
    """Tiles, several classes and trained couplings are refused with what to change."""
    with pytest.raises(ConfigError, match="judges whole images, and these are cut into 4 tiles"):
        train(
            settings(tiny_data, model__composition="8", data__tiles="2x2"),
            Silent(), out=tmp_path / "run", runs=tmp_path, resume=False,
        )  # fmt: skip
    for wrong in ({"model__name": "hgad", "model__start": "closed-form"}, {"model__couplings": "auto"}):
        with pytest.raises(ConfigError, match="composition needs the closed form of one class"):
            settings(tiny_data, model__composition="8", **wrong)


def test_an_exact_engine_keeps_the_thresholds(bundle: Bundle) -> None:
    """Carried over to an engine whose outputs are equal, thresholds stay; twice the scores double them."""
    random = np.random.default_rng(0)
    maps = random.gamma(2.0, size=(30, 4, 4)).astype(np.float32)
    before = {"pred_score": maps.mean(axis=(1, 2)), "anomaly_map": maps}
    own = {POOLED: class_thresholds(random.gamma(2.0, size=250), random.gamma(3.0, size=250), 0.5, 0.01)}
    for scale in (1.0, 2.0):
        after = {name: values * np.float32(scale) for name, values in before.items()}
        carried = carried_thresholds(own, before, after)[POOLED]
        assert carried.threshold.value == pytest.approx(scale * own[POOLED].threshold.value, rel=1e-5)
        assert carried.pixel_threshold.value == pytest.approx(scale * own[POOLED].pixel_threshold.value, rel=1e-5)


def test_noise_of_an_engine_widens_its_scores() -> None:
    """An engine with noise of its own gets a higher threshold, which new noisy scores exceed at the promised rate."""
    random = np.random.default_rng(1)
    good = random.normal(size=4000)
    own = {POOLED: class_thresholds(good, good + 3.0, 0.0, 0.01)}
    some = random.normal(size=200)
    maps = np.repeat((some + 3.0)[:, None, None], 2, axis=1).astype(np.float32)
    noise = random.normal(scale=1.0, size=200)
    before = {"pred_score": some.astype(np.float32), "anomaly_map": maps}
    after = {"pred_score": (some + noise).astype(np.float32), "anomaly_map": maps}
    carried = carried_thresholds(own, before, after)[POOLED].threshold.value
    new = random.normal(size=100_000) + random.normal(scale=1.0, size=100_000)
    assert np.mean(new > own[POOLED].threshold.value) > 0.03
    assert np.mean(new > carried) == pytest.approx(0.01, abs=0.005)


def test_the_noise_of_one_image_does_not_move_the_threshold() -> None:
    """Over 200 draws the promise is kept on average, and the threshold varies less than with one residual for each score."""
    random, rate, n = np.random.default_rng(2), 0.01, 199
    new = np.sort(random.normal(size=100_000) + random.normal(scale=0.5, size=100_000))
    realised, carried, one_each = [], [], []
    for _ in range(200):
        good, some = random.normal(size=n), random.normal(size=50)
        noise = random.normal(scale=0.5, size=50)
        maps = np.repeat((some + 3.0)[:, None, None], 2, axis=1).astype(np.float32)
        before = {"pred_score": some.astype(np.float32), "anomaly_map": maps}
        after = {"pred_score": (some + noise).astype(np.float32), "anomaly_map": maps}
        own = {POOLED: class_thresholds(good, good + 3.0, 0.0, rate)}
        value = carried_thresholds(own, before, after)[POOLED].threshold.value
        carried.append(value)
        realised.append(1.0 - np.searchsorted(new, value) / len(new))
        one_each.append(class_thresholds(good + np.resize(noise, n), good, 0.0, rate).threshold.value)
    assert 0.5 * rate < np.mean(realised) < rate
    assert np.std(carried) < 0.9 * np.std(one_each)


@pytest.mark.slow
def test_a_larger_input_is_tried_only_where_the_images_have_the_pixels(tiny_data: Path, tmp_path: Path) -> None:
    """Parts of 128 px are not tried at 256 px; enlarged ones are, within the budget."""
    assert native_side({(300, 300): 3, (100, 400): 1, (640, 640): 1}) == 300.0
    data = tmp_path / "large"
    for path in sorted((tiny_data / "train" / "good").glob("*.png")):
        image = cv2.imread(str(path))
        assert image is not None
        (data / "good").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(data / "good" / path.name), cv2.resize(image, (2 * SIDE, 2 * SIDE)))
    tried: dict[str, set[int]] = {}
    for name, root, budget in (("small", tiny_data, None), ("large", data, None), ("budget", data, 1e-3)):
        config = settings(
            root,
            train__larger_sizes=[2 * SIDE],
            train__forms=["centres"],
            train__budget_ms=budget,
            data__root=str(root),
        )
        result = train(config, Silent(), out=tmp_path / name, runs=tmp_path, resume=False)
        tried[name] = {one["image_size"] for one in json.loads((result.run / CHOICES).read_text())}
    assert tried["large"] == {SIDE, 2 * SIDE}
    assert tried["budget"] == {SIDE}
    size = {cv2.imread(str(path)).shape[0] for path in (tiny_data / "train" / "good").glob("*.png")}  # type: ignore[union-attr]
    assert tried["small"] == ({SIDE} if max(size) < 1.9 * SIDE else {SIDE, 2 * SIDE})


@pytest.mark.slow
def test_photographs_of_one_part_are_left_out_together(tiny_data: Path, tmp_path: Path) -> None:
    """Images whose names show one part are left out together: their scores rise, and a wrong pattern is an error."""
    data = tmp_path / "parts" / "good"
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, path in enumerate(sorted((tiny_data / "train" / "good").glob("*.png"))[:20]):
        image = cv2.imread(str(path))
        assert image is not None
        for take in "ab":
            noisy = np.clip(image + random.normal(scale=14.0, size=image.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(data / f"part{number:02d}_{take}.png"), noisy)
    means = []
    for name, pattern in (("alone", None), ("together", r"(part\d+)_")):
        config = settings(
            tiny_data, data__root=str(data.parent), data__group_pattern=pattern, train__forms=["positions"]
        )
        result = train(config, Silent(), out=tmp_path / name, runs=tmp_path, resume=False)
        corrections = result.bundle.held_out_corrections()
        assert corrections is not None
        means.append(float(np.mean(corrections[1])))
    assert means[1] > means[0]
    config = settings(tiny_data, data__root=str(data.parent), data__group_pattern="board")
    with pytest.raises(ConfigError, match="matches no name"):
        train(config, Silent(), out=tmp_path / "wrong", runs=tmp_path, resume=False)


@pytest.mark.slow
def test_a_killed_run_starts_again(tiny_data: Path, trained: tuple[TrainResult, list[str]], tmp_path: Path) -> None:
    """`--resume` of a run without a bundle gives the same thresholds."""
    result = trained[0]
    run = tmp_path / "run"
    shutil.copytree(result.run, run)
    shutil.rmtree(run / "bundle")
    again = train(settings(tiny_data), Silent(), out=run, runs=tmp_path, resume=True)
    assert again.bundle.thresholds() == result.bundle.thresholds()


def test_damaged_corrections_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """Corrections that do not fit the stored images are an error of the bundle."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    with np.load(copy / "calibration.npz") as file:
        arrays = dict(file)
    arrays["score_corrections"] = arrays["score_corrections"][:-1]
    np.savez_compressed(copy / "calibration.npz", **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256((copy / "calibration.npz").read_bytes()).hexdigest()
    rewrite(copy / "bundle.json", lambda content: content["sha256"].update({"calibration.npz": digest}))
    with pytest.raises(BundleError, match="corrections"):
        open_bundle(copy).held_out_corrections()


def test_the_best_choice_pays_for_a_larger_input() -> None:
    """A larger input has to find 2 % more pseudo-defects for each doubling; equal forms keep the first."""
    small = Choice(320, "positions", 0.05, 0.02, 0.50, 20.0)
    assert best_choice([small, Choice(640, "centres", None, 0.02, 0.515, 80.0)]) is small
    better = Choice(640, "centres", None, 0.02, 0.53, 80.0)
    assert best_choice([small, better]) is better
    assert best_choice([small, Choice(320, "centres", None, 0.02, 0.50, 20.0)]) is small


def test_the_largest_of_nearly_equal_shares_is_taken() -> None:
    """A share of the map that finds 9 of 10 pseudo-defects of the best one wins if it is larger."""
    assert best_fraction({0.0025: 0.67, 0.005: 0.68, 0.01: 0.62, 0.02: 0.60}) == 0.01
    assert best_fraction({0.0025: 0.60, 0.005: 0.53}) == 0.0025


def test_forms_are_judged_at_rates_that_the_images_can_tell() -> None:
    """With 400 images the promised rate counts, with 40 the smallest is 1/41; power is the share above the thresholds."""
    assert rates_to_judge(400, 0.005) == (0.005, 0.01, 0.02, 0.05)
    assert rates_to_judge(40, 0.005) == (1 / 41, 0.05)
    good = np.arange(1.0, 200.0)
    assert power(good, np.array([0.0, 150.0, 500.0, 600.0]), (0.01,)) == 0.5
    assert power(good, np.empty(0), (0.01,)) == 0.0


def test_given_settings_are_not_chosen() -> None:
    """A given size, pooling or form is kept, and settings of couplings ask for a training."""
    assert load_config(None, {}).train.larger_sizes == (640,)
    assert load_config(None, {"model.image_size": 256}).train.larger_sizes == ()
    assert load_config(None, {"model.top_fraction": 0.1}).train.top_fractions == ()
    assert load_config(None, {"model.centres": 8}).train.forms == ("centres",)
    assert load_config(None, {"model.positions": True}).train.forms == ("positions",)
    assert load_config(None, {}).model.couplings == "never"
    assert load_config(None, {}).train.variation is None
    for options in ({"train.epochs": 3}, {"model.blocks": 2}, {"model.base": "altub"}, {"model.segmentation": "nfa"}):
        assert load_config(None, options).model.couplings == "auto"
    assert load_config(None, {"model.name": "fastflow"}).model.couplings == "always"
    with pytest.raises(ConfigError, match="centres"):
        load_config(None, {"model.centres": 8, "model.couplings": "auto"})


def test_the_group_of_an_image_is_its_first_member() -> None:
    """Joining is transitive."""
    groups = list(range(5))
    _join(groups, 4, 2)
    _join(groups, 2, 1)
    assert [_root(groups, index) for index in range(5)] == [0, 1, 1, 3, 1]


def test_a_pattern_may_name_folders() -> None:
    """Images of one folder show one part; the same folder of another class is another part."""
    names = ("train/good/a/1.png", "train/good/a/2.png", "train/good/b/1.png", "train/good/3.png")
    samples = [Sample(Path(name), name, "lid") for name in names] + [Sample(Path(names[0]), names[0], "cap")]
    groups, notes = list(range(5)), Notes()
    _join_by_name(groups, samples, "good/([^/]+)/", notes)
    assert [_root(groups, index) for index in range(5)] == [0, 0, 2, 3, 4]
    assert notes.texts == ["4 images show 3 parts by data.group_pattern: those of one part are left out together."]


def test_the_images_behind_the_threshold_are_named_and_drawn(trained: tuple[TrainResult, list[str]]) -> None:
    """A note names the good images with the highest scores and the threshold without them; a picture shows eight."""
    result, notes = trained
    (note,) = [text for text in notes if "is set by the good images" in text]
    thresholds = result.bundle.thresholds()
    assert f"The threshold {thresholds.threshold.value:.3g}" in note
    assert f"({max(thresholds.scores):.3g})" in note
    assert "--exclude" in note
    sheet = cv2.imread(str(result.bundle.path / THRESHOLD_IMAGES))
    assert sheet is not None
    assert sheet.shape[1] > 8 * 240


@pytest.mark.slow
def test_an_excluded_image_has_no_say(tiny_data: Path, tmp_path: Path) -> None:
    """Images named by data.exclude are neither fitted nor behind the threshold; a name that matches nothing is an error."""
    config = settings(tiny_data, data__exclude=["train/good/00[0-4].png"], train__forms=["centres"])
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert result.bundle.manifest.provenance.n_images["fit"] == 35
    with pytest.raises(ConfigError, match="matches no good image"):
        train(settings(tiny_data, data__exclude=["board*"]), Silent(), out=tmp_path / "b", runs=tmp_path, resume=False)


def test_several_photographs_of_each_part_are_told(tmp_path: Path) -> None:
    """Two takes of each part warn, different parts do not."""
    random = torch.Generator().manual_seed(0)
    parts = torch.randn(60, 6, 8, 8, generator=random)
    takes = torch.cat([parts[:30] + 0.3 * torch.randn(30, 6, 8, 8, generator=random) for _ in range(2)])
    for features, expected in ((parts, False), (takes, True)):
        level = Level(LevelSpec.parse("16"), {"16": 6}, {"16": (8, 8)}, positions=True)
        store = FeatureStore({"16": features.numpy().astype(np.float16)}, torch.device("cpu"))
        notes = Notes()
        model = cast("Detector", SimpleNamespace(levels=[level]))
        warn_of_twins(model, store, range(50), range(50, 60), tmp_path, notes)
        assert any("closely resemble" in text for text in notes.texts) is expected


@pytest.mark.slow
def test_features_of_torch_give_the_same_thresholds(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ONNX Runtime does not compute the features, as beside a GPU, torch does, and the scores agree."""
    found = []
    for name in ("onnxruntime", "torch"):
        if name == "torch":
            monkeypatch.setattr(form_search, "session_on", lambda *_: None)
        config = settings(tiny_data, train__forms=["centres"])
        result = train(config, Silent(), out=tmp_path / name, runs=tmp_path, resume=False)
        found.append(result.bundle.thresholds().scores)
    np.testing.assert_allclose(found[0], found[1], rtol=0.02, atol=0.02)


def test_near_copies_make_up_the_number_that_a_threshold_needs() -> None:
    """Of twenty images that show four pictures, five count for the threshold, and all are in four groups."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(4)]
    samples = [Sample(Path(f"{i:02d}.png"), f"{i:02d}.png", "part") for i in range(20)]
    features = np.stack([np.random.default_rng(i % 4).normal(size=(6, 8, 8)) for i in range(20)]).astype(np.float16)
    level = Level(LevelSpec.parse("16"), {"16": 6}, {"16": (8, 8)}, positions=True)
    store = FeatureStore({"16": features}, torch.device("cpu"))
    model = cast("Detector", SimpleNamespace(levels=[level]))
    notes = Notes()
    groups = image_groups(model, store, samples, lambda sample: pictures[int(sample.path.stem) % 4], None, notes)
    assert groups.of_image == tuple(i % 4 for i in range(20))
    assert len(groups.counted) == 5
    assert any("near-copies make up the number" in text for text in notes.texts)
