"""A bundle with crop and tiles, from training to engine, evaluation and stream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgead
from edgead.builder.choice import BackendName
from edgead.builder.lower_precision import LowerOptions
from edgead.bundle import open_bundle
from edgead.commands.build_engine import EngineOptions, build_engine
from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.train import TrainResult, train
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.data.synthetic.make import make_part, write_dataset
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError
from edgead.line.cameras import make_cameras
from edgead.progress import Silent
from edgead.stream.frame import Frame
from edgead.stream.scorer import Scorer
from edgead.tiled_runner import TiledRunner
from tests.notes import Notes
from tests.tiny_run import SIDE, tiny_config

ONNX: BackendName = "onnxruntime"
TILES = 4
# Rows and columns of a frame's map that lie inside the crop for certain.
CROPPED = slice(1, -1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts at twice the input size, which is small enough to be quick."""
    folder = tmp_path_factory.mktemp("parts")
    write_dataset(folder, "disc", n_train=50, n_test_good=3, n_test_per_defect=1, seed=1, size=(2 * SIDE, 2 * SIDE))
    return folder


def settings(parts: Path, **overrides: Any) -> Config:
    quick = {
        "model__couplings": "never",
        "train__centres": 24,
        "train__pseudo_defects": 1,
        "train__shrinkage": [0.2],
        "train__reference_images": 4,
        "train__calibration_images": 12,
    }
    return tiny_config(parts, **{**quick, "data__tiles": "2x2", **overrides})


@pytest.fixture(scope="module")
def tiled(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A bundle of four tiles inside a crop that leaves out the outer twentieth; do not change its files."""
    runs = tmp_path_factory.mktemp("runs")
    config = settings(parts, data__crop=[0.05, 0.05, 0.9, 0.9])
    return train(config, Silent(), out=None, runs=runs, resume=False)


def frame(defect: str | None = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return make_part("disc", np.random.default_rng(5), (2 * SIDE, 2 * SIDE), defect)[0]


def test_a_bundle_states_its_crop_and_tiles_in_shares_of_the_frame(tiled: TrainResult) -> None:
    """The same rule cuts frames of any size."""
    views = tiled.bundle.manifest.preprocessing.views
    assert views is not None
    assert (views.frame_size, views.tiles, views.overlap) == ((256, 256), (2, 2), 0.1)
    assert views.box == pytest.approx((0.05, 0.05, 0.95, 0.95))


def test_a_bundle_without_views_does_not_name_them(tiny_result: TrainResult) -> None:
    """The manifest of a bundle without crop and tiles, and its digest, are those of earlier versions."""
    assert "views" not in tiny_result.bundle.manifest.preprocessing.model_dump(mode="json")
    assert tiny_result.bundle.grid is None


def test_the_score_of_a_frame_is_the_largest_of_its_tiles(tiled: TrainResult) -> None:
    """The Python API judges frames, and the threshold is that of whole frames."""
    image = frame("scratch")
    with edgead.load(tiled.bundle.path, engine="reference") as model:
        result = model.predict(image)
        assert isinstance(model.runner, TiledRunner)
        scores = model.runner.engine.infer(model.bundle.preprocess(image))["pred_score"]
        held_out = model.bundle.held_out()
    assert len(scores) == TILES
    assert result.score == pytest.approx(float(scores.max()))
    assert result.anomaly_map.shape == image.shape[:2]
    assert held_out is not None
    assert held_out[0].shape == (len(tiled.bundle.thresholds().scores), TILES, SIDE, SIDE, 3)


def test_thresholds_of_a_bundle_are_those_of_left_out_frames(tiled: TrainResult) -> None:
    """Every good frame has one score, the largest of its tiles, under the fit without any tile of it."""
    held_out, corrections = tiled.bundle.held_out(), tiled.bundle.held_out_corrections()
    assert held_out is not None
    assert corrections is not None
    with open_engine(tiled.bundle, "reference", threads=1) as runner:
        outputs = runner.infer(held_out[0])
    thresholds, inside = tiled.bundle.thresholds(), outputs["anomaly_map"][:, CROPPED, CROPPED]
    assert len(thresholds.scores) == tiled.bundle.manifest.provenance.n_images["fit"] == 50
    scores = outputs["pred_score"] + corrections[1]
    np.testing.assert_allclose(np.sort(scores), np.sort(thresholds.scores), rtol=5e-3, atol=5e-3)
    maxima = (inside + corrections[0][:, CROPPED, CROPPED]).max(axis=(1, 2))
    np.testing.assert_allclose(np.sort(maxima), np.sort(thresholds.map_maxima), rtol=2e-2, atol=2e-2)
    assert float(corrections[1].mean()) > 0.0


def test_a_frame_is_left_out_with_all_of_its_tiles(parts: Path, tmp_path: Path) -> None:
    """Its tiles are rows of one group, and so are the pseudo-defective copies of any of them; a copy shows the tile it is of."""
    from edgead.commands.training.data import prepare_data
    from edgead.commands.training.form_search import FormSearch
    from edgead.commands.training.groups import Groups

    config = settings(parts)
    data = prepare_data(config, Silent())
    good = data.split.fit
    search = FormSearch(config, data, good, tmp_path, Silent())
    search.groups = Groups(tuple(range(len(good))), ())
    rows = search.inputs.rows([1, 3], search.groups.of_image)
    assert rows.good == (4, 5, 6, 7, 12, 13, 14, 15)
    assert rows.groups == (1, 1, 1, 1, 3, 3, 3, 3)
    origins = {search.inputs.pseudo[row - search.inputs.n_inputs] for row in rows.pseudo}
    assert origins == {rows.good[place] for place in rows.origin} != set()
    changed = data.read_pseudo(good[0], good[1], (0,), 2).astype(int)
    unlike = [np.mean(np.abs(changed - data.read_tile(good[0], tile)) > 0) for tile in range(TILES)]
    assert int(np.argmin(unlike)) == 2
    varied = data.read_varied(good[0], (0,), 3).ravel()
    alike = [np.corrcoef(varied, data.read_tile(good[0], tile).ravel())[0, 1] for tile in range(TILES)]
    assert int(np.argmax(alike)) == 3


@pytest.mark.slow
def test_trained_couplings_have_thresholds_of_held_out_frames(parts: Path, tmp_path: Path) -> None:
    """One score per frame, the largest of its tiles, and none per tile."""
    config = settings(parts, model__couplings="always", train__epochs=0)
    bundle = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False).bundle
    held_out = bundle.held_out()
    assert held_out is not None
    assert bundle.held_out_corrections() is None
    with open_engine(bundle, "reference", threads=1) as runner:
        scores = runner.infer(held_out[0])["pred_score"]
    np.testing.assert_allclose(bundle.thresholds().scores, scores, rtol=1e-5)


def test_evaluation_and_stream_give_the_score_of_the_python_api(tiled: TrainResult, parts: Path) -> None:
    """One preparation serves them all."""
    with edgead.load(tiled.bundle.path, engine="reference") as model:
        files = sorted((parts / "test" / "scratch").glob("*.png"))
        expected = [model.predict(model.read_image(file)).score for file in files]
        scorer = Scorer(model.runner, image_size=model.bundle.image_size)
        seen = [scorer.score([scorer.prepare(Frame(model.read_image(file), 0, 0.0, "f"))]) for file in files]
        result = evaluate_bundle(
            model.bundle, model.runner, parts, Silent(), false_alarm_rate=None, report=None
        )  # fmt: skip
    assert [float(outputs["pred_score"][0]) for outputs in seen] == pytest.approx(expected)
    assert result.result.mean.n_good == 3


def test_a_zone_in_one_corner_needs_one_tile(tiled: TrainResult) -> None:
    """Tiles outside all zones are not judged, and the zone's score is as if they were."""
    corner = {"name": "corner", "include": [[[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.4]]]}
    camera = CameraConfig.model_validate({"name": "line", "source": "synthetic", "zones": [corner]})
    with open_engine(tiled.bundle, "reference", threads=1) as runner:
        (made,) = make_cameras([camera], tiled.bundle, runner, Config(), Silent())
        assert made.tiles == (0,)
        scorer = Scorer(runner, image_size=tiled.bundle.image_size)
        image = Frame(frame("scratch"), 0, 0.0, "f")
        verdicts = []
        for tiles in (made.tiles, None):
            outputs = scorer.score([scorer.prepare(image, tiles)])
            verdicts.append(made.judge(outputs, 0, frame_index=0, time_s=0.0)[1][0])
    assert verdicts[0].score == pytest.approx(verdicts[1].score, rel=1e-5)


def test_the_number_of_values_behind_a_tiles_score_is_chosen_and_recorded(tiled: TrainResult) -> None:
    """The graph pools as the manifest says, and zones follow it."""
    count = tiled.bundle.manifest.graph.top_positions
    assert count is not None
    held_out = tiled.bundle.held_out()
    assert held_out is not None
    with open_engine(tiled.bundle, "reference", threads=1) as runner:
        assert isinstance(runner, TiledRunner)
        assert runner.top_positions == count
        outputs = runner.infer(held_out[0][0])
    flat = np.sort(outputs["anomaly_map"].reshape(TILES, -1), axis=1)
    np.testing.assert_allclose(outputs["pred_score"], flat[:, -count:].mean(axis=1), rtol=1e-4)


def test_a_zone_outside_the_crop_is_refused(tiled: TrainResult) -> None:
    """Nothing there is ever judged."""
    edge = {"name": "edge", "include": [[[0, 0], [1, 0], [1, 0.05], [0, 0.05]]]}
    camera = CameraConfig.model_validate({"name": "line", "source": "synthetic", "zones": [edge]})
    with (
        open_engine(tiled.bundle, "reference", threads=1) as runner,
        pytest.raises(ConfigError, match="'edge' lies outside the crop"),
    ):
        make_cameras([camera], tiled.bundle, runner, Config(), Silent())


@pytest.mark.slow
def test_an_int8_engine_of_tiles_has_thresholds_of_frames(tiled: TrainResult) -> None:
    """Ranges come from tiles, gate and thresholds from frames, whose left-out scores are carried over to the engine."""
    bundle = open_bundle(tiled.bundle.path)
    options = EngineOptions(LowerOptions(max_drop=1.0))
    built = build_engine(bundle, "int8", ONNX, Silent(), options)
    assert built.record.lower is not None
    scores = built.record.lower.thresholds["all"].scores
    before = bundle.thresholds().scores
    assert len(scores) == len(before)
    assert np.corrcoef(scores, before)[0, 1] > 0.95
    held_out, corrections = bundle.held_out(), bundle.held_out_corrections()
    assert held_out is not None
    assert corrections is not None
    with edgead.load(bundle.path, engine=built.name) as model:
        found = model.runner.infer(held_out[0])["pred_score"]
    assert len(found) == len(held_out[0])
    np.testing.assert_allclose(np.median(found + corrections[1]), np.median(scores), rtol=0.15)


def test_native_tiles_keep_the_scale_of_the_frame(parts: Path) -> None:
    """Parts of twice the input size need three tiles a side where these overlap by a tenth."""
    from edgead.commands.training.data import prepare_data

    data = prepare_data(settings(parts).model_copy(), Silent())
    assert data.n_tiles == TILES
    native = load_config(None, {"data.root": str(parts), "data.tiles": "native", "model.image_size": SIDE})
    found = prepare_data(native, Silent()).preprocessing.views
    assert found is not None
    assert found.tiles == (3, 3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"data.crop": [0.5, 0.5, 0.6, 0.2]}, "must end at 1"),
        ({"data.crop": [0, 0, 0, 1]}, "width and a height above 0"),
        ({"data.crop": [0, 0, 1, 0, 1]}, "3 corners"),
        ({"data.tiles": "3"}, "tiles"),
        ({"data.tiles": "40x40"}, "256 tiles at most"),
        ({"data.tiles": "2x2", "model.name": "uflow", "model.segmentation": "nfa"}, "segmentation=threshold"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any], said: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=said):
        load_config(None, wrong)


def test_a_crop_in_pixels_needs_images_of_one_size(parts: Path, tmp_path: Path) -> None:
    """In shares it fits all sizes; beyond the images it is refused."""
    from edgead.commands.training.views import view_options

    data = load_config(None, {"data.crop": [64, 0, 128, 256]}).data
    assert view_options(data, {(256, 256): 9}).crop == ((0.25, 0), (0.75, 0), (0.75, 1), (0.25, 1))
    with pytest.raises(ConfigError, match="2 sizes"):
        view_options(data, {(256, 256): 9, (256, 512): 1})
    with pytest.raises(
        ConfigError, match="crop 64,0,128,256 reaches outside the images, which are 100 x 256 px"
    ) as caught:
        view_options(data, {(256, 100): 9})
    assert "X + WIDTH at most 100 and Y + HEIGHT at most 256" in caught.value.hint


@pytest.mark.slow
def test_tiles_choose_their_features_by_small_pseudo_defects(parts: Path) -> None:
    """The usual levels and finer ones are tried in each form; levels that the user has set are kept."""
    from edgead.commands.training.data import prepare_data
    from edgead.commands.training.tile_levels import FINE, chosen_levels

    values = {"data.root": str(parts), "data.tiles": "2x2", "model.image_size": 96, "train.shrinkage": [0.2]}
    config, notes = load_config(None, {**values, "train.centres": 24}), Notes()
    found = chosen_levels(config, prepare_data(config, Silent()), notes)
    (note,) = [text for text in notes.texts if text.startswith("Features for tiles")]
    shares = [int(share) for share in re.findall(r"(\d+)%", note)]
    assert len(shares) == 2
    assert found == (FINE if shares[1] > shares[0] else config.model.levels)
    assert sum("px, features" in text for text in notes.texts) == 4
    own = settings(parts)
    assert chosen_levels(own, prepare_data(own, Silent()), notes) == own.model.levels


def test_larger_inputs_are_tried_where_a_tile_has_the_pixels(parts: Path) -> None:
    """A quarter of a frame of 256 px shows 135 px of it on each side."""
    from edgead.commands.training.closed_form import sizes_to_try
    from edgead.commands.training.data import prepare_data

    config = settings(parts, model__image_size=96, train__larger_sizes=[128, 160])
    assert sizes_to_try(config, prepare_data(config, Silent())) == [96, 128]
    whole = settings(parts, model__image_size=96, train__larger_sizes=[128, 160], data__tiles="1x1")
    assert sizes_to_try(whole, prepare_data(whole, Silent())) == [96, 128, 160]


@pytest.mark.slow
def test_training_tells_how_many_tiles_it_learns_from(parts: Path, tmp_path: Path) -> None:
    """The size of the features follows from it."""
    from edgead.commands.training.dry_run import dry_run

    one = dry_run(settings(parts, data__tiles="1x1"), Notes(), out=None, runs=tmp_path)
    four = dry_run(settings(parts), Notes(), out=None, runs=tmp_path)
    assert one.needs is not None
    assert four.needs is not None
    assert four.needs.features_memory_mb == pytest.approx(4 * one.needs.features_memory_mb, rel=0.01)
