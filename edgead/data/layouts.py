"""Recognition of a data folder: published data sets, labelled folders, masks and annotations, or good images alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgead.data.classes import Class, class_folders, class_of
from edgead.data.dataset import Dataset, Sample
from edgead.data.folders import list_files, subfolders
from edgead.data.formats.lookout import read_lookout
from edgead.data.formats.real_iad import read_real_iad
from edgead.data.formats.visa import SPLIT_FILE, read_visa
from edgead.data.names import is_neutral, role_of
from edgead.data.parts import LABELLED, Parts, layout_of, parts_of_class
from edgead.data.roles import Picture, start_of
from edgead.data.sorting import Sorted, sort_folder
from edgead.data.unclear import refuse_unclear
from edgead.data.unread import unread_sentences
from edgead.errors import DataError


def find_dataset(root: Path, *, need_train: bool = True) -> Dataset:
    """Recognise the data set in `root`.

    What is tried, in this order:

    1. VisA (`split_csv/1cls.csv`), Real-IAD (its JSON files) and manifests of Lookout for Vision.
    2. Folders `train` and `test` as in MVTec AD, MVTec AD 2 (its public test part), MVTec LOCO AD, MVTec 3D-AD (colour
       images), BTAD and KolektorSDD2, of one class or of several.
    3. Folders, files, masks and annotations that state which images are good and which defective.
    4. Good images alone, if nothing contradicts that.

    Args:
        root: Folder of the data set. A single class is named after it.
        need_train: Whether a data set without training images is an error. If not, good images that belong to neither a
            training nor a test part are test images, provided that there are defective ones.

    Raises:
        DataError: If the folder or its images are missing, training images are needed and missing, it is not clear which
            images are good, or masks or annotations are ambiguous.
    """
    _require_folder(root)
    for home, only in ((root, None), (root.resolve().parent, root.resolve().name)):
        if (home / SPLIT_FILE).is_file() and (visa := read_visa(home, only)) is not None:
            return dataset_of(root, "VisA", visa, [], need_train=need_train)
    for read in (read_real_iad, read_lookout):
        if (found := read(root)) is not None:
            if not need_train and not found.has_parts:
                return dataset_of(root, found.layout, ([], [*found.train, *found.test]), found.notes, need_train=False)
            return dataset_of(root, found.layout, (found.train, found.test), found.notes, need_train=need_train)
    split, role = start_of(root)
    masks = (
        [part for part in subfolders(root.resolve().parent) if role_of(part.name) == "mask"] if split == "test" else []
    )
    found_here = sort_folder(root.resolve() if masks else root, split, masks)
    base = root.resolve() if masks else root
    if not found_here.pictures and not found_here.masks:
        hint = " ".join(unread_sentences(found_here.others)) or WHAT_TO_GIVE
        raise DataError(f"There are no images in {root}: it holds {contents_of(root)}.", hint=hint)
    name = root.resolve().parent.name if split else _name_of(root)
    return _recognised(base, base.parent if masks else base, name, found_here, role, need_train, split == "test")


WHAT_TO_GIVE = (
    "Check the path. Training needs images of good parts there (PNG, JPEG, BMP or TIFF; sub-folders are searched), or a data set in a known "
    "layout, such as MVTec AD, named with --data; edgead eval needs labelled images there, in test/good and test/<defect>."
)


def dataset_of(
    root: Path, layout: str, parts: tuple[list[Sample], list[Sample]], notes: Sequence[str], *, need_train: bool
) -> Dataset:
    """Data set of training and test samples, described in a sentence.

    Args:
        root: Folder that was searched.
        layout: Name of the recognised layout.
        parts: Training and test samples.
        notes: Further sentences for users.
        need_train: Whether it is an error that there are no training images.

    Raises:
        DataError: If there are no images, or no training images where they are needed.
    """
    train, test = parts
    if need_train and not train:
        defective = sum(sample.gt_label for sample in test)
        raise DataError(
            f"{root} holds {len(test)} labelled test images ({layout}; {defective} defective) but no training images.",
            hint="Put images of good parts into train/good, or name their folder: --good DIR.",
        )
    if not train and not test:
        raise DataError(f"There are no images in the classes of {root} ({layout}).", hint=WHAT_TO_GIVE)
    classes = tuple(sorted({sample.class_name for sample in (*train, *test)}))
    sentence = " ".join([_describe(layout, classes, train, test), *notes])
    return Dataset(root, layout, classes, _sorted(train), _sorted(test), sentence)


def _recognised(
    root: Path, base: Path, name: str, found: Sorted, role_of_root: str | None, need_train: bool, is_test: bool
) -> Dataset:
    """Data set of sorted pictures, whose folders are relative to `base`."""
    if not found.pictures:
        raise DataError(
            f"The {len(found.masks)} images in {root} are masks ({found.masks[0].source}); there are no images of parts.",
            hint="Give the folder above, which has the images too, or, if these are images of parts: --good DIR.",
        )
    if not found.has_evidence and role_of_root is not None:
        _take_role_of_root(root, found, role_of_root, need_train)
    classes = _classes(base, found.pictures)
    notes: list[str] = []
    parts = Parts()
    layouts = set()
    for folder, members in sorted(classes.items()):
        home = base.joinpath(*folder)
        refuse_unclear(home, folder, members, found)
        class_name = name if not folder or (_says_no_class(folder) and len(classes) == 1) else folder[-1]
        if sum(other[-1:] == folder[-1:] for other in classes) > 1:
            class_name = "/".join(folder)
        one = parts_of_class(root, home, class_name, members, need_train=need_train and not is_test)
        layouts.add(LABELLED if is_test else layout_of(home, members, found))
        parts.add(one)
    inside = {picture for members in classes.values() for picture in members}
    outside = [picture for picture in found.pictures if picture not in inside]
    if outside:
        names = sorted(
            {picture.parts[0] if len(picture.parts) > 1 else "files beside the folders" for picture in outside}
        )
        notes.append(f"Left out, not a class: {', '.join(names)}.")
    layout = " and ".join(sorted(layouts))
    if LABELLED in layout or found.tools or "masks" in layout:
        notes.insert(0, roles_of(found))
    notes += [*parts.notes(), *about_masks(found), *unread_sentences(found.others)]
    return dataset_of(root, layout, (parts.train, parts.test), notes, need_train=need_train)


def _classes(root: Path, pictures: Sequence[Picture]) -> dict[Class, list[Picture]]:
    """Pictures by the folder of their class; pictures outside any class are left out if there are classes."""
    classes: dict[Class, list[Picture]] = {folder: [] for folder in class_folders(root, pictures)}
    for picture in pictures:
        folder = class_of(picture.lead, classes)
        if folder is not None:
            classes[folder].append(picture)
    return classes


def _says_no_class(folder: Class) -> bool:
    """Whether a path is empty or consists of words such as `images`; numbers may be classes, as in BTAD."""
    return all(is_neutral(part) and any(character.isalpha() for character in part) for part in folder)


def _take_role_of_root(root: Path, found: Sorted, role: str, need_train: bool) -> None:
    """Apply the name of the root, such as `NG`, to images that nothing else says anything about."""
    if role == "mask" or need_train:
        what = "masks" if role == "mask" else "defective"
        raise DataError(
            f"The {len(found.pictures)} images in {root} are {what} by the folder's name.",
            hint=f"Give the folder of the good images, or, if these are good: --good {root}",
        )
    for picture in found.pictures:
        picture.role, picture.source, picture.kind = "defect", f"folder {root.name}", root.resolve().name


def roles_of(found: Sorted) -> str:
    """Sentence that counts the images of each role by what states it."""
    counts: Counter[tuple[str, str]] = Counter()
    words = {"good": "good", "defect": "defective"}
    for picture in found.pictures:
        if picture.role is not None:
            counts[(words[picture.role], picture.source)] += 1
    for mask in found.masks:
        counts[("masks", mask.source)] += 1
    return "Recognised: " + ", ".join(f"{n} {what} ({source})" for (what, source), n in sorted(counts.items())) + "."


def about_masks(found: Sorted) -> list[str]:
    """Sentences about masks that fit no image or cannot be read."""
    notes = []
    if found.unpaired and any(picture.role == "defect" for picture in found.pictures):
        notes.append(f"{len(found.unpaired)} masks fit no image, the first: {found.unpaired[0].path}.")
    if found.unreadable:
        picture, reason = found.unreadable[0]
        notes.append(
            f"{len(found.unreadable)} images were left out because of their masks, the first {picture.path}: {reason}"
        )
    return notes


def _require_folder(root: Path) -> None:
    if root.is_file():
        raise DataError(f"--data needs a folder, but {root} is a file.", hint=f"Give its folder: --data {root.parent}")
    if not root.is_dir():
        raise DataError(f"The data folder {root} does not exist.", hint=WHAT_TO_GIVE)
    try:
        if not any(root.iterdir()):
            raise DataError(f"The data folder {root} is empty.", hint=WHAT_TO_GIVE)
    except PermissionError as error:
        raise DataError(
            f"The data folder {root} cannot be read: {error.strerror}.", hint="Check its permissions."
        ) from error


def _sorted(samples: list[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.class_name, sample.name)))


def _describe(layout: str, classes: tuple[str, ...], train: list[Sample], test: list[Sample]) -> str:
    what = f"class {classes[0]}" if len(classes) == 1 else f"{len(classes)} classes ({', '.join(classes)})"
    kind = layout if layout[:1].islower() else f"{layout} layout"
    defective = sum(sample.gt_label for sample in test)
    masks = sum(sample.mask is not None for sample in test)
    tested = f"{len(test)} test images ({defective} defective, {masks} with masks)" if test else "no test images"
    return f"{kind[0].upper()}{kind[1:]}, {what}: {len(train)} good images to train on, {tested}."


def contents_of(folder: Path) -> str:
    """Contents of a folder and of those below it, for an error: `3 .txt, 1 .mp4 files`."""
    if not folder.is_dir():
        return "nothing (the folder is missing)"
    kinds = Counter(path.suffix.lower() or path.name for path in list_files(folder))
    if kinds:
        return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) + " files"
    names = [part.name for part in subfolders(folder)]
    return f"empty folders ({', '.join(names[:5])})" if names else "nothing"


def _name_of(folder: Path) -> str:
    return folder.resolve().name or "data"
