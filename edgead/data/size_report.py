"""Warnings about the shapes of images, which the model sees at one square size."""

from __future__ import annotations

from collections.abc import Mapping

EXTREME_ASPECT = 4.0
VERY_DIFFERENT = 2.0
# Largest ratio of two aspect ratios that a camera held in two ways gives.
SAME_SHAPE = 1.25
Size = tuple[int, int]


def size_warnings(sizes: Mapping[Size, int], image_size: Size) -> list[str]:
    """Warnings about images that are much longer than wide, or of very different sizes.

    Args:
        sizes: Number of images by `(height, width)` in pixels.
        image_size: Input size `(height, width)` of the model.
    """
    return [text for text in (_aspect_warning(sizes, image_size), _difference_warning(sizes)) if text]


def _aspect_warning(sizes: Mapping[Size, int], image_size: Size) -> str:
    extreme = [size for size in sizes if max(size) >= EXTREME_ASPECT * min(size)]
    if not extreme:
        return ""
    count = sum(sizes[size] for size in extreme)
    height, width = max(extreme, key=lambda size: max(size) / min(size))
    along = max(height / image_size[0], width / image_size[1])
    return (
        f"Warning: {count} of {sum(sizes.values())} images {'is' if count == 1 else 'are'} more than "
        f"{EXTREME_ASPECT:g} times as long as wide, up to {_text((height, width))}. At {_text(image_size)} one pixel is the "
        f"mean of {along:.0f} pixels along the long side, and small defects fade: cut the images into pieces that are "
        "nearly square, in training and on the line."
    )


def _difference_warning(sizes: Mapping[Size, int]) -> str:
    if len(sizes) < 2:
        return ""
    if turned := _turned_warning(sizes):
        return turned
    heights, widths = [size[0] for size in sizes], [size[1] for size in sizes]
    aspects = [width / height for height, width in sizes]
    ratios = [max(values) / min(values) for values in (heights, widths, aspects)]
    if max(ratios) < VERY_DIFFERENT:
        return ""
    small, large = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    common, count = max(sizes.items(), key=lambda item: item[1])
    return (
        f"Warning: the images have {len(sizes)} sizes, from {_text(small)} to {_text(large)} ({count} of "
        f"{sum(sizes.values())} are {_text(common)}). All are resized to one size, so that the same part and the same "
        "defect look different: use images of one camera position, or train a model for each size."
    )


def _turned_warning(sizes: Mapping[Size, int]) -> str:
    """Warning about pictures taken upright and lying, as a phone does."""
    lying = {size: n for size, n in sizes.items() if size[1] > size[0]}
    upright = {size: n for size, n in sizes.items() if size[0] > size[1]}
    if not lying or not upright:
        return ""
    often_lying, often_upright = (max(group, key=lambda size: group[size]) for group in (lying, upright))
    wide, high = often_lying[1] / often_lying[0], often_upright[0] / often_upright[1]
    if wide * high < VERY_DIFFERENT or max(wide, high) > SAME_SHAPE * min(wide, high):
        return ""
    return (
        f"Warning: {sum(lying.values())} of {sum(sizes.values())} images are wider than high (such as "
        f"{_text(often_lying)}) and {sum(upright.values())} are higher than wide (such as {_text(often_upright)}). Each "
        "is stretched to a square, so the same part looks different in the two, and --align finds it in one of them alone: "
        "take all of them in one way, in training and on the line, or pad instead of stretching with --keep-aspect."
    )


def _text(size: Size) -> str:
    return f"{size[1]} x {size[0]} px"
