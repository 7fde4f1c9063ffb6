"""`edgead alerts`: list, show, acknowledge, judge and export the alerts of a stream, also while it runs."""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgead.data.collection import Entry, open_collection
from edgead.errors import ConfigError, EdgeadError
from edgead.printable import printable, printable_json
from edgead.progress import SILENT, Progress, tracked
from edgead.storage import write_bytes
from edgead.stream.spool.alert_record import JUDGEMENTS, STATES, AlertRecord
from edgead.stream.spool.archive import Archive, open_archive
from edgead.stream.spool.database import DATABASE, DamagedError, Database
from edgead.stream.spool.events import iso
from edgead.stream.spool.judgements import FILTERS, AlertGoneError, JudgedBeforeError, Opinion, is_judgement
from edgead.stream.spool.media import recorded_alerts
from edgead.stream.spool.records import Change

_LOG = logging.getLogger(__name__)
_PAGE = 500
RECORDS = "records.jsonl"


@contextmanager
def open_alerts(folder: Path) -> Iterator[Archive]:
    """Open the alerts of a folder, whether or not a stream is running there.

    Raises:
        StorageError: If the folder has no alerts, or they cannot be read.
    """
    archive, database = open_archive(folder)
    try:
        yield archive
        archive.save_exported()
    finally:
        database.close()


@contextmanager
def open_alerts_for_reading(folder: Path) -> Iterator[Archive]:
    """Open the alerts of a folder; those of a damaged database come from the record files beside it.

    Raises:
        StorageError: If the folder has no alerts, or they cannot be read.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(open_alerts(folder))
        except DamagedError as error:
            _LOG.warning("%s Alerts are read from the record files beside it. %s", error.message, error.hint)
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgead-"))
            database = Database(Path(scratch) / DATABASE)
            stack.callback(database.close)
            archive = Archive(folder, database)
            archive.write([Change(patch=record) for record in recorded_alerts(folder)])
        yield archive


def list_alerts(
    folder: Path,
    *,
    state: str | None = None,
    camera: str | None = None,
    judged: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """List the records of alerts as JSON values, the last to arrive first.

    Args:
        folder: Folder of the stream's alerts.
        state: Only alerts in this state: `open`, `held` or `closed`.
        camera: Only alerts of this camera.
        judged: Only alerts judged `defect`, `false-alarm` or `unsure`, all `judged` ones, or the `unjudged` ones.
        since: Only alerts opened at this time or later: a date or a time in ISO 8601, UTC unless it says otherwise.
        until: Only alerts opened before this time.
        limit: Maximum number of records; None = all.

    Raises:
        ConfigError: If the state or the judgement is unknown, or a time cannot be read.
        StorageError: If the folder holds no alerts, or they cannot be read.
    """
    if state is not None and state not in STATES:
        raise ConfigError(f"--state must be one of {', '.join(STATES)}, got {state!r}.")
    if judged is not None and judged not in FILTERS:
        raise ConfigError(f"--judged must be one of {', '.join(FILTERS)}, got {judged!r}.")
    start, end = (None if text is None else utc_time(text) for text in (since, until))
    with open_alerts_for_reading(folder) as archive:
        found: list[dict[str, Any]] = []
        for record in _all(archive, state, camera, judged):
            if limit is not None and len(found) >= limit:
                break
            opened_at = str(record.opened_at or "")
            if (start is not None and opened_at < start) or (end is not None and opened_at >= end):
                continue
            found.append(record.as_json())
        return found


def show_alert(folder: Path, alert_id: str) -> dict[str, Any]:
    """Record of an alert, with the paths of its images and its clip under `files`.

    Raises:
        EdgeadError: If the alert does not exist.
    """
    with open_alerts_for_reading(folder) as archive:
        record = _alert(archive, alert_id)
        files = {kind: archive.media(alert_id, kind) for kind in record.pictures}
        return {**record.as_json(), "files": {kind: str(path) for kind, path in files.items() if path is not None}}


def acknowledge(folder: Path, alert_id: str, *, note: str = "", who: str | None = None) -> dict[str, Any]:
    """Acknowledge an alert; a running stream notices within a second or two.

    Args:
        folder: Folder of the stream's alerts.
        alert_id: Id of the alert.
        note: Free text for the record.
        who: Name of the person; None = the user at the terminal.

    Returns:
        The updated record, as JSON values.

    Raises:
        EdgeadError: If the alert does not exist, or is already acknowledged.
    """
    with open_alerts(folder) as archive:
        record = _alert(archive, alert_id)
        if not archive.acknowledge(alert_id, who or _user(), note):
            raise EdgeadError(
                f"{alert_id} is already acknowledged, at {record.acknowledged_at} by {printable(str(record.acknowledged_by))}.",
                hint=f"Nothing is left to do. To record what it was: edgead alerts judge {alert_id} --as JUDGEMENT, which is "
                f"one of {', '.join(JUDGEMENTS)}.",
            )
        archive.export(alert_id)
        return _alert(archive, alert_id).as_json()


def judge(
    folder: Path,
    alert_id: str,
    judgement: str,
    *,
    kind: str = "",
    note: str = "",
    who: str | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Judge an alert, also while its stream runs.

    Args:
        folder: Folder of the stream's alerts.
        alert_id: Id of the alert.
        judgement: `defect`, `false-alarm` or `unsure`.
        kind: Kind of defect or of false alarm, such as `scratch`.
        note: Free text for the record.
        who: Name of the person; None = the user at the terminal.
        replace: Replace an earlier judgement, also of another person.

    Returns:
        The updated record, as JSON values.

    Raises:
        ConfigError: If the judgement is unknown.
        EdgeadError: If the alert does not exist, or has another judgement and `replace` is False.
    """
    if not is_judgement(judgement):
        raise ConfigError(f"--as must be one of {', '.join(JUDGEMENTS)}, got {judgement!r}.")
    with open_alerts(folder) as archive:
        opinion = Opinion(judgement, who or _user(), kind, note)
        try:
            record = archive.judge(alert_id, opinion, instead_of=None if replace else 0)
        except AlertGoneError as error:
            raise EdgeadError(error.message, hint=f"{error.hint} List alerts: edgead alerts list") from error
        except JudgedBeforeError as error:
            raise EdgeadError(error.message, hint="To replace that judgement, add --replace.") from error
        archive.export(alert_id)
        return record.as_json()


def export_alerts(records: Sequence[Mapping[str, Any]], write: Callable[[str], object]) -> None:
    """Write records, as `list_alerts` gives them, as lines of JSON, oldest first."""
    for record in reversed(records):
        write(printable_json(json.dumps(record, ensure_ascii=False, allow_nan=False)) + "\n")


@dataclass(frozen=True)
class ExportedPictures:
    """Result of `export_pictures`.

    Attributes:
        n_alerts: Alerts that fit.
        n_new: Pictures written.
        n_known: Pictures that the folder had already.
        n_missing: Alerts whose picture is not stored any more.
    """

    n_alerts: int
    n_new: int
    n_known: int
    n_missing: int


def export_pictures(
    folder: Path, out: Path, records: Sequence[Mapping[str, Any]], progress: Progress = SILENT
) -> ExportedPictures:
    """Write the opening frames of alerts, as they are stored, into a folder with an index; `records.jsonl` has the records.

    Alerts opened by one frame share its picture: it is a defect if any of them was judged so, and a false alarm only if all
    were, whichever of them are exported. A picture that is there gets the judgement in force if it has none, or has that of
    an earlier export; any other verdict was given in the folder and is kept.

    Args:
        folder: Folder of the stream's alerts.
        out: Folder of the pictures.
        records: Records, as `list_alerts` gives them.
        progress: Receiver of progress.

    Raises:
        StorageError: If the disk is full, or another process writes to the folder.
    """
    n_new = n_known = n_missing = 0
    decisive = decisive_records(list_alerts(folder))
    changed: dict[str, Entry] = {}
    with open_collection(out, create=True) as collection:
        exported = _exported(out / RECORDS)
        before = decisive_records(exported.values())
        known = {entry.alert: entry for entry in collection.entries.values() if entry.alert}
        for record in tracked(records, "Writing pictures", progress):
            judged = _entry_of(decisive.get(frame_of(record), record))
            entry = replace(_entry_of(record), verdict=judged.verdict, kind=judged.kind, note=judged.note)
            name = (record.get("pictures") or {}).get("snapshot")
            earlier = known.get(entry.alert)
            if earlier is None:
                try:
                    content = (folder / Path(str(name)).name).read_bytes() if name else None
                except OSError:
                    content = None
                if content is None:
                    n_missing += 1
                    continue
                if collection.add(content, Path(str(name)).suffix, entry):
                    n_new += 1
                    continue
                earlier = collection.entries[hashlib.sha256(content).hexdigest()]
            n_known += 1
            last = before.get(frame_of(record))
            is_own = earlier.verdict == "unjudged" or (last is not None and earlier.verdict == _entry_of(last).verdict)
            now = replace(earlier, verdict=entry.verdict, kind=entry.kind, note=entry.note)
            if is_own and entry.verdict != "unjudged" and now != earlier:
                changed[now.digest] = now
        if changed:
            collection.change(list(changed.values()))
        kept = [*exported.values(), *reversed(records)]
        lines = {str(record.get("id")): json.dumps(record, allow_nan=False) + "\n" for record in kept}
        write_bytes(out / RECORDS, "".join(lines.values()).encode("utf-8"))
    return ExportedPictures(len(records), n_new, n_known, n_missing)


def frame_of(record: Mapping[str, Any]) -> str:
    """Name of the snapshot, which all alerts of one frame share; the id of an alert without a picture."""
    return str((record.get("pictures") or {}).get("snapshot") or record.get("id"))


def decisive_records(records: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """By frame, the record whose judgement holds for its picture."""
    order = {"defect": 0, "unsure": 1, "false-alarm": 3}
    found: dict[str, Mapping[str, Any]] = {}
    for record in records:
        other = found.setdefault(frame_of(record), record)
        if order.get(str(record.get("judgement")), 2) < order.get(str(other.get("judgement")), 2):
            found[frame_of(record)] = record
    return found


def _exported(path: Path) -> dict[str, dict[str, Any]]:
    """Records of earlier exports by id; a line that cannot be read is left out."""
    found = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("pictures") or {}, dict):
                found[str(record.get("id"))] = record
    return found


def _entry_of(record: Mapping[str, Any]) -> Entry:
    judgement = record.get("judgement")
    return Entry(
        path="",
        digest="",
        verdict=judgement if is_judgement(judgement) else "unjudged",
        kind=str(record.get("judgement_kind") or ""),
        note=str(record.get("judgement_note") or ""),
        source=str(record.get("source") or ""),
        camera=str(record.get("camera") or ""),
        time=str(record.get("opened_at") or ""),
        score=record.get("score"),
        threshold=record.get("threshold"),
        bundle=str(record.get("bundle") or ""),
        alert=str(record.get("id") or ""),
    )


def utc_time(text: str) -> str:
    """A date or time of a person as UTC, ISO 8601, as records have it.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(
            f"{text!r} cannot be read as a date or a time.",
            hint="Write the year first: 2026-11-23, or with a time of day 2026-11-23T06:00. It is UTC, unless the difference to "
            "UTC follows: 2026-11-23T06:00+01:00.",
        ) from None
    return iso(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))


def _all(
    archive: Archive, state: str | None, camera: str | None, judgement: str | None = None
) -> Iterator[AlertRecord]:
    before = None
    while page := archive.alerts(state=state, camera=camera, judgement=judgement, before=before, limit=_PAGE):
        yield from page
        before = page[-1].id


def _alert(archive: Archive, alert_id: str) -> AlertRecord:
    record = archive.alert(alert_id)
    if record is None:
        raise EdgeadError(f"There is no alert {alert_id!r}.", hint="List them: edgead alerts list")
    return record


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id, as in some containers
        return "unknown"
