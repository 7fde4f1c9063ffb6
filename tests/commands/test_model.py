"""`edgead model`: installation of real bundles, and a stream that runs the active one."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import THRESHOLD_IMAGES
from edgead.cli import app
from edgead.commands import model as command
from edgead.commands.model import InstallOptions, install
from edgead.commands.model_facts import model_facts
from edgead.commands.same_part import require_same_part
from edgead.commands.train import TrainResult
from edgead.errors import BundleError, CheckFailed, ConfigError, StorageError
from edgead.line.installer import INCOMING
from edgead.line.model_control import StoreControl
from edgead.line.model_store import ModelStore
from tests.notes import Notes
from tests.resealing import rewrite

WHO = InstallOptions(who="ann", why="first", threads=1)


@pytest.fixture(scope="module")
def installed(tiny_result: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one model; copy it to change it."""
    folder = tmp_path_factory.mktemp("store") / "models"
    install(ModelStore(folder), tiny_result.bundle.path, Notes(), WHO)
    return folder


@pytest.fixture
def store(installed: Path, tmp_path: Path) -> Iterator[ModelStore]:
    folder = tmp_path / "models"
    shutil.copytree(installed, folder)
    yield ModelStore(folder)
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []


@pytest.fixture
def second(bundle_copy: Callable[[], Bundle]) -> Bundle:
    """The same model under another digest."""
    bundle = bundle_copy()
    rewrite(bundle.path / "bundle.json", lambda manifest: manifest["provenance"].update(seed=4711))
    return open_bundle(bundle.path)


def test_an_installed_model_is_complete(store: ModelStore, tiny_result: TrainResult) -> None:
    """The first model is active, verified, with an engine of its own, and the record has who and why."""
    active, why = store.active()
    bundle = open_bundle(store.path(active))
    assert bundle.digest == tiny_result.bundle.digest == active.digest
    assert (active.engine, active.who, active.why) == ("onnxruntime-fp32", "ann", "first")
    assert (bundle.engines_path / active.engine / "engine.json").is_file()
    assert why.who == "ann"


def test_an_update_builds_the_engine_of_the_active_model(
    store: ModelStore, second: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same backend and precision are asked of the builder, and nothing changes for the line until it is activated."""
    asked = []
    real = command.build_engine

    def build(bundle: Bundle, precision: object, backend: object, *rest: object) -> object:
        asked.append((precision, backend))
        return real(bundle, precision, backend, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "build_engine", build)
    before = store.active()[0]
    model = install(store, second.path, Notes(), WHO)
    assert asked == [("fp32", "onnxruntime")]
    assert store.active()[0] == before
    again = Notes()
    install(store, second.path, again, InstallOptions(who="bob", activate=True, threads=1))
    assert any("installed already" in text for text in again.texts)
    assert len(asked) == 1
    assert store.active()[0] == model
    assert store.active()[1].who == "bob"


def _damaged(bundle: Bundle) -> None:
    content = bytearray(bundle.model_path.read_bytes())
    content[100] ^= 1
    bundle.model_path.write_bytes(content)


def test_a_damaged_bundle_changes_nothing(store: ModelStore, second: Bundle) -> None:
    """One flipped bit is found before anything is copied."""
    before = store.file.read_bytes()
    _damaged(second)
    with pytest.raises(BundleError, match="SHA-256"):
        install(store, second.path, Notes(), WHO)
    assert store.file.read_bytes() == before


@pytest.mark.parametrize("what", ["model", "engine", "folder"])
def test_an_installation_repairs(store: ModelStore, tiny_result: TrainResult, what: str) -> None:
    """A damaged or missing copy or engine is replaced by the bundle that was installed."""
    active = store.active()[0]
    copy = open_bundle(store.path(active))
    if what == "model":
        _damaged(copy)
    else:
        shutil.rmtree(copy.path if what == "folder" else copy.engines_path / active.engine)
    notes = Notes()
    install(store, tiny_result.bundle.path, notes, WHO)
    assert any("is not whole, and is copied again" in text for text in notes.texts)
    repaired = open_bundle(store.path(store.active()[0]))
    assert repaired.digest == active.digest
    assert (repaired.engines_path / active.engine / "engine.json").is_file()


def test_a_bundle_of_another_camera_is_refused(store: ModelStore, second: Bundle) -> None:
    """Other kinds of parts are named, and only an explicit word installs them."""

    def rename(manifest: dict[str, object]) -> None:
        thresholds = manifest["thresholds"]
        assert isinstance(thresholds, dict)
        manifest["classes"] = ["lid"]
        thresholds["lid"] = thresholds.pop("disc")

    rewrite(second.path / "bundle.json", rename)
    with pytest.raises(ConfigError, match=r"judges lid, and the active model .* judges disc"):
        install(store, second.path, Notes(), WHO)
    assert install(store, second.path, Notes(), InstallOptions(other_part=True, threads=1)).classes == ("lid",)


def test_a_bundle_of_another_camera_with_the_same_class_is_refused(
    store: ModelStore, second: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its good images are anomalous to the active model, or those of the active model to it."""
    active = store.active()[0]
    images = open_bundle(store.path(active)).calibration_images()
    monkeypatch.setattr(Bundle, "calibration_images", lambda bundle: 255 - images)
    with pytest.raises(ConfigError, match=rf"8 of 8 good images of the active model {active.name} are anomalous to"):
        install(store, second.path, Notes(), WHO)
    assert store.active()[0] == active
    size = second.image_size
    larger = property(lambda bundle: size if bundle.digest == active.digest else (2 * size[0], 2 * size[1]))
    monkeypatch.setattr(Bundle, "image_size", larger)
    with pytest.raises(ConfigError, match=rf"8 of 8 good images of .* are anomalous to the active model {active.name}"):
        require_same_part(second, active, open_bundle(store.path(active)), threads=1)


def test_a_failed_check_and_a_full_disk_change_nothing(
    store: ModelStore, second: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle whose reference does not fit its graph fails doctor's check; too little room is said with the size."""
    before = store.file.read_bytes()
    monkeypatch.setattr(command, "ROOM", 1e9)
    with pytest.raises(StorageError, match="Installing a model needs"):
        install(store, second.path, Notes(), WHO)
    monkeypatch.undo()
    from edgead.commands.doctor.check import Check

    monkeypatch.setattr(
        command, "check_model", lambda *_, **__: [Check("engine reference", "failed", "it differs", "build it again")]
    )
    with pytest.raises(CheckFailed, match="Not installed: engine reference: it differs"):
        install(store, second.path, Notes(), WHO)
    assert store.file.read_bytes() == before
    assert [path.name for path in store.folder.iterdir() if path.is_dir()] == [store.active()[0].name]


def test_the_command_line(store: ModelStore, second: Bundle, tiny_data: Path, tmp_path: Path) -> None:
    """Install, list, roll back, and a stream that says which model is active and why."""
    run = CliRunner()
    models = ["--models", str(store.folder)]
    arguments = ["model", "install", str(second.path), *models, "--activate", "--who", "bob", "--why", "new light"]
    done = run.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    listed = json.loads(run.invoke(app, ["model", "list", *models, "--json"]).stdout)
    assert listed["active"] == second.digest[:12]
    source = ["--source", str(tiny_data / "test" / "good"), "--alerts", str(tmp_path / "alerts"), "--max-frames", "1"]
    streamed = run.invoke(app, ["stream", *models, *source])
    assert streamed.exit_code == 0, streamed.output
    assert f"Model {second.digest[:12]} of {store.folder} is active: bob activated it at" in streamed.output
    assert ": new light" in streamed.output
    back = run.invoke(app, ["model", "rollback", *models])
    assert back.output.strip() == f"{listed['previous']} is active again."
    both = run.invoke(app, ["stream", str(second.path), *models, *source])
    assert isinstance(both.exception, ConfigError)


def test_facts_are_those_of_the_engine_that_the_line_runs(store: ModelStore, tiny_result: TrainResult) -> None:
    """Origin, promise and learned alerts from manifest and engine; nothing of a model whose files are gone."""
    model, _ = store.active()
    facts = model_facts(store.path(model), model)
    assert facts is not None
    record = tiny_result.bundle.thresholds().threshold
    (promise,) = facts["promises"]
    assert (promise["threshold"], promise["false_alarm_rate"]) == (record.value, record.false_alarm_rate)
    assert (facts["origin"], facts["learned"]) == ("trained", ())
    shutil.rmtree(store.path(model) / "engines")
    assert model_facts(store.path(model), model) is None


def test_the_images_behind_a_threshold_travel_with_the_model(store: ModelStore, second: Bundle) -> None:
    """The page gets the picture that the training put into the bundle; one that is not there or was changed is refused."""
    picture = b"picture of good parts"
    (second.path / THRESHOLD_IMAGES).write_bytes(picture)
    digest = hashlib.sha256(picture).hexdigest()
    rewrite(second.path / "bundle.json", lambda manifest: manifest["sha256"].update({THRESHOLD_IMAGES: digest}))
    install(store, second.path, Notes(), WHO)
    control = StoreControl(store, facts=model_facts)
    first, other = control.describe()["installed"]
    assert [one["facts"]["has_threshold_images"] for one in (first, other)] == [False, True]
    assert control.threshold_images(other["name"]) == picture
    with pytest.raises(ConfigError, match="has no picture of the good images"):
        control.threshold_images(first["name"])
    with pytest.raises(ConfigError, match="No model gone is installed"):
        control.threshold_images("gone")
    (copy,) = store.folder.glob(f"*{other['name']}*/**/{THRESHOLD_IMAGES}")
    copy.chmod(0o644)
    copy.write_bytes(b"another picture")
    with pytest.raises(BundleError, match="was changed or damaged"):
        control.threshold_images(other["name"])


@pytest.mark.slow
def test_a_stream_installs_a_bundle_in_a_process_of_its_own(store: ModelStore, second: Bundle, tmp_path: Path) -> None:
    """The real command: a damaged bundle is refused in its words, a whole one is installed and activated."""
    control = StoreControl(store, facts=model_facts)
    incoming = store.folder / INCOMING
    shutil.copytree(second.path, incoming / "new")
    shutil.copytree(second.path, incoming / "damaged")
    (incoming / "damaged" / "model.onnx").write_bytes(b"other")
    control.install("damaged", "ann", "new lens", precision=None, activate=True)
    assert "was changed after the bundle was made" in ended(control)["error"]
    control.install("new", "ann", "new lens", precision=None, activate=True)
    found = ended(control)
    assert (found["state"], found["model"]) == ("done", second.digest[:12])
    active, why = store.active()
    assert (active.digest, why.who, why.why) == (second.digest, "ann", "new lens")
    assert control.describe()["installed"][-1]["facts"]["origin"] == "trained"
    control.close()


def ended(control: StoreControl) -> dict[str, Any]:
    end_s = time.monotonic() + 120.0
    while (found := control.describe()["installation"])["state"] == "running":
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return dict(found)
