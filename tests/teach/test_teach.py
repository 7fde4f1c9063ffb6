"""`edgead teach`: pictures in, versions of a bundle out, and what goes wrong on a device."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.bundle import open_bundle
from edgead.bundle_files import THRESHOLD_IMAGES
from edgead.commands import teach as command
from edgead.commands.bundle import bundle_facts, verify_bundle
from edgead.commands.teach import TeachOptions, TeachResult, teach
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.data.reader import read_image
from edgead.errors import BundleError, ConfigError, DataError, EdgeadError, StorageError
from edgead.progress import Silent
from edgead.stream.frame import Frame
from edgead.stream.sources.source import SourceReport
from edgead.teach.base import BASE_FILE, FEATURES, Base, open_base, write_base
from edgead.teach.learning import learn
from edgead.teach.run import TaughtRun, now
from edgead.teach.teacher import Teacher, fit_settings
from edgead.teach.verdict import judge_taught

CONFIG = load_config(None, {})
Write = Callable[[str, range], Path]


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


class Camera:
    """A live source that shows each part for some frames, with a frame in motion before it."""

    name, live, paced, fps = "camera:9", True, True, 10.0

    def __init__(self, parts: NDArray[np.uint8], frames: int = 3) -> None:
        self.report = SourceReport()
        self._parts, self._frames = parts, frames

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        index = 0
        for part in self._parts:
            moving = np.roll(part, 20, axis=1)
            for image in (moving, *[part] * self._frames):
                yield Frame(image, index, index / 10.0, self.name)
                index += 1

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def test_a_taught_bundle_is_a_bundle(taught: TeachResult, base: Base) -> None:
    """It verifies, says what it learnt from, and promises the rate of leave-one-out."""
    assert "every digest right" in verify_bundle(taught.run / "bundle")
    manifest = taught.bundle.manifest
    record = manifest.provenance.taught
    assert record is not None
    assert (record.base_digest, record.version) == (base.digest, 1)
    assert manifest.provenance.n_images == {"fit": 8, "threshold": 8}
    assert len(set(manifest.provenance.image_digests)) == 8
    assert manifest.thresholds["all"].threshold.false_alarm_rate == pytest.approx(1 / 9, abs=1e-4)
    assert manifest.thresholds["all"].threshold.certified
    assert manifest.parity.scores < 1e-4
    assert dict(bundle_facts(taught.run / "bundle"))["taught"].endswith("pictures left out: none")
    images, corrections = taught.bundle.held_out(), taught.bundle.held_out_corrections()
    assert images is not None
    assert corrections is not None
    assert len(images[0]) == len(corrections[1]) == 8
    # the good images that set the threshold, as many as there are
    assert read_image(taught.bundle.path / THRESHOLD_IMAGES).shape[1] > 8 * 240


def test_a_camera_teaches(base: Base, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """Of each part one frame at rest is accepted; what is left out is counted by its reason."""
    options = TeachOptions(base.path, tmp_path / "run", source="9", count=5, every_s=0.0)
    result = teach(options, CONFIG, Silent(), source=Camera(pictures[:6]))
    provenance = result.bundle.manifest.provenance
    assert provenance.n_images["fit"] == 5
    assert provenance.taught is not None
    # the last part is accepted with its second frame, and its third is not looked at
    assert provenance.taught.left_out == {"moving": 10, "near-copy": 4}
    assert provenance.data_root == "camera:9"
    assert len(list((tmp_path / "run" / "pictures").iterdir())) == 5


def test_more_parts_give_a_new_version(base: Base, write_pictures: Write, tmp_path: Path) -> None:
    """The old version stays byte for byte, the new one has the pictures of both, and copies are not counted twice."""
    run = tmp_path / "run"
    first = teach(TeachOptions(base.path, run, data=write_pictures("one", range(6))), CONFIG, Silent())
    again = teach(TeachOptions(None, run, data=write_pictures("two", range(4, 9))), CONFIG, Silent())
    assert open_bundle(run / "versions" / "1").digest == first.bundle.digest
    assert open_bundle(run / "bundle").digest == again.bundle.digest
    provenance = again.bundle.manifest.provenance
    assert provenance.n_images["fit"] == 9
    assert provenance.taught is not None
    assert (provenance.taught.version, provenance.taught.left_out) == (2, {"taught before": 2})
    dropped = teach(TeachOptions(None, run, drop=("0002.png",)), CONFIG, Silent())
    assert dropped.bundle.manifest.provenance.n_images["fit"] == 8
    with pytest.raises(DataError, match="0002"):
        teach(TeachOptions(None, run, drop=("0002.png",)), CONFIG, Silent())


def test_too_few_pictures_are_kept_for_the_next_time(base: Base, write_pictures: Write, tmp_path: Path) -> None:
    """The error says how many there are and how many are needed; the next teaching adds to them."""
    run = tmp_path / "run"
    with pytest.raises(DataError, match="3 good pictures were accepted; a threshold needs 5"):
        teach(TeachOptions(base.path, run, data=write_pictures("few", range(3))), CONFIG, Silent())
    result = teach(TeachOptions(None, run, data=write_pictures("more", range(3, 7))), CONFIG, Silent())
    assert (result.version, result.bundle.manifest.provenance.n_images["fit"]) == (1, 7)


def test_a_full_disk_leaves_the_old_version(
    base: Base, write_pictures: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills while the bundle is written: an error that says so, the old version, and nothing half written."""
    run = tmp_path / "run"
    first = teach(TeachOptions(base.path, run, data=write_pictures("one", range(6))), CONFIG, Silent())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgead.commands.taught_bundle.write_weights", full)
    with pytest.raises(StorageError, match="disk is full"):
        teach(TeachOptions(None, run, data=write_pictures("two", range(6, 8))), CONFIG, Silent())
    assert open_bundle(run / "bundle").digest == first.bundle.digest
    assert [path.name for path in (run / "versions").iterdir()] == ["1"]
    assert TaughtRun.open(run).record.pictures[-1].file == "0008.png"  # type: ignore[union-attr]


def test_a_small_disk_is_refused_at_once(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody shows ten parts."""
    monkeypatch.setattr("edgead.storage._free_bytes", lambda folder: 1000)
    with pytest.raises(StorageError, match="A taught bundle needs"):
        teach(
            TeachOptions(base.path, tmp_path / "run", source="9"),
            CONFIG,
            Silent(),
            source=Camera(np.empty((0, 8, 8, 3), np.uint8)),
        )


def test_a_base_of_another_backbone_is_refused(
    base: Base, write_pictures: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both backbones."""
    run = tmp_path / "run"
    with pytest.raises(DataError):
        teach(TeachOptions(base.path, run, data=write_pictures("few", range(2))), CONFIG, Silent())
    other = Base(base.path, base.manifest.model_copy(update={"backbone": "resnet18"}), "0" * 64)
    monkeypatch.setattr(command, "open_base", lambda path: other)
    with pytest.raises(BundleError, match="taught with the backbone test_efficientnet, not resnet18"):
        teach(TeachOptions(base.path, run, drop=("0001.png",)), CONFIG, Silent())


def test_a_damaged_base_is_refused(base: Base, tmp_path: Path) -> None:
    """A flipped bit in a graph or in the manifest, a missing file, and a folder of something else are named."""
    copy = tmp_path / "base"
    shutil.copytree(base.path, copy)
    content = bytearray((copy / FEATURES).read_bytes())
    content[1000] ^= 1
    (copy / FEATURES).write_bytes(content)
    with pytest.raises(BundleError, match=r"features.onnx was changed or damaged"):
        open_base(copy)
    (copy / FEATURES).unlink()
    with pytest.raises(BundleError, match=r"incomplete: .*features.onnx is missing"):
        open_base(copy)
    manifest = copy / BASE_FILE
    manifest.write_text(manifest.read_text().replace('"weight": 1.0', '"weight": 2.0', 1))
    with pytest.raises(BundleError, match=r"base.json was changed"):
        open_base(copy)
    with pytest.raises(BundleError, match="is not a base bundle"):
        open_base(tmp_path)


def test_a_new_teaching_needs_a_base(tmp_path: Path) -> None:
    """And says how to get one."""
    with pytest.raises(ConfigError, match="needs a base bundle") as raised:
        teach(TeachOptions(None, tmp_path / "run", source="9"), CONFIG, Silent())
    assert "export --base" in raised.value.hint


def test_a_clock_that_jumped_is_named(
    base: Base, write_pictures: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock before the time of the base bundle is a warning, and versions are numbered without it."""
    run = tmp_path / "run"
    teach(TeachOptions(base.path, run, data=write_pictures("one", range(6))), CONFIG, Silent())
    early = now().replace(year=1970)
    monkeypatch.setattr(command, "now", lambda: early)
    monkeypatch.setattr("edgead.teach.run.now", lambda: early)
    notes = Notes()
    result = teach(TeachOptions(None, run, data=write_pictures("two", range(6, 8))), CONFIG, notes)
    assert any("clock says 1970" in text for text in notes.texts)
    assert result.version == 2
    assert open_bundle(run / "bundle").digest == result.bundle.digest


def test_faulty_pictures_are_left_out(base: Base, pictures: NDArray[np.uint8]) -> None:
    """Black, over-exposed and blurred ones, and a second picture of the same part with the noise of a sensor."""
    import cv2

    teacher = Teacher(base, count=5)
    noise = np.random.default_rng(0).integers(-3, 4, pictures[0].shape)
    same = np.clip(pictures[0].astype(int) + noise, 0, 255).astype(np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(pictures[4], (0, 0), 6), np.uint8)
    shown = [teacher.add(picture, str(i)) for i, picture in enumerate(pictures[:4])]
    assert all(one.is_accepted for one in shown)
    kinds = []
    for picture in (np.zeros_like(same), np.full_like(same, 255), blurred, same):
        refused = teacher.add(picture, "x").refused
        assert refused is not None
        kinds.append(refused.kind)
    assert kinds == ["black", "over-exposed", "blurred", "near-copy"]
    assert teacher.add(pictures[4], "4").is_accepted
    assert teacher.add(pictures[5], "5").refused is not None
    assert dict(teacher.left_out) == {kind: 1 for kind in (*kinds, "enough")}


def test_left_out_scores_come_picture_by_picture(base: Base, pictures: NDArray[np.uint8]) -> None:
    """From the fifth picture on there is one for each, as the fit of all forms gives them; a picture taken back has none."""
    teacher = Teacher(base, count=6)
    lengths, steps = [], []
    for number, picture in enumerate(pictures[:6]):
        teacher.add(picture, str(number))
        lengths.append(len(teacher.left_out_scorer()(lambda done, total: steps.append((done, total)))))
    assert lengths == [0, 0, 0, 0, 5, 6]
    assert steps == [*((done, 5) for done in range(1, 6)), *((done, 6) for done in range(1, 7))]
    scorer = teacher.left_out_scorer()
    teacher.remove(2)
    assert len(scorer(lambda done, total: None)) == 6
    left = teacher.left_out_scorer()(lambda done, total: None)
    others = [teacher._net(teacher.fitted(picture)) for number, picture in enumerate(pictures[:6]) if number != 2]
    assert left == pytest.approx(learn(base, others, (), (), fit_settings(base)).scores)
    assert teacher.add(pictures[2], "again").is_accepted
    teacher.refuse_like(teacher.remove(5))
    refused = teacher.add(pictures[2], "and again").refused
    assert refused is not None
    assert refused.kind == "dropped"


@pytest.mark.parametrize("count", [4, 201])
def test_the_number_of_pictures_has_limits(base: Base, count: int) -> None:
    """Fewer than 5 give no threshold, and more than 200 are for a workstation."""
    with pytest.raises(DataError, match="5 to 200 pictures"):
        Teacher(base, count=count)


def test_the_verdict_names_what_is_weak() -> None:
    """A picture far above the others, few defects found, and the number of pictures that would promise less."""
    scores = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 9.0])
    verdict = judge_taught(scores, np.full(10, 2.0), 9.0, [f"{i}.png" for i in range(8)])
    assert (verdict.odd, verdict.found, verdict.next_count) == (("7.png",), 0.0, (9, 0.1))
    text = " ".join(verdict.sentences())
    assert "7.png is unlike the others" in text
    assert "most small defects are missed" in text
    assert "with fewer than 20 pictures" in text
    assert judge_taught(scores[:7], np.full(10, 2.0), 1.1, list("abcdefg")).odd == ()


@pytest.mark.parametrize(
    ("values", "why"),
    [({"model.couplings": "auto"}, "model.couplings must be never"), ({"data.tiles": "2x1"}, "judges whole frames")],
)
def test_a_base_is_for_closed_forms_of_whole_frames(values: dict[str, object], why: str, tmp_path: Path) -> None:
    """Other settings are refused before anything is exported."""
    from edgead.commands.export_base import export_base

    config: Config = load_config(None, values)
    with pytest.raises(ConfigError, match=why):
        export_base(config, tmp_path / "base", Silent())


def _small_run(base: Base, path: Path) -> TaughtRun:
    """A teaching with three accepted pictures, `0001.png` to `0003.png`."""
    run = TaughtRun.begin(path, base, 255, None)
    for number in range(3):
        run.keep(b"picture %d" % number, ".png", f"part{number}.png")
    return run


def test_a_dropped_picture_is_not_written_over(base: Base, tmp_path: Path) -> None:
    """The next picture gets a number of its own, though the last one is not taught any more."""
    run = _small_run(base, tmp_path / "run")
    run.drop(["0003.png"])
    assert run.keep(b"another", ".png", "other.png").file == "0004.png"
    assert (run.path / "pictures" / "0003.png").read_bytes() == b"picture 2"


def test_a_dropped_picture_stays_out(base: Base, write_pictures: Write, tmp_path: Path) -> None:
    """The same file in a later folder is left out and counted; a record of before, without dropped pictures, is read."""
    data, path = write_pictures("data", range(3)), tmp_path / "run"
    for options in (TeachOptions(base.path, path, data=data), TeachOptions(None, path, data=data, drop=("0002.png",))):
        with pytest.raises(DataError, match="good pictures were accepted") as raised:
            teach(options, CONFIG, Silent())
    assert "2 good pictures" in raised.value.message
    assert "1 dropped before, 2 taught before" in raised.value.message
    record = json.loads((path / "teach.json").read_text())
    assert len(record.pop("dropped")) == 1
    (path / "teach.json").write_text(json.dumps(record))
    earlier = TaughtRun.open(path)
    assert earlier is not None
    assert earlier.dropped == frozenset()


def test_a_picture_that_cannot_be_read_is_counted(
    base: Base, write_pictures: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and the others are taught."""
    data, notes, read = write_pictures("data", range(3)), Notes(), Path.read_bytes

    def denied(path: Path) -> bytes:
        if path == data / "part1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"2 good pictures were accepted.*1 unreadable"):
        teach(TeachOptions(base.path, tmp_path / "run", data=data), CONFIG, notes)
    assert any("part1.png cannot be read: Permission denied" in text for text in notes.texts)


def test_a_base_with_settings_of_another_version_is_refused(base: Base, tmp_path: Path) -> None:
    """When it is opened, before any part is shown; the error names the setting and what to do."""
    files = {name: base.path / name for name in base.manifest.sha256 if name != BASE_FILE}
    config = {**base.manifest.config, "train": {**base.manifest.config["train"], "of_tomorrow": 1}}
    with pytest.raises(BundleError, match=r"train\.of_tomorrow") as raised:
        write_base(tmp_path / "base", base.manifest.model_copy(update={"config": config}), files)
    assert "Update edgead" in raised.value.hint


def test_a_folder_as_a_source_teaches(base: Base, write_pictures: Write, tmp_path: Path) -> None:
    """Each of its images is another part, so none is left out as moving."""
    source = str(write_pictures("data", range(3)))
    with pytest.raises(DataError, match="3 good pictures were accepted") as raised:
        teach(TeachOptions(base.path, tmp_path / "run", source=source), CONFIG, Silent())
    assert "Left out" not in raised.value.message


@pytest.mark.parametrize("is_drop", [False, True])
def test_a_wrong_option_leaves_no_folder(base: Base, tmp_path: Path, is_drop: bool) -> None:
    """A folder of pictures that does not exist, and a picture to leave out of a new teaching."""
    options = TeachOptions(
        base.path, None, data=None if is_drop else tmp_path / "none", drop=("0001.png",) if is_drop else ()
    )
    with pytest.raises(ConfigError if is_drop else DataError):
        teach(options, CONFIG, Silent(), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("source", ["nonsense://here", "no-such-folder/video.mp4"])
def test_a_source_that_gives_nothing_leaves_no_folder(base: Base, tmp_path: Path, source: str) -> None:
    """An unknown or missing source is named, and no empty teaching stays, named or not."""
    for out in (None, tmp_path / "out"):
        with pytest.raises(EdgeadError):
            teach(TeachOptions(base.path, out, source=source, count=5), CONFIG, Silent(), runs=tmp_path / "runs")
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "runs").glob("*")]


def test_a_disk_that_fills_while_parts_are_shown_keeps_those_before(
    base: Base, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture that finds no room is named; those accepted before it are there for the next teaching."""
    real, accepted = TaughtRun.keep, []

    def keep(run: TaughtRun, content: bytes, suffix: str, source: str) -> object:
        if len(accepted) == 2:
            raise StorageError("The disk is full.", hint="Free some space.")
        accepted.append(source)
        return real(run, content, suffix, source)

    options = TeachOptions(base.path, tmp_path / "run", source="9", count=5, every_s=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(TaughtRun, "keep", keep)
        with pytest.raises(StorageError, match="disk is full"):
            teach(options, CONFIG, Silent(), source=Camera(pictures[:6]))
    again = teach(options, CONFIG, Silent(), source=Camera(pictures[2:6]))
    assert again.bundle.manifest.provenance.n_images["fit"] == 6
