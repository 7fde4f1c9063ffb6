"""A bundle and an engine of it, ready to judge images: what `edgead.load` returns."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.bundle import Bundle, open_bundle
from edgead.data.reader import read_image
from edgead.engines.opening import DeviceChoice, open_with_thresholds
from edgead.errors import ConfigError, ShapeError
from edgead.evaluation.marking import Marking, marking_at
from edgead.evaluation.segmentation import nfa_at_confidence
from edgead.evaluation.threshold import at_confidence, at_rate
from edgead.heatmap import HeatmapScale, Region, find_regions, overlay
from edgead.imaging import Image, png_from_rgb, upsample_map
from edgead.manifest import ClassThresholds
from edgead.pose import Pose
from edgead.prediction import Prediction
from edgead.runner import Outputs, Runner

_LOG = logging.getLogger(__name__)
# A backend keeps the memory of the largest batch that it has seen: 350 MB for eight images at 320 px.
_BATCH = 4


@dataclass(frozen=True)
class ImageResult:
    """Verdict of a model on one image.

    Jupyter shows it as the image with the heatmap and the outlines of its regions.

    Attributes:
        image: The image, `(H, W, 3)`, uint8, RGB.
        prediction: Score and anomaly map as the engine gave them, with the thresholds that they are judged by.
        scale: Colour scale of the thresholds, the same for every image.
    """

    image: Image = field(repr=False)
    prediction: Prediction = field(repr=False)
    scale: HeatmapScale = field(repr=False)

    @property
    def score(self) -> float:
        """Anomaly score of the image, raw units of the bundle; larger is more anomalous."""
        return self.prediction.pred_score

    @property
    def threshold(self) -> float:
        """Score above which an image is anomalous."""
        return self.prediction.threshold

    @property
    def is_anomalous(self) -> bool:
        """Whether the score is above the threshold."""
        return self.prediction.pred_label

    @cached_property
    def anomaly_map(self) -> NDArray[np.float32]:
        """Anomaly score of each pixel, `(H, W)`, float32, raw units; `prediction.anomaly_map` is the engine's own grid."""
        return upsample_map(self.prediction.anomaly_map, self._size)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Anomalous pixels, `(H, W)`, as the bundle marks them.

        An anomalous image has at least one: where nothing else is marked, the region around the largest value.
        """
        return self.prediction.segmentation.mask_at(self._size)

    @cached_property
    def regions(self) -> list[Region]:
        """Connected anomalous areas of the mask in pixels of the image, strongest first."""
        prediction = self.prediction
        return find_regions(prediction.anomaly_map, prediction.pixel_threshold, self._size, prediction.segmentation)

    def heatmap(self, *, opacity: float = 0.6, contours: bool = True) -> Image:
        """Draw the anomaly map over the image, `(H, W, 3)`, uint8, RGB.

        Args:
            opacity: Strength of the strongest colour, 0..1; ordinary places stay clear.
            contours: Whether to outline the regions.
        """
        prediction = self.prediction
        return overlay(
            self.image,
            prediction.anomaly_map,
            self.scale,
            prediction.segmentation,
            opacity=opacity,
            contours=contours,
        )

    @property
    def _size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def _repr_png_(self) -> bytes:
        return png_from_rgb(self.heatmap())

    def __repr__(self) -> str:
        height, width = self._size
        verdict = "anomalous" if self.is_anomalous else "good"
        return f"ImageResult({verdict}, score={self.score:.4g}, threshold={self.threshold:.4g}, image={height}x{width})"


class Model:
    """An open engine of a bundle, with its thresholds; a context manager. Make one with `edgead.load`.

    One thread at a time may use it.

    Attributes:
        bundle: The verified bundle with the thresholds of this engine.
        runner: The open engine, for raw outputs of prepared batches.
        false_alarm_rate: Share of good images that may alarm; None = as trained.
    """

    def __init__(self, bundle: Bundle, runner: Runner, *, false_alarm_rate: float | None = None) -> None:
        self.bundle = bundle
        self.runner = runner
        self.false_alarm_rate = false_alarm_rate

    @property
    def engine_name(self) -> str:
        """`<backend>-<precision>`, or `reference`."""
        return self.runner.engine_name

    @property
    def classes(self) -> tuple[str, ...]:
        """Kinds of parts that the bundle was trained on."""
        return self.bundle.manifest.classes

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in px that every image is resized to."""
        return self.bundle.image_size

    def thresholds(self, class_name: str | None = None) -> ClassThresholds:
        """Thresholds and colour scale of a class; without a name, those for an unknown class.

        Raises:
            BundleError: If the bundle does not know the class.
        """
        thresholds = self.bundle.thresholds(class_name)
        return thresholds if self.false_alarm_rate is None else at_rate(thresholds, self.false_alarm_rate)

    def read_image(self, path: str | os.PathLike[str]) -> Image:
        """Read an image file as `predict` expects it: RGB, 16-bit values scaled as in training.

        Raises:
            DataError: If the file is missing, damaged or no image.
        """
        return read_image(Path(path), **self.bundle.manifest.preprocessing.reading)

    @overload
    def predict(self, images: NDArray[np.uint8], *, class_name: str | None = None) -> ImageResult: ...

    @overload
    def predict(self, images: Sequence[NDArray[np.uint8]], *, class_name: str | None = None) -> list[ImageResult]: ...

    def predict(
        self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], *, class_name: str | None = None
    ) -> ImageResult | list[ImageResult]:
        """Judge one image, or several.

        Args:
            images: One image, `(H, W, 3)` RGB or `(H, W)` grey, uint8; or a list of images of any sizes, or a batch
                `(N, H, W, 3)`.
            class_name: Kind of part that all the images show, for a bundle of several; None = unknown.

        Returns:
            One result for one image; a list for a list or a batch.

        Raises:
            ShapeError: If an array is no image.
            TypeError: If it is no NumPy array, such as a path, or its values are not uint8.
            BundleError: If the bundle does not know the class.
            EngineError: If the engine fails.
            PartNotFoundError: If the bundle aligns parts, and an image shows none; `Model.pose` tells before.
        """
        if isinstance(images, np.ndarray) and images.ndim != 4:
            return self._predict([_checked(images)], class_name)[0]
        if not isinstance(images, (np.ndarray, Sequence)) or isinstance(images, (str, bytes)):
            raise TypeError(_no_array(images))
        return self._predict([_checked(image) for image in images], class_name)

    def pose(self, image: NDArray[np.uint8]) -> Pose | None:
        """Pose of the part in an image as `predict` takes it; None if the bundle aligns nothing.

        Raises:
            PartNotFoundError: If the bundle aligns parts, and the image shows none.
        """
        return self.bundle.pose(_checked(image))

    def heatmap(self, image: Image, result: ImageResult, *, opacity: float = 0.6, contours: bool = True) -> Image:
        """Draw a result over any picture of the same scene, `(H, W, 3)`, uint8, RGB.

        Args:
            image: The image that was judged, or one at another resolution.
            result: From `predict`.
            opacity: Strength of the strongest colour, 0..1.
            contours: Whether to outline the regions.
        """
        shown = ImageResult(_checked(image), result.prediction, result.scale)
        return shown.heatmap(opacity=opacity, contours=contours)

    def close(self) -> None:
        """Free the engine; safe to call twice."""
        self.runner.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self.runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"Model({self.bundle.manifest.model}, {self.engine_name}, classes={list(self.classes)})"

    def _predict(self, images: list[Image], class_name: str | None) -> list[ImageResult]:
        thresholds = self.thresholds(class_name)
        manifest = self.bundle.manifest
        marking = marking_at(manifest, thresholds, class_name, false_alarm_rate=self.false_alarm_rate)
        results = []
        for start in range(0, len(images), _BATCH):
            part = images[start : start + _BATCH]
            poses = [self.bundle.pose(image) for image in part]
            batch = np.stack([self.bundle.preprocess(image, pose) for image, pose in zip(part, poses, strict=True)])
            outputs = self.runner.infer(batch, self.bundle.class_bias([class_name] * len(part)))
            results += [_result(image, outputs, i, thresholds, marking, poses[i]) for i, image in enumerate(part)]
        return results


def load(
    bundle: str | os.PathLike[str] = "runs/latest/bundle",
    *,
    engine: str | None = None,
    threads: int = 0,
    device: DeviceChoice = "auto",
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Model:
    """Verify a bundle and open an engine of it.

    Args:
        bundle: Folder of the bundle that `edgead train` wrote, or of the run.
        engine: `<backend>-<precision>` such as `onnxruntime-int8`, a path, or `reference`; None = the best one built on
            this machine, else the reference.
        threads: CPU threads of ONNX Runtime; 0 = one per core.
        device: `auto` runs where the engine was built for; `cpu`; `cuda` refuses an engine of the CPU.
        false_alarm_rate: Share of good images that may alarm, above 0 and below 0.5; None = as trained.
        confidence: Probability that the thresholds keep that rate, at least 0.5 and below 1; None = as trained, which is
            on average over trainings unless `train.confidence` was set.
        on_note: Receives notes, such as an engine for the GPU that runs on the CPU; None logs them as warnings.

    Raises:
        BundleError: If the folder is not a bundle, or was changed.
        EngineMismatchError: If the engine is missing, stale or of another machine.
        ConfigError: If the rate or the confidence is out of range.

    Examples:
        >>> import edgead
        >>> with edgead.load("runs/latest/bundle", engine="reference") as model:
        ...     images = [model.read_image("good.png"), model.read_image("cracked.png")]
        ...     good, cracked = model.predict(images)
        ...     picture = model.heatmap(images[1], cracked)
        >>> good.is_anomalous, cracked.is_anomalous
        (False, True)
        >>> picture.shape == images[1].shape
        True
    """
    verified = open_bundle(Path(bundle))
    if false_alarm_rate is not None and not 0 < false_alarm_rate < 0.5:
        raise ConfigError(
            f"The false-alarm rate must be above 0 and below 0.5, got {false_alarm_rate}.", hint="0.005 is 0.5 %."
        )
    if confidence is not None and not 0.5 <= confidence < 1:
        raise ConfigError(f"The confidence must be at least 0.5 and below 1, got {confidence}.", hint="0.95 is 95 %.")
    runner, own = open_with_thresholds(
        verified, engine, threads=threads, device=device, on_note=on_note or _LOG.warning
    )
    if confidence is not None:
        nfa = own.manifest.nfa
        own = own.with_thresholds(
            {name: at_confidence(one, confidence) for name, one in own.manifest.thresholds.items()},
            None if nfa is None else nfa_at_confidence(nfa, confidence),
        )
    return Model(own, runner, false_alarm_rate=false_alarm_rate)


def _checked(image: NDArray[np.uint8]) -> Image:
    if not isinstance(image, np.ndarray):
        raise TypeError(_no_array(image))
    if image.dtype != np.uint8:
        raise TypeError(f"an image must be uint8, 0 to 255, got {image.dtype}; {_to_uint8(image)}")
    if image.ndim == 2 and 0 not in image.shape:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        expected = f"(H, W, 3) RGB or (H, W) grey; a list of them for several{_reshaped(image.shape)}"
        raise ShapeError("image", expected=expected, actual=image.shape)
    return image


def _no_array(image: object) -> str:
    """Message about an object that is no NumPy array, with the conversion that helps."""
    seen = type(image)
    if isinstance(image, (str, os.PathLike)):
        how = "read a file with Model.read_image, or judge files with `edgead predict`"
    elif seen.__module__.startswith("torch"):
        how = "give image.cpu().numpy(), of the shape (H, W, 3)"
    elif seen.__module__.startswith("PIL"):
        how = "give numpy.asarray(image.convert('RGB')), or read the file with Model.read_image"
    else:
        how = "read a file with Model.read_image"
    return f"an image must be a NumPy array, uint8, (H, W, 3) RGB or (H, W) grey, got {seen.__module__}.{seen.__qualname__}; {how}"


def _to_uint8(image: NDArray[Any]) -> str:
    """How to make uint8 of an array of another type."""
    if image.dtype == bool:
        return "give image.astype(numpy.uint8) * 255"
    if image.dtype.kind == "f":
        return "of values from 0 to 1 give (image * 255).round().astype(numpy.uint8), of a file Model.read_image"
    return "Model.read_image scales files of more than 8 bits as in training"


def _reshaped(shape: tuple[int, ...]) -> str:
    """How an array of a near shape becomes an image; empty if that is unknown."""
    if len(shape) != 3:
        return ""
    if shape[2] == 1:
        return " (give image[:, :, 0])"
    if shape[2] == 4:
        return " (leave alpha out: image[:, :, :3])"
    if shape[0] in (1, 3):
        return " (channels come last: image.transpose(1, 2, 0))" if shape[0] == 3 else " (give image[0])"
    return ""


def _result(
    image: Image, outputs: Outputs, index: int, thresholds: ClassThresholds, marking: Marking, pose: Pose | None
) -> ImageResult:
    anomaly_map, score = outputs["anomaly_map"][index].copy(), float(outputs["pred_score"][index])
    threshold = thresholds.threshold.value
    marking = marking.of_image(outputs, index)
    marked = marking.mark_outputs(outputs, index, is_anomalous=score > threshold)
    prediction = Prediction(anomaly_map, score, threshold, marking.level, marked, marking.scale)
    return ImageResult(image, prediction.on_frame(pose), thresholds.heatmap_scale)
