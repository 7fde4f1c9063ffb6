"""Images of alerts, drawn and written to the spool."""

from __future__ import annotations

from collections.abc import Mapping

from edgead.heatmap import HeatmapScale, overlay
from edgead.imaging import Image, jpeg_from_rgb
from edgead.stream.result import FrameResult
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.spool import Spool

JPEG_QUALITY = 92


class AlertPictures:
    """Images of the alerts that change in one frame, each drawn and encoded once.

    Alerts opened by the same frame share snapshot and heatmap files. Each alert has its own peak file, which is written
    again if a held alert becomes active again.
    """

    def __init__(self, spool: Spool, opacity: float, scale: HeatmapScale) -> None:
        self._spool = spool
        self._opacity = opacity
        self._scale = scale
        self._encoded: dict[tuple[str, int], bytes] = {}
        self._shared: dict[str, tuple[str, str | None]] = {}

    def opening(self, alert_id: str, result: FrameResult) -> AlertRecord:
        """Write snapshot and heatmap of a new alert; returns the change of its record."""
        written = {}
        for kind in ("snapshot", "heatmap"):
            if kind not in self._shared:
                self._shared[kind] = self._write(alert_id, kind, result)
            written[kind] = self._shared[kind]
        return _in_record(alert_id, written)

    def peak(self, alert_id: str, result: FrameResult) -> AlertRecord:
        """Write the peak image of an alert; returns the change of its record."""
        return _in_record(alert_id, {"peak": self._write(alert_id, "peak", result)})

    def _write(self, alert_id: str, kind: str, result: FrameResult) -> tuple[str, str | None]:
        name = f"{alert_id}-{kind}.jpg"
        key = (kind, id(result))
        if key not in self._encoded:
            image = result.frame.image if kind == "snapshot" else self._heatmap(result)
            self._encoded[key] = jpeg_from_rgb(image, JPEG_QUALITY)
        return name, self._spool.write_media(name, self._encoded[key])

    def _heatmap(self, result: FrameResult) -> Image:
        prediction = result.prediction
        return overlay(
            result.frame.image,
            prediction.anomaly_map,
            prediction.scale or self._scale,
            prediction.segmentation,
            opacity=self._opacity,
        )


def _in_record(alert_id: str, written: Mapping[str, tuple[str, str | None]]) -> AlertRecord:
    return AlertRecord(
        id=alert_id,
        pictures={kind: name for kind, (name, reason) in written.items() if reason is None},
        pictures_missing={kind: reason for kind, (_, reason) in written.items()},
    )
