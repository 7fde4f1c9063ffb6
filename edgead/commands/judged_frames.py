"""Frames that were judged on the dashboard without an alert, and their export as pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgead.commands.alerts import utc_time
from edgead.data.collection import INDEX, Entry, open_collection, read_entries
from edgead.stream.judged_frames import FOLDER
from edgead.stream.spool.judgements import JUDGED


@dataclass(frozen=True)
class ExportedFrames:
    """Result of `export_frames`.

    Attributes:
        n_new: Pictures written.
        n_known: Pictures that the folder had already.
        n_missing: Frames whose picture is not there any more.
    """

    n_new: int
    n_known: int
    n_missing: int


def export_frames(
    alerts: Path,
    out: Path,
    *,
    state: str | None = None,
    camera: str | None = None,
    judged: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> ExportedFrames:
    """Add the frames that people judged on the dashboard to a folder with an index, each once, as files they were written as.

    A picture that is there gets the judgement in force if it has none, or an older one of the dashboard.

    Args:
        alerts: Folder of the stream's alerts.
        out: Folder of the pictures, as `export_pictures` makes it.
        state: State of alerts; frames have none, so none is exported if one is given.
        camera: Only frames of this camera.
        judged: Only frames judged `defect`, `false-alarm` (good ones too) or `unsure`; `unjudged` are none.
        since: Only frames taken at this time or later, ISO 8601.
        until: Only frames taken before this time.

    Raises:
        ConfigError: If a time cannot be read.
        DataError: If the index of the judged frames is damaged.
        StorageError: If the disk is full, or another process writes to the folder.
    """
    folder = alerts / FOLDER
    chosen = frames_of(alerts, state=state, camera=camera, judged=judged, since=since, until=until)
    n_new = n_known = n_missing = 0
    changed: list[Entry] = []
    if not chosen:
        return ExportedFrames(0, 0, 0)
    with open_collection(out, create=True) as collection:
        for entry in chosen:
            before = collection.entries.get(entry.digest)
            if before is not None:
                n_known += 1
                if before.verdict == "unjudged" or (before.judged_at < entry.judged_at and before.judged_at):
                    changed.append(
                        replace(
                            before, verdict=entry.verdict, kind=entry.kind, note=entry.note, judged_by=entry.judged_by,
                            judged_at=entry.judged_at,
                        )
                    )  # fmt: skip
                continue
            try:
                content = (folder / entry.path).read_bytes()
            except OSError:
                n_missing += 1
                continue
            n_new += collection.add(content, Path(entry.path).suffix, entry)
        if changed:
            collection.change(changed)
    return ExportedFrames(n_new, n_known, n_missing)


def frames_of(
    alerts: Path,
    *,
    state: str | None = None,
    camera: str | None = None,
    judged: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> list[Entry]:
    """Frames judged on the dashboard that fit; arguments and errors are those of `export_frames`."""
    start, end = (None if text is None else utc_time(text) for text in (since, until))
    return [
        entry
        for entry in (judged_frames(alerts) if state is None else [])
        if camera in (None, entry.camera)
        and _fits(entry, judged)
        and (start is None or entry.time >= start)
        and (end is None or entry.time < end)
    ]


def judged_frames(alerts: Path) -> list[Entry]:
    """Frames judged on the dashboard, in the order of their index; empty without any.

    Args:
        alerts: Folder of the stream's alerts.

    Raises:
        DataError: If the index of the judged frames is damaged.
    """
    folder = alerts / FOLDER
    return list(read_entries(folder).values()) if (folder / INDEX).is_file() else []


def _fits(entry: Entry, judged: str | None) -> bool:
    if judged == "false-alarm":
        return entry.is_good
    return judged in (None, JUDGED, entry.verdict)
