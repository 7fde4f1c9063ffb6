"""Known defects help to choose a model, are in no fit and no threshold, and each is judged by a choice without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead import evaluate
from edgead.commands.bundle import bundle_facts
from edgead.commands.compare import Side, compare
from edgead.commands.dataset import add_pictures, snapshot_to_train
from edgead.commands.train import TrainResult, train
from edgead.commands.training.closed_form import CHOICES
from edgead.commands.training.data import TrainingData, prepare_data
from edgead.commands.training.dry_run import dry_run
from edgead.commands.training.form_choice import worth
from edgead.commands.training.known_choice import weight_of_known
from edgead.commands.training.known_report import RECORD, SHEET
from edgead.commands.training.resume import resumed_config
from edgead.commands.training.verdict import option_words
from edgead.config.root import Config, Origin
from edgead.data.copies import stored_digest
from edgead.data.reader import read_image
from edgead.data.synthetic.make import write_dataset
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError, DataError
from edgead.evaluation.threshold import class_thresholds, rate_to_promise
from edgead.progress import Silent
from edgead.runner import REFERENCE
from tests.notes import Notes
from tests.tiny_run import SIDE, tiny_config

N_EACH = 3


def settings(data: Path, *known: Path, **overrides: object) -> Config:
    chosen: dict[str, object] = {
        "data__known_defects": [str(folder) for folder in known],
        "model__couplings": "never",
        "train__centres": 24,
        "train__pseudo_defects": 1,
        "train__forms": ["positions"],
        "train__top_fractions": [0.02, 0.1],
        "train__shrinkage": [0.05, 0.5],
    }
    return tiny_config(data, **(chosen | overrides))


@pytest.fixture(scope="module")
def defects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of known defects of the parts of `tiny_data`, a folder for each kind, with masks; do not change them."""
    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("known")
    write_dataset(made, "disc", n_train=1, n_test_good=1, n_test_per_defect=N_EACH, seed=7, size=(SIDE, SIDE))
    shutil.rmtree(made / "test" / "good")
    for kind in (made / "test").iterdir():
        shutil.copytree(kind, folder / kind.name)
    shutil.copytree(made / "ground_truth", folder / "ground_truth")
    return folder


def pictures(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.png")) if "ground_truth" not in path.parts]


@pytest.fixture(scope="module")
def trained(tiny_data: Path, defects: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list[str]]:
    runs, notes = tmp_path_factory.mktemp("runs"), Notes()
    return train(settings(tiny_data, defects), notes, out=runs / "run", runs=runs, resume=False), notes.texts


def few(defects: Path, folder: Path, count: int) -> Path:
    """A folder of the first pictures."""
    for path in pictures(defects)[:count]:
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.parent.name / path.name)
    return folder


def prepared(config: Config) -> tuple[TrainingData, str]:
    notes = Notes()
    return prepare_data(config, notes), "\n".join(notes.texts)


def test_they_are_found_with_kinds_and_masks(tiny_data: Path, defects: Path) -> None:
    """Each folder is a kind, each mask belongs to its picture, and a note says what they do."""
    data, notes = prepared(settings(tiny_data, defects))
    assert data.known is not None
    files = pictures(defects)
    assert [sample.path for sample in data.known.samples] == files
    assert {sample.defect for sample in data.known.samples} == {path.parent.name for path in files}
    for sample in data.known.samples:
        assert sample.mask_path == defects / "ground_truth" / sample.defect / f"{sample.path.stem}_mask.png"
    assert f"{len(files)} known defects of --known-defects help to choose the form of the model" in notes
    assert not {sample.path for sample in data.scan.readable} & set(files)


@pytest.mark.slow
def test_the_form_is_chosen_by_both(trained: tuple[TrainResult, list[str]], defects: Path) -> None:
    """The choice that is kept has the most of artificial and known defects together, and the record says what each found."""
    result, notes = trained
    found = json.loads((result.run / CHOICES).read_text())
    weight = weight_of_known(len(pictures(defects)))
    merits = [
        worth((1 - one["known_weight"]) * one["power"] + one["known_weight"] * one["known_power"], one["image_size"])
        for one in found
    ]
    assert all(one["known_weight"] == pytest.approx(weight, abs=1e-5) for one in found)
    assert found[int(np.argmax(merits))]["chosen"]
    assert any(note.startswith("Chosen by artificial and known defects: ") for note in notes)


@pytest.mark.slow
def test_each_is_judged_and_the_missed_are_drawn(trained: tuple[TrainResult, list[str]], defects: Path) -> None:
    """Counts in the note, the record, the bundle and the verdict are one; the sheet is there exactly if some are missed."""
    result, notes = trained
    judged = json.loads((result.run / RECORD).read_text())
    n, n_found = len(judged), sum(one["found"] for one in judged)
    assert n == len(pictures(defects))
    assert all(one["found"] == (one["score"] > one["threshold"]) for one in judged)
    assert 0 < n_found < n, "the parts are made so that some are missed"
    said = f"{n} known defects: {n_found} found at the threshold, each judged by a choice that had not seen it"
    assert any(said in note for note in notes)
    assert (result.run / SHEET).is_file()
    metrics = result.bundle.manifest.provenance.metrics
    assert (metrics["known_defects"], metrics["known_defects_found"]) == (n, n_found)
    assert result.verdict is not None
    assert result.verdict.known == (n, n_found)
    assert any(said in line for line in result.verdict.lines())
    assert dict(bundle_facts(result.bundle.path))["known defects"].startswith(said)


@pytest.mark.slow
def test_threshold_and_promise_are_the_same_function_of_good_scores(
    trained: tuple[TrainResult, list[str]], tiny_data: Path, tmp_path: Path
) -> None:
    """The thresholds follow from the stored scores of good images alone; the same form without known defects has the same ones."""
    result, _ = trained
    mine = result.bundle.thresholds()
    rate = rate_to_promise(None, 0.005, len(mine.scores))
    again = class_thresholds(mine.scores, mine.map_maxima, mine.heatmap_low, rate)
    assert again == mine
    (chosen,) = [one for one in json.loads((result.run / CHOICES).read_text()) if one["chosen"]]
    config = settings(tiny_data, train__shrinkage=[chosen["shrinkage"]], train__top_fractions=[chosen["top_fraction"]])
    other = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False).bundle
    assert other.thresholds() == mine
    assert other.manifest.provenance.known_digests == ()
    assert other.manifest.provenance.n_images == result.bundle.manifest.provenance.n_images


@pytest.mark.slow
def test_they_are_no_images_of_the_training(trained: tuple[TrainResult, list[str]], defects: Path) -> None:
    """The bundle knows them by digests of their own, apart from those of the images that were fitted."""
    provenance = trained[0].bundle.manifest.provenance
    digests = {stored_digest(path) for path in pictures(defects)}
    assert set(provenance.known_digests) == digests
    assert not digests & set(provenance.image_digests)


@pytest.mark.slow
def test_an_evaluation_leaves_them_out(
    trained: tuple[TrainResult, list[str]], tiny_data: Path, defects: Path, tmp_path: Path
) -> None:
    """Copies of them in a test folder are in no number; the report shows those that the training missed."""
    bundle = trained[0].bundle
    shutil.copytree(tiny_data / "test", tmp_path / "test")
    for number, path in enumerate(pictures(defects)):
        shutil.copy(path, tmp_path / "test" / path.parent.name / f"again{number}.png")
    plain = evaluate(bundle.path, tiny_data)
    notes = Notes()
    found = evaluate(bundle.path, tmp_path, report=tmp_path / "report", progress=notes)
    assert found.n_known_defects == found.to_json()["n_known_defects"] == len(pictures(defects))
    assert "n_known_defects" not in plain.to_json()
    assert found.metrics.n_defective == plain.metrics.n_defective
    assert found.metrics.image_auroc == plain.metrics.image_auroc
    assert any("They are left out of every number" in note for note in notes.texts)
    assert found.report is not None
    assert "Known defects that the training missed" in found.report.read_text(encoding="utf-8")
    with open_engine(bundle, REFERENCE, threads=1) as runner:
        side = Side(bundle, runner)
        compared = compare(side, side, tmp_path, Silent(), false_alarm_rate=None, confidence=None, report=None)
    assert compared.n_known_defects == compared.to_json()["n_known_defects"] == len(pictures(defects))
    assert compared.found.n == plain.metrics.n_defective
    with pytest.raises(DataError, match=r"All \d+ test images are known defects"):
        evaluate(bundle.path, defects, bad=[path for path in defects.iterdir() if path.name != "ground_truth"])


def test_a_dry_run_counts_them(tiny_data: Path, defects: Path, tmp_path: Path) -> None:
    """The plan names their kinds, and its memory has them."""
    plan = dry_run(settings(tiny_data, defects), Silent(), out=None, runs=tmp_path)
    plain = dry_run(settings(tiny_data), Silent(), out=None, runs=tmp_path)
    n = len(pictures(defects))
    assert dict(plan.facts)["known defects"].startswith(f"{n} (")
    assert f"{n} with masks): they help to choose the form, and set no threshold" in dict(plan.facts)["known defects"]
    assert "known defects" not in dict(plain.facts)
    assert plan.needs is not None
    assert plain.needs is not None
    assert plan.needs.features_memory_mb > plain.needs.features_memory_mb


@pytest.mark.slow
def test_a_resumed_run_keeps_them(
    trained: tuple[TrainResult, list[str]], tiny_data: Path, defects: Path, tmp_path: Path
) -> None:
    """The setting is the run's own, another place of the same pictures is fine, and other pictures are refused."""
    shutil.copytree(trained[0].run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "bundle")
    kept = resumed_config(None, {}, Silent(), out=tmp_path / "run", runs=tmp_path)
    assert kept.data.known_defects == (defects,)
    moved = shutil.copytree(defects, tmp_path / "moved")
    config = resumed_config(None, {"data.known_defects": [str(moved)]}, Silent(), out=tmp_path / "run", runs=tmp_path)
    assert config.data.known_defects == (moved,)
    next(iter(pictures(moved))).unlink()
    with pytest.raises(ConfigError, match="started with other known defects"):
        train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=True)


@pytest.mark.slow
def test_fewer_than_five_are_judged_and_decide_nothing(tiny_data: Path, defects: Path, tmp_path: Path) -> None:
    """Four have no weight in the choice, which is that of the artificial defects; they are counted nevertheless."""
    notes = Notes()
    config = settings(tiny_data, few(defects, tmp_path / "four", 4))
    result = train(config, notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    assert any("4 known defects of --known-defects are judged and decide nothing" in note for note in notes.texts)
    choices = json.loads((result.run / CHOICES).read_text())
    assert {one["known_weight"] for one in choices} == {0.0}
    assert choices[int(np.argmax([one["power"] for one in choices]))]["chosen"]
    assert result.bundle.manifest.provenance.metrics["known_defects"] == 4


def test_a_picture_that_is_called_good_too_counts_for_neither(tiny_data: Path, defects: Path, tmp_path: Path) -> None:
    """It is named, not learned, and no known defect."""
    known = few(defects, tmp_path / "known", 5)
    copy = known / pictures(known)[0].parent.name / "good-one.png"
    original = next(iter(sorted((tiny_data / "train" / "good").iterdir())))
    shutil.copy(original, copy)
    data, notes = prepared(settings(tiny_data, known))
    assert "1 known defects are also among the good images, such as " in notes
    assert copy.name in notes
    assert data.known is not None
    assert copy not in {sample.path for sample in data.known.samples}
    used = {sample.path for part in (data.split.fit, data.split.early_stop, data.split.threshold) for sample in part}
    assert original not in used
    assert len(used) == 39


def test_those_of_the_test_part_are_counted(tiny_data: Path, tmp_path: Path) -> None:
    """Defects of the test folder may be known ones; a note says that the evaluation will leave them out."""
    kinds = [path for path in (tiny_data / "test").iterdir() if path.name != "good"]
    data, notes = prepared(settings(tiny_data, *kinds))
    assert data.known is not None
    n = len(data.known.samples)
    assert n == sum(len(list(kind.iterdir())) for kind in kinds)
    assert f"{n} of them are test images too: edgead eval leaves them out" in notes


def test_pictures_of_another_size_and_broken_ones_are_named(tiny_data: Path, defects: Path, tmp_path: Path) -> None:
    """A part cut out of a picture and a file that is no image are left out, with what to do."""
    known = few(defects, tmp_path / "known", 5)
    kind = pictures(known)[0].parent
    cv2.imwrite(str(kind / "cut.png"), np.full((40, 40, 3), 99, np.uint8))
    (kind / "zz.png").write_bytes(b"no image")
    data, notes = prepared(settings(tiny_data, known))
    assert data.known is not None
    assert len(data.known.samples) == 5
    assert (
        f"1 of 6 known defects are left out, because their pictures have another size or shape than the good images ({SIDE} x {SIDE} px)"
        in notes
    )
    assert "cut.png (40 x 40 px)" in notes
    assert "Left out the known defect" in notes
    for path in pictures(known):
        if path.name not in ("cut.png", "zz.png"):
            path.unlink()
    with pytest.raises(DataError, match="None of the 2 known defects can be used: 1 cannot be read"):
        prepared(settings(tiny_data, known))


def test_folders_that_cannot_be_meant_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    """A missing folder, one without images, and one of good images."""
    with pytest.raises(DataError, match=r"nowhere of --known-defects does not exist"):
        prepared(settings(tiny_data, tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"There are no images in the folders of --known-defects"):
        prepared(settings(tiny_data, tmp_path / "empty"))
    with pytest.raises(DataError, match=r"5 of the pictures of --known-defects are in a folder of good ones"):
        prepared(settings(tiny_data, tiny_data / "test"))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"model__couplings": "always"}, "usf with trained couplings"),
        ({"model__name": "hgad", "model__start": "closed-form"}, "hgad"),
    ],
)
def test_models_whose_form_they_cannot_choose_refuse_them(
    tiny_data: Path, defects: Path, other: dict[str, object], named: str
) -> None:
    """Trained couplings and models of many classes; the message says what to do instead."""
    config = settings(tiny_data, defects, **other)
    with pytest.raises(ConfigError, match=f"this training is of {named}") as error:
        prepared(config)
    assert "edgead eval" in error.value.hint


def assert_the_bundle_gives_the_scores(result: TrainResult, defects: Path) -> None:
    """The engine of the bundle gives the scores of the known defects whose fold has chosen the form of the model."""
    judged, value = json.loads((result.run / RECORD).read_text()), result.bundle.thresholds().threshold.value
    assert len(judged) == len(pictures(defects))
    by_model = [one for one in judged if one["threshold"] == pytest.approx(value)]
    assert by_model
    with open_engine(result.bundle, REFERENCE, threads=1) as runner:
        for one in by_model:
            path = next(path for path in pictures(defects) if path.as_posix().endswith(one["name"]))
            score = runner.infer(result.bundle.preprocess(read_image(path))[None])["pred_score"][0]
            assert score == pytest.approx(one["score"], rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_weights_of_levels_and_changes_of_light(tiny_data: Path, defects: Path, tmp_path: Path) -> None:
    """Two levels get one of three weights, which the bundle has; the model that has learned changes of light judges too."""
    config = settings(tiny_data, defects, model__levels=["16:24", "32:8"], train__variation=1.0)
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    choices = json.loads((result.run / CHOICES).read_text())
    assert {tuple(one["level_weights"]) for one in choices} == {(1.0, 1.0), (3.0, 1.0), (1.0, 3.0)}
    (chosen,) = [one for one in choices if one["chosen"]]
    assert chosen["variation"] == 1.0
    assert result.bundle.manifest.provenance.config["model"]["level_weights"] == chosen["level_weights"]
    assert_the_bundle_gives_the_scores(result, defects)


@pytest.mark.slow
def test_known_defects_on_tiles(tiny_data: Path, defects: Path, tmp_path: Path) -> None:
    """A known defect on tiles has the highest score of its tiles, as a frame of the stream."""
    config = settings(tiny_data, defects, data__tiles="2x2")
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert_the_bundle_gives_the_scores(result, defects)


def test_advised_commands_keep_them() -> None:
    """Commands that a training advises name the known defects again."""
    words = option_words(Origin(None, {"data.known_defects": ["a", "b c"]}))
    assert words == ["--known-defects", "a", "--known-defects", "'b c'"]


def test_defects_of_judged_pictures_are_used_on_request(tiny_data: Path, defects: Path, tmp_path: Path) -> None:
    """The test part of a snapshot has them; without `data.judged_defects` they stay its test images."""
    folder = tmp_path / "set"
    add_pictures(folder, tiny_data / "train" / "good", verdict="good", kind="")
    for kind in [path for path in defects.iterdir() if path.name != "ground_truth"]:
        add_pictures(folder, kind, verdict="defect", kind=kind.name)
    root = snapshot_to_train(str(folder)).root
    data, notes = prepared(settings(root, data__judged_defects=True))
    assert data.known is not None
    assert len(data.known.samples) == len(pictures(defects))
    assert "known defects of the data set help to choose the form" in notes
    assert prepared(settings(root))[0].known is None
    assert prepared(tiny_config(root, data__judged_defects=True))[0].known is None, (
        "a model with couplings has no use for them"
    )
