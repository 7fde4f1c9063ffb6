"""Bundle: the folder that is copied from the workstation to the device, verified before use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.aligner import Aligner
from edgead.arrays import DamagedArraysError, load_arrays
from edgead.bundle_files import (
    ALIGNMENT,
    CALIBRATION,
    ENGINES,
    MANIFEST,
    MODEL,
    REFERENCE,
    WEIGHTS,
    bundle_folder,
    file_digest,
    member_path,
    parse_manifest,
    read_manifest_bytes,
)
from edgead.errors import BundleError
from edgead.imaging import Image, resize
from edgead.manifest import POOLED, ClassThresholds, Manifest, NfaRecord
from edgead.own_digest import has_own_digest
from edgead.pose import Pose, align
from edgead.pose_finder import WORKING_SIDE
from edgead.runner import CLASS_EXCLUDED, Runner
from edgead.suggestion import did_you_mean
from edgead.tiled_runner import TiledRunner
from edgead.views import Stitcher, TileGrid


class Bundle:
    """Verified bundle folder; made by `open_bundle`."""

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {self.manifest.model}, classes={list(self.manifest.classes)})"

    @property
    def model_path(self) -> Path:
        return self.path / MODEL

    @property
    def weights_path(self) -> Path:
        return self.path / WEIGHTS

    @property
    def engines_path(self) -> Path:
        return self.path / ENGINES

    @property
    def image_size(self) -> tuple[int, int]:
        return self.manifest.preprocessing.image_size

    @cached_property
    def grid(self) -> TileGrid | None:
        """Tiles of a frame; None for a bundle without crop and tiles."""
        return self.manifest.preprocessing.grid

    @cached_property
    def aligner(self) -> Aligner | None:
        """Alignment of frames; None for a bundle without it."""
        rule = self.manifest.preprocessing.alignment
        if rule is None:
            return None
        reference = self._arrays(ALIGNMENT, ["reference"])["reference"]
        if (
            reference.ndim != 2
            or reference.dtype != np.uint8
            or not 8 <= min(reference.shape) <= max(reference.shape) <= WORKING_SIDE
        ):
            expected = f"(8..{WORKING_SIDE}, 8..{WORKING_SIDE})"
            raise self._damaged(
                ALIGNMENT, f"reference must be uint8 of shape {expected}, got {reference.dtype} {reference.shape}"
            )
        return Aligner(rule, reference)

    def with_thresholds(self, thresholds: dict[str, ClassThresholds], nfa: NfaRecord | None) -> Bundle:
        """Copy of the bundle with the thresholds of one of its engines."""
        update = {"thresholds": thresholds, "nfa": nfa}
        return Bundle(self.path, self.manifest.model_copy(update=update), self.digest)

    def thresholds(self, class_name: str | None = None) -> ClassThresholds:
        """Thresholds and heatmap scale of a class; without a name, those of all images."""
        thresholds = self.manifest.thresholds
        name = class_name or POOLED
        if name not in thresholds:
            raise BundleError(
                f"The bundle has no class {name!r}; it has: {', '.join(self.manifest.classes)}."
                f"{did_you_mean(name, self.manifest.classes)}",
                hint="Name one of these classes, or none.",
            )
        return thresholds[name]

    def class_bias(self, class_names: Sequence[str | None]) -> NDArray[np.float32] | None:
        """Values of the graph's input `class_bias` `(N, K)` for images of these classes; None = unknown class.

        Returns:
            None if the graph has no such input.

        Raises:
            BundleError: If the bundle does not have one of the classes.
        """
        if self.manifest.graph.class_bias is None:
            return None
        return class_bias(self.manifest.classes, class_names)

    @property
    def reference_outputs(self) -> tuple[str, ...]:
        """Graph outputs in the reference, which an engine has to reproduce."""
        norms = self.manifest.nfa.levels if self.manifest.nfa else ()
        return ("anomaly_map", "pred_score", *(level.output for level in norms))

    def pose(self, image: Image) -> Pose | None:
        """Pose of the part in an RGB image `(H, W, 3)`; None for a bundle without alignment.

        Raises:
            PartNotFoundError: If the bundle aligns, and the part is not found.
        """
        return None if self.aligner is None else self.aligner.found(image)

    def preprocess(self, image: Image, pose: Pose | None = None) -> NDArray[np.uint8]:
        """Input `(h, w, 3)` of an RGB image `(H, W, 3)`; its tiles `(T, h, w, 3)` for a bundle with crop or tiles.

        Args:
            image: The image, not aligned.
            pose: Pose of its part, if `pose` has found it already; a bundle with alignment looks for it otherwise.

        Raises:
            PartNotFoundError: If the bundle aligns, and the part is not found.
        """
        pose = pose or self.pose(image)
        if pose is not None:
            image = align(image, pose)
        return self.overview(image) if self.grid is None else self.grid.cut(image)

    def overview(self, image: Image) -> Image:
        """Squeeze an RGB image `(H, W, 3)` as a whole to the graph's input size, without alignment."""
        return resize(image, self.image_size, self.manifest.preprocessing.resize)

    def frame_runner(self, engine: Runner) -> Runner:
        """Runner of what `preprocess` gives: the engine itself, or one that joins the tiles of each frame."""
        return engine if self.grid is None else TiledRunner(engine, self.grid, self.manifest.graph.top_positions)

    def calibration_images(self) -> NDArray[np.uint8]:
        """Good images `(N, H, W, 3)`, uint8, RGB, at input size, for INT8 calibration on the device; tiles if there are any."""
        return self._images(self._arrays(CALIBRATION, ["images"])["images"], CALIBRATION)

    def overviews(self) -> NDArray[np.uint8]:
        """Good frames `(N, H, W, 3)`, uint8, RGB, squeezed to the input size: how a good picture looks as a whole."""
        if self.grid is None:
            return self.calibration_images()
        return self._images(self._arrays(CALIBRATION, ["overviews"])["overviews"], CALIBRATION)

    def held_out(self) -> tuple[NDArray[np.uint8], list[str]] | None:
        """Held-out good images as `preprocess` gives them, `(N, ...)`, with their classes; None in an older bundle.

        An engine's own thresholds come from its scores of these images.
        """
        arrays = self._arrays(CALIBRATION, [], optional=["held_out", "held_out_classes"])
        if "held_out" not in arrays:
            return None
        images = self._images(arrays["held_out"], CALIBRATION, () if self.grid is None else (self.grid.n_tiles,))
        indices = arrays.get("held_out_classes")
        n_classes = len(self.manifest.classes)
        if (
            indices is None
            or indices.shape != (len(images),)
            or indices.dtype.kind != "i"
            or not ((indices >= 0) & (indices < n_classes)).all()
        ):
            raise self._damaged(CALIBRATION, f"held_out_classes must name one of {n_classes} classes for each image")
        return images, [self.manifest.classes[index] for index in indices]

    def held_out_corrections(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Difference that leaving them out makes to the images of `held_out`, which the model was fitted on.

        Returns:
            Differences of the anomaly maps `(N, h, w)` and of the scores `(N,)`, to add to what an engine gives; None where
            the model has not seen the images.
        """
        arrays = self._arrays(CALIBRATION, [], optional=["held_out_classes", "map_corrections", "score_corrections"])
        maps, scores = arrays.get("map_corrections"), arrays.get("score_corrections")
        if maps is None or scores is None:
            return None
        n = len(arrays.get("held_out_classes", ()))
        size = self.manifest.graph.map_size
        if self.grid is not None:
            size = Stitcher(self.grid, size).size
        shapes = maps.shape == (n, *size) and scores.shape == (n,)
        if not shapes or not all(a.dtype.kind == "f" and np.isfinite(a).all() for a in (maps, scores)):
            raise self._damaged(CALIBRATION, "the corrections of the held-out images do not fit the images")
        return maps.astype(np.float32), scores.astype(np.float32)

    def reference(self) -> dict[str, NDArray[Any]]:
        """Images `(N, H, W, 3)` with the reference `anomaly_map` `(N, h, w)`, `pred_score` `(N,)` and level norms."""
        arrays = self._arrays(REFERENCE, ["images", *self.reference_outputs])
        n = len(self._images(arrays["images"], REFERENCE))
        sizes: dict[str, tuple[int, ...]] = {"anomaly_map": self.manifest.graph.map_size, "pred_score": ()}
        if self.manifest.nfa:
            sizes |= {level.output: level.size for level in self.manifest.nfa.levels}
        for name, size in sizes.items():
            found = arrays[name]
            if found.shape != (n, *size) or found.dtype != np.float32 or not np.isfinite(found).all():
                raise self._damaged(
                    REFERENCE, f"{name} must be finite float32 of shape {(n, *size)}, got {found.dtype} {found.shape}"
                )
        return arrays

    def _arrays(self, file: str, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        try:
            return load_arrays(self.path / file, names, optional=optional)
        except DamagedArraysError as error:
            raise BundleError(error.message, hint="Copy the bundle again from where it was trained.") from error

    def _images(self, images: NDArray[Any], file: str, tiles: tuple[int, ...] = ()) -> NDArray[np.uint8]:
        one = (*tiles, *self.image_size, 3)
        if images.ndim != len(one) + 1 or not len(images) or images.shape[1:] != one or images.dtype != np.uint8:
            expected = f"(N, {', '.join(map(str, one))})"
            raise self._damaged(file, f"images must be uint8 of shape {expected}, got {images.dtype} {images.shape}")
        return images

    def _damaged(self, file: str, problem: str) -> BundleError:
        return BundleError(
            f"{self.path / file} does not fit the bundle: {problem}.", hint="Do not use this bundle; train it again."
        )


def class_bias(classes: Sequence[str], names: Sequence[str | None]) -> NDArray[np.float32]:
    """Class bias `(N, K)`: 0 for each of the K `classes` that an image may have, `CLASS_EXCLUDED` for the others.

    Raises:
        BundleError: If a name is not in `classes`.
    """
    bias = np.zeros((len(names), len(classes)), np.float32)
    for row, name in zip(bias, names, strict=True):
        if name is None:
            continue
        if name not in classes:
            raise BundleError(
                f"The bundle has no class {name!r}; it has: {', '.join(classes)}.",
                hint="Name one of these classes, or none.",
            )
        row[:] = CLASS_EXCLUDED
        row[classes.index(name)] = 0.0
    return bias


def open_bundle(path: Path) -> Bundle:
    """Read and verify a bundle: schema, file list and every digest, before any other file is used.

    The manifest of an older bundle has no digest of its own; its values are checked against each other alone.

    Args:
        path: The bundle, or the folder of a run that holds it.

    Raises:
        BundleError: If the folder is not a bundle, is incomplete, was changed, has a newer schema, or names files
            outside itself.
    """
    if not path.is_dir():
        raise BundleError(
            f"There is no bundle at {path}.",
            hint="Make one with `edgead train`, or name the folder that holds bundle.json.",
        )
    path = bundle_folder(path).resolve()
    raw = read_manifest_bytes(path)
    manifest = parse_manifest(path, raw)
    for name, expected in manifest.sha256.items():
        if name == MANIFEST:
            if not has_own_digest(raw, expected):
                raise BundleError(
                    f"{path / MANIFEST} was changed after the bundle was made: it does not have the SHA-256 that it states.",
                    hint="Copy the bundle again from where it was trained, or train it again.",
                )
            continue
        actual = file_digest(member_path(path, name))
        if actual != expected:
            raise BundleError(
                f"{path / name} was changed after the bundle was made: its SHA-256 is {actual[:12]}…, "
                f"the manifest says {expected[:12]}….",
                hint="Copy the bundle again from where it was trained, or run `edgead export` there.",
            )
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest())
