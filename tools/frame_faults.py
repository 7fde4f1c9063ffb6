"""Test the detection of camera faults on real images: `python -m tools.frame_faults --data DATA_ROOT`.

Prints the verdicts per data set. The reference is made of training images, as in a bundle. A camera fault reported for any
test image, good or defective, is a mistake; the same good images made black, over-exposed or blurred should be reported.
Without `--data`, synthetic parts are used.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.data.dataset import Sample, evenly_spaced
from edgead.data.layouts import find_dataset
from edgead.data.reader import read_image
from edgead.data.synthetic.parts import PARTS
from edgead.data.synthetic.video import SyntheticVideo
from edgead.imaging import Image, resize
from edgead.stream.frame_faults import FrameFaultMonitor, FrameFaultOptions, FrameReference

SIZE = (256, 256)
N_REFERENCE, N_TEST = 100, 400
# as much noise as an average of a few pixels of a sensor keeps
NOISE = 0.4


@dataclass(frozen=True)
class Pictures:
    """Images of one product, each `(h, w, 3)`, uint8, RGB."""

    name: str
    reference: Sequence[Image]
    good: Sequence[Image]
    defective: Sequence[Image]


def blurred(image: Image, sigma: float) -> Image:
    """Out of focus, before a sensor that still makes its noise; `sigma` in pixels of `SIZE`."""
    noise = np.random.default_rng(0).normal(0, NOISE, image.shape)
    return np.asarray(np.clip(cv2.GaussianBlur(image, (0, 0), sigma) + noise, 0, 255), np.uint8)


def exposed(image: Image, factor: float) -> Image:
    """Image under several times the light."""
    return np.asarray(np.clip(image.astype(np.float32) * factor, 0, 255), np.uint8)


def black(image: Image) -> Image:
    """With the lens cap on."""
    return np.asarray(np.clip(np.random.default_rng(0).normal(3, 1.5, image.shape), 0, 255), np.uint8)


FAULTS: dict[str, Callable[[Image], Image]] = {
    "black": black,
    "a 20th of the light": lambda image: exposed(image, 1 / 20),
    "4 x the light": lambda image: exposed(image, 4),
    "8 x the light": lambda image: exposed(image, 8),
    "blurred, sigma 2 px": lambda image: blurred(image, 2),
    "blurred, sigma 3 px": lambda image: blurred(image, 3),
    "blurred, sigma 5 px": lambda image: blurred(image, 5),
    "blurred, sigma 8 px": lambda image: blurred(image, 8),
}


def real_pictures(folder: Path) -> Pictures:
    """Load images from a data set with train and test images."""
    data = find_dataset(folder)

    def load(samples: Sequence[Sample], count: int) -> list[Image]:
        return [resize(read_image(sample.path), SIZE) for sample in evenly_spaced(samples, count)]

    good, defective = (
        load([sample for sample in data.test if sample.gt_label is label], N_TEST) for label in (False, True)
    )
    return Pictures(folder.name, load(data.train, N_REFERENCE), good, defective)


def synthetic_pictures(part: str) -> Pictures:
    """Images of one synthetic part; the reference consists of the first good parts of the video."""
    video = SyntheticVideo(part, n_frames=800)
    numbers = range(0, video.n_frames, video.frames_per_part)
    frames = [(number, *video.frame(number)) for number in numbers]
    good = [resize(image, SIZE) for _, image, mask in frames if not mask.any()]
    defective = [resize(image, SIZE) for _, image, mask in frames if mask.any()]
    return Pictures(part, good[:16], good[16:], defective)


def verdict(monitor: FrameFaultMonitor, image: Image) -> str:
    """Verdict of a monitor on a lasting image: a fault, or `good`."""
    for index in range(4):
        monitor.observe(image, index * 1.0)
    return "good" if monitor.fault is None else monitor.fault.kind


def verdicts(pictures: Pictures, images: Sequence[Image]) -> Counter[str]:
    """How often each verdict was given; every image gets a monitor of its own."""
    reference = FrameReference.from_images(pictures.reference)
    options = FrameFaultOptions(frozen_s=0)
    return Counter(verdict(FrameFaultMonitor(reference, options), image) for image in images)


def report(pictures: Pictures) -> Iterator[str]:
    """Lines of text about one product."""
    yield f"{pictures.name}: reference of {len(pictures.reference)} images"
    for name, images in (("good", pictures.good), ("defective", pictures.defective)):
        yield f"  {name:<22} {len(images):4d}  {_text(verdicts(pictures, images))}"
    for name, spoil in FAULTS.items():
        images = [spoil(image) for image in pictures.good]
        yield f"  {name:<22} {len(images):4d}  {_text(verdicts(pictures, images))}"


def cost_ms(size: int) -> float:
    """Milliseconds for one image of `size` pixels a side."""
    video = SyntheticVideo("disc", n_frames=40)
    images = [np.asarray(cv2.resize(image, (size, size)), np.uint8) for image, _ in video.frames()]
    monitor = FrameFaultMonitor(FrameReference.from_images(images), FrameFaultOptions())
    start = time.perf_counter()
    for index in range(400):
        monitor.observe(images[index % len(images)], index / 25)
    return (time.perf_counter() - start) / 400 * 1e3


def _text(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in counts.most_common())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a report on every product."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of data sets; without it the synthetic line")
    options = parser.parse_args(arguments)
    folders = sorted(folder for folder in options.data.iterdir() if folder.is_dir()) if options.data else []
    for product in map(real_pictures, folders) if options.data else map(synthetic_pictures, PARTS):
        for line in report(product):
            print(line, flush=True)
    for size in (256, 448):
        print(f"one image of {size} x {size} px: {cost_ms(size):.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
