"""Data sets whose folders the user has given roles: `--good`, `--bad` and `--masks`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.data.dataset import GOOD, Dataset, Sample, with_text_names
from edgead.data.folders import is_image, list_files
from edgead.data.layouts import about_masks, dataset_of, find_dataset, roles_of
from edgead.data.names import is_neutral, role_of, stem_without_role
from edgead.data.parts import sample_of
from edgead.data.roles import Picture
from edgead.data.sorting import finish_sorting
from edgead.data.unread import unread_sentences
from edgead.errors import DataError

LAYOUT = "chosen folders"


@dataclass(frozen=True)
class FolderRoles:
    """Folders by what the user says is in them; empty ones are recognised from `--data`.

    Attributes:
        good: Folders of good images.
        bad: Folders of defective images.
        masks: Folders of masks and annotation files.
    """

    good: tuple[Path, ...] = ()
    bad: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()


def choose_dataset(root: Path, roles: FolderRoles, *, need_train: bool = True) -> Dataset:
    """Data set of the folders that the user named, or the one that is recognised in `root` if none was named.

    Of folders inside each other the innermost counts. Without a folder of defective images, masks and annotations decide
    which images of the good folders are defective after all.

    Args:
        root: Folder of the data set; folders of `roles` that do not exist are looked for in it.
        roles: Folders by their content.
        need_train: Whether the good images are for training; otherwise all images are test images.

    Raises:
        DataError: If a folder is missing or has no images, masks are ambiguous, or training images are needed and missing.
    """
    if not (roles.good or roles.bad or roles.masks):
        return with_text_names(find_dataset(root, need_train=need_train))
    good, bad, masks = (
        tuple(_existing(root, folder, option) for folder in folders)
        for folders, option in ((roles.good, "--good"), (roles.bad, "--bad"), (roles.masks, "--masks"))
    )
    if not good and not bad:
        raise DataError(
            "--masks needs the images that the masks belong to.", hint="Add --bad DIR, and --good DIR for good images."
        )
    pictures, others = _pictures(good, bad, masks)
    everything = Path(os.path.commonpath([*good, *bad, *masks]))
    base = Path(os.path.commonpath([*good, *bad]))
    found = finish_sorting(everything, pictures, others, masks_decide=not bad)
    name = base.resolve().name or "data"
    samples = [sample_of(base, name, picture) for picture in found.pictures]
    goods = [sample for sample in samples if not sample.gt_label]
    defects = [sample for sample in samples if sample.gt_label]
    for folders, option, there in ((good, "--good", [*goods, *defects]), (bad, "--bad", defects)):
        if folders and not there:
            raise DataError(
                f"There are no images in the folders of {option}: {', '.join(map(str, folders))}.",
                hint=" ".join(unread_sentences(others)) or "Give folders of PNG, JPEG, BMP or TIFF files.",
            )
    if need_train and not goods:
        raise DataError(
            f"There are {len(defects)} defective images and no good ones to train on.", hint="Add --good DIR."
        )
    parts = (goods, defects) if need_train else ([], [*goods, *defects])
    notes = [roles_of(found), *about_masks(found), *unread_sentences(others)]
    return with_text_names(dataset_of(base, LAYOUT, parts, notes, need_train=need_train))


def choose_defects(root: Path, folders: Sequence[Path]) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Pictures of known defects, with the sentences about their masks for users.

    A folder in one of `folders` is a kind of defect. Masks and annotations are recognised as in every data set: in folders
    such as `ground_truth`, or beside the pictures.

    Args:
        root: Folder of the data set; folders that do not exist are looked for in it.
        folders: Folders of pictures with defects.

    Raises:
        DataError: If a folder is missing or has no images, states that its images are good, or masks are ambiguous.
    """
    bad = tuple(_existing(root, folder, "--known-defects") for folder in folders)
    pictures, others = _pictures((), bad, ())
    named = ", ".join(map(str, bad))
    defects = [picture for picture in pictures if picture.role == "defect"]
    good = [picture for picture in defects if any(role_of(part) == GOOD for part in picture.parts[1:-1])]
    if good:
        raise DataError(
            f"{len(good)} of the pictures of --known-defects are in a folder of good ones, such as {good[0].path}.",
            hint="Name the folders of the defects alone; --known-defects may be repeated.",
        )
    base = Path(os.path.commonpath(bad))
    found = finish_sorting(base, pictures, others)
    if not found.pictures:
        raise DataError(
            f"There are no images in the folders of --known-defects: {named}.",
            hint=" ".join(unread_sentences(others)) or "Give folders of PNG, JPEG, BMP or TIFF files.",
        )
    name = base.resolve().name or "data"
    return tuple(sample_of(base, name, picture) for picture in found.pictures), (
        *about_masks(found),
        *unread_sentences(others),
    )


def _existing(root: Path, folder: Path, option: str) -> Path:
    for candidate in (folder, root / folder):
        if candidate.is_dir():
            return candidate.absolute()
    raise DataError(f"The folder {folder} of {option} does not exist.", hint="Check its path, or that of --data.")


def _pictures(good: Sequence[Path], bad: Sequence[Path], masks: Sequence[Path]) -> tuple[list[Picture], list[Path]]:
    """Pictures of all folders, each under a made-up name of its folder, and files that are not images."""
    owners = [
        (folder, role) for role, folders in (("good", good), ("defect", bad), ("mask", masks)) for folder in folders
    ]
    owned: dict[Path, tuple[int, Path, str]] = {}
    for number, (folder, role) in enumerate(sorted(owners, key=lambda owner: len(owner[0].parts))):
        for path in sorted(list_files(folder)):
            owned[path] = (number, folder, role)
    pictures, others = [], []
    stems = {(path.parent, path.stem.casefold()) for path in owned if is_image(path)}
    for path, (number, folder, role) in sorted(owned.items()):
        if not is_image(path):
            others.append(path)
            continue
        below = path.relative_to(folder).parts
        picture = Picture(path, (f"{role}{number}", *below), source=f"folder {folder.name}")
        inner = next((index for index, part in enumerate(below[:-1]) if role_of(part) == "mask"), None)
        rest, is_named_mask = stem_without_role(path.stem)
        if role == "mask":
            picture.role, picture.mask_folder = "mask", picture.parts[:1]
        elif inner is not None:
            picture.role, picture.mask_folder = "mask", picture.parts[: inner + 2]
        elif is_named_mask and (path.parent, rest.casefold()) in stems:
            picture.role, picture.source, picture.mask_folder = "mask", "file names", picture.parts[:-1]
        elif role == "good":
            picture.role = "good"
        else:
            picture.role = "defect"
            named = len(below) > 1 and not is_neutral(below[0])
            picture.kind = below[0] if named else folder.name
        pictures.append(picture)
    return pictures, others
