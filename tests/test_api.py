"""The front door: what `import edgead` offers, what it costs, and that it says what the command line says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray

import edgead
from edgead.bundle import Bundle
from edgead.commands.train import TrainResult
from edgead.evaluation.metrics import auroc
from edgead.stream.sources.memory import MemorySource

ROOT = Path(__file__).parents[1]
ANY = {"alerts.open_frames": 1, "alerts.window_frames": 1}


@pytest.fixture(scope="module")
def model(tiny_result: TrainResult) -> Iterator[edgead.Model]:
    with edgead.load(tiny_result.bundle.path, threads=1) as opened:
        yield opened


@pytest.fixture
def images(model: edgead.Model, tiny_data: Path) -> list[NDArray[np.uint8]]:
    """A good image and one of each defect."""
    folders = sorted(folder for folder in (tiny_data / "test").iterdir())
    return [model.read_image(sorted(folder.iterdir())[0]) for folder in folders]


def test_exported_members() -> None:
    """`__all__` is sorted, complete and loadable; nothing else is offered, and a wrong name is answered with the list."""
    assert edgead.__all__ == sorted(edgead.__all__)
    assert set(edgead.__all__) == {*edgead._HOMES, "__version__"}
    assert dir(edgead) == edgead.__all__
    for name in edgead.__all__:
        assert getattr(edgead, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'lode'; it has: .*load"):
        edgead.lode  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    """The names that a type checker imports are those that exist when the program runs."""
    source = (ROOT / "edgead" / "__init__.py").read_text(encoding="utf-8")
    checked = {line.split(" as ")[-1] for line in source.splitlines() if line.startswith("    from edgead.")}
    assert checked == set(edgead._HOMES)
    assert (ROOT / "edgead" / "py.typed").is_file()


def test_importing_costs_nothing() -> None:
    """`import edgead` loads neither numpy nor OpenCV nor torch nor any module of its own, in under 50 ms."""
    code = """
import sys, time
before, start = set(sys.modules), time.perf_counter()
import edgead
took_ms = (time.perf_counter() - start) * 1e3
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(took_ms, sorted(name for name in sys.modules if name.startswith("edgead")), sorted(new - sys.stdlib_module_names))
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(5)
    ]
    assert all(run.rstrip().endswith("['edgead'] ['edgead']") for run in runs), runs[0]
    assert min(float(run.split()[0]) for run in runs) < 50


def test_loading_needs_no_torch() -> None:
    """Everything but training and its models is offered without torch."""
    names = [name for name in edgead.__all__ if name not in ("__version__", "register_family")]
    code = f"import sys, edgead\nfor n in {names}: getattr(edgead, n)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_predict_says_what_eval_says(model: edgead.Model, tiny_data: Path) -> None:
    """AUROC, false alarms and defects found of single predictions are those of `evaluate`."""
    found = edgead.evaluate(model, tiny_data).result.mean
    files = sorted((tiny_data / "test").rglob("*.png"))
    results = [model.predict(model.read_image(file)) for file in files]
    defective = np.array([file.parent.name != "good" for file in files])
    flagged = np.array([result.is_anomalous for result in results])
    assert auroc(np.array([result.score for result in results]), defective) == pytest.approx(found.image_auroc)
    assert (found.n_good, found.n_defective) == ((~defective).sum(), defective.sum())
    assert found.false_alarm_rate == pytest.approx(flagged[~defective].mean())
    assert found.detection_rate == pytest.approx(flagged[defective].mean())
    assert found.mask_iou is not None
    assert all(result.is_anomalous == (result.score > model.thresholds().threshold.value) for result in results)


def test_an_anomalous_image_has_an_outline_at_any_rate(tiny_result: TrainResult, tiny_data: Path) -> None:
    """Prediction and evaluation mark something on every anomalous image, and the colour scale moves with the rate."""
    files = sorted((tiny_data / "test").rglob("*.png"))
    highs = []
    for rate in (0.005, 0.05, 0.45):
        with edgead.load(tiny_result.bundle.path, threads=1, false_alarm_rate=rate) as model:
            results = [model.predict(model.read_image(file)) for file in files]
            highs.append(model.thresholds().heatmap_scale.high)
            assert {result.scale for result in results} == {model.thresholds().heatmap_scale}
        anomalous = [result for result in results if result.is_anomalous]
        assert all(result.mask.any() and result.regions for result in anomalous)
    assert anomalous
    assert highs == sorted(highs, reverse=True)
    assert highs[0] > highs[-1]


def test_one_image_a_list_and_a_batch(model: edgead.Model, images: list[NDArray[np.uint8]]) -> None:
    """One array gives one result, a list or a batch a list of the same scores; sizes may differ, grey is taken as RGB."""
    single = [model.predict(image).score for image in images]
    several = model.predict([*images, images[0][:100]])
    assert [result.score for result in several[:-1]] == pytest.approx(single, rel=1e-5)
    assert several[-1].anomaly_map.shape == several[-1].mask.shape == (100, images[0].shape[1])
    assert [result.score for result in model.predict(np.stack(images))] == pytest.approx(single, rel=1e-5)
    grey = images[0][:, :, 0]
    assert model.predict(grey).score == model.predict(np.repeat(grey[:, :, None], 3, axis=2)).score
    assert model.predict([]) == []


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), TypeError, "uint8, 0 to 255, got float32; of values from 0 to 1 give"),
        (np.zeros((8, 8, 3), bool), TypeError, r"got bool; give image.astype\(numpy.uint8\) \* 255"),
        (np.zeros((8, 8, 3), np.uint16), TypeError, "got uint16; Model.read_image scales"),
        ("part.png", TypeError, "got builtins.str; read a file with Model.read_image"),
        ([Path("part.png")], TypeError, "Path; read a file with Model.read_image"),
        (PIL.Image.new("RGB", (8, 8)), TypeError, r"got PIL.Image.Image; give numpy.asarray\(image.convert\('RGB'\)\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), TypeError, r"got torch.Tensor; give image.cpu\(\).numpy\(\)"),
        (None, TypeError, "got builtins.NoneType; read a file"),
        (np.zeros((8, 8, 1), np.uint8), ValueError, r"give image\[:, :, 0\]"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"channels come last: image.transpose\(1, 2, 0\)"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"\(H, W, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"\(H, W, 3\)"),
        (np.zeros(8, np.uint8), ValueError, r"\(H, W, 3\)"),
    ],
)
def test_arrays_that_are_no_image(
    model: edgead.Model, image: NDArray[np.uint8], error: type[Exception], message: str
) -> None:
    """A wrong type or shape is named with what is allowed."""
    with pytest.raises(error, match=message):
        model.predict(image)


def test_a_result_shows_where(model: edgead.Model, images: list[NDArray[np.uint8]]) -> None:
    """Map and mask have the image's size, regions lie in the mask, and the picture is the image where nothing is."""
    results = model.predict(images)
    worst = max(results, key=lambda result: result.score)
    assert worst.is_anomalous
    assert worst.mask.any()
    region = worst.regions[0]
    inside = worst.mask[region.y : region.y + region.height, region.x : region.x + region.width]
    assert inside.sum() >= region.area_px > 0
    assert region.peak == pytest.approx(worst.anomaly_map.max(), rel=1e-5)
    picture = model.heatmap(worst.image, worst)
    clear = worst.anomaly_map < worst.scale.low
    far = clear & ~cv2.dilate(worst.mask.astype(np.uint8), np.ones((15, 15))).astype(bool)
    assert far.any()
    assert (picture[far] == worst.image[far]).all()
    assert (picture != worst.image).any()
    larger = cv2.resize(worst.image, None, fx=2, fy=2)
    assert model.heatmap(np.asarray(larger, np.uint8), worst).shape == larger.shape


def test_jupyter_gets_the_heatmap(model: edgead.Model, images: list[NDArray[np.uint8]]) -> None:
    """The PNG that a notebook shows is the heatmap in the right colours, and the text names the verdict."""
    result = model.predict(images[-1])
    decoded = cv2.imdecode(np.frombuffer(result._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert (cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) == result.heatmap()).all()
    assert f"score={result.score:.4g}" in repr(result)


def test_another_rate(tiny_result: TrainResult, model: edgead.Model, images: list[NDArray[np.uint8]]) -> None:
    """A larger share of false alarms lowers the threshold and leaves the score; a rate out of range is refused."""
    with edgead.load(str(tiny_result.bundle.path), threads=1, false_alarm_rate=0.2) as loose:
        result = loose.predict(images[0])
    assert result.threshold < model.predict(images[0]).threshold
    assert result.score == model.predict(images[0]).score
    with pytest.raises(edgead.ConfigError, match=r"below 0\.5"):
        edgead.load(tiny_result.bundle.path, false_alarm_rate=0.7)


def test_regions_by_number_of_false_detections_are_honoured() -> None:
    """A bundle with a segmentation of its own marks by it, as `edgead eval` and `edgead stream` do."""
    with edgead.load(ROOT / "tests" / "fixtures" / "bundle-schema-1", engine="reference", threads=1) as model:
        result = model.predict(model.bundle.reference()["images"][0])
        own = result.prediction.own_segmentation
        assert own is not None
        assert (result.mask == own.mask_at(result.mask.shape)).all()


def test_errors_name_the_bundle(tmp_path: Path, model: edgead.Model, images: list[NDArray[np.uint8]]) -> None:
    """No bundle and an unknown class are errors of the package's own base class."""
    with pytest.raises(edgead.BundleError, match="There is no bundle"):
        edgead.load(tmp_path / "nothing")
    with pytest.raises(edgead.EdgeadError, match="has no class 'nut'"):
        model.predict(images[0], class_name="nut")


def test_a_stream_of_arrays(model: edgead.Model, images: list[NDArray[np.uint8]]) -> None:
    """Every image of an iterable is judged in order with its own score, and the loop may be slow."""
    verdicts = list(edgead.open_stream(model, iter(images), settings=ANY))
    assert [verdict.frame.index for verdict in verdicts] == list(range(len(images)))
    assert [verdict.prediction.pred_score for verdict in verdicts] == pytest.approx(
        [model.predict(image).score for image in images], rel=1e-5
    )
    assert verdicts[-1].is_anomalous
    assert any(verdict.worst.event for verdict in verdicts)


def test_a_stream_of_a_source(model: edgead.Model, images: list[NDArray[np.uint8]], tiny_data: Path) -> None:
    """An object with the protocol of a source, and an address, are streamed alike."""
    source = MemorySource(images, n_frames=7)
    assert isinstance(source, edgead.Source)
    assert len(list(edgead.open_stream(model, source))) == 7
    good = tiny_data / "test" / "good"
    names = [verdict.frame.source for verdict in edgead.open_stream(model, str(good))]
    assert names == [str(path) for path in sorted(good.iterdir())]
    assert len(list(edgead.open_stream(model, str(good), max_frames=2))) == 2


def test_leaving_the_loop_stops_the_stream(model: edgead.Model, images: list[NDArray[np.uint8]]) -> None:
    """After a `break` no thread is left, and the model can be used again."""
    before = threading.active_count()
    for verdict in edgead.open_stream(model, MemorySource(images, n_frames=10**6)):
        if verdict.frame.index == 3:
            break
    assert threading.active_count() == before
    assert model.predict(images[0]).score > 0


def test_failures_reach_the_loop(model: edgead.Model, images: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    """Errors of a source and a missing file are raised in the loop, errors of sinks and settings by `open_stream`."""

    def broken() -> Iterator[NDArray[np.uint8]]:
        yield images[0]
        raise RuntimeError("the SDK lost the camera")

    with pytest.raises(RuntimeError, match="lost the camera"):
        list(edgead.open_stream(model, broken()))
    with pytest.raises(edgead.SourceError, match="There is no file"):
        list(edgead.open_stream(model, str(tmp_path / "none.mp4")))
    with pytest.raises(edgead.ConfigError, match="alert folder"):
        edgead.open_stream(model, images, sinks={"x": None})  # type: ignore[dict-item]
    with pytest.raises(edgead.ConfigError, match=r"alerts\.opn_frames"):
        edgead.open_stream(model, images, settings={"alerts.opn_frames": 1})


def test_training_building_and_evaluating(tiny_data: Path, tmp_path: Path, bundle_copy: Callable[[], Bundle]) -> None:
    """The functions give the verbs' results: a run with a bundle, an engine that is then found, a report."""
    settings = {
        "model.image_size": 64, "model.levels": ["16:8"], "train.epochs": 0, "train.device": "cpu",
        "train.pseudo_defects": 1,
    }  # fmt: skip
    result = edgead.train_bundle(tiny_data, settings=settings, runs=tmp_path / "runs")
    assert (tmp_path / "runs" / "latest").resolve() == result.run
    assert result.bundle.image_size == (64, 64)
    built = edgead.build_engine(result.bundle.path, backend="onnxruntime")
    assert built.name == "onnxruntime-fp32"
    with edgead.load(result.bundle.path, threads=1) as model:
        assert model.engine_name == built.name
        evaluation = edgead.evaluate(model, tiny_data, report=tmp_path / "report")
    assert evaluation.report is not None
    assert evaluation.report.is_file()
    again = edgead.evaluate(result.bundle.path, str(tiny_data))
    assert json.dumps(again.to_json()) == json.dumps(evaluation.to_json())
    with pytest.raises(edgead.ConfigError, match="no further settings"):
        edgead.train_bundle(tiny_data, config=edgead.api._settings(None, {}), runs=tmp_path)


CLIENT = """
import numpy as np

import edgead

with edgead.load("bundle", engine="onnxruntime-int8") as model:
    result: edgead.ImageResult = model.predict(np.zeros((480, 640, 3), np.uint8), class_name=None)
    score: float = result.score
    results: list[edgead.ImageResult] = model.predict([result.image])
    for verdict in edgead.open_stream(model, "camera:0", settings={"alerts.latch": True}):
        alarm: bool = verdict.is_anomalous
reveal_type(edgead.train_bundle("data").bundle)
"""


@pytest.mark.slow
def test_a_client_is_type_checked(tmp_path: Path) -> None:
    """mypy, strict, finds nothing wrong with ten right lines, knows the types, and finds a wrong one."""
    file = tmp_path / "client.py"
    # with the cache of `make types`, which checks the same modules: each is spared what the other has done
    command = [sys.executable, "-m", "mypy", "--strict", str(file)]
    file.write_text(CLIENT, encoding="utf-8")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 'Revealed type is "edgead.bundle.Bundle"' in done.stdout, done.stdout + done.stderr
    assert "Success: no issues" in done.stdout, done.stdout + done.stderr
    file.write_text(CLIENT.replace("score: float", "score: str"), encoding="utf-8")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Incompatible types in assignment" in done.stdout
