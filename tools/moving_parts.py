"""Generated parts that do not lie still: what a default training loses, and what alignment restores, as a table.

Each part is trained twice as it lies in a feeder (within 3 degrees and 1.5 %), without and with alignment, and twice on images in
which it is turned and shifted; the test images are the same parts, at rest and moved. `python -m tools.moving_parts --help`
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.api import train_bundle
from edgead.commands.evaluate import evaluate_bundle
from edgead.config.file import parse_override
from edgead.data.synthetic.make import photograph, place_part
from edgead.data.synthetic.parts import PARTS
from edgead.imaging import Image, png_from_rgb
from edgead.model import load
from edgead.progress import Silent
from edgead.storage import write_bytes

MOVING = ("disc", "cap", "board")


@dataclass(frozen=True)
class Motion:
    """How far the parts of a data set are moved.

    Attributes:
        angle_deg: Largest rotation either way.
        shift: Largest shift either way, as a share of the shorter side.
        scale: Largest change of size either way, as a share; the whole frame is scaled.
    """

    angle_deg: float = 0.0
    shift: float = 0.0
    scale: float = 0.0


STILL, MOVED = Motion(), Motion(15.0, 0.05)
# Size at which the corners of a turned board stay in the image.
SIZE = 0.8


def moved_part(
    part: str,
    seed: int,
    size: tuple[int, int] = (160, 160),
    motion: Motion = MOVED,
    defect: str | None = None,
) -> tuple[Image, NDArray[np.bool_], NDArray[np.float64]]:
    """A part that lies elsewhere on its conveyor, drawn uniformly within limits.

    Args:
        part: Name of a generated part.
        seed: Random seed; the part and its defect do not depend on the limits.
        size: `(height, width)` in pixels.
        motion: How far it is moved.
        defect: Name of its defect; None = good.

    Returns:
        Image `(H, W, 3)`, uint8, RGB; mask of the defect `(H, W)`; matrix `(2, 3)` from the part's own place to the frame.
    """
    rng = np.random.default_rng([seed, 0])
    placed = place_part(part, rng, size, defect)
    turn, right, down, zoom = np.random.default_rng([seed, 1]).uniform(-1, 1, 4)
    before = placed.placement
    after = replace(
        before,
        angle_deg=before.angle_deg + motion.angle_deg * turn,
        scale=SIZE,
        shift=(before.shift[0] + motion.shift * right, before.shift[1] + motion.shift * down),
    )
    image, mask = photograph(replace(placed, placement=after), rng)
    height, width = size
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, after.angle_deg, SIZE), np.float64)
    matrix[:, 2] += np.array(after.shift) * min(size)
    if motion.scale:
        closer = np.asarray(cv2.getRotationMatrix2D(centre, 0, 1 + motion.scale * zoom), np.float64)
        image = np.asarray(cv2.warpAffine(image, closer, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)
        shown = cv2.warpAffine(mask.astype(np.uint8), closer, (width, height), flags=cv2.INTER_NEAREST)
        mask = np.asarray(shown, np.bool_)
        matrix = closer[:, :2] @ matrix + np.column_stack([np.zeros((2, 2)), closer[:, 2]])
    return image, mask, matrix


def write_parts(
    root: Path, part: str, size: tuple[int, int], motion: Motion, *, n_train: int, n_test: int, seed: int = 0
) -> None:
    """Write a data set in the layout of MVTec AD.

    Args:
        root: Folder of the class.
        part: Name of a generated part.
        size: `(height, width)` in pixels.
        motion: How far the parts are moved; the parts and their defects do not depend on it.
        n_train: Number of good training images.
        n_test: Number of good test images, and of defective ones of each kind.
        seed: Random seed.
    """
    jobs: list[tuple[str, str | None, int]] = [("train/good", None, n_train), ("test/good", None, n_test)]
    jobs += [(f"test/{defect}", defect, n_test) for defect in PARTS[part].defects]
    for number, (folder, defect, count) in enumerate(jobs):
        for index in range(count):
            image, mask, _ = moved_part(part, seed + 10_000 * number + index, size, motion, defect)
            write_bytes(root / folder / f"{index:03d}.png", png_from_rgb(image))
            if defect is not None:
                shown = np.repeat(mask[:, :, None].astype(np.uint8) * np.uint8(255), 3, axis=2)
                write_bytes(root / "ground_truth" / defect / f"{index:03d}_mask.png", png_from_rgb(shown))


@dataclass(frozen=True)
class Row:
    """Result of one training on one set of test images.

    Attributes:
        auroc: Image AUROC.
        aupro: AUPRO up to a false-positive rate of 0.3.
        found: Share of the defective images above the threshold.
        false_alarms: Share of the good images above it.
        n_lost: Number of test images in which the part is not found.
        align_ms: Milliseconds that finding and moving the part takes per frame, median.
    """

    auroc: float
    aupro: float
    found: float
    false_alarms: float
    n_lost: int
    align_ms: float


def measure(bundle: Path, data: Path) -> Row:
    """Evaluate a bundle on the test images of a data set, with the reference engine."""
    with load(bundle, engine="reference", threads=1) as model:
        result = evaluate_bundle(model.bundle, model.runner, data, Silent(), false_alarm_rate=None, report=None)
        spent = []
        for path in sorted((data / "test" / "good").glob("*.png"))[:20]:
            image = model.read_image(path)
            start = time.perf_counter()
            model.bundle.pose(image)
            spent.append((time.perf_counter() - start) * 1e3)
    mean = result.result.mean
    numbers = (mean.image_auroc, mean.aupro_0_3, mean.detection_rate, mean.false_alarm_rate)
    auroc, aupro, found, false_alarms = (float("nan") if number is None else number for number in numbers)
    return Row(auroc, aupro, found, false_alarms, len(result.broken), float(np.median(spent)))


def rows_of(
    part: str, work: Path, *, side: int, n_train: int, n_test: int, settings: dict[str, object]
) -> Iterator[tuple[tuple[str, str, str], Row]]:
    """Rows of one part by training images, test images and alignment, as soon as they are known."""
    sets = {"still": STILL, "moved": MOVED}
    for name, motion in sets.items():
        write_parts(work / name, part, (side, side), motion, n_train=n_train, n_test=n_test)
    for align, trained_on in (("off", "still"), ("on", "moved"), ("off", "moved"), ("on", "still")):
        values = {"data.align": align, **settings}
        bundle = train_bundle(work / trained_on, settings=values, out=work / f"{trained_on}-{align}").bundle.path
        for tested_on in sets:
            yield (trained_on, tested_on, align), measure(bundle, work / tested_on)


def main() -> None:
    """Train, evaluate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=MOVING, default=list(MOVING))
    parser.add_argument("--side", type=int, default=320, help="side of the images in px")
    parser.add_argument("--n-train", type=int, default=120, help="good training images")
    parser.add_argument("--n-test", type=int, default=20, help="good test images, and defective ones of each kind")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of all trainings")
    arguments = parser.parse_args()
    settings: dict[str, object] = {"model.image_size": arguments.side}
    settings |= dict(parse_override(text) for text in arguments.set)
    print("| part | trained on | tested on | align | AUROC | AUPRO 0.3 | found | false alarms | not found | find, ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for part in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            rows = rows_of(
                part, Path(folder), side=arguments.side, n_train=arguments.n_train, n_test=arguments.n_test,
                settings=settings,
            )  # fmt: skip
            for (trained_on, tested_on, align), row in rows:
                print(
                    f"| {part} | {trained_on} | {tested_on} | {align} | {row.auroc:.4f} | {row.aupro:.3f} | {row.found:.1%} | "
                    f"{row.false_alarms:.1%} | {row.n_lost} | {row.align_ms:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
