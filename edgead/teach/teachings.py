"""Teachings of a line on disk: a numbered folder for each, by camera, with the verdict that it ended with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from edgead.data.collection import require_room
from edgead.errors import EdgeadError
from edgead.storage import require_free_space, write_json
from edgead.stream.teaching import EarlierTeaching, TaughtVerdict, TeachingReport, TeachingStatus
from edgead.teach.run import TaughtRun

FOLDER, VERDICT = "taught", "verdict.json"
_MAX_MB = 4000.0
_LEAST_FREE = 100e6


class Teachings:
    """Folders of teachings.

    Args:
        folder: Folder of all of them; it is made with the first.
        max_mb: Size of all of them beyond which no other one is started.
    """

    def __init__(self, folder: Path, *, max_mb: float = _MAX_MB) -> None:
        self.folder = folder
        self._max_mb = max_mb

    def last(self, camera: str) -> Path | None:
        """Folder of a camera's last teaching: that with the highest number, because the clock of a device may jump."""
        folder = self.folder / camera
        found = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
        return max(found, key=lambda path: int(path.name), default=None)

    def next(self, camera: str) -> Path:
        """Folder of a new teaching of a camera, not made yet."""
        last = self.last(camera)
        return self.folder / camera / f"{1 if last is None else int(last.name) + 1:04d}"

    def earlier(self, folder: Path) -> EarlierTeaching | None:
        """A teaching as one that can be continued; None if it has no pictures, or its record is damaged."""
        try:
            run = TaughtRun.open(folder)
        except EdgeadError:
            return None
        if run is None or not run.record.pictures:
            return None
        return EarlierTeaching(len(run.record.pictures), run.next_number - 1)

    def stored(self, folder: Path | None) -> TeachingStatus:
        """State in which an earlier stream left a teaching: taught, installed, or idle if its newest version has no verdict."""
        verdict, model = (None, "") if folder is None else _read_verdict(folder)
        try:
            run = None if folder is None or verdict is None else TaughtRun.open(folder)
        except EdgeadError:
            run = None
        if run is None or verdict is None or verdict.version != run.next_number - 1:
            return TeachingStatus()
        files = tuple(picture.file for picture in run.record.pictures)
        report = TeachingReport(files, scores=verdict.scores, rate=verdict.rate, verdict=verdict)
        return TeachingStatus("installed" if model else "taught", "", str(folder), report, model=model)

    def require_room(self) -> None:
        """Check that there is room for another teaching.

        Raises:
            StorageError: If the disk is full, or the teachings take more than they may.
        """
        require_free_space(self.folder, int(_LEAST_FREE), purpose="Teaching")
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        require_room(self.folder, sum(path.stat().st_size for path in files), 1, self._max_mb, "teachings")


def write_verdict(folder: Path, verdict: TaughtVerdict, model: str) -> None:
    """Store the end of a teaching, and the name of the installed model, empty before.

    Raises:
        StorageError: If the disk is full.
    """
    write_json(folder / VERDICT, {**asdict(verdict), "model": model})


def _read_verdict(folder: Path) -> tuple[TaughtVerdict | None, str]:
    try:
        content = json.loads((folder / VERDICT).read_bytes())
        scores = tuple((str(file), float(score)) for file, score in content.pop("scores"))
        sentences = tuple(map(str, content.pop("sentences")))
        model = str(content.pop("model"))
        return TaughtVerdict(**content, scores=scores, sentences=sentences), model
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, ""
