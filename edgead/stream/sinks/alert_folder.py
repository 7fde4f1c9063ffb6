"""Alerts as files: one JSON record with its pictures, whole at every moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
from typing_extensions import Self

import edgead
from edgead.heatmap import HeatmapScale, Region, find_regions, overlay
from edgead.imaging import Image
from edgead.storage import storage_error, write_bytes, write_json
from edgead.stream.alerts import Alert
from edgead.stream.result import Result

SCHEMA_VERSION = 1
JPEG_QUALITY = 92


@dataclass(frozen=True)
class AlertContext:
    """What judged the frames; copied into every record.

    Attributes:
        source: Redacted name of the source.
        bundle: Digest of the bundle.
        engine: `<backend>-<precision>`.
        class_name: The kind of part, None when the bundle's common threshold is in use.
    """

    source: str
    bundle: str
    engine: str
    class_name: str | None


class AlertFolder:
    """Writes `<id>.json`, `<id>-snapshot.jpg` and `<id>-heatmap.jpg` when an alert opens and completes them at its end.

    Pictures are written before the record that names them, and everything is synced: what `kill -9` or a power cut
    leaves behind is a set of whole records, the last one perhaps still in state `open`. The id is the UTC time of the
    opening and a number, so that names sort by time. When a later frame is stronger, its picture is added as
    `<id>-peak.jpg`. Keys of the record:

    - `schema_version`, `edgead_version`, `id`, `state` (`open` or `closed`)
    - `opened_at`, `closed_at` (UTC, ISO 8601, when the frames were taken or, from a file, read), `duration_s` (on the
      source's time line), `ended_by` (`quiet` or `end_of_stream`)
    - `source`, `origin` (the picture's file for a folder), `frame_index`, `time_s` (on the source's time line)
    - `score`, `threshold`, `pixel_threshold`, `peak_score`, `peak_frame_index` (raw units)
    - `segmentation`: what the regions are, `threshold` (map above `pixel_threshold`) or `nfa` (by their number of false
      detections; their `peak` may be below `pixel_threshold`)
    - `image_size` (height, width) and `regions` (`x`, `y`, `width`, `height`, `area_px`, `peak`), strongest first, of
      the opening frame, in its pixels
    - `pictures`: file names of `snapshot`, `heatmap` and, where there is one, `peak`
    - `bundle` (digest), `engine`, `class`

    Keys of a later state are null while the alert is open. Later versions add keys and never change these.
    Files with a leading dot are unfinished writes.
    """

    name = "alert folder"
    lossless = True

    def __init__(
        self,
        folder: Path,
        scale: HeatmapScale,
        context: AlertContext,
        *,
        opacity: float,
        utc_from_monotonic: Callable[[float], datetime] | None = None,
    ) -> None:
        self._folder = folder
        self._scale = scale
        self._context = context
        self._opacity = opacity
        self._utc = utc_from_monotonic or _utc_now
        self._record: dict[str, Any] = {}
        self._peak: Result | None = None

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self._folder, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def wants(self, result: Result) -> bool:
        return result.event is not None

    def accept(self, result: Result) -> None:
        assert result.event is not None
        if result.event.kind == "opened":
            self._open(result, result.event.alert)
        elif result.event.kind == "peak":
            self._peak = result
        else:
            self._close(result, result.event.alert)

    def _open(self, result: Result, alert: Alert) -> None:
        opened_at = self._utc(result.frame.captured_at_s)
        alert_id = self._free_id(opened_at, alert.number)
        image = result.frame.image
        size = (image.shape[0], image.shape[1])
        prediction = result.prediction
        self._peak = None
        self._record = {
            "schema_version": SCHEMA_VERSION,
            "edgead_version": edgead.__version__,
            "id": alert_id,
            "state": "open",
            "opened_at": _iso(opened_at),
            "closed_at": None,
            "duration_s": None,
            "ended_by": None,
            "source": self._context.source,
            "origin": result.frame.source,
            "frame_index": result.frame.index,
            "time_s": round(result.time_s, 3),
            "score": prediction.pred_score,
            "threshold": prediction.threshold,
            "pixel_threshold": prediction.pixel_threshold,
            "peak_score": alert.peak_score,
            "peak_frame_index": alert.peak_frame,
            "segmentation": "threshold" if prediction.own_segmentation is None else "nfa",
            "image_size": size,
            "regions": [
                _region_record(region)
                for region in find_regions(
                    prediction.anomaly_map, prediction.pixel_threshold, size, prediction.own_segmentation
                )
            ],
            "pictures": {
                "snapshot": self._write_picture(alert_id, "snapshot", image),
                "heatmap": self._write_picture(alert_id, "heatmap", self._heatmap(result)),
            },
            "bundle": self._context.bundle,
            "engine": self._context.engine,
            "class": self._context.class_name,
        }
        self._write_record()

    def _close(self, result: Result, alert: Alert) -> None:
        assert alert.closed_s is not None
        record = self._record
        if self._peak is not None:
            record["pictures"]["peak"] = self._write_picture(record["id"], "peak", self._heatmap(self._peak))
        record |= {
            "state": "closed",
            "closed_at": _iso(self._utc(result.frame.captured_at_s)),
            "duration_s": round(alert.closed_s - alert.opened_s, 3),
            "ended_by": alert.ended_by,
            "peak_score": alert.peak_score,
            "peak_frame_index": alert.peak_frame,
        }
        self._write_record()
        self._peak = None

    def _heatmap(self, result: Result) -> Image:
        prediction = result.prediction
        return overlay(
            result.frame.image,
            prediction.anomaly_map,
            self._scale,
            prediction.own_segmentation,
            opacity=self._opacity,
        )

    def _free_id(self, opened_at: datetime, number: int) -> str:
        stamp = opened_at.strftime("%Y%m%dT%H%M%SZ")
        while (self._folder / f"{stamp}-{number:04d}.json").exists():
            number += 1
        return f"{stamp}-{number:04d}"

    def _write_picture(self, alert_id: str, kind: str, image: Image) -> str:
        name = f"{alert_id}-{kind}.jpg"
        ok, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert ok, "OpenCV encodes any uint8 picture as JPEG"
        write_bytes(self._folder / name, encoded.tobytes())
        return name

    def _write_record(self) -> None:
        write_json(self._folder / f"{self._record['id']}.json", self._record)
        _sync_folder(self._folder)


def _region_record(region: Region) -> dict[str, float]:
    record = asdict(region)
    del record["contour"]
    return record


def _utc_now(monotonic_s: float) -> datetime:
    # Asked anew each time: a fixed offset would go wrong when the device's clock is set after the start.
    return datetime.now(timezone.utc) - timedelta(seconds=time.monotonic() - monotonic_s)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sync_folder(folder: Path) -> None:
    # A rename survives a power cut only once its folder is synced.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
