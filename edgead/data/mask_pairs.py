"""Pairs of masks and images by their paths; what fits two ways is an error."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgead.data.classes import Class, class_of, class_of_masks
from edgead.data.dataset import Mask
from edgead.data.folders import is_image
from edgead.data.names import stem_of_image, stem_without_role
from edgead.data.roles import Picture
from edgead.errors import DataError

Key = tuple[str, ...]
_NUMBERED = re.compile(r".*[^\W\d_]+[ _-]?\d{1,3}")
_HINT = "Give each mask the path of its image below the folder of masks, with or without the ending _mask."


@dataclass
class _MaskFolder:
    """Masks below one folder, by the paths that they give."""

    files: dict[Key, list[Picture]] = field(default_factory=lambda: defaultdict(list))
    folders: dict[Key, list[Picture]] = field(default_factory=lambda: defaultdict(list))
    lead: Class = ()

    def add(self, mask: Picture, folder: Key) -> None:
        self.lead = mask.lead
        below = tuple(part.casefold() for part in mask.parts[len(folder) : -1])
        # some tools name the mask of 7.jpg 7.jpg.png
        stem = mask.path.with_suffix("").stem if is_image(mask.path.with_suffix("")) else mask.path.stem
        for name in dict.fromkeys((stem.casefold(), _without_suffix(stem_without_role(stem)[0]).casefold())):
            key = (*below, name)
            self.files[key].append(mask)
        for length in range(1, len(below) + 1):
            self.folders[below[:length]].append(mask)


def pair_masks(
    pictures: Sequence[Picture], classes: Collection[Class] = ((),), *, masks_decide: bool = False
) -> list[Picture]:
    """Give every image the masks that fit it, and return the masks that fit no image.

    A mask fits the image whose path ends like the mask's path below its folder of masks; a folder in that place is the
    union of its files. Masks in the folder of a class fit images of that class alone. Of several images that one mask
    fits, defective ones come before others, and those of a test part before those of a training part.

    Args:
        pictures: Images and masks; images get their masks.
        classes: Folders of the classes, as paths like `Picture.lead`.
        masks_decide: Whether a mask belongs to an image in a good folder of which it has no more than the file name;
            numbers of good and defective images often coincide.

    Raises:
        DataError: If two masks fit one image, or one mask fits two images.
    """
    by_folder: dict[Key, _MaskFolder] = defaultdict(_MaskFolder)
    masks = [picture for picture in pictures if picture.role == "mask" and not picture.is_left_out]
    for mask in masks:
        by_folder[mask.mask_folder].add(mask, mask.mask_folder)
    images = [picture for picture in pictures if picture.role != "mask" and not picture.is_left_out]
    class_of_image = [class_of(image.lead, classes) for image in images]
    used: set[Path] = set()
    for folder in sorted(by_folder, key=len, reverse=True):
        own = class_of_masks(folder, by_folder[folder].lead, classes)
        allowed = {i: image for i, image in enumerate(images) if own in ((), class_of_image[i])}
        for image, found in _pairs(folder, by_folder[folder], allowed, masks_decide).items():
            chosen = tuple(sorted(mask.path for mask in found))
            before = images[image].mask
            if before is not None:
                raise _two_masks(images[image], [*before.files, *chosen])
            images[image].mask = Mask(chosen)
            used.update(chosen)
    return [mask for mask in masks if mask.path not in used]


def _pairs(
    folder: Key, masks: _MaskFolder, images: Mapping[int, Picture], masks_decide: bool
) -> dict[int, list[Picture]]:
    """Masks of one folder by the index of their image; images near the folder come before those further away."""
    beside = all(mask.source in ("file names", "pixels") for found in masks.files.values() for mask in found)
    anchors = [folder] if beside and any(picture.parts[:-1] == folder for picture in images.values()) else []
    anchors += [folder[:length] for length in range(max(0, len(folder) - 1), -1, -1)]
    for anchor in anchors:
        near = {index: picture for index, picture in images.items() if picture.parts[: len(anchor)] == anchor}
        claims: dict[Path, list[int]] = defaultdict(list)
        found: dict[int, list[Picture]] = {}
        for index, picture in near.items():
            is_inside = 0 < picture.depth <= len(anchor)  # the masks lie in the folder of good images themselves
            shortest = 1 if beside or masks_decide or is_inside or picture.role != "good" else 2
            fitting = _fitting(picture, len(anchor), masks, shortest)
            if fitting:
                found[index] = fitting
                for mask in fitting:
                    claims[mask.path].append(index)
        for path, indices in claims.items():
            keep = _owner(path, [(index, near[index]) for index in indices])
            for index in indices:
                if index != keep:
                    found.pop(index, None)
        _add_by_kind(found, near, len(anchor), masks)
        if found:
            return found
    return {}


def _fitting(picture: Picture, anchor: int, masks: _MaskFolder, shortest: int) -> list[Picture]:
    """Masks of an image: those at the longest end of its path, of at least `shortest` names."""
    folders = tuple(part.casefold() for part in picture.parts[anchor:-1])
    stems = dict.fromkeys((picture.path.stem.casefold(), stem_of_image(picture.path.stem).casefold()))
    ways = [folders[start:] for start in range(len(folders) + 2 - shortest)]
    if picture.role != "good" and anchor < picture.depth:  # masks/bolt/7.png of bolt/bad/7.png
        index = picture.depth - 1 - anchor
        without = (*folders[:index], *folders[index + 1 :])
        ways += [without[start:] for start in range(index)]
    for way in sorted(ways, key=len, reverse=True):
        for stem in stems:
            key = (*way, stem)
            files, inside = masks.files.get(key, []), masks.folders.get(key, [])
            if files and (inside or (len(files) > 1 and not all(_NUMBERED.fullmatch(f.path.stem) for f in files))):
                raise _two_masks(picture, [mask.path for mask in [*files, *inside]])
            if files or inside:
                return files or inside
    return []


def _owner(path: Path, claims: list[tuple[int, Picture]]) -> int | None:
    """Image that a mask belongs to; None if only good images claim it, which need none."""
    for wanted in (lambda p: p.role == "defect", lambda p: p.role is None, lambda p: p.role == "good"):
        chosen = [(index, picture) for index, picture in claims if wanted(picture)]
        if len(chosen) > 1 and (tests := [claim for claim in chosen if claim[1].split == "test"]):
            chosen = tests
        if len(chosen) == 1:
            return chosen[0][0]
        if chosen and chosen[0][1].role == "good":
            return None
        if chosen:
            raise DataError(
                f"The mask {path} fits {len(chosen)} images: {_listed(picture.path for _, picture in chosen)}.",
                hint=_HINT,
            )
    return None


def _add_by_kind(found: dict[int, list[Picture]], near: dict[int, Picture], anchor: int, masks: _MaskFolder) -> None:
    """Pair what is left by kind of defect and stem, if only one mask and one image have them."""
    used = {mask.path for fitting in found.values() for mask in fitting}
    left: dict[Key, list[int]] = defaultdict(list)
    for index, picture in near.items():
        if index not in found and picture.kind is not None:
            left[(picture.kind.casefold(), picture.path.stem.casefold())].append(index)
    for key, fitting in masks.files.items():
        if len(key) != 2 or any(mask.path in used for mask in fitting):
            continue
        indices = left.get(key, [])
        if len(indices) > 1:
            raise DataError(
                f"The mask {fitting[0].path} fits {len(indices)} images: {_listed(near[i].path for i in indices)}.",
                hint=_HINT,
            )
        if indices:
            if len(fitting) > 1:
                raise _two_masks(near[indices[0]], [mask.path for mask in fitting])
            found[indices[0]] = fitting
            used.update(mask.path for mask in fitting)


def _without_suffix(stem: str) -> str:
    return Path(stem).stem if is_image(Path(stem)) else stem


def _two_masks(picture: Picture, paths: Sequence[Path]) -> DataError:
    return DataError(f"The image {picture.path} has {len(paths)} masks: {_listed(paths)}.", hint=_HINT)


def _listed(paths: Iterable[Path]) -> str:
    names = [str(path) for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
