"""`edgead alerts export --archive`: the alerts of a period as one file that can be sent: page, records, pictures and clips."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from edgead.data.collection import Entry
from edgead.errors import DataError
from edgead.progress import SILENT, Progress, tracked
from edgead.storage import atomic_path
from edgead.stream.judged_frames import FOLDER
from edgead.stream.spool.records import FILE_KINDS

PAGE, RECORDS, FRAMES, DIGESTS = "index.html", "records.jsonl", "frames.jsonl", "SHA256SUMS"
ALERTS = "alerts"
_CLIP = "clip"
_CAPTIONS = {"snapshot": "opening frame", "heatmap": "heatmap", "peak": "highest score"}
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; }
article { border-top: 1px solid #8886; padding: 1rem 0; break-inside: avoid; }
h2 { font-size: 1.05rem; margin: 0 0 .3rem; }
p { margin: .2rem 0; }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem; margin-top: .5rem; }
figure { margin: 0; flex: 1 1 16rem; max-width: 24rem; }
img { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; opacity: .8; }
"""


@dataclass(frozen=True)
class CaseArchive:
    """Result of `write_case`.

    Attributes:
        n_alerts: Alerts in the archive.
        n_frames: Judged frames in it.
        n_files: Pictures and clips in it.
        n_missing: Pictures and clips that records name and that are not there any more.
    """

    n_alerts: int
    n_frames: int
    n_files: int
    n_missing: int


def write_case(
    folder: Path, out: Path, records: Sequence[Mapping[str, Any]], frames: Sequence[Entry], progress: Progress = SILENT
) -> CaseArchive:
    """Write alerts and judged frames with all that is stored of them into a ZIP file, which replaces one of this name.

    `index.html` shows them without any network, `records.jsonl` and `frames.jsonl` have the records, and `SHA256SUMS` the
    digest of every file, as `sha256sum --check` reads it.

    Args:
        folder: Folder of the stream's alerts.
        out: File to write.
        records: Records of the alerts, as `list_alerts` gives them.
        frames: Frames judged without an alert.
        progress: Receiver of progress.

    Raises:
        DataError: If there is nothing to write.
        StorageError: If the disk is full.
    """
    if not records and not frames:
        raise DataError(
            f"No alert and no judged frame of {folder} fits, so there is no case to write.",
            hint="Widen --since, --until, --camera, --state or --judged.",
        )
    articles: list[str] = []
    # pictures and clips are compressed already
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        files = _Files(archive)
        for record in tracked(records, "Alerts", progress):
            names = {kind: (record.get("pictures") or {}).get(kind) for kind in FILE_KINDS}
            there = {
                kind: files.copied(folder / Path(name).name, f"{ALERTS}/{Path(name).name}")
                for kind, name in names.items()
                if name
            }
            articles.append(_article(_alert_title(record), _alert_lines(record), there))
        for entry in tracked(frames, "Frames", progress):
            picture = files.copied(folder / FOLDER / entry.path, f"{FOLDER}/{Path(entry.path).name}")
            title = f"{entry.time} · {entry.camera} · judged without an alert"
            articles.append(_article(title, _frame_lines(entry), {"snapshot": picture}))
        files.write(RECORDS, _lines(records))
        if frames:
            files.write(FRAMES, _lines([vars(entry) for entry in frames]))
        files.write(PAGE, _page(folder, len(records), len(frames), articles).encode("utf-8"))
        archive.writestr(DIGESTS, "".join(files.digests))
    return CaseArchive(len(records), len(frames), files.n_copied, files.n_missing)


class _Files:
    """Files of an archive with their digests, and how many of those that records name were there."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.digests: list[str] = []
        self.n_copied = self.n_missing = 0

    def write(self, name: str, content: bytes) -> None:
        self._archive.writestr(name, content)
        self.digests.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")

    def copied(self, path: Path, name: str) -> str | None:
        """Copy a file; its name in the archive, or None where it is not stored any more."""
        try:
            content = path.read_bytes()
        except OSError:  # retention removes files while this runs
            self.n_missing += 1
            return None
        self.write(name, content)
        self.n_copied += 1
        return name


def _lines(values: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(dict(one), allow_nan=False) + "\n" for one in values).encode("utf-8")


def _alert_title(record: Mapping[str, Any]) -> str:
    return " · ".join(str(part) for part in (record.get("opened_at"), record.get("camera"), record.get("zone")) if part)


def _alert_lines(record: Mapping[str, Any]) -> list[str]:
    state = f"{record.get('state')}, alert {record.get('id')}"
    if record.get("closed_at"):
        state += f", closed {record['closed_at']}"
    scores = [
        f"{name} {record[key]:.4g}"
        for name, key in (("score", "score"), ("highest", "peak_score"), ("threshold", "threshold"))
        if isinstance(record.get(key), (int, float))
    ]
    judged = _judged(
        record.get("judgement"), record.get("judgement_kind"), record.get("judged_by"), record.get("judged_at"),
        record.get("judgement_note"),
    )  # fmt: skip
    acknowledged = (
        record.get("acknowledged_by") and f"Acknowledged by {record['acknowledged_by']}: {record.get('note') or '–'}"
    )
    return [line for line in (judged, state, ", ".join(scores), acknowledged) if line]


def _frame_lines(entry: Entry) -> list[str]:
    judged = _judged(entry.verdict, entry.kind, entry.judged_by, entry.judged_at, entry.note)
    scores = (
        ""
        if entry.score is None or entry.threshold is None
        else f"score {entry.score:.4g}, threshold {entry.threshold:.4g}"
    )
    return [line for line in (judged, scores) if line]


def _judged(verdict: object, kind: object, who: object, at: object, note: object) -> str:
    if not verdict:
        return "Not judged"
    text = f"Judged {verdict}{f' ({kind})' if kind else ''}{f' by {who}' if who else ''}{f' at {at}' if at else ''}"
    return f"{text}: {note}" if note else text


def _article(title: str, lines: Sequence[str], found: Mapping[str, str | None]) -> str:
    files = {kind: name for kind, name in found.items() if name is not None}
    pictures = "".join(
        f'<figure><img src="{escape(name, quote=True)}" alt="{escape(f"{_CAPTIONS[kind]}, {title}", quote=True)}" loading="lazy">'
        f"<figcaption>{_CAPTIONS[kind]}</figcaption></figure>"
        for kind, name in files.items()
        if kind != _CLIP
    )
    clip = f'<p><a href="{escape(files[_CLIP], quote=True)}">Clip</a></p>' if _CLIP in files else ""
    none = "" if files else "<p>Its pictures are not stored any more.</p>"
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<article><h2>{escape(title)}</h2>{text}<div class="pictures">{pictures}</div>{clip}{none}</article>'


def _page(folder: Path, n_alerts: int, n_frames: int, articles: Sequence[str]) -> str:
    frames = f" and {n_frames} judged frame{'' if n_frames == 1 else 's'}" if n_frames else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Alerts of {escape(folder.name)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{n_alerts} alert{'' if n_alerts == 1 else 's'}{frames}</h1>{''.join(articles)}</main></body></html>\n"
    )
