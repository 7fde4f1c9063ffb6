"""Recognition of a data folder's layout: MVTec AD, MVTec 3D-AD, BTAD, VisA, labelled or plain folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgead.data.dataset import GOOD, Dataset, Sample
from edgead.data.folders import is_image, list_files, list_images, subfolders
from edgead.data.visa import SPLIT_FILE, read_visa
from edgead.errors import DataError

GOOD_FOLDERS = {"good": "MVTec AD", "ok": "BTAD"}
MASKS = "ground_truth"
COLOUR, COLOUR_MASKS, POSITIONS = "rgb", "gt", "xyz"
LABELLED = "labelled folders"
PLAIN = "plain folder"
Parts = tuple[list[Sample], list[Sample]]


def find_dataset(root: Path, *, need_train: bool = True) -> Dataset:
    """Recognise the data set in `root`.

    Layouts are tried in this order:

    1. VisA: `split_csv/1cls.csv` in the root, or beside the folder of one of its classes.
    2. One class of MVTec AD or BTAD (`train/good|ok`, `test/*`, `ground_truth/*`) or of MVTec 3D-AD, whose colour
       images are read (`train/good/rgb`, `test/*/rgb`, `test/*/gt`).
    3. Labelled folders: `good|ok` beside folders of defects.
    4. Several classes in the layout of MVTec AD or BTAD.
    5. A plain folder: every image counts as good.

    Args:
        root: Folder of the data set. A single class is named after it.
        need_train: Whether a data set without training images is an error.

    Raises:
        DataError: If the folder or its images are missing, training images are needed and missing, or the layout is
            broken.
    """
    _require_folder(root)
    for home, only in ((root, None), (root.resolve().parent, root.resolve().name)):
        if (home / SPLIT_FILE).is_file() and (visa := read_visa(home, only)) is not None:
            return _dataset(root, "VisA", visa, need_train)
    if _is_class(root):
        return _dataset(root, _layout_of(root), _read_class(root, root, _name_of(root), need_train), need_train)
    if _is_labelled(root):
        return _dataset(root, LABELLED, ([], _read_labelled(root)), need_train)
    if classes := [folder for folder in subfolders(root) if _is_class(folder)]:
        return _read_classes(root, classes, need_train)
    train = [Sample(path, _below(path, root), _name_of(root)) for path in list_images(root)]
    if not train:
        raise DataError(f"There are no images in {root}: it holds {_contents(root)}.", hint=_WHAT_TO_GIVE)
    return _dataset(root, PLAIN, (train, []), need_train)


_WHAT_TO_GIVE = (
    "Put images of good parts there (PNG, JPEG, BMP or TIFF; sub-folders are searched), "
    "or give a data set in the layout of MVTec AD, VisA or BTAD with --data."
)


def _require_folder(root: Path) -> None:
    if root.is_file():
        raise DataError(f"--data needs a folder, but {root} is a file.", hint=f"Give its folder: --data {root.parent}")
    if not root.is_dir():
        raise DataError(f"The data folder {root} does not exist.", hint=_WHAT_TO_GIVE)
    try:
        if not any(root.iterdir()):
            raise DataError(f"The data folder {root} is empty.", hint=_WHAT_TO_GIVE)
    except PermissionError as error:
        raise DataError(
            f"The data folder {root} cannot be read: {error.strerror}.", hint="Check its permissions."
        ) from error


def _is_class(folder: Path) -> bool:
    """Whether the folder has a train or test part, like a class of MVTec AD or BTAD."""
    return (folder / "train").is_dir() or bool(list_images(folder / "test"))


def _layout_of(folder: Path) -> str:
    if any(_colour_of(part) for part in (*subfolders(folder / "train"), *subfolders(folder / "test"))):
        return "MVTec 3D-AD"
    for part in ("train", "test"):
        for name, layout in GOOD_FOLDERS.items():
            if (folder / part / name).is_dir():
                return layout
    return "MVTec AD"


def _is_labelled(folder: Path) -> bool:
    with_images = [part.name.lower() for part in subfolders(folder) if part.name != MASKS and list_images(part)]
    return len(with_images) > 1 and any(name in GOOD_FOLDERS for name in with_images)


def _read_class(folder: Path, root: Path, class_name: str, need_train: bool) -> Parts:
    train = _good_folder(folder / "train")
    train_paths = list_images(_colour_of(train) or train) if train is not None else []
    if need_train and not train_paths:
        where = train or folder / "train"
        unnamed = "" if train else f", and none of its {len(subfolders(where))} folders is named good or ok"
        raise DataError(
            f"There are no training images in {where}: it holds {_contents(where)}{unnamed}.",
            hint=f"Put images of good parts into {folder / 'train' / 'good'}.",
        )
    samples = [Sample(path, _below(path, root), class_name) for path in train_paths]
    test = _read_test(folder / "test", folder / MASKS, root, class_name)
    if not test and (folder / "test").is_dir() and (unlabelled := list_images(folder / "test")):
        raise DataError(
            f"{folder / 'test'} holds {len(unlabelled)} images outside any sub-folder, so they have no labels.",
            hint="Move them into test/good and test/<name of the defect>.",
        )
    return samples, test


def _good_folder(train: Path) -> Path | None:
    """Folder of good images in `train`; `train` itself if the images lie directly in it."""
    for part in subfolders(train):
        if part.name.lower() in GOOD_FOLDERS:
            return part
    has_images = train.is_dir() and any(is_image(path) for path in train.iterdir())
    return train if has_images and not subfolders(train) else None


def _read_labelled(root: Path) -> list[Sample]:
    """Read `good` beside folders of defects; for `X/test`, masks may also lie in `X/ground_truth`."""
    resolved = root.resolve()
    if resolved.name == "test":
        class_folder = resolved.parent
        masks = next((path for path in (root / MASKS, class_folder / MASKS) if path.is_dir()), root / MASKS)
        return _read_test(root, masks, root, _name_of(class_folder))
    return _read_test(root, root / MASKS, root, _name_of(root))


def _read_test(test: Path, masks: Path, root: Path, class_name: str) -> list[Sample]:
    samples = []
    for folder in subfolders(test):
        if folder.name == MASKS:
            continue
        good = folder.name.lower() in GOOD_FOLDERS
        colour = _colour_of(folder)
        mask_of = {} if good else _masks_by_stem(folder / COLOUR_MASKS if colour else masks / folder.name)
        for path in list_images(colour or folder):
            mask = mask_of.get(path.stem + "_mask", mask_of.get(path.stem))
            samples.append(Sample(path, _below(path, root), class_name, not good, GOOD if good else folder.name, mask))
    return samples


def _colour_of(folder: Path) -> Path | None:
    """Folder of the colour images in a folder of MVTec 3D-AD, which has positions or masks beside it."""
    colour = folder / COLOUR
    others = (folder / COLOUR_MASKS, folder / POSITIONS)
    return colour if colour.is_dir() and any(other.is_dir() for other in others) else None


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in list_images(folder)}


def _read_classes(root: Path, folders: list[Path], need_train: bool) -> Dataset:
    train: list[Sample] = []
    test: list[Sample] = []
    for folder in folders:
        class_train, class_test = _read_class(folder, root, folder.name, need_train)
        train += class_train
        test += class_test
    ignored = [part.name for part in subfolders(root) if part not in folders and list_images(part)]
    note = f" Left out, not a class: {', '.join(ignored)}." if ignored else ""
    return _dataset(
        root, " and ".join(sorted({_layout_of(folder) for folder in folders})), (train, test), need_train, note
    )


def _dataset(root: Path, layout: str, parts: Parts, need_train: bool, note: str = "") -> Dataset:
    train, test = parts
    if need_train and not train:
        good = next((part for part in subfolders(root) if part.name.lower() in GOOD_FOLDERS), None)
        raise DataError(
            f"{root} holds {len(test)} labelled test images ({layout}) but no training images.",
            hint=f"To train on its good images: --data {good}" if good else "Put images of good parts into train/good.",
        )
    if not train and not test:
        raise DataError(f"There are no images in the classes of {root} ({layout}).", hint=_WHAT_TO_GIVE)
    classes = tuple(sorted({sample.class_name for sample in (*train, *test)}))
    sentence = _describe(layout, classes, train, test) + note
    return Dataset(root, layout, classes, _sorted(train), _sorted(test), sentence)


def _sorted(samples: list[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.class_name, sample.name)))


def _describe(layout: str, classes: tuple[str, ...], train: list[Sample], test: list[Sample]) -> str:
    what = f"class {classes[0]}" if len(classes) == 1 else f"{len(classes)} classes ({', '.join(classes)})"
    kind = layout if layout in (PLAIN, LABELLED) else f"{layout} layout"
    defective = sum(sample.gt_label for sample in test)
    masks = sum(sample.mask_path is not None for sample in test)
    tested = f"{len(test)} test images ({defective} defective, {masks} with masks)" if test else "no test images"
    return f"{kind[0].upper()}{kind[1:]}, {what}: {len(train)} good images to train on, {tested}."


def _contents(folder: Path) -> str:
    """Contents of a folder and of those below it, for an error: `3 .txt, 1 .mp4 files`."""
    if not folder.is_dir():
        return "nothing (the folder is missing)"
    kinds = Counter(path.suffix.lower() or path.name for path in list_files(folder))
    if kinds:
        return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) + " files"
    names = [part.name for part in subfolders(folder)]
    return f"empty folders ({', '.join(names[:5])})" if names else "nothing"


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _name_of(folder: Path) -> str:
    return folder.resolve().name or "data"
