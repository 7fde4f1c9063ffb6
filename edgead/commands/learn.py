"""`edgead learn`: a false alarm becomes a new version of the active model, at once and on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.bundle import Bundle, open_bundle
from edgead.commands.alerts import decisive_records, frame_of, list_alerts, show_alert
from edgead.commands.learned_bundle import JudgedPicture, LearnResult, learn_pictures, stored_digest
from edgead.commands.model import InstallOptions, install
from edgead.data.reader import read_image
from edgead.errors import ConfigError, DataError
from edgead.line.model_store import KEEP, Installed, ModelStore
from edgead.progress import Progress
from edgead.storage import exclusive, scratch_folder

_LOCK = ".learn.lock"


@dataclass(frozen=True)
class LearnOptions:
    """Pictures to learn, and the use of the new version.

    Attributes:
        alerts: Alerts judged a false alarm, by id; empty = all that were not learned yet.
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
    if options.alerts:
        pictures = [_read(folder, record, bundle) for record in reversed(wanted)]
    else:
        pictures = list(_readable(folder, reversed(wanted), bundle, progress))
    pictures = [picture for picture in pictures if picture.digest not in known]
    defects = _readable(
        folder, (record for record in by_frame.values() if record.get("judgement") == "defect"), bundle, progress
    )
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


def _readable(
    folder: Path, records: Iterable[Mapping[str, Any]], bundle: Bundle, progress: Progress
) -> Iterator[JudgedPicture]:
    """Pictures of alerts; those that are not stored any more, or do not show the part, are noted and left out."""
    for record in records:
        try:
            yield _read(folder, record, bundle)
        except DataError as error:
            progress.note(f"Left out: {error.message}")


def _read(folder: Path, record: Mapping[str, Any], bundle: Bundle) -> JudgedPicture:
    """Picture of an alert.

    Raises:
        DataError: If it is not stored any more, cannot be read, or does not show the part.
    """
    path = folder / Path(frame_of(record)).name
    try:
        content = path.read_bytes()
        image = bundle.preprocess(read_image(path, **bundle.manifest.preprocessing.reading))
    except (DataError, OSError) as error:
        why = error.message if isinstance(error, DataError) else f"{error.strerror}."
        raise DataError(
            f"The picture of {record['id']} is not stored any more, or cannot be used: {why}",
            hint="The retention limits remove old pictures. Other false alarms can be learned.",
        ) from error
    return JudgedPicture(str(record["id"]), stored_digest(content), image, str(record.get("judged_by") or ""))


def _require_false_alarm(record: Mapping[str, Any]) -> None:
    if record.get("judgement") != "false-alarm":
        raise ConfigError(
            f"{record['id']} is judged {record.get('judgement') or 'not at all'}; only false alarms are learned.",
            hint=f"Judge it first: edgead alerts judge {record['id']} --as false-alarm",
        )
