"""Refusal of folders of which it is not clear what in them is good."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from edgead.data.mask_like import MOST_LOOKED_AT, are_mostly_photographs, looks_of
from edgead.data.names import are_serial, is_neutral
from edgead.data.roles import Picture
from edgead.data.sorting import Sorted
from edgead.errors import DataError


def refuse_unclear(root: Path, folder: tuple[str, ...], pictures: Sequence[Picture], found: Sorted) -> None:
    """Raise if images without a stated role could be defective or masks.

    Good by names of folders or files settles it: images without a role are then left out. Otherwise it is in doubt
    where something else is known to be defective or a mask, where images look like masks, where annotations cannot be
    read, and where several folders have names that say neither.

    Args:
        root: Folder of the class.
        folder: The same folder, relative to the root of the data set.
        pictures: Images of the class.
        found: All that is known about the data set.

    Raises:
        DataError: If it is in doubt; the message counts the images of each kind, and the hint says how to decide.
    """
    _refuse_masks_among_good(root, pictures)
    unknown = [picture for picture in pictures if picture.role is None and picture.split in (None, "train")]
    if unknown and all(picture.split == "train" for picture in unknown):
        # what else is in the data set says nothing about its training part
        pictures = [picture for picture in pictures if picture.split == "train"]
        masks = [mask for mask in found.masks if mask.split == "train" and mask.parts[: len(folder)] == folder]
    else:
        masks = [mask for mask in found.masks if mask.parts[: len(folder)] == folder]
    stated = [picture for picture in pictures if picture.role == "good"]
    by_name = [picture for picture in stated if picture.source.startswith(("folder", "file"))]
    if not unknown or by_name:
        return
    defective = [picture for picture in pictures if picture.role == "defect"]
    of_class = set(unknown)
    suspects = [picture for picture in found.suspects if picture in of_class]
    two_values = [picture for picture in suspects if picture.source == "two values"]
    unread = found.unread
    reasons = []
    if stated or defective:
        counts = " and ".join(
            f"{len(some)} are {what}" for some, what in ((stated, "good"), (defective, "defective")) if some
        )
        reasons.append(f"{counts} ({_sources([*stated, *defective])})")
    if masks:
        reasons.append(f"{len(masks)} are masks ({_sources(masks)})")
    if two_values or len(suspects) == min(len(unknown), MOST_LOOKED_AT):
        reasons.append(f"{len(suspects)} have only one or two values, as masks do (the first: {suspects[0].path})")
    if unread:
        reasons.append(
            f"there are labels or annotations in a format that is not read ({len(unread)} files, the first: {unread[0]})"
        )
    if not reasons and (folders := _unclear_folders(unknown)):
        reasons.append(f"their folders have names that say neither good nor defective: {folders}")
    if reasons:
        raise DataError(
            f"It is not clear whether {len(unknown)} images in {root} are good: of those beside them, "
            f"{'; '.join(reasons)}."
            if stated or defective or masks
            else f"It is not clear whether the {len(unknown)} images in {root} are good: {'; '.join(reasons)}.",
            hint="Say which folders hold what: --good DIR --bad DIR --masks DIR (each may be repeated), or name the folders "
            "good, bad and masks.",
        )


def _refuse_masks_among_good(root: Path, pictures: Sequence[Picture]) -> None:
    """Raise if some good images have two values only and most are photographs: masks got among them.

    Images of line art or printed circuits are nearly black and white, and some of them pass for masks: they are no reason.
    """
    good = [picture for picture in pictures if picture.role == "good" and picture.split in (None, "train")]
    looks = looks_of([picture.path for picture in good])
    masks = [picture for picture, look in zip(good, looks, strict=True) if look == "two values"]
    looked_at = sum(look is not None for look in looks)
    others = [picture.path for picture, look in zip(good, looks, strict=True) if look not in (None, "two values")]
    if masks and len(masks) < looked_at / 2 and are_mostly_photographs(others):
        raise DataError(
            f"{len(masks)} of {looked_at} good images in {root} have only two values, as masks do, the first: "
            f"{masks[0].path}.",
            hint="Move masks to a folder of their own, named masks, or, if these are images of parts, say it: --good DIR.",
        )


def _sources(pictures: Sequence[Picture]) -> str:
    counts = Counter(picture.source for picture in pictures)
    return ", ".join(f"{source}: {count}" for source, count in sorted(counts.items()))


def _unclear_folders(pictures: Sequence[Picture]) -> str:
    """Folders beside others whose names say nothing known, with their counts; empty if there are none."""
    below: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for picture in pictures:
        folders = picture.parts[:-1]
        for length in range(len(folders) + 1):
            below[folders[:length]][folders[length] if length < len(folders) else ""] += 1
    for counts in below.values():
        names = [name for name in counts if name]
        if len(counts) > 1 and not are_serial(names) and any(not is_neutral(name) for name in names):
            return ", ".join(f"{name or 'no folder'} ({count})" for name, count in sorted(counts.items())[:8])
    return ""
