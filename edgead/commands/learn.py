"""`edgead learn`: a false alarm becomes a new version of the active model, at once and on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from edgead.bundle import Bundle, open_bundle
from edgead.commands.alerts import decisive_records, frame_of, list_alerts, show_alert
from edgead.commands.judged_frames import judged_frames
from edgead.commands.learned_bundle import JudgedPicture, LearnResult, learn_pictures, stored_digest
from edgead.commands.model import InstallOptions, install
from edgead.data.collection import Verdict
from edgead.data.reader import read_image
from edgead.errors import ConfigError, DataError
from edgead.line.model_store import KEEP, Installed, ModelStore
from edgead.progress import Progress
from edgead.storage import exclusive, scratch_folder
from edgead.stream.judged_frames import FOLDER

_LOCK = ".learn.lock"


@dataclass(frozen=True)
class LearnOptions:
    """Pictures to learn, and the use of the new version.

    Attributes:
        alerts: Alerts judged a false alarm, by id; empty = all that were not learned yet, and the frames judged so on the
            dashboard.
        sure: Whether pictures that look like a defect are confirmed to be good.
        activate: Whether to make the new version the active model.
        keep: Number of installed models to keep.
        who: Who learns; None = the user at the terminal.
        threads: CPU threads; 0 = one per core.
    """

    alerts: tuple[str, ...] = ()
    sure: bool = False
    activate: bool = True
    keep: int = KEEP
    who: str | None = None
    threads: int = 0


def learn(
    store: ModelStore, folder: Path, progress: Progress, options: LearnOptions | None = None
) -> tuple[Installed | None, LearnResult]:
    """Teach the active model of a store that pictures of false alarms are good, and install the new version.

    The version before stays as it is: `edgead model rollback` returns to it.

    Args:
        store: Model store of the line.
        folder: Folder of the stream's alerts.
        progress: Receives notes and progress.
        options: Options; None = the defaults.

    Returns:
        The installed model, None if nothing was learned, and what came of each picture.

    Raises:
        ConfigError: If an alert was not judged a false alarm, the model has no closed form, or another model became active
            meanwhile.
        DataError: If the picture of an alert in `options.alerts` cannot be read, or does not show the part.
        EdgeadError: If an alert is gone.
        StorageError: If the disk is full, or another process learns for this store; the store is unchanged.
    """
    options = options or LearnOptions()
    store.active()  # no lock in a folder without models
    # a second person would begin with the same version, and the one who installs last would undo the other
    with exclusive(store.folder / _LOCK, f"learns false alarms for {store.folder}"):
        return _learn(store, folder, progress, options)


def _learn(
    store: ModelStore, folder: Path, progress: Progress, options: LearnOptions
) -> tuple[Installed | None, LearnResult]:
    active, _ = store.active()
    bundle = open_bundle(store.path(active))
    records = list_alerts(folder)
    for alert in options.alerts:
        _require_false_alarm(show_alert(folder, alert))
    by_frame = decisive_records(records)
    wanted = [
        record
        for frame, record in by_frame.items()
        if record.get("judgement") == "false-alarm"
        and (not options.alerts or any(frame_of(one) == frame and one["id"] in options.alerts for one in records))
    ]
    for alert in options.alerts:
        frame = next(frame_of(record) for record in records if record["id"] == alert)
        if by_frame[frame].get("judgement") != "false-alarm":
            raise ConfigError(
                f"Another alert of the same picture, {by_frame[frame]['id']}, is judged "
                f"{by_frame[frame].get('judgement') or 'not at all'}.",
                hint="A picture is learned only if all its alerts are false.",
            )
    known = {record.digest for record in bundle.manifest.provenance.learned}
    alarms = [_of_alert(folder, record) for record in reversed(wanted)]
    if options.alerts:
        pictures = [_read(source, bundle) for source in alarms]
    else:
        pictures = list(_readable([*alarms, *_of_frames(folder, "false-alarm")], bundle, progress))
    pictures = [picture for picture in pictures if picture.digest not in known]
    judged = (_of_alert(folder, record) for record in by_frame.values() if record.get("judgement") == "defect")
    # a defect that raised no alarm is judged as a frame
    defects = _readable(chain(judged, _of_frames(folder, "defect")), bundle, progress)
    with scratch_folder(store.folder, "learn") as scratch:
        result = learn_pictures(
            bundle, scratch / "bundle", pictures, progress, defects=defects, sure=options.sure, threads=options.threads
        )
        if result.bundle is None:
            return None, result
        n = sum(outcome.refusal is None for _, outcome in result.outcomes)
        first = next(picture.alert for picture, outcome in result.outcomes if outcome.refusal is None)
        why = f"learned {n} false alarm{'' if n == 1 else 's'}: {first}{'' if n == 1 else ' and others'}"
        installing = InstallOptions(
            activate=options.activate, keep=options.keep, who=options.who, why=why, only_from=active.name,
            threads=options.threads, is_compared=True,
        )  # fmt: skip
        return install(store, result.bundle, progress, installing), result


@dataclass(frozen=True)
class _Stored:
    """A judged picture on disk: its file, its name for people, and who judged it."""

    path: Path
    name: str
    judged_by: str


def _of_alert(folder: Path, record: Mapping[str, Any]) -> _Stored:
    return _Stored(folder / Path(frame_of(record)).name, str(record["id"]), str(record.get("judged_by") or ""))


def _of_frames(folder: Path, verdict: Verdict) -> list[_Stored]:
    """Frames with this judgement of the dashboard, in the order of their index."""
    frames = folder / FOLDER
    return [
        _Stored(frames / entry.path, f"{FOLDER}/{entry.path}", entry.judged_by)
        for entry in judged_frames(folder)
        if entry.verdict == verdict
    ]


def _readable(sources: Iterable[_Stored], bundle: Bundle, progress: Progress) -> Iterator[JudgedPicture]:
    """Judged pictures; those that are not stored any more, or do not show the part, are noted and left out."""
    for source in sources:
        try:
            yield _read(source, bundle)
        except DataError as error:
            progress.note(f"Left out: {error.message}")


def _read(source: _Stored, bundle: Bundle) -> JudgedPicture:
    """Judged picture as the model sees it.

    Raises:
        DataError: If it is not stored any more, cannot be read, or does not show the part.
    """
    try:
        content = source.path.read_bytes()
        image = bundle.preprocess(read_image(source.path, **bundle.manifest.preprocessing.reading))
    except (DataError, OSError) as error:
        why = error.message if isinstance(error, DataError) else f"{error.strerror}."
        raise DataError(
            f"The picture of {source.name} is not stored any more, or cannot be used: {why}",
            hint="The retention limits remove old pictures. Other false alarms can be learned.",
        ) from error
    return JudgedPicture(source.name, stored_digest(content), image, source.judged_by)


def _require_false_alarm(record: Mapping[str, Any]) -> None:
    if record.get("judgement") != "false-alarm":
        raise ConfigError(
            f"{record['id']} is judged {record.get('judgement') or 'not at all'}; only false alarms are learned.",
            hint=f"Judge it first: edgead alerts judge {record['id']} --as false-alarm",
        )
