"""Roles of images by the names of their folders and files: good, defective, mask, or not stated."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from edgead.data.dataset import Mask
from edgead.data.names import (
    NOISE,
    Role,
    Split,
    is_neutral,
    is_only,
    is_only_split,
    is_private_test,
    names_kind,
    role_of,
    role_of_file,
    split_of,
    stem_of_image,
    stem_without_role,
)

POSITIONS = ("xyz", "depth")
COLOUR = "rgb"


@dataclass(eq=False)
class Picture:
    """One image file with what is known about it.

    Attributes:
        path: File.
        parts: Names of its folders below the root of the data set, and its own name.
        role: Role by folder, file name, annotation or mask; None if nothing states one.
        source: What states the role, for users.
        kind: Kind of defect.
        split: Part of the data set; None if no folder states one.
        depth: Number of folders down to the one that states the role; 0 if none does.
        lead: Folders above the first one with a meaning, which may be classes.
        mask: Ground truth.
        mask_folder: For a mask, the folder below which its path is that of its image.
        is_left_out: Whether it is no image of a part, such as the positions of MVTec 3D-AD.
        conflict: Two statements that exclude each other; empty if there are none.
    """

    path: Path
    parts: tuple[str, ...]
    role: Role | None = None
    source: str = ""
    kind: str | None = None
    split: Split | None = None
    depth: int = 0
    lead: tuple[str, ...] = ()
    mask: Mask | None = None
    mask_folder: tuple[str, ...] = ()
    is_left_out: bool = False
    conflict: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """Path without suffix, in lower case, for comparisons."""
        return (*(part.casefold() for part in self.parts[:-1]), Path(self.parts[-1]).stem.casefold())


@dataclass(frozen=True)
class _State:
    """Role stated by the names of a folder and of its parents."""

    role: Role | None = None
    named_by: str = ""
    kind: str | None = None
    split: Split | None = None
    depth: int = 0
    lead: tuple[str, ...] = ()
    is_left_out: bool = False
    conflict: str = ""


@dataclass
class FolderNames:
    """Meaning of every folder of a data set.

    Attributes:
        folders: Relative folders that hold images, in them or below.
        with_images: Those that hold images themselves.
        not_masks: Folders named like masks whose images are photographs: their names mean nothing.
        start: Meaning of the root.
    """

    folders: set[tuple[str, ...]]
    with_images: set[tuple[str, ...]]
    not_masks: frozenset[tuple[str, ...]] = frozenset()
    start: _State = _State()
    _known: dict[tuple[str, ...], _State] = field(default_factory=dict)
    _children: dict[tuple[str, ...], list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for folder in sorted(self.folders):
            if folder:
                self._children[folder[:-1]].append(folder[-1])

    def state(self, folder: tuple[str, ...]) -> _State:
        """Meaning of a folder."""
        if not folder:
            return self.start
        if folder not in self._known:
            self._known[folder] = self._state(folder)
        return self._known[folder]

    def mask_folder(self, folder: tuple[str, ...]) -> tuple[str, ...]:
        """Folder below which masks have the paths of their images: the outermost named so, or `annotations/masks`."""
        length = next(n for n in range(len(folder) + 1) if self.state(folder[:n]).role == "mask")
        while length < len(folder) and is_only(folder[length], "mask"):
            length += 1
        return folder[:length]

    def role_of(self, folder: tuple[str, ...]) -> Role | None:
        """Role by the folder's own name; a name such as `anomaly_dataset` says nothing about a folder with good ones."""
        role = role_of(folder[-1])
        if role == "mask":
            return None if folder in self.not_masks else role
        if role is None or is_only(folder[-1], role) or role == "good":
            return role
        return None if any(self._is_good_below(folder, other) for other in self.folders) else role

    @staticmethod
    def _is_good_below(folder: tuple[str, ...], other: tuple[str, ...]) -> bool:
        return len(other) > len(folder) and other[: len(folder)] == folder and role_of(other[-1]) == "good"

    def _state(self, folder: tuple[str, ...]) -> _State:
        above, name = self.state(folder[:-1]), folder[-1]
        if above.role == "mask" or above.is_left_out or above.conflict:
            return above
        siblings = self._children[folder[:-1]]
        if name.casefold() in POSITIONS and any(sibling.casefold() == COLOUR for sibling in siblings):
            return replace(above, is_left_out=True)
        role = self.role_of(folder)
        if role == "mask":
            return replace(above, role="mask", named_by=name)
        if role is not None:
            if above.role is not None and above.role != role:
                return replace(above, conflict=f"{'/'.join(folder)} is inside {above.named_by}")
            if above.role == role:
                return self._finer_kind(above, folder)
            kind = name if role == "defect" else None
            return replace(above, role=role, named_by=name, kind=kind, depth=len(folder))
        if above.role is not None:
            return self._finer_kind(above, folder)
        if above.split is None and is_only_split(name):
            return replace(above, split=split_of(name))
        if self._is_kind(folder, above, siblings):
            return replace(above, role="defect", named_by=name, kind=name, depth=len(folder))
        if above.split is None or (self._leads_to_role(folder) and not is_neutral(name)):
            return replace(above, lead=(*above.lead, name))
        return above

    def _is_kind(self, folder: tuple[str, ...], above: _State, siblings: list[str]) -> bool:
        """Whether a folder without a role is a kind of defect: beside good ones, in a test part, or by its name."""
        name = folder[-1]
        if any(self.role_of((*folder[:-1], sibling)) == "good" for sibling in siblings):
            return not _says_nothing(name)
        if self._leads_to_role(folder) or any(self._leads_to_role((*folder[:-1], sibling)) for sibling in siblings):
            return names_kind(name)
        in_test = (
            above.split == "test" and folder[:-1] and is_only_split(folder[-2]) and not is_private_test(folder[-2])
        )
        return names_kind(name) or bool(in_test and not is_neutral(name))

    def _leads_to_role(self, folder: tuple[str, ...]) -> bool:
        """Whether a folder without a role has good or defective ones in it: it is a class or a day, no kind of defect."""
        return self.role_of(folder) is None and any(
            other[: len(folder)] == folder and len(other) > len(folder) and self.role_of(other) in ("good", "defect")
            for other in self.folders
        )

    def _finer_kind(self, above: _State, folder: tuple[str, ...]) -> _State:
        """Kind of defect by a folder inside one that says only `bad` or `NG`, such as `NG/scratch`."""
        general = above.kind is not None and is_only(above.kind, "defect") and folder[:-1] not in self.with_images
        if above.role == "defect" and general and not is_neutral(folder[-1]) and self.role_of(folder) is None:
            return replace(above, kind=folder[-1])
        return above


def pictures_of(root: Path, images: Iterable[Path], names: FolderNames) -> list[Picture]:
    """Roles of images by folders, then by their own names.

    A file whose name ends or begins with a word such as `mask` or `label` beside another of the remaining name is that
    one's mask, whatever folder they are in. Words such as `good` or `NG` in file names count where no folder states a
    role.
    """
    pictures = []
    stems: dict[tuple[str, ...], set[str]] = defaultdict(set)
    paths = list(images)
    for path in paths:
        parts = path.relative_to(root).parts
        stems[parts[:-1]].update(_stems(path))
    for path in paths:
        parts = path.relative_to(root).parts
        state = names.state(parts[:-1])
        picture = Picture(
            path, parts, state.role, f"folder {state.named_by}" if state.role else "", state.kind, state.split, state.depth, state.lead,
            is_left_out=state.is_left_out, conflict=state.conflict,
        )  # fmt: skip
        if state.role == "mask":
            picture.mask_folder = names.mask_folder(parts[:-1])
        rest, is_named_mask = stem_without_role(path.stem)
        if state.role != "mask" and is_named_mask and rest.casefold() in stems[parts[:-1]]:
            picture.role, picture.source, picture.mask_folder = "mask", "file names", parts[:-1]
        elif state.role is None and not state.is_left_out and (role := role_of_file(path.stem)) is not None:
            picture.role, picture.source = role, "file names"
            picture.kind = "defect" if role == "defect" else None
        pictures.append(picture)
    return pictures


def _stems(path: Path) -> set[str]:
    """Names under which a mask may belong to an image."""
    return {path.stem.casefold(), stem_of_image(path.stem).casefold(), path.name.casefold()}


def start_of(root: Path) -> tuple[Literal["train", "test"] | None, Role | None]:
    """Meaning of the name of the root itself: part of a data set, and role if the name says nothing else."""
    name = root.resolve().name
    part = split_of(name) if is_only_split(name) else None
    role = next((role for role in ("defect", "mask") if is_only(name, role)), None)  # type: ignore[arg-type]
    return part if part in ("train", "test") else None, role  # type: ignore[return-value]


def start_state(split: Split | None) -> _State:
    """Meaning of a root that is itself a part of a data set."""
    return _State(split=split)


def _says_nothing(name: str) -> bool:
    """Whether a name beside a folder of good images is no kind of defect: `images`, a date, or a folder of leftovers."""
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+", name)]
    if not words:
        return len(re.sub(r"\D", "", name)) >= 6
    return all(word in NOISE or word in _LEFTOVERS for word in words)


_LEFTOVERS = {
    "unlabeled", "unlabelled", "unknown", "unsorted", "unsure", "todo", "tmp", "temp", "backup", "old", "new", "other",
    "others", "misc", "unbekannt", "inconnu", "raw", "original", "originals", "docs", "doc", "readme", "thumbnails",
    "preview", "previews", "results", "output", "outputs", "logs",
}  # fmt: skip
