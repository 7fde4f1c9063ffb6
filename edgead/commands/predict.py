"""`edgead predict`: scores and heatmaps of pictures, in a table, JSON, CSV and PNG files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgead.aligner import PartNotFoundError
from edgead.bundle import Bundle
from edgead.bundle_files import MANIFEST, bundle_folder
from edgead.data.folders import IMAGE_SUFFIXES, is_image, list_files, list_images
from edgead.data.unread import unread_sentences
from edgead.errors import ConfigError, DataError
from edgead.heatmap import Region
from edgead.imaging import Image, png_from_rgb
from edgead.manifest import ClassThresholds
from edgead.printable import path_text
from edgead.progress import Progress
from edgead.storage import write_bytes, write_json

PREDICTIONS = Path("predictions")
JSON_FILE, CSV_FILE, HEATMAPS = "predictions.json", "predictions.csv", "heatmaps"
SCHEMA_VERSION = 1
BATCH = 4
COLUMNS = (
    "image",
    "verdict",
    "score",
    "threshold",
    "marked_share",
    "n_regions",
    "x",
    "y",
    "width",
    "height",
    "heatmap",
)


class Judgement(Protocol):
    """Verdict on one image; `edgead.ImageResult` is one."""

    @property
    def image(self) -> Image: ...

    @property
    def score(self) -> float: ...

    @property
    def threshold(self) -> float: ...

    @property
    def is_anomalous(self) -> bool: ...

    @property
    def mask(self) -> NDArray[np.bool_]: ...

    @property
    def regions(self) -> list[Region]: ...

    def heatmap(self) -> Image: ...


class Judge(Protocol):
    """Open engine of a bundle with its thresholds; `edgead.Model` is one."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def engine_name(self) -> str: ...

    def thresholds(self, class_name: str | None = None) -> ClassThresholds: ...

    def read_image(self, path: Path) -> Image: ...

    def predict(self, images: Sequence[Image], *, class_name: str | None = None) -> Sequence[Judgement]: ...


@dataclass(frozen=True)
class Predicted:
    """Result for one picture.

    Attributes:
        path: Path of the picture.
        size: Height and width in px.
        score, threshold: Score and the threshold that it is compared with, raw units of the bundle.
        is_anomalous: Whether the score is above the threshold.
        marked_share: Share of the picture's pixels that are marked, 0..1.
        regions: Marked regions in pixels of the picture, strongest first.
        heatmap: Path of the written heatmap; None if none was asked for.
    """

    path: Path
    size: tuple[int, int]
    score: float
    threshold: float
    is_anomalous: bool
    marked_share: float
    regions: tuple[Region, ...]
    heatmap: Path | None

    @property
    def verdict(self) -> str:
        """`anomalous` or `good`."""
        return "anomalous" if self.is_anomalous else "good"

    def to_json(self, folder: Path | None) -> dict[str, Any]:
        """Keys and values of the JSON document; the heatmap's path is relative to `folder`."""
        return {
            "image": path_text(self.path),
            "verdict": self.verdict,
            "score": self.score,
            "threshold": self.threshold,
            "height": self.size[0],
            "width": self.size[1],
            "marked_share": self.marked_share,
            "regions": [
                {"x": r.x, "y": r.y, "width": r.width, "height": r.height, "area_px": r.area_px, "peak": r.peak}
                for r in self.regions
            ],
            "heatmap": _heatmap_text(self.heatmap, folder),
        }


@dataclass(frozen=True)
class Predictions:
    """Results of all pictures, and those left out.

    Attributes:
        model: Name of the model.
        bundle: Folder of the bundle.
        engine: Name of the engine.
        class_name: Kind of part that the pictures show; None = unknown.
        false_alarm_rate: Share of good images that may alarm at the threshold.
        images: Judged pictures, in the order given.
        left_out: Pictures without a score, with the reason.
        folder: Folder of the written files; None if none was asked for.
    """

    model: str
    bundle: Path
    engine: str
    class_name: str | None
    false_alarm_rate: float
    images: tuple[Predicted, ...]
    left_out: tuple[tuple[Path, str], ...]
    folder: Path | None

    @property
    def n_anomalous(self) -> int:
        """Number of pictures above the threshold."""
        return sum(image.is_anomalous for image in self.images)

    def to_json(self) -> dict[str, Any]:
        """The document that docs/evaluating.md describes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "bundle": path_text(self.bundle),
            "engine": self.engine,
            "class": self.class_name,
            "false_alarm_rate": self.false_alarm_rate,
            "n_images": len(self.images),
            "n_anomalous": self.n_anomalous,
            "images": [image.to_json(self.folder) for image in self.images],
            "left_out": [{"image": path_text(path), "reason": reason} for path, reason in self.left_out],
        }

    def to_csv(self) -> str:
        """One row per picture in UTF-8 text; a picture left out has the verdict `left out`, and the reason at the end."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*COLUMNS, "left_out_because"])
        for image in self.images:
            first = image.regions[0] if image.regions else None
            box = ("",) * 4 if first is None else (first.x, first.y, first.width, first.height)
            marked = (image.marked_share, len(image.regions), *box)
            heatmap = _heatmap_text(image.heatmap, self.folder) or ""
            table.writerow([path_text(image.path), image.verdict, image.score, image.threshold, *marked, heatmap, ""])
        for path, reason in self.left_out:
            table.writerow([path_text(path), "left out", *[""] * (len(COLUMNS) - 2), reason])
        return text.getvalue()


def predict(
    judge: Judge,
    paths: Sequence[Path],
    progress: Progress,
    *,
    class_name: str | None = None,
    out: Path | None,
    heatmaps: bool = True,
) -> Predictions:
    """Judge pictures one after the other, and write a heatmap of each, JSON and CSV.

    Args:
        judge: Open engine with the thresholds that apply.
        paths: Picture files, and folders of which every picture is judged.
        progress: Receives progress, and a note for each picture left out.
        class_name: Kind of part that the pictures show; None = unknown.
        out: Folder for the files, new or empty; None = write nothing.
        heatmaps: Whether to write a PNG of each picture with its heatmap.

    Raises:
        DataError: If a path does not exist, or no picture can be judged.
        ConfigError: If `out` holds something.
        BundleError: If the bundle does not know the class.
        StorageError: If a file cannot be written.
    """
    thresholds = judge.thresholds(class_name)
    pictures = list_pictures(paths)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder.", hint="Choose another folder with --out.")
    names = heatmap_names(pictures)
    images: list[Predicted] = []
    left_out: list[tuple[Path, str]] = []
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        for path, result in _judged(judge, [path for path, _ in part], class_name):
            if isinstance(result, str):
                progress.note(f"Left out {path}: {result}")
                left_out.append((path, result))
                continue
            target = None if out is None or not heatmaps else out / HEATMAPS / names[path]
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(target, png_from_rgb(result.heatmap()))
            size = (result.image.shape[0], result.image.shape[1])
            share, regions = float(result.mask.mean()), tuple(result.regions)
            images.append(
                Predicted(path, size, result.score, result.threshold, result.is_anomalous, share, regions, target)
            )
        progress.update("Scoring", min(start + BATCH, len(pictures)), len(pictures))
    if not images:
        raise DataError(
            f"None of the {len(pictures)} pictures can be judged. The first reason, of {left_out[0][0]}: {left_out[0][1]}",
            hint="Give whole files, taken by the camera and of the part that the model was trained on.",
        )
    model, bundle, rate = judge.bundle.manifest.model, judge.bundle.path, thresholds.threshold.false_alarm_rate
    found = Predictions(model, bundle, judge.engine_name, class_name, rate, tuple(images), tuple(left_out), out)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_bytes(out / CSV_FILE, found.to_csv().encode("utf-8"))
        write_json(out / JSON_FILE, found.to_json())
    return found


def list_pictures(paths: Sequence[Path]) -> list[tuple[Path, PurePosixPath]]:
    """Every picture of files and folders once, with its path relative to the folder that was named.

    Raises:
        DataError: If a path does not exist, is no picture or is a bundle or its run, or a folder holds none.
    """
    pictures: dict[Path, PurePosixPath] = {}
    usual = f"Pictures end in {', '.join(IMAGE_SUFFIXES)}."
    for path in paths:
        if path.is_dir():
            if (bundle_folder(path) / MANIFEST).is_file():
                raise DataError(
                    f"{path} is a bundle or its run, not a folder of pictures.",
                    hint=f"Name the bundle with its option: edgead predict PICTURES --bundle {path_text(path)}",
                )
            below = list_images(path)
            if not below:
                hint = " ".join(unread_sentences(list_files(path))) or usual
                raise DataError(f"{path} holds no picture.", hint=hint)
            for file in below:
                pictures.setdefault(file, PurePosixPath(file.relative_to(path).as_posix()))
        elif not path.exists():
            raise DataError(f"There is no file or folder {path}.", hint="Name pictures, or folders of pictures.")
        elif not is_image(path):
            raise DataError(f"{path} is no picture.", hint=" ".join(unread_sentences([path])) or usual)
        else:
            pictures.setdefault(path, PurePosixPath(path.name))
    return list(pictures.items())


def heatmap_names(pictures: Sequence[tuple[Path, PurePosixPath]]) -> dict[Path, PurePosixPath]:
    """Path of each picture's heatmap below their folder, all different: `crack/7.jpg` gives `crack/7.png`."""
    names: dict[Path, PurePosixPath] = {}
    taken: set[str] = set()
    for path, relative in pictures:
        name, number = relative.with_suffix(".png"), 1
        while str(name).lower() in taken:  # some file systems do not tell upper from lower case
            number += 1
            name = relative.with_name(f"{relative.stem}-{number}.png")
        taken.add(str(name).lower())
        names[path] = name
    return names


def new_folder(base: Path = PREDICTIONS) -> Path:
    """`predictions`, or with the first free number: `predictions-2`."""
    path, number = base, 1
    while path.exists() or path.is_symlink():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _judged(judge: Judge, paths: Sequence[Path], class_name: str | None) -> Iterator[tuple[Path, Judgement | str]]:
    """Result of each picture in order, or the reason why there is none."""
    read: dict[Path, Image | str] = {}
    for path in paths:
        try:
            read[path] = judge.read_image(path)
        except DataError as error:
            read[path] = error.message
    images = [image for image in read.values() if not isinstance(image, str)]
    try:
        results: list[Judgement | str] = [*judge.predict(images, class_name=class_name)]
    except PartNotFoundError:
        results = [_one(judge, image, class_name) for image in images]
    remaining = iter(results)
    for path, image in read.items():
        yield path, image if isinstance(image, str) else next(remaining)


def _one(judge: Judge, image: Image, class_name: str | None) -> Judgement | str:
    try:
        return judge.predict([image], class_name=class_name)[0]
    except PartNotFoundError as error:
        return error.message


def _heatmap_text(heatmap: Path | None, folder: Path | None) -> str | None:
    return None if heatmap is None or folder is None else path_text(heatmap.relative_to(folder).as_posix())
