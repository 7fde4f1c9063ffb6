"""Pictures of frames that two models judge differently, a bounded number on disk."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.errors import EdgeadError
from edgead.heatmap import HeatmapScale, overlay
from edgead.imaging import Image, jpeg_from_rgb, resize
from edgead.prediction import Prediction
from edgead.storage import write_bytes

_LOG = logging.getLogger(__name__)
_MAX_SIDE, _GAP, _QUALITY = 640, 8, 85


@dataclass(frozen=True)
class Difference:
    """A frame that two models judge differently.

    Attributes:
        kind: `only_active` or `only_shadow`: which model calls it anomalous.
        camera, frame, time_s: Camera, number of the frame in its source, and seconds on the source's own time line.
        active_level, shadow_level: Normalised scores of both models: 0 is an ordinary good image, 1 the threshold.
        picture: Name of the file: the frame with the heatmap of the active model, and beside it that of the shadow.
    """

    kind: str
    camera: str
    frame: int
    time_s: float
    active_level: float
    shadow_level: float
    picture: str

    @property
    def size(self) -> float:
        return abs(self.active_level - self.shadow_level)


class Gallery:
    """Keeps the largest differences of each kind with their pictures.

    Args:
        folder: Folder of the pictures, made for the first one; None keeps none.
        most: Largest number of pictures of each kind.
        opacity: Opacity of the heatmaps, 0..1.
    """

    def __init__(self, folder: Path | None, most: int, opacity: float) -> None:
        self.folder = folder
        self.problem = ""
        self._most = most
        self._opacity = opacity
        self._kept: dict[str, list[Difference]] = {"only_active": [], "only_shadow": []}
        self._count = 0

    @property
    def differences(self) -> list[Difference]:
        """Those that are kept, the largest first."""
        return sorted((one for kept in self._kept.values() for one in kept), key=lambda one: -one.size)

    def offer(
        self,
        found: Difference,
        image: Image,
        predictions: tuple[Prediction, Prediction],
        scales: tuple[HeatmapScale, ...],
    ) -> None:
        """Keep a difference if it is among the largest of its kind; its picture gets a name.

        Args:
            found: The difference.
            image: The frame, `(H, W, 3)`, uint8, RGB.
            predictions: Those of the active model and of the shadow.
            scales: Colour scales of both models, for predictions without their own.
        """
        kept = self._kept[found.kind]
        least = min(kept, key=lambda one: one.size) if len(kept) >= self._most else None
        if self.folder is None or self.problem or self._most == 0 or (least is not None and found.size <= least.size):
            return
        self._count += 1
        name = f"{found.kind.replace('_', '-')}-{self._count:05d}.jpg"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.folder / name, jpeg_from_rgb(self._draw(image, predictions, scales), _QUALITY))
            if least is not None:
                (self.folder / least.picture).unlink(missing_ok=True)
        except (OSError, EdgeadError) as error:
            self.problem = error.message if isinstance(error, EdgeadError) else str(error)
            _LOG.warning("the shadow keeps no more pictures: %s", self.problem)
            return
        if least is not None:
            kept.remove(least)
        kept.append(Difference(**{**asdict(found), "picture": name}))

    def _draw(
        self, image: Image, predictions: tuple[Prediction, Prediction], scales: tuple[HeatmapScale, ...]
    ) -> Image:
        shrink = min(1.0, _MAX_SIDE / max(image.shape[:2]))
        small = resize(image, (max(1, round(image.shape[0] * shrink)), max(1, round(image.shape[1] * shrink))))
        halves = [
            overlay(
                small,
                prediction.anomaly_map,
                prediction.scale or scale,
                prediction.segmentation,
                opacity=self._opacity,
                contours=prediction.pred_label,
            )
            for prediction, scale in zip(predictions, scales, strict=True)
        ]
        gap = np.full((small.shape[0], _GAP, 3), 255, np.uint8)
        return np.hstack([halves[0], gap, halves[1]])

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(one) for one in self.differences]
