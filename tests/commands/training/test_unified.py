"""Closed-form training of one model for several classes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import pytest
import torch

from edgead.builder.lower_precision import LowerOptions
from edgead.bundle import Bundle, class_bias
from edgead.commands.build_engine import EngineOptions, build_engine
from edgead.commands.stream import StreamOutputs, stream
from edgead.commands.train import TrainResult, train
from edgead.commands.training import form_choice, suspects
from edgead.commands.training.class_choice import Candidate, ClassChoice, chosen_within, cost_limit, memory_limit
from edgead.commands.training.class_data import ClassFeatures, ClassImages
from edgead.commands.training.closed_form import CHOICES
from edgead.commands.training.groups import Groups
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.data.dataset import Sample
from edgead.data.reader import read_image
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError
from edgead.imaging import Image
from edgead.manifest import POOLED
from edgead.models.hgad_closed_form import class_cost, class_level
from edgead.models.level import LevelSpec
from edgead.models.zoo import load_model, read_weights
from edgead.progress import Silent
from edgead.runner import REFERENCE
from edgead.train.features import FeatureStore
from edgead.train.left_out import Rows

from ...tiny_run import SIDE, tiny_config
from .test_closed_form import Notes

if TYPE_CHECKING:
    from edgead.train.class_fits import ClassFit

pytestmark = pytest.mark.timeout(300)
COUNT = 24


@pytest.fixture(scope="module")
def two_classes(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of the small data set as one class, and their negatives as another one."""
    root = tmp_path_factory.mktemp("two-classes")
    for index, path in enumerate(sorted((tiny_data / "train" / "good").glob("*.png"))[:COUNT]):
        image = cv2.imread(str(path))
        assert image is not None
        for name, picture in (("dark", image), ("light", 255 - image[::-1])):
            folder = root / name / "train" / "good"
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{index}.png"), picture)
    return root


def settings(data: Path, **overrides: object) -> Config:
    chosen: dict[str, object] = {
        "model__name": "hgad",
        "model__start": "closed-form",
        "model__couplings": "never",
        "train__centres": 24,
        "train__pseudo_defects": 1,
        "train__forms": ["positions", "centres"],
        "train__top_fractions": [0.02, 0.1],
        "train__shrinkage": [0.5],
    }
    return tiny_config(data, **(chosen | overrides))


@pytest.fixture(scope="module")
def trained(two_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list[str]]:
    runs = tmp_path_factory.mktemp("unified")
    notes = Notes()
    return train(settings(two_classes), notes, out=runs / "run", runs=runs, resume=False), notes.texts


@pytest.fixture(scope="module")
def bundle(trained: tuple[TrainResult, list[str]]) -> Bundle:
    return trained[0].bundle


def images_of(root: Path, name: str) -> list[Image]:
    paths = sorted((root / name / "train" / "good").glob("*.png"))[:4]
    return [read_image(path, 255.0) for path in paths]


def candidate(name: str, form: str, power: float, megabytes: float, cost: int = 0) -> Candidate:
    return Candidate(cast("ClassFit", None), 0.02, ClassChoice(name, 320, form, None, 0, power, megabytes, 0, cost))


def test_classes_that_lose_least_take_the_smaller_form() -> None:
    """Within the memory each class has its best form; beyond it those give way whose smaller form finds nearly as much."""
    forms = [
        [candidate("a", "positions", 0.9, 50), candidate("a", "centres", 0.5, 2)],
        [candidate("b", "positions", 0.6, 50), candidate("b", "centres", 0.55, 2)],
        [candidate("c", "centres", 0.7, 2), candidate("c", "positions", 0.3, 50)],
    ]
    notes = Notes()
    assert [one.choice.form for one in chosen_within(forms, [memory_limit(102)], notes)] == [
        "positions",
        "positions",
        "centres",
    ]
    assert not notes.texts
    assert [one.choice.form for one in chosen_within(forms, [memory_limit(101)], notes)] == [
        "positions",
        "centres",
        "centres",
    ]
    assert "serves b, where it loses least" in notes.texts[0]
    assert [one.choice.form for one in chosen_within(forms, [memory_limit(5)], notes)] == ["centres"] * 3
    assert any("no form is smaller" in note for note in notes.texts)


def test_the_form_that_loses_least_for_what_it_saves_gives_way() -> None:
    """A large loss that saves much is a better bargain than a small one that saves little; a limit before it stays kept."""
    forms = [
        [
            candidate("a", "many", 0.9, 2, 100),
            candidate("a", "few", 0.8, 1, 10),
            candidate("a", "position", 0.89, 50, 5),
        ],
        [candidate("b", "many", 0.9, 2, 100), candidate("b", "few", 0.89, 1, 95)],
    ]
    notes = Notes()
    found = chosen_within(forms, [memory_limit(60), cost_limit(2.0, 95.0, 0)], notes)
    assert [one.choice.form for one in found] == ["few", "many"]
    assert notes.texts == ["To stay within train.class_cost=2, a smaller form serves a, where it loses least."]
    found = chosen_within(forms, [memory_limit(60), cost_limit(2.0, 95.0, 86)], notes)
    assert [one.choice.form for one in found] == ["few", "few"]
    assert notes.texts[-2].startswith(
        "Warning: the classes take 2.01 times the multiply-adds of the backbone, more than"
    )


def test_images_that_are_left_out_take_their_copies_along() -> None:
    """The rows that stay belong to the same features as before, also where a copy borrows from a left-out image."""
    good = tuple(Sample(Path(f"{i}.png"), f"{i}.png", "ab"[i // 3]) for i in range(6))
    images = ClassImages(("a", "b"), good, ((0, 1, 2), (3, 4, 5)), ((0, 1), (1, 2), (2, 0), (3, 4), (5, 3)))
    store = FeatureStore({"f": np.arange(11, dtype=np.float16)[:, None, None, None]}, torch.device("cpu"))
    before, groups = ClassFeatures(images, store, tuple(range(11))), Groups((0, 0, 2, 3, 4, 4), (0, 2, 3, 4))
    assert groups.mates([1]) == {0, 1}
    kept, fewer = before.without({0, 1}), groups.without({0, 1})
    assert fewer == Groups((0, 1, 2, 2), (0, 1, 2))
    assert [sample.name for sample in kept.images.good] == ["2.png", "3.png", "4.png", "5.png"]
    assert kept.of_class(0, fewer.of_image) == Rows((2,), (), (), (0,))
    assert kept.of_class(1, fewer.of_image) == Rows((3, 4, 5), (9, 10), (0, 2), (1, 2, 2))


@pytest.mark.slow
def test_a_class_leaves_its_suspects_out(two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect among the good images of a class is named with the class, drawn, and in neither fit nor threshold."""
    monkeypatch.setattr(suspects, "MIN_IMAGES", COUNT)
    data = tmp_path / "classes"
    shutil.copytree(two_classes, data)
    path = data / "light" / "train" / "good" / "7.png"
    image = cv2.imread(str(path))
    assert image is not None
    cv2.rectangle(image, (20, 30), (90, 100), (255, 0, 255), -1)
    cv2.imwrite(str(path), image)
    notes = Notes()
    chosen = settings(data, train__forms=["positions"])
    result = train(chosen, notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    images = result.bundle.manifest.provenance.n_images
    assert images["fit"] == images["threshold"] == 2 * COUNT - 1
    (warning,) = [text for text in notes.texts if "look defective" in text]
    assert f"1 of {COUNT} good images of class light" in warning
    assert "7.png" in warning
    assert (result.run / suspects.SHEET).exists()


@pytest.mark.slow
def test_each_class_has_a_form_and_all_have_one_threshold(trained: tuple[TrainResult, list[str]]) -> None:
    """A form per class is recorded with its cost, and a rule of marks; thresholds exist per class and pooled, from all good images."""
    result, notes = trained
    choices = json.loads((result.run / CHOICES).read_text())
    assert {(c["class_name"], c["form"]) for c in choices} == {
        (name, form) for name in ("dark", "light") for form in ("positions", "centres")
    }
    assert [sum(c["chosen"] for c in choices if c["class_name"] == name) for name in ("dark", "light")] == [1, 1]
    assert set(result.bundle.manifest.class_mask_rules) == {"dark", "light"}
    counts = {name: len(own.scores) for name, own in result.bundle.manifest.thresholds.items()}
    assert counts == {POOLED: 2 * COUNT, "dark": COUNT, "light": COUNT}
    assert any("recognises the class of all 48 good images" in note for note in notes)
    assert any(note.startswith("Class dark:") and "MB of weights" in note for note in notes)


@pytest.mark.slow
def test_classes_that_would_cost_too_much_have_fewer_centres(bundle: Bundle, two_classes: Path, tmp_path: Path) -> None:
    """With room for few centres alone, a class that does best with more takes few, and is named; the bundle loads again."""
    backbone = load_model(bundle).backbone
    (spec,) = map(LevelSpec.parse, bundle.manifest.provenance.config["model"]["levels"])
    costs = {count: class_cost([class_level(backbone, spec, "centres", count)]).total for count in (256, 64)}
    limit = 1.01 * 2 * costs[64] / backbone.multiply_adds(SIDE)
    config = settings(two_classes, train__centres=256, train__forms=["centres"], train__class_cost=limit)
    notes = Notes()
    result = train(config, notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    choices = json.loads((result.run / CHOICES).read_text())
    assert [(one["centres"], one["cost"]) for one in choices] == [*costs.items()] * 2
    powers = {
        name: {c["centres"]: c["power"] for c in choices if c["class_name"] == name} for name in ("dark", "light")
    }
    (loser,) = [name for name, found in powers.items() if found[256] > found[64]]
    assert (
        f"To stay within train.class_cost={limit:g}, a smaller form serves {loser}, where it loses least."
        in notes.texts
    )
    assert [len(level.centres) for level in load_model(result.bundle).levels if level.centres is not None] == [64, 64]


@pytest.mark.slow
def test_the_graph_recognises_the_class_and_can_be_told(bundle: Bundle, two_classes: Path) -> None:
    """Without the class, scores are those of the right class; the wrong one given makes every image an anomaly."""
    names = bundle.manifest.classes
    threshold = bundle.thresholds().threshold.value
    with open_engine(bundle, REFERENCE, threads=1) as runner:
        for name, other in (("dark", "light"), ("light", "dark")):
            images = np.stack([bundle.preprocess(image) for image in images_of(two_classes, name)])
            unknown = runner.infer(images)
            known = runner.infer(images, class_bias(names, [name] * len(images)))
            wrong = runner.infer(images, class_bias(names, [other] * len(images)))
            assert (unknown["class_score"].argmax(axis=1) == names.index(name)).all()
            np.testing.assert_allclose(unknown["pred_score"], known["pred_score"], atol=1e-2)
            assert (known["pred_score"] <= threshold).all()
            assert (wrong["pred_score"] > threshold).all()


@pytest.mark.slow
def test_a_stream_of_several_classes_needs_no_class_and_obeys_one(
    bundle: Bundle, two_classes: Path, tmp_path: Path
) -> None:
    """Good parts of both classes pass one camera, and a defect does not; a camera for one class turns the other one away."""
    n_good = 0
    for name in bundle.manifest.classes:
        for image in images_of(two_classes, name):
            frame = image.copy()
            for folder, is_defective in (("good", False), ("all", False), ("all", True)):
                (tmp_path / folder).mkdir(exist_ok=True)
                if is_defective:
                    frame[40:70, 40:70] = np.random.default_rng(0).integers(0, 256, (30, 30, 3))
                picture = tmp_path / folder / f"{name}-{n_good}-{'bad' if is_defective else 'good'}.png"
                cv2.imwrite(str(picture), frame[:, :, ::-1])
            n_good += 1
    found = {}
    for folder, chosen in (("good", None), ("all", None), ("good", "dark"), ("good", "light")):
        camera = CameraConfig.model_validate({"name": "line", "source": str(tmp_path / folder), "class": chosen})
        with open_engine(bundle, REFERENCE, threads=1) as runner:
            summary = stream(bundle, runner, [camera], StreamOutputs(None, None), config=Config())
        found[folder, chosen] = (summary.n_processed, summary.n_anomalous)
    assert found == {
        ("good", None): (n_good, 0),
        ("all", None): (2 * n_good, n_good),
        ("good", "dark"): (n_good, n_good // 2),
        ("good", "light"): (n_good, n_good // 2),
    }


@pytest.mark.slow
def test_a_class_with_the_pixels_has_a_larger_input(
    two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only one class has the pixels, it alone tries a larger input and takes one that pays; a new class may too."""
    monkeypatch.setattr(form_choice, "LARGER_GAIN", -1.0)  # a larger input always pays
    data = tmp_path / "data"
    for name, scale in (("dark", 0.5), ("light", 1.0)):
        folder = data / name / "train" / "good"
        folder.mkdir(parents=True)
        for path in (two_classes / name / "train" / "good").glob("*.png"):
            image = cv2.imread(str(path))
            assert image is not None
            size = round(scale * SIDE)
            cv2.imwrite(str(folder / path.name), cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
    sizes = {"model__image_size": SIDE // 2, "train__larger_sizes": [SIDE], "train__forms": ["centres"]}
    result = train(settings(data, **sizes), Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    choices = json.loads((result.run / CHOICES).read_text())
    tried = {(one["class_name"], one["image_size"]) for one in choices}
    assert tried == {("dark", SIDE // 2), ("light", SIDE // 2), ("light", SIDE)}
    model = result.bundle.manifest.provenance.config["model"]
    assert (model["image_size"], model["class_sizes"]) == (SIDE, [SIDE // 2, SIDE])
    assert result.bundle.manifest.preprocessing.image_size == (SIDE, SIDE)
    with open_engine(result.bundle, REFERENCE, threads=1) as runner:
        for index, name in enumerate(result.bundle.manifest.classes):
            images = np.stack([result.bundle.preprocess(image) for image in images_of(data, name)])
            assert (runner.infer(images)["class_score"].argmax(axis=1) == index).all()
    folder = tmp_path / "turned" / "train" / "good"
    folder.mkdir(parents=True)
    for path in (data / "light" / "train" / "good").glob("*.png"):
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(folder / path.name), image[:, :, [1, 2, 0]] // 2 + 100)
    config = settings(tmp_path / "turned", **sizes, train__add_to=result.bundle.path)
    added = train(config, Silent(), out=tmp_path / "more", runs=tmp_path, resume=False)
    choices = json.loads((added.run / CHOICES).read_text())
    assert {one["image_size"] for one in choices} == {SIDE // 2, SIDE}
    new = added.bundle.manifest.provenance.config["model"]
    assert new["class_sizes"][:2] == model["class_sizes"]
    assert new["class_share"] == model["class_share"]
    for name in ("dark", "light"):
        assert added.bundle.manifest.thresholds[name] == result.bundle.manifest.thresholds[name]


@pytest.mark.slow
def test_int8_keeps_all_classes(bundle: Bundle, two_classes: Path) -> None:
    """An INT8 engine has thresholds of its own for every class, and still recognises the class."""
    options = EngineOptions(LowerOptions(max_drop=0.5))
    record = build_engine(bundle, "int8", "onnxruntime", Silent(), options).record
    assert record.lower is not None
    own, before = record.lower.thresholds, bundle.manifest.thresholds
    assert {name: len(one.scores) for name, one in own.items()} == {
        name: len(one.scores) for name, one in before.items()
    }
    assert own[POOLED].threshold.value == pytest.approx(before[POOLED].threshold.value, rel=0.3)
    with open_engine(bundle, "onnxruntime-int8", threads=1) as runner:
        for index, name in enumerate(bundle.manifest.classes):
            images = np.stack([bundle.preprocess(image) for image in images_of(two_classes, name)])
            assert (runner.infer(images)["class_score"].argmax(axis=1) == index).all()


@pytest.mark.slow
def test_a_class_is_added_without_touching_the_others(bundle: Bundle, two_classes: Path, tmp_path: Path) -> None:
    """The old classes keep weights and thresholds exactly; the new one has its own, is recognised and hardly adds to their scores."""
    folder = tmp_path / "turned" / "train" / "good"
    folder.mkdir(parents=True)
    for path in (two_classes / "dark" / "train" / "good").glob("*.png"):
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(folder / path.name), image[:, :, [1, 2, 0]] // 2 + 100)
    config = settings(tmp_path / "turned", train__add_to=bundle.path)
    added = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False).bundle
    assert added.manifest.classes == ("dark", "light", "turned")
    before, after = (read_weights(one.weights_path, one.model_path) for one in (bundle, added))
    kept = [name for name in before if name.startswith(("_levels.", "backbone.", "head._heads."))]
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    for name in ("dark", "light"):
        assert added.manifest.thresholds[name] == bundle.manifest.thresholds[name]
        assert added.manifest.class_mask_rules[name] == bundle.manifest.class_mask_rules[name]
    assert added.manifest.mask_rule == bundle.manifest.mask_rule
    assert "turned" in added.manifest.class_mask_rules
    pooled = added.manifest.thresholds[POOLED]
    assert len(pooled.scores) == 3 * COUNT
    assert set(bundle.manifest.thresholds[POOLED].scores) <= set(pooled.scores)
    held_out, corrections = added.held_out(), added.held_out_corrections()
    assert held_out is not None
    assert corrections is not None
    assert Counter(held_out[1]) == {"dark": COUNT, "light": COUNT, "turned": COUNT}
    with open_engine(bundle, REFERENCE, threads=1) as old, open_engine(added, REFERENCE, threads=1) as new:
        for name in ("dark", "light"):
            images = np.stack([bundle.preprocess(image) for image in images_of(two_classes, name)])
            np.testing.assert_allclose(new.infer(images)["pred_score"], old.infer(images)["pred_score"], atol=1e-2)
        outputs = new.infer(held_out[0])
    assert [added.manifest.classes[index] for index in outputs["class_score"].argmax(axis=1)] == held_out[1]
    np.testing.assert_allclose(
        np.sort(outputs["pred_score"] + corrections[1]), np.sort(pooled.scores), rtol=5e-3, atol=5e-3
    )
    other = r"would be read by other rules than those of .*: white_level is 511.*, in the bundle 255"
    for folder, said, more in (
        (two_classes / "dark", "has the class dark already", {}),
        (tmp_path / "turned", other, {"data__white_level": 511}),
    ):
        with pytest.raises(ConfigError, match=said):
            train(
                settings(folder, train__add_to=bundle.path, **more), Silent(),
                out=tmp_path / f"again-{folder.name}", runs=tmp_path, resume=False,
            )  # fmt: skip
