"""Training and test parts of one class, from pictures with known roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgead.data.dataset import GOOD, Sample
from edgead.data.folders import subfolders
from edgead.data.names import Split, is_neutral, is_only_split, is_private_test, role_of, split_of
from edgead.data.roles import COLOUR, POSITIONS, Picture
from edgead.data.sorting import Sorted
from edgead.errors import DataError

LABELLED = "labelled folders"
PLAIN = "plain folder"
PUBLIC_TEST = "test_public"
LOCO_KINDS = {"logical_anomalies", "structural_anomalies"}


@dataclass
class Parts:
    """Training and test samples, and counts of what was left out, by reason."""

    train: list[Sample] = field(default_factory=list)
    test: list[Sample] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: Parts) -> None:
        """Add the parts of another class."""
        self.train += other.train
        self.test += other.test
        self.left_out += other.left_out

    def notes(self) -> list[str]:
        """One sentence per reason."""
        return [f"Left out: {count} {reason}." for reason, count in sorted(self.left_out.items())]


def parts_of_class(root: Path, home: Path, class_name: str, pictures: Sequence[Picture], *, need_train: bool) -> Parts:
    """Training and test samples of one class.

    Good images of a training part are for training, and labelled ones of a test part for the test; validation images are the
    test where there is no other and some are defective, and otherwise left out, as defective training images are. Images of
    private test parts have no labels and are left out. Without parts, good images are for training if that is needed or
    there are no defective ones, and test images otherwise.

    Args:
        root: Folder that names of samples are relative to.
        home: Folder of the class.
        class_name: Name of the class.
        pictures: Its images with their roles; those without a role are left out, unless they are a whole training part
            or nothing states any role.
        need_train: Whether it is an error that the class has a test part and no training images.

    Raises:
        DataError: If training images are needed and missing, or test images have no labels.
    """
    splits = {picture.split for picture in pictures}
    folders = {part: _split_folder(home, part) for part in ("train", "test")}  # type: ignore[arg-type]
    if splits <= {None} and folders["train"] is None:
        return _without_split(root, class_name, pictures, need_train)
    parts = Parts()
    train = [picture for picture in pictures if picture.split == "train"]
    beside = [picture for picture in pictures if picture.split is None]
    if not train and folders["train"] is None:  # good/ beside test/
        train = [picture for picture in beside if picture.role == "good"]
        beside = [picture for picture in beside if picture.role != "good"]
    _add_train(parts, root, class_name, train)
    if need_train and not parts.train:
        raise _no_training_images(home, folders["train"])
    tests = [picture for picture in pictures if picture.split == "test"]
    validation = [picture for picture in pictures if picture.split == "validation"]
    if not tests and any(picture.role == "defect" for picture in validation):
        tests, validation = validation, []
    labelled = [picture for picture in tests if picture.role is not None]
    private = {picture for picture in tests if picture.role is None and _is_private(picture)}
    tests = [picture for picture in tests if picture not in private]
    if tests and not labelled:
        raise _no_labels(folders["test"] or home, len(tests))
    parts.test = [sample_of(root, class_name, picture) for picture in labelled]
    parts.left_out["private test images, which have no labels"] += len(private)
    parts.left_out["test images without a label"] += len(tests) - len(labelled)
    parts.left_out["validation images"] += len(validation)
    parts.left_out["images beside the training and test parts"] += len(beside)
    parts.left_out = +parts.left_out
    return parts


def sample_of(root: Path, class_name: str, picture: Picture) -> Sample:
    """Sample of a picture whose role is known; without a role it is good."""
    is_defective = picture.role == "defect"
    return Sample(
        picture.path,
        picture.path.relative_to(root).as_posix(),
        class_name,
        is_defective,
        (picture.kind or "defect") if is_defective else GOOD,
        picture.mask if is_defective else None,
    )


def layout_of(home: Path, pictures: Sequence[Picture], found: Sorted) -> str:
    """Name of the layout of a class, for users."""
    defective = any(picture.role == "defect" for picture in pictures)
    if all(picture.split is None for picture in pictures) and _split_folder(home, "train") is None:
        if found.tools:
            return f"{' and '.join(found.tools)} annotations"
        if any(picture.source == "masks" for picture in pictures):
            return "images with masks"
        return LABELLED if defective else PLAIN
    kinds = {picture.kind for picture in pictures}
    if kinds & LOCO_KINDS:
        return "MVTec LOCO AD"
    folders = {part.name for split in _split_folders(home) for part in subfolders(split)}
    if any(_is_3d(split / name) for split in _split_folders(home) for name in folders):
        return "MVTec 3D-AD"
    if found.tools:
        return f"{' and '.join(found.tools)} annotations"
    if any(picture.source == "masks" for picture in pictures):
        beside = any(mask.source == "file names" for mask in found.masks)
        return "KolektorSDD2" if beside else "training and test images with masks"
    if GOOD not in folders and "ok" in folders:
        return "BTAD"
    return "MVTec AD 2" if (home / PUBLIC_TEST).is_dir() else "MVTec AD"


def _is_3d(folder: Path) -> bool:
    names = {part.name.casefold() for part in subfolders(folder)}
    return COLOUR in names and bool(names & {"gt", *POSITIONS})


def _add_train(parts: Parts, root: Path, class_name: str, pictures: Sequence[Picture]) -> None:
    good = [picture for picture in pictures if picture.role == "good"]
    unknown = [picture for picture in pictures if picture.role is None]
    defective = len(pictures) - len(good) - len(unknown)
    if not good and not defective and all(_is_flat(picture) for picture in unknown):
        good, unknown = unknown, []
    parts.train = [sample_of(root, class_name, picture) for picture in good]
    parts.left_out["defective images of the training part, which are not trained on"] += defective
    parts.left_out["training images of which nothing says that they are good"] += len(unknown)


def _is_flat(picture: Picture) -> bool:
    """Whether an image lies directly in its part of the data set, or below it in folders of dates and cameras."""
    start = next(index for index, name in enumerate(picture.parts) if is_only_split(name)) if picture.lead else 0
    below = picture.parts[start:-1]
    return all(is_neutral(name) or is_only_split(name) for name in below if name not in picture.lead)


def _without_split(root: Path, class_name: str, pictures: Sequence[Picture], need_train: bool) -> Parts:
    good = [picture for picture in pictures if picture.role == "good"]
    defective = [picture for picture in pictures if picture.role == "defect"]
    unknown = [picture for picture in pictures if picture.role is None]
    if not good and not defective:
        good, unknown = unknown, []
    goods = [sample_of(root, class_name, picture) for picture in good]
    defects = [sample_of(root, class_name, picture) for picture in defective]
    parts = Parts()
    if need_train or not defects:
        parts.train, parts.test = goods, defects
    else:
        parts.test = [*goods, *defects]
    if unknown:
        where = sorted({"/".join(picture.parts[:-1]) or "the folder itself" for picture in unknown})
        parts.left_out[f"images of which nothing says whether they are good (in {', '.join(where[:5])})"] += len(
            unknown
        )
    return parts


def _is_private(picture: Picture) -> bool:
    return any(is_private_test(name) for name in picture.parts[:-1])


def _no_labels(folder: Path, n_images: int) -> DataError:
    if is_private_test(folder.resolve().name):
        return DataError(
            f"The {n_images} images in {folder} have no labels: those of private test parts are not published.",
            hint="Take the public test part, or look at them without labels: edgead predict.",
        )
    return DataError(
        f"{folder} holds {n_images} images outside any sub-folder, so they have no labels.",
        hint="Move them into test/good and test/<name of the defect>.",
    )


def _no_training_images(home: Path, train: Path | None) -> DataError:
    from edgead.data.layouts import contents_of

    good = next((part for part in subfolders(train) if role_of(part.name) == GOOD), None) if train else None
    where = good or train or home / "train"
    unnamed = "" if good or train is None else f", and none of its {len(subfolders(train))} folders is named good or ok"
    return DataError(
        f"There are no training images in {where}: it holds {contents_of(where)}{unnamed}.",
        hint=f"Put images of good parts into {home / 'train' / 'good'}, or name their folder: --good DIR",
    )


def _split_folder(home: Path, part: Split) -> Path | None:
    """Folder of a part; one with labels comes before a private one."""
    found = [folder for folder in subfolders(home) if is_only_split(folder.name) and split_of(folder.name) == part]
    return min(found, key=lambda folder: is_private_test(folder.name), default=None)


def _split_folders(home: Path) -> list[Path]:
    return [folder for part in ("train", "test") if (folder := _split_folder(home, part)) is not None]  # type: ignore[arg-type]
