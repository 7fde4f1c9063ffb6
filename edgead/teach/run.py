"""Folder of a teaching: its pictures, and a bundle for each version, of which the newest has the name `bundle`."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edgead.data.copies import STORED_DIGITS
from edgead.data.reader import read_image
from edgead.errors import BundleError, DataError
from edgead.imaging import Image, Reading
from edgead.storage import storage_error, write_bytes, write_json
from edgead.teach.base import Base

RECORD, PICTURES, VERSIONS, BUNDLE = "teach.json", "pictures", "versions", "bundle"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaughtPicture(_Record):
    """Picture that was accepted: its file below `pictures`, its digest, where it comes from, and when it was accepted."""

    file: str
    digest: str
    source: str
    accepted_at: str


class TaughtVersion(_Record):
    """Version: its number, the digest of its bundle, the number of its pictures, and when it was made."""

    number: int
    digest: str
    n_pictures: int
    created_at: str


class RunRecord(_Record):
    """Content of `teach.json`."""

    schema_version: int = 1
    base: str
    base_digest: str
    backbone: str
    white_level: float
    float_white_level: float | None
    pictures: tuple[TaughtPicture, ...] = ()
    dropped: tuple[str, ...] = ()
    versions: tuple[TaughtVersion, ...] = ()


class TaughtRun:
    """Folder of a teaching; the caller holds its lock.

    Args:
        path: The folder.
        record: Its record.
    """

    def __init__(self, path: Path, record: RunRecord) -> None:
        self.path = path
        self.record = record

    @classmethod
    def begin(cls, path: Path, base: Base, white_level: float, float_white_level: float | None) -> TaughtRun:
        """A new teaching in a folder that has none.

        Raises:
            DataError: If the folder holds something else.
        """
        if path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            raise DataError(
                f"{path} holds something else than a teaching: it has no {RECORD}.",
                hint="Name a new folder with --out.",
            )
        run = cls(
            path,
            RunRecord(
                base=str(base.path), base_digest=base.digest, backbone=base.manifest.backbone, white_level=white_level,
                float_white_level=float_white_level,
            ),
        )  # fmt: skip
        run._write(run.record)
        return run

    @classmethod
    def open(cls, path: Path) -> TaughtRun | None:
        """The teaching in a folder; None if there is none yet.

        Raises:
            DataError: If its record is damaged.
        """
        file = path / RECORD
        if not file.is_file():
            return None
        try:
            return cls(path, RunRecord.model_validate(json.loads(file.read_bytes())))
        except (OSError, ValueError, ValidationError) as error:
            raise DataError(
                f"{file} is damaged: {str(error).splitlines()[0]}.",
                hint="Teach into a new folder; the pictures of this one can be given with --data.",
            ) from error

    def check_base(self, base: Base) -> None:
        """Refuse a base bundle that the earlier versions were not made with.

        Raises:
            BundleError: If it is another one.
        """
        if base.digest == self.record.base_digest:
            return
        own, other = self.record.backbone, base.manifest.backbone
        what = (
            f"the backbone {own}, not {other}" if own != other else f"another base bundle, that in {self.record.base}"
        )
        raise BundleError(
            f"{self.path} was taught with {what}.",
            hint=f"Name the base bundle of before, or teach into a new folder with --data {self.path / PICTURES}.",
        )

    @property
    def digests(self) -> frozenset[str]:
        """Digests of all its pictures."""
        return frozenset(picture.digest for picture in self.record.pictures)

    @property
    def dropped(self) -> frozenset[str]:
        """Digests of the pictures that were left out with `drop`."""
        return frozenset(self.record.dropped)

    def keep(self, content: bytes, suffix: str, source: str) -> TaughtPicture:
        """Store the file of an accepted picture, and record it at once: what was shown is not lost to what fails later.

        Raises:
            StorageError: If the disk is full; the pictures of before are unchanged.
        """
        names = [picture.file for picture in self.record.pictures]
        if (self.path / PICTURES).is_dir():  # files of dropped pictures stay there, and must not be written over
            names += [path.name for path in (self.path / PICTURES).iterdir()]
        numbers = [int(stem) for stem in (name.partition(".")[0] for name in names) if stem.isdecimal()]
        file = f"{max(numbers, default=0) + 1:04d}{suffix.lower()}"
        write_bytes(self.path / PICTURES / file, content)
        picture = TaughtPicture(
            file=file, digest=digest_of(content), source=source, accepted_at=now().isoformat(timespec="seconds")
        )
        self._write(self.record.model_copy(update={"pictures": (*self.record.pictures, picture)}))
        return picture

    def drop(self, names: Sequence[str]) -> None:
        """Leave out pictures by file name from all later versions, also if they are shown again; their files stay.

        Raises:
            DataError: If there is none of a name.
        """
        known = {picture.file for picture in self.record.pictures}
        for name in names:
            if name not in known:
                raise DataError(
                    f"{self.path / PICTURES} has no picture {name!r} that is taught.",
                    hint=f"There are: {', '.join(sorted(known)) or 'none'}.",
                )
        kept = tuple(picture for picture in self.record.pictures if picture.file not in names)
        digests = [picture.digest for picture in self.record.pictures if picture.file in names]
        dropped = tuple(dict.fromkeys((*self.record.dropped, *digests)))
        self._write(self.record.model_copy(update={"pictures": kept, "dropped": dropped}))

    def read(self, picture: TaughtPicture, reading: Reading) -> Image:
        """A picture of an earlier teaching, `(H, W, 3)`, uint8 RGB.

        Raises:
            DataError: If its file is missing or was changed.
        """
        path = self.path / PICTURES / picture.file
        if (
            Path(picture.file).name != picture.file
            or not path.is_file()
            or digest_of(path.read_bytes()) != picture.digest
        ):
            raise DataError(
                f"{path} is missing or was changed since it was taught.",
                hint=f"Restore the file, or teach without it: --drop {picture.file}",
            )
        return read_image(path, **reading)

    @property
    def next_number(self) -> int:
        """Number of the next version."""
        return 1 + max((version.number for version in self.record.versions), default=0)

    def version_path(self, number: int) -> Path:
        """Bundle of a version."""
        return self.path / VERSIONS / str(number)

    def finish(self, number: int, digest: str) -> None:
        """Record a version whose bundle was written, and give it the name `bundle`.

        Raises:
            StorageError: If the disk is full; `bundle` stays what it was.
        """
        version = TaughtVersion(
            number=number, digest=digest, n_pictures=len(self.record.pictures),
            created_at=now().isoformat(timespec="seconds"),
        )  # fmt: skip
        self._write(self.record.model_copy(update={"versions": (*self.record.versions, version)}))
        link = self.path / BUNDLE
        temporary = self.path / f".{BUNDLE}.{uuid.uuid4().hex[:8]}"
        try:
            os.symlink(Path(VERSIONS) / str(number), temporary)
            temporary.replace(link)
        except OSError as error:
            raise storage_error(link, error) from error

    def _write(self, record: RunRecord) -> None:
        write_json(self.path / RECORD, record.model_dump(mode="json"))
        self.record = record


def digest_of(content: bytes) -> str:
    """Digest of a picture's file as bundles store it."""
    return hashlib.sha256(content).hexdigest()[:STORED_DIGITS]


def now() -> datetime.datetime:
    """This machine's time, UTC. It names moments and orders nothing: the clock of a device may jump."""
    return datetime.datetime.now(datetime.timezone.utc)
