"""Sorting of a folder's images into good, defective and masks, by names, annotations and pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgead.data.classes import classes_around_masks
from edgead.data.dataset import Mask
from edgead.data.folders import is_image, list_files
from edgead.data.formats.annotation import Annotation
from edgead.data.formats.sidecars import Annotations, read_annotations
from edgead.data.mask_like import are_photographs, look_of, looks_of
from edgead.data.mask_pairs import pair_masks
from edgead.data.masks import is_empty
from edgead.data.names import Split, is_only, may_be_product, role_of
from edgead.data.roles import FolderNames, Picture, pictures_of, start_state
from edgead.errors import DataError

_MOST_PAIR = 0.8


@dataclass
class Sorted:
    """Images of a folder with their roles.

    Attributes:
        pictures: All images but masks and those left out.
        masks: Masks.
        unpaired: Masks that fit no image.
        suspects: Images without a stated role that have only one or two values, as masks do.
        unread: Annotation files beside images in a format that is not read.
        unreadable: Images whose mask cannot be read, so that they are neither good nor defective, with the reason.
        tools: Formats of the annotations that were read.
        others: Files that are not images.
    """

    pictures: list[Picture]
    masks: list[Picture]
    unpaired: list[Picture] = field(default_factory=list)
    suspects: list[Picture] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Picture, str]] = field(default_factory=list)
    tools: tuple[str, ...] = ()
    others: Sequence[Path] = ()

    @property
    def has_evidence(self) -> bool:
        """Whether anything states which images are good, defective or masks."""
        return bool(self.masks or self.unread or any(picture.role is not None for picture in self.pictures))


def sort_folder(root: Path, split: Split | None = None, also: Sequence[Path] = ()) -> Sorted:
    """Sort all images below a folder.

    A mask or an annotation decides about an image whose role nothing else states: it is defective if something is
    marked, and good otherwise.

    Args:
        root: Folder to search.
        split: Part of a data set that the folder is as a whole, if it is one.
        also: Folders beside it that are searched too; the folder above is then the root of all paths.

    Raises:
        DataError: If masks or annotations are ambiguous, or contradict the folders.
    """
    files = [path for folder in (root, *also) for path in list_files(folder)]
    if also:
        root, split = root.parent, None
    files.sort(key=lambda path: path.relative_to(root).as_posix())
    images = [path for path in files if is_image(path)]
    names = _folder_names(root, images, split)
    pictures = pictures_of(root, images, names)
    return finish_sorting(root, pictures, [path for path in files if not is_image(path)])


def finish_sorting(
    root: Path, pictures: list[Picture], others: Sequence[Path], *, masks_decide: bool = False
) -> Sorted:
    """Add what pixels, masks and annotations tell to roles by names.

    Args:
        root: Folder that contains all files.
        pictures: Images with their roles by name; they are changed.
        others: Files that are not images.
        masks_decide: Whether a mask or an annotation that marks something makes a good image defective; otherwise it is
            a contradiction.

    Raises:
        DataError: See `sort_folder`.
    """
    _find_masks_beside(pictures)
    suspects = _find_mask_folders(pictures)
    unpaired = pair_masks(pictures, classes_around_masks(root, pictures), masks_decide=masks_decide)
    kept = [picture for picture in pictures if picture.role != "mask" and not picture.is_left_out]
    annotations = read_annotations(root, others, [picture.path for picture in kept])
    unreadable = _label(kept, annotations, masks_decide)
    _refuse_contradictions(root, kept)
    tools = sorted({annotation.tool for annotation in annotations.by_image.values()})
    return Sorted(
        [picture for picture in kept if not picture.is_left_out],
        [picture for picture in pictures if picture.role == "mask"],
        unpaired,
        [picture for picture in suspects if picture.role is None],
        annotations.unread if any(picture.role is None for picture in kept) else [],
        unreadable,
        tuple(tools),
        others,
    )


def _folder_names(root: Path, images: list[Path], split: Split | None) -> FolderNames:
    by_folder: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in images:
        by_folder[path.relative_to(root).parts[:-1]].append(path)
    folders = {folder[:length] for folder in by_folder for length in range(len(folder) + 1)}
    named = [
        folder
        for folder in folders
        if folder and role_of(folder[-1]) == "mask" and (may_be_product(folder[-1]) or not is_only(folder[-1], "mask"))
    ]
    not_masks = frozenset(folder for folder in named if are_photographs(_directly_below(folder, by_folder)))
    return FolderNames(folders, set(by_folder), not_masks, start_state(split))


def _directly_below(folder: tuple[str, ...], by_folder: dict[tuple[str, ...], list[Path]]) -> list[Path]:
    """Images below a folder that are in no further folder named like masks."""
    return [
        path
        for other, paths in sorted(by_folder.items())
        if other[: len(folder)] == folder and not any(role_of(name) == "mask" for name in other[len(folder) :])
        for path in paths
    ]


def _find_masks_beside(pictures: list[Picture]) -> None:
    """Find masks that lie beside their images under the same stem and another suffix, by their pixels."""
    twins: dict[tuple[str, ...], list[Picture]] = defaultdict(list)
    for picture in pictures:
        if picture.role != "mask" and not picture.is_left_out:
            twins[picture.key].append(picture)
    for found in twins.values():
        if len(found) < 2:
            continue
        looks = [look_of(picture.path) for picture in found]
        masks = [
            picture for picture, look in zip(found, looks, strict=True) if look in ("blank", "two values", "few values")
        ]
        if 0 < len(masks) < len(found):
            for mask in masks:
                mask.role, mask.source, mask.mask_folder = "mask", "pixels", mask.parts[:-1]


def _find_mask_folders(pictures: list[Picture]) -> list[Picture]:
    """Find folders without a stated role that hold nothing but masks of other images, and return single suspects."""
    by_folder: dict[tuple[str, ...], list[Picture]] = defaultdict(list)
    for picture in pictures:
        if picture.role is None and not picture.is_left_out:
            by_folder[picture.parts[:-1]].append(picture)
    stems = [(picture.key[:-1], picture.key[-1]) for picture in pictures if picture.role != "mask"]
    suspects = []
    for folder, members in by_folder.items():
        looks = looks_of([picture.path for picture in members])
        elsewhere = {stem for place, stem in stems if place != tuple(part.casefold() for part in folder)}
        paired = [picture.key[-1] in elsewhere for picture in members]
        is_mask = [look in ("blank", "two values", "few values") for look in looks if look is not None]
        if folder and all(is_mask) and sum(paired) >= _MOST_PAIR * len(members) and set(looks) - {None} != {"blank"}:
            for picture in members:
                picture.role, picture.source, picture.mask_folder = "mask", "pixels", folder
        else:
            for picture, look in zip(members, looks, strict=True):
                if look in ("blank", "two values"):
                    picture.source = look
                    suspects.append(picture)
    return suspects


def _label(pictures: list[Picture], annotations: Annotations, masks_decide: bool) -> list[tuple[Picture, str]]:
    """Roles by masks and annotations where no name states one, and masks from annotations."""
    unreadable = []
    for picture in pictures:
        annotation = annotations.by_image.get(picture.path)
        if picture.role == "defect":
            picture.mask = picture.mask or (annotation.mask if annotation else None)
            continue
        if picture.mask is None and annotation is None:
            continue
        try:
            is_defective = _marks_anything(picture.mask, annotation)
        except DataError as error:
            unreadable.append((picture, error.message))
            picture.is_left_out = True
            continue
        if picture.role == "good" and not masks_decide:
            if is_defective and picture.split != "test":
                source = picture.mask.name if picture.mask else annotation.origin if annotation else ""
                picture.conflict = f"{source} marks a defect in it"
            picture.mask = None
            continue
        picture.role, picture.source = "defect" if is_defective else "good", annotation.tool if annotation else "masks"
        if is_defective:
            picture.kind = (annotation.kind if annotation else None) or "defect"
            picture.mask = picture.mask or (annotation.mask if annotation else None)
        else:
            picture.mask = None
    return unreadable


def _marks_anything(mask: Mask | None, annotation: Annotation | None) -> bool:
    if annotation is not None and annotation.is_defective:
        return True
    return mask is not None and not is_empty(mask)


def _refuse_contradictions(root: Path, pictures: list[Picture]) -> None:
    found = [picture for picture in pictures if picture.conflict]
    if not found:
        return
    first = found[0]
    raise DataError(
        f"{len(found)} images in {root} are good by one sign and defective by another, the first: {first.path} "
        f"({first.source}, but {first.conflict}).",
        hint="Move them to where they belong, or say which folders hold what: --good DIR --bad DIR --masks DIR.",
    )
