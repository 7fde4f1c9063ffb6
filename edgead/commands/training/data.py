"""Good images of a training: found, checked and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase as fnmatch
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.aligner import Aligner
from edgead.commands.training.alignment import align_split
from edgead.commands.training.known_defects import KnownDefects, find_known_defects
from edgead.commands.training.views import ViewOptions, enlargement_note, view_options
from edgead.config.root import Config
from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.dataset import Sample
from edgead.data.masks import read_mask
from edgead.data.pose_reference import PoseReference
from edgead.data.pseudo_defects import SIZE_RANGE, make_pseudo_defect
from edgead.data.reader import read_image
from edgead.data.scan import Scan, data_digest, scan_images
from edgead.data.size_report import size_warnings
from edgead.data.sized_defects import make_sized_defect
from edgead.data.split import Split, split_good
from edgead.data.variations import drawn_change, vary
from edgead.errors import ConfigError
from edgead.imaging import Decoding, Image, ResizeRule, resize
from edgead.manifest import Preprocessing
from edgead.pose import align
from edgead.printable import path_text
from edgead.progress import Progress
from edgead.views import TileGrid

# Tiles are there for small defects: this share of their pseudo-defects is small, by its share of a tile's side.
SMALL_SHARE = 0.5
SMALL_SIZES = (0.015, 0.05)
# Shorter side of the largest frame that pseudo-defects are drawn on, in pixels and in sides of the input: on the 24 million pixels
# of a photograph each one takes seconds, and nothing finer would be left of it in the input.
LEAST_SIDE, SIDES = 640, 2
# Version of how pseudo-defects are drawn, for stored features of them.
DRAWING = 2


@dataclass(frozen=True)
class TrainingData:
    """Good images, split by use, and functions that read them.

    With crop or tiles, each image gives `n_tiles` inputs. `snapshot` is the digest of the snapshot of a data set that these
    are the images of; empty for any other folder. `motion` says how far parts move that are not aligned; None if they do not.
    `known` are pictures of known defects, which are not among the good images.
    """

    root: Path
    description: str
    scan: Scan
    split: Split
    image_size: tuple[int, int]
    classes: tuple[str, ...]
    digest: str
    n_near_copies: int = 0
    view_options: ViewOptions | None = None
    aligner: Aligner | None = None
    n_without_part: int = 0
    snapshot: str = ""
    motion: PoseReference | None = None
    known: KnownDefects | None = None

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Rules by which every image becomes an input."""
        views = None if self.view_options is None else self.view_options.views(self.image_size)
        rule = None if self.aligner is None else self.aligner.rule
        return Preprocessing.current(self.image_size, self.scan.white_level, self.scan.float_white_level, views, rule)

    @cached_property
    def grid(self) -> TileGrid | None:
        """Tiles of an image; None without crop and tiles."""
        return self.preprocessing.grid

    @property
    def n_tiles(self) -> int:
        """Number of inputs that an image gives."""
        return 1 if self.grid is None else self.grid.n_tiles

    def read(self, sample: Sample) -> NDArray[np.uint8]:
        """Read an image as the model's input, RGB: `(h, w, 3)`, or its tiles `(T, h, w, 3)`."""
        frame = self._frame(sample)
        return self._resized(frame) if self.grid is None else self.grid.cut(frame)

    def read_tile(self, sample: Sample, index: int) -> Image:
        """Read one of the `n_tiles` inputs `(h, w, 3)` of an image."""
        frame = self._frame(sample)
        return self._resized(frame) if self.grid is None else self.grid.cut(frame, [index])[0]

    def read_masked(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read an image with a mask as the model's input, with the mask `(H, W)` of the whole image, aligned as the image is.

        Raises:
            DataError: If the image or the mask cannot be read.
        """
        assert sample.mask is not None
        frame = read_image(sample.path, **self.preprocessing.reading)
        mask = read_mask(sample.mask, (frame.shape[0], frame.shape[1]))
        if self.aligner is not None:
            pose = self.aligner.found(frame)
            frame = align(frame, pose)
            mask = align(np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2), pose)[:, :, 0] >= 128
        return (self._resized(frame) if self.grid is None else self.grid.cut(frame)), mask

    def overview(self, sample: Sample) -> Image:
        """Read an image as a whole, squeezed to input size."""
        return self._resized(self._frame(sample))

    def read_pseudo(self, sample: Sample, donor: Sample, key: tuple[int, ...], tile: int | None = None) -> Image:
        """Make a pseudo-defective copy of an image, or of one of its tiles, at input size; `key` determines the change.

        Args:
            sample: Image.
            donor: Another one, parts of which may be pasted.
            key: Seed of all choices.
            tile: Index of the tile; None = drawn.
        """
        random = np.random.default_rng(key)
        if self.grid is None:
            return self._with_defect(sample, donor, random, SIZE_RANGE)[0]
        image, other = self._frame(sample), self._frame(donor)
        index = int(random.integers(self.n_tiles)) if tile is None else tile
        region, donated = self.grid.region(image, index), self.grid.region(other, index)
        if random.random() < SMALL_SHARE:
            size = min(region.shape[:2]) * float(np.exp(random.uniform(*np.log(SMALL_SIZES))))
            return self.grid.fitted(make_sized_defect(region, size, random)[0])
        return self.grid.fitted(make_pseudo_defect(region, donated, random)[0])

    def read_varied(self, sample: Sample, key: tuple[int, ...], tile: int) -> Image:
        """Read an image, or one of its tiles, at input size with a change that ordinary lines show; `key` determines it."""
        random, frame = np.random.default_rng(key), self._frame(sample)
        if self.grid is None:
            return self._resized(vary(frame, random, 1.0, self.image_size))
        return self.grid.fitted(vary(self.grid.region(frame, tile), random, 1.0, self.image_size))

    def varied_by(self, sample: Sample, key: tuple[int, ...], tile: int) -> str:
        """Name of the change that `read_varied` makes with the same arguments."""
        frame = self._frame(sample)
        image = frame if self.grid is None else self.grid.region(frame, tile)
        return drawn_change(image, np.random.default_rng(key))

    def read_pseudo_masked(
        self, sample: Sample, donor: Sample, key: tuple[int, ...], size_range: tuple[float, float]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Make a pseudo-defective copy of an image as the model's input, with the mask `(H, W)` of the whole image.

        The mask may be smaller than the image, in its shape.
        """
        random = np.random.default_rng(key)
        if self.grid is None:
            return self._with_defect(sample, donor, random, size_range)
        changed, mask = make_pseudo_defect(self._frame(sample), self._frame(donor), random, size_range)
        return self.grid.cut(changed), mask

    def random_place(self, random: np.random.Generator) -> tuple[float, float]:
        """A random place (x, y) inside the crop, in shares of the frame's width and height."""
        if self.grid is None:
            across, down = random.uniform(0.08, 0.92, 2)
            return float(across), float(down)
        return self.grid.random_place(random)

    def read_defect(self, sample: Sample, size: int, key: tuple[int, ...], place: tuple[float, float]) -> Image:
        """Read the input that shows a place of an image, with a defect of some pixels there; `key` determines its kind."""
        changed, at = make_sized_defect(self._frame(sample), size, np.random.default_rng(key), place)
        return self._resized(changed) if self.grid is None else self.grid.cut(changed, [self.grid.tile_at(at)])[0]

    def _with_defect(
        self, sample: Sample, donor: Sample, random: np.random.Generator, size_range: tuple[float, float]
    ) -> tuple[Image, NDArray[np.bool_]]:
        """An image at input size with a pseudo-defect, and the mask of the frame that it was drawn on."""
        frame, resized = self._frame_to_draw_on(sample)
        changed, mask = make_pseudo_defect(frame, self._frame_to_draw_on(donor)[0], random, size_range)
        if resized is None:
            return self._resized(changed), mask
        # what shrinking twice does to the rest of the picture does not count
        difference = self._resized(changed).astype(np.int16) - self._resized(frame)
        return np.clip(resized + difference, 0, 255).astype(np.uint8), mask

    def _frame_to_draw_on(self, sample: Sample) -> tuple[Image, Image | None]:
        """An image to draw a defect on, shrunk if it is large, and then also the whole image at input size."""
        size, rule = self.image_size, self.preprocessing.resize
        return _shrunk_frame(sample.path, self.aligner, size, rule, **self.preprocessing.reading)

    def _frame(self, sample: Sample) -> Image:
        """Read an image, and align it."""
        if self.grid is None:
            return _read_frame(sample.path, self.aligner, **self.preprocessing.reading)
        return _kept_frame(sample.path, self.aligner, **self.preprocessing.reading)

    def _resized(self, image: Image) -> Image:
        return resize(image, self.image_size, self.preprocessing.resize)


def _read_frame(
    path: Path, aligner: Aligner | None, white_level: float, float_white_level: float | None, decoding: Decoding
) -> Image:
    frame = read_image(path, white_level, float_white_level=float_white_level, decoding=decoding)
    return frame if aligner is None else aligner.aligned(frame)


@lru_cache(maxsize=3)
def _kept_frame(
    path: Path, aligner: Aligner | None, white_level: float, float_white_level: float | None, decoding: Decoding
) -> Image:
    """Read an image that is asked for once per tile."""
    frame = _read_frame(path, aligner, white_level, float_white_level, decoding)
    frame.flags.writeable = False
    return frame


@lru_cache(maxsize=64)
def _shrunk_frame(
    path: Path,
    aligner: Aligner | None,
    size: tuple[int, int],
    rule: ResizeRule,
    white_level: float,
    float_white_level: float | None,
    decoding: Decoding,
) -> tuple[Image, Image | None]:
    """See `_frame_to_draw_on`; few images are asked for many times."""
    frame = _read_frame(path, aligner, white_level, float_white_level, decoding)
    height, width = frame.shape[:2]
    side = max(LEAST_SIDE, SIDES * max(size))
    if min(height, width) <= side:
        frame.flags.writeable = False
        return frame, None
    scale = side / min(height, width)
    shrunk, resized = resize(frame, (round(height * scale), round(width * scale))), resize(frame, size, rule)
    shrunk.flags.writeable = resized.flags.writeable = False
    return shrunk, resized


def fit_backbone(config: Config, progress: Progress) -> Config:
    """Settings with levels and an image size that fit the backbone, with a note for each change."""
    from edgead.models.backbone_fit import fit_to_backbone

    model, notes = fit_to_backbone(config.model)
    for note in notes:
        progress.note(note)
    return config.model_copy(update={"model": model})


def prepare_data(config: Config, progress: Progress) -> TrainingData:
    """Find, check and split the good images.

    Raises:
        DataError: If there are too few readable ones.
    """
    roles = FolderRoles(config.data.good, config.data.bad, config.data.masks)
    dataset = choose_dataset(config.data.root, roles)
    progress.note(dataset.description)
    samples = without_excluded(dataset.train, config.data.exclude)
    if len(samples) < len(dataset.train):
        progress.note(f"{len(dataset.train) - len(samples)} good images are left out by data.exclude.")
    scan = scan_images(
        samples,
        min_good=config.train.min_images,
        white_level=config.data.white_level,
        progress=lambda done, total: progress.update("Reading images", done, total),
    )
    for sample, reason in scan.broken[:5]:
        progress.note(f"Left out {sample.name}: {reason}")
    if scan.broken:
        progress.note(f"{len(scan.broken)} of {len(samples)} images cannot be read and were left out.")
    if scan.copies:
        copy, original = scan.copies[0]
        progress.note(
            f"{len(scan.copies)} of {len(samples)} images are exact copies of others, such as {copy.name} of "
            f"{original.name}, and were left out; {len(scan.readable)} different ones remain."
        )
    side = config.model.image_size
    for note in (*scan.notes, *size_warnings(scan.sizes, (side, side))):
        progress.note(note)
    known, scan = find_known_defects(config, dataset, scan, progress)
    split = split_good(scan.readable, config.data.early_stop_fraction, config.data.threshold_fraction)
    reading = Preprocessing.current((side, side), scan.white_level, scan.float_white_level).reading

    def read(sample: Sample) -> Image:
        return read_image(sample.path, **reading)

    aligned = align_split(config.data, split, read, progress)
    split = aligned.split
    if known is not None and aligned.aligner is not None:
        known = known.with_part(aligned.aligner, read, progress)
    views = view_options(config.data, scan.sizes)
    if enlarged := enlargement_note(views, side):
        progress.note(enlarged)
    n_good = len(split.fit) + len(split.early_stop) + len(split.threshold)
    if config.model.couplings == "never":
        progress.note(
            f"{n_good} good images: all of them fit the model, and each is left out in turn for the threshold."
        )
    else:
        progress.note(
            f"Good images: {len(split.fit)} to learn from, {len(split.early_stop)} to stop by, "
            f"{len(split.threshold)} for the threshold."
        )
    digest = data_digest(scan.readable, scan.digests)
    return TrainingData(
        dataset.root,
        dataset.description,
        scan,
        split,
        (side, side),
        dataset.classes,
        digest,
        view_options=views,
        aligner=aligned.aligner,
        n_without_part=aligned.n_left_out,
        motion=aligned.motion,
        known=known,
    )


def without_excluded(samples: Sequence[Sample], patterns: Sequence[str]) -> tuple[Sample, ...]:
    """Samples whose names, relative to the data set, match none of the patterns.

    Raises:
        ConfigError: If a pattern matches no name.
    """
    for pattern in patterns:
        if not any(fnmatch(sample.name, pattern) for sample in samples):
            raise ConfigError(
                f"data.exclude {pattern!r} matches no good image; the first one is {path_text(samples[0].name)}."
                if samples
                else f"data.exclude {pattern!r} matches no good image; there are none.",
                hint="Write names as `edgead train` prints them, relative to the data set.",
            )
    return tuple(sample for sample in samples if not any(fnmatch(sample.name, pattern) for pattern in patterns))
