"""`edgead learn`: a false alarm becomes a new version, what was found is found still, and the way back is exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from edgead.aligner import PartNotFoundError
from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import THRESHOLD_IMAGES, file_digest
from edgead.bundle_writer import write_bundle
from edgead.cli import app
from edgead.commands import learned_bundle as command
from edgead.commands.alerts import judge
from edgead.commands.bundle import bundle_facts
from edgead.commands.learn import LearnOptions, learn
from edgead.commands.learned_bundle import JudgedPicture, LearnResult, learn_pictures, stored_digest
from edgead.commands.model import InstallOptions, install
from edgead.commands.teach import TeachOptions, teach
from edgead.config.file import load_config
from edgead.data.reader import read_image
from edgead.data.synthetic.make import write_dataset
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import CheckFailed, ConfigError, DataError, EdgeadError, StorageError
from edgead.evaluation.threshold import class_thresholds
from edgead.export import maxima
from edgead.graph_file import constants_of
from edgead.imaging import Image, png_from_rgb
from edgead.line.model_control import StoreControl
from edgead.line.model_store import Installed, ModelStore
from edgead.models.zoo import load_model
from edgead.progress import Silent
from edgead.storage import exclusive
from edgead.stream.frame import Frame
from edgead.stream.judged_frames import FOLDER, FrameJudgement, HeldFrame, JudgedFrames
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.records import Change
from edgead.teach.base import Base, write_base
from edgead.teach.changed_files import LevelNet
from edgead.teach.closed_form import open_closed_form
from edgead.teach.learner import Outcome, twin
from edgead.teach.probes import PROBES, load_probes
from edgead.web.model_handlers import Learned
from tests.notes import Notes

from ..stream.spool.builders import alert_id, record, spool
from ..tiny import SIDE

FORMS = ("positions", "centres")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts, of which the last ones are not taught."""
    data = tmp_path_factory.mktemp("parts") / "parts"
    write_dataset(data, "disc", n_train=12, n_test_good=2, n_test_per_defect=1, seed=1, size=(SIDE, SIDE))
    return data


@pytest.fixture(scope="module", params=FORMS)
def bundle(request: pytest.FixtureRequest, base: Base, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of each form, taught with twelve parts."""
    folder = tmp_path_factory.mktemp(request.param)
    manifest = base.manifest.model_copy(
        update={"forms": {request.param: base.manifest.forms[request.param]}, "sha256": {}}
    )
    files = {name: base.path / name for name in base.manifest.sha256 if name != "base.json"}
    one = write_base(folder / "base", manifest, files)
    options = TeachOptions(one.path, folder / "run", data=parts)
    return teach(options, load_config(None, {}), Silent()).bundle


@pytest.fixture
def speck(parts: Path) -> Image:
    """A good part with a speck."""
    return with_speck(read_image(sorted((parts / "test" / "good").iterdir())[0]), (30, 34))


def with_speck(image: Image, place: tuple[int, int]) -> Image:
    changed: Image = image.copy()
    cv2.circle(changed, place, 3, (250, 240, 120), -1)
    return changed


def score(bundle: Bundle, *images: Image) -> NDArray[np.float32]:
    with OnnxRunner(bundle.model_path, threads=1, engine_name="reference") as runner:
        return np.concatenate([runner.infer(bundle.preprocess(image)[None])["pred_score"].copy() for image in images])


def picture(image: Image, name: str = "alert") -> JudgedPicture:
    return JudgedPicture(name, stored_digest(png_from_rgb(image)), image, "ann")


def with_threshold(bundle: Bundle, value: float) -> Bundle:
    """The bundle with another threshold, in memory."""
    thresholds = bundle.manifest.thresholds["all"]
    share = np.linspace(0.2, 1.0, len(thresholds.scores))
    changed = class_thresholds(share * value, share * 2 * value, min(thresholds.heatmap_low, value / 4), 1 / 13)
    return bundle.with_thresholds({name: changed for name in bundle.manifest.thresholds}, None)


def test_a_speck_is_learned(bundle: Bundle, speck: Image, tmp_path: Path) -> None:
    """Its twins stop alarming, no score rises, graph and weights agree, and the record says what was learned."""
    before = with_threshold(bundle, float(score(bundle, speck)[0]) * 0.8)
    limit = before.manifest.thresholds["all"].threshold.value
    result = learn_pictures(before, tmp_path / "new", [picture(speck)], Silent(), sure=True, threads=1)
    outcome = result.outcomes[0][1]
    assert outcome.refusal is None, outcome.reason
    new = result.bundle
    assert new is not None
    assert outcome.score > limit >= outcome.score_after
    assert score(new, speck)[0] == pytest.approx(outcome.score_after, rel=1e-4)
    twins = [twin(speck, 99, number) for number in range(10)]
    assert (score(new, *twins) <= limit).mean() >= 0.9
    assert (new.path / THRESHOLD_IMAGES).read_bytes() == (bundle.path / THRESHOLD_IMAGES).read_bytes()
    images = bundle.reference()["images"]
    old_scores, new_scores = score(bundle, *images), score(new, *images)
    assert (new_scores <= old_scores + 1e-3).all()
    np.testing.assert_allclose(new.reference()["pred_score"], new_scores, rtol=1e-5)
    learned = new.manifest.provenance.learned
    assert [(one.alert, one.judged_by, one.positions) for one in learned] == [("alert", "ann", outcome.n_positions)]
    assert learned[0].digest in new.manifest.provenance.image_digests
    again = learn_pictures(new, tmp_path / "again", [picture(speck)], Silent(), sure=True, threads=1)
    assert again.bundle is None
    assert again.outcomes[0][1].refusal == "silent"


def test_the_inputs_of_the_reference_images_travel_in_the_bundle(bundle: Bundle, speck: Image, tmp_path: Path) -> None:
    """They give the new reference without the graph, and bundles of earlier versions get them with the next picture."""
    before = with_threshold(bundle, float(score(bundle, speck)[0]) * 0.8)
    new = learn_pictures(before, tmp_path / "new", [picture(speck)], Silent(), sure=True, threads=1).bundle
    assert new is not None
    model, images = open_closed_form(new), new.reference()["images"]
    probes = load_probes(new.path / PROBES, model)
    assert probes is not None
    np.testing.assert_allclose(
        model.maps(model.energies(probes.reference)), new.reference()["anomaly_map"], rtol=1e-3, atol=1e-3
    )
    none = [one[:0] for one in probes.reference]
    replace(probes, reference=none).save(tmp_path / PROBES)
    with np.load(tmp_path / PROBES) as stored:
        np.savez(tmp_path / PROBES, **{name: stored[name] for name in stored if not name.startswith("reference")})
    earlier = load_probes(tmp_path / PROBES, model)
    assert earlier is not None
    assert [len(one) for one in earlier.reference] == [0] * len(none)
    (new.path / PROBES).write_bytes((tmp_path / PROBES).read_bytes())
    with LevelNet(new, model, 1) as net:
        again = command._probes(new, model, net, images, Silent())
    for one, other in zip(again.reference, probes.reference, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_a_changed_graph_with_other_scores_is_refused(
    bundle: Bundle, speck: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of the backbone that was overwritten by mistake: no bundle is written."""
    before = with_threshold(bundle, float(score(bundle, speck)[0]) * 0.8)
    real = command.write_changed_graph

    def damaging(path: Path, *rest: Any) -> int:
        added = real(path, *rest)
        kernels = [one for one in constants_of(path).values() if one.is_float and one.dims[2:] == (3, 3)]
        with path.open("r+b") as file:
            file.seek(kernels[0].start)
            file.write(np.full(9, 0.5, "<f4").tobytes())
        return added

    monkeypatch.setattr(command, "write_changed_graph", damaging)
    with pytest.raises(CheckFailed, match="does not give the scores that were computed without it"):
        learn_pictures(before, tmp_path / "new", [picture(speck)], Silent(), sure=True, threads=1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bundle", ["centres"], indirect=True)
def test_a_graph_that_compares_its_centres_in_parts(
    bundle: Bundle, speck: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of centres still divides into the parts, as in the graph of a training."""
    monkeypatch.setattr(maxima, "MIN_CHANNELS", maxima.PARTS)
    proto = onnx.load(str(bundle.model_path))
    maxima.split_maxima(proto)
    assert any(node.op_type == "Split" for node in proto.graph.node)
    onnx.save(proto, str(tmp_path / "model.onnx"))
    files = {name: bundle.path / name for name in bundle.manifest.sha256 if name != "bundle.json"}
    manifest = with_threshold(bundle, float(score(bundle, speck)[0]) * 0.8).manifest.model_copy(update={"sha256": {}})
    before = write_bundle(tmp_path / "before", manifest, {**files, "model.onnx": tmp_path / "model.onnx"})
    result = learn_pictures(before, tmp_path / "new", [picture(speck)], Silent(), sure=True, threads=1)
    assert result.bundle is not None
    assert score(result.bundle, speck)[0] == pytest.approx(result.outcomes[0][1].score_after, rel=1e-4)


def test_torch_gives_the_same(bundle: Bundle, speck: Image, tmp_path: Path) -> None:
    """A workstation that loads the weights of the new version has the model that the device runs."""
    import torch

    from edgead.models.torch_runner import TorchRunner

    before = with_threshold(bundle, float(score(bundle, speck)[0]) * 0.8)
    new = learn_pictures(before, tmp_path / "new", [picture(speck)], Silent(), sure=True, threads=1).bundle
    assert new is not None
    model = load_model(new)
    found = TorchRunner(model, model, new.image_size, torch.device("cpu")).infer(speck[None])
    assert found["pred_score"][0] == pytest.approx(float(score(new, speck)[0]), rel=1e-4)


def test_what_was_judged_a_defect_is_found_still(bundle: Bundle, speck: Image, tmp_path: Path) -> None:
    """A picture that looks like one judged a defect is refused, with its name; so is one that looks like a defect."""
    value = float(score(bundle, speck)[0])
    before = with_threshold(bundle, value * 0.8)
    same = picture(twin(speck, 5, 1), "scratch")
    result = learn_pictures(before, tmp_path / "a", [picture(speck)], Silent(), defects=[same], sure=True, threads=1)
    assert result.bundle is None
    assert result.outcomes[0][1].refusal == "gate"
    assert "scratch, judged a defect" in result.outcomes[0][1].reason
    low = with_threshold(bundle, value * 0.2)
    refused = learn_pictures(low, tmp_path / "b", [picture(speck)], Silent(), threads=1)
    assert refused.outcomes[0][1].refusal == "defect-like"
    assert not (tmp_path / "b").exists()


@pytest.fixture
def line(bundle: Bundle, speck: Image, tmp_path: Path) -> tuple[ModelStore, Path]:
    """A store whose active model alarms at a speck, and the folder with that alert, which nobody has judged."""
    value = float(score(bundle, speck)[0]) * 0.8
    files = {name: bundle.path / name for name in bundle.manifest.sha256 if name != "bundle.json"}
    manifest = with_threshold(bundle, value).manifest.model_copy(update={"sha256": {}})
    source = write_bundle(tmp_path / "source", manifest, files)
    store = ModelStore(tmp_path / "models")
    install(store, source.path, Notes(), InstallOptions(who="ann", threads=1))
    add_alert(tmp_path / "alerts", 1, speck)
    return store, tmp_path / "alerts"


def add_alert(folder: Path, number: int, image: Image) -> None:
    name = f"{alert_id(number)}-snapshot.png"
    with spool(folder) as target:
        target._archive.write([Change(patch=AlertRecord(**record(number, pictures={"snapshot": name})))])
    (folder / name).write_bytes(png_from_rgb(image))


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_learning_on_the_line_and_undoing_it(line: tuple[ModelStore, Path], speck: Image) -> None:
    """The verb learns what was judged, the new version is active, and a roll-back gives every bit of the one before."""
    store, alerts = line
    active = store.active()[0]
    before = contents(store.path(active))
    run = CliRunner()
    arguments = ["learn", "--alerts", str(alerts), "--models", str(store.folder), "--who", "bob", "--sure"]
    nothing = run.invoke(app, arguments)
    assert "There is no false alarm that was not learned yet" in nothing.output
    judge(alerts, alert_id(1), "false-alarm", who="ann")
    done = run.invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["alerts"][0]["learned"] is True
    new, why = store.active()
    assert (new.name, why.who, why.why) == (answer["model"], "bob", f"learned 1 false alarm: {alert_id(1)}")
    assert new.engine == active.engine
    bundle = open_bundle(store.path(new))
    assert score(bundle, speck)[0] <= bundle.manifest.thresholds["all"].threshold.value
    assert (bundle.path / PROBES).is_file()
    assert dict(bundle_facts(bundle.path))["learned"].startswith(f"1 false alarm, the last one {alert_id(1)} at 20")
    assert "There is no false alarm" in run.invoke(app, arguments).output, "it is learned once"
    store.roll_back(who="ann")
    assert store.active()[0] == active
    assert contents(store.path(active)) == before
    assert not [path for path in store.folder.iterdir() if path.name.endswith(".tmp")]


def test_the_first_picture_finds_its_probes(line: tuple[ModelStore, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation has made them beside the engine; a model that cannot learn has none."""
    store, alerts = line
    assert (open_bundle(store.path(store.active()[0])).engines_path / PROBES).is_file()
    judge(alerts, alert_id(1), "false-alarm", who="ann")
    monkeypatch.setattr(command, "make_probes", None)
    model, result = learn(store, alerts, Silent(), LearnOptions(sure=True, threads=1))
    assert model is not None
    assert result.outcomes[0][1].refusal is None


def test_judged_frames_take_part(line: tuple[ModelStore, Path], speck: Image, tmp_path: Path) -> None:
    """A frame judged good that alarms is learned, and one judged a defect, which raised no alert, is not found worse."""
    store, alerts = line
    judge(alerts, alert_id(1), "defect", who="ann")
    alike = alerts.with_name("alike")
    judge_frame(alerts, speck, "good")
    _, without = learn(store, alerts, Silent(), LearnOptions(sure=True, activate=False, threads=1))
    assert without.outcomes[0][0].alert.startswith("frames/pictures/")
    assert without.outcomes[0][1].refusal == "gate", "it looks like the alert judged a defect"

    add_alert(alike, 1, with_speck(speck, (8, 8)))
    judge_frame(alike, speck, "good")
    model, result = learn(store, alike, Silent(), LearnOptions(sure=True, activate=False, threads=1))
    assert model is not None
    assert [outcome.refusal for _, outcome in result.outcomes] == [None]

    judge_frame(alike, twin(speck, 5, 1), "defect")
    model, result = learn(store, alike, Silent(), LearnOptions(sure=True, activate=False, threads=1))
    assert model is None
    assert result.outcomes[0][1].refusal == "gate"
    assert "frames/pictures/" in result.outcomes[0][1].reason


def judge_frame(folder: Path, image: Image, judgement: FrameJudgement) -> None:
    """Judge a frame as the dashboard does; one that is good was found anomalous."""
    frame = Frame(image, 0, 0.0, "camera:0")
    held = HeldFrame("1", "camera", frame, "2026-11-30T00:00:00Z", 2.0, 1.0, is_anomalous=True, bundle="")
    JudgedFrames(folder / FOLDER).judge(held, judgement, "ann")


@pytest.mark.slow
def test_the_page_learns_in_a_process_of_its_own(line: tuple[ModelStore, Path]) -> None:
    """The store as the web server sees it gives the verb's answer, or its words."""
    store, alerts = line
    control = StoreControl(store, alerts)
    with pytest.raises(ConfigError, match="is judged not at all; only false alarms are learned"):
        control.learn(alert_id(1), "bob", sure=True)
    judge(alerts, alert_id(1), "false-alarm", who="ann")
    answer = Learned.model_validate(control.learn(alert_id(1), "bob", sure=True))
    assert answer.alerts[0].learned
    assert (store.active()[0].name, store.active()[1].who) == (answer.model, "bob")


def test_what_cannot_be_learned_is_named(
    line: tuple[ModelStore, Path], speck: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alert that is gone, not judged, of a shared picture, without its picture, and a full disk; the store stays."""
    store, alerts = line
    before = store.file.read_bytes()
    with pytest.raises(EdgeadError, match="There is no alert 'gone'"):
        learn(store, alerts, Silent(), LearnOptions(("gone",), threads=1))
    with pytest.raises(ConfigError, match="is judged not at all; only false alarms are learned"):
        learn(store, alerts, Silent(), LearnOptions((alert_id(1),), threads=1))
    judge(alerts, alert_id(1), "false-alarm", who="ann")
    with spool(alerts) as target:
        shared = {"snapshot": f"{alert_id(1)}-snapshot.png"}
        target._archive.write([Change(patch=AlertRecord(**record(2, pictures=shared)))])
    with pytest.raises(ConfigError, match=f"{alert_id(2)}, is judged not at all"):
        learn(store, alerts, Silent(), LearnOptions((alert_id(1),), threads=1))
    assert learn(store, alerts, Silent(), LearnOptions(sure=True, threads=1))[1].outcomes == ()
    judge(alerts, alert_id(2), "defect", who="ann")
    with pytest.raises(ConfigError, match=f"{alert_id(2)}, is judged defect"):
        learn(store, alerts, Silent(), LearnOptions((alert_id(1),), threads=1))
    judge(alerts, alert_id(2), "false-alarm", who="ann", replace=True)

    with monkeypatch.context() as patch:
        patch.setattr(command, "_ROOM", 1e9)
        with pytest.raises(StorageError, match="Learning a false alarm needs"):
            learn(store, alerts, Silent(), LearnOptions(sure=True, threads=1))
    with exclusive(store.folder / ".learn.lock", "learns"), pytest.raises(StorageError, match="learns false alarms"):
        learn(store, alerts, Silent(), LearnOptions(sure=True, threads=1))
    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "pose", no_part)
        assert learn(store, alerts, notes, LearnOptions(threads=1))[0] is None
    assert any("The part is not found" in text for text in notes.texts)
    (alerts / shared["snapshot"]).unlink()
    assert learn(store, alerts, notes, LearnOptions(threads=1))[0] is None
    assert any("is not stored any more" in text for text in notes.texts)
    with pytest.raises(DataError, match="is not stored any more"):
        learn(store, alerts, Silent(), LearnOptions((alert_id(1),), threads=1))
    assert store.file.read_bytes() == before


def no_part(bundle: Bundle, image: Image) -> None:
    raise PartNotFoundError("The part is not found.")


def test_the_way_back_and_the_way_on_are_named(tmp_path: Path) -> None:
    """A version that waits is not undone by a roll-back, which would leave another model."""
    model = Installed("a" * 12, "a" * 64, "usf", ("part",), "2026", "onnxruntime-fp32", "2026", "me")
    one = JudgedPicture("alert", "0" * 16, np.zeros((8, 8, 3), np.uint8))
    result = LearnResult(None, ((one, Outcome(2.0, 0.5)),), (0, 4))
    assert result.lines(model, tmp_path)[-1].endswith(f"To undo it: edgead model rollback --models {tmp_path}")
    waits = result.lines(model, tmp_path, is_active=False)
    assert waits[-1].endswith(f"To use it: edgead model activate {model.name} --models {tmp_path}")


def test_a_model_that_became_active_meanwhile_stays(line: tuple[ModelStore, Path]) -> None:
    """The new version of the model before is not installed, however late the change comes."""
    store, alerts = line
    judge(alerts, alert_id(1), "false-alarm", who="ann")
    other, _ = learn(store, alerts, Silent(), LearnOptions(sure=True, activate=False, threads=1))
    assert other is not None
    judge(alerts, alert_id(1), "false-alarm", who="eve", replace=True)  # two versions of one second would be the same

    class Meddling(Silent):
        def note(self, text: str) -> None:
            if text.startswith("engine "):
                store.activate(other.name, who="bob")

    with pytest.raises(ConfigError, match=f"{other.name} became active"):
        learn(store, alerts, Meddling(), LearnOptions(sure=True, threads=1))
    assert store.active()[0].name == other.name
    assert len(store.read().installed) == 2


def test_other_models_are_refused(bundle_copy: Callable[[], Bundle]) -> None:
    """A model with trained couplings has no closed form, and one of several classes has several thresholds."""
    bundle = bundle_copy()
    config = {**bundle.manifest.provenance.config}
    config["model"] = {**config["model"], "blocks": 2}
    provenance = bundle.manifest.provenance.model_copy(update={"config": config})
    other = Bundle(bundle.path, bundle.manifest.model_copy(update={"provenance": provenance}), bundle.digest)
    with pytest.raises(ConfigError, match="cannot learn from a picture: it is usf with trained couplings"):
        open_closed_form(other)
    classes = Bundle(bundle.path, bundle.manifest.model_copy(update={"classes": ("bolt", "nut")}), bundle.digest)
    with pytest.raises(ConfigError, match="it judges parts of several classes"):
        open_closed_form(classes)
