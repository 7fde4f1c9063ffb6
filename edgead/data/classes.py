"""Classes of a data set: the folders that hold one each, and the class of an image or of a folder of masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from edgead.data.folders import subfolders
from edgead.data.names import are_serial, is_neutral, is_only_split, split_of
from edgead.data.roles import Picture

Class = tuple[str, ...]


def class_folders(root: Path, images: Sequence[Picture], leads: Iterable[Class] = ()) -> set[Class]:
    """Folders of classes, as paths like `Picture.lead`; only the empty path if the data set is one class.

    A class is a folder with parts such as `train`, or one in which something states what is good and what defective.

    Args:
        root: Folder of the data set.
        images: Its images, without masks.
        leads: Further folders in which something states it.
    """
    with_parts = {image.lead for image in images if image.split is not None}
    with_parts |= {
        (folder.name,) for folder in subfolders(root) if _has_train(folder) and not is_only_split(folder.name)
    }
    stated = {image.lead for image in images if image.role is not None}.union(leads) - with_parts
    if () in with_parts:  # the root is a class itself, and what lies beside its parts is no other one
        stated = set()
    return {*with_parts, *(_named_part(lead, stated) for lead in stated)} or {()}


def classes_around_masks(root: Path, pictures: Sequence[Picture]) -> set[Class]:
    """Folders of classes before masks are paired with images, which may be all that states a role in a class.

    Args:
        root: Folder of the data set.
        pictures: Its images and masks.
    """
    pictures = [picture for picture in pictures if not picture.is_left_out]
    images = [picture for picture in pictures if picture.role != "mask"]
    if any(image.role is not None and not image.lead for image in images):  # no class has a folder of its own
        return class_folders(root, images)
    with_images = {image.lead[:length] for image in images for length in range(1, len(image.lead) + 1)}
    around = {class_of(mask.lead, with_images) for mask in pictures if mask.role == "mask"}
    return class_folders(root, images, filter(None, around))


def class_of(lead: Class, classes: Collection[Class]) -> Class | None:
    """The innermost class that a folder is in; None if it is in none."""
    return next((lead[:length] for length in range(len(lead), -1, -1) if lead[:length] in classes), None)


def class_of_masks(folder: tuple[str, ...], lead: Class, classes: Collection[Class]) -> Class:
    """The class whose images a folder of masks can belong to, because it lies in it or is named after it; () if any can.

    Args:
        folder: Path of the folder of masks.
        lead: Its `Picture.lead`.
        classes: Folders of classes.
    """
    if around := class_of(lead, classes):
        return around
    names = tuple(name.casefold() for name in folder)
    for one in sorted(filter(None, classes), key=lambda one: (-len(one), one)):
        wanted = tuple(name.casefold() for name in one)
        if any(names[start : start + len(one)] == wanted for start in range(len(names))):
            return one
    return ()


def _named_part(lead: Class, leads: set[Class]) -> Class:
    """Beginning of a path that names a class; dates, cameras and serial numbers at its end name none."""
    while lead:
        siblings = sorted(
            {other[len(lead) - 1] for other in leads if other[: len(lead) - 1] == lead[:-1] and len(other) >= len(lead)}
        )
        if not is_neutral(lead[-1]) and not (len(siblings) > 1 and are_serial(siblings)):
            return lead
        lead = lead[:-1]
    return lead


def _has_train(folder: Path) -> bool:
    return any(is_only_split(part.name) and split_of(part.name) == "train" for part in subfolders(folder))
