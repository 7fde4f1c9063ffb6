"""Record of an alert at its opening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import edgead
from edgead.evaluation.segmentation import SegmentationKind
from edgead.heatmap import HeatmapScale, find_regions
from edgead.marks import restricted
from edgead.pose import map_to_frame
from edgead.prediction import Prediction
from edgead.stream.result import FrameResult, ZoneVerdict
from edgead.stream.spool.alert_record import SCHEMA_VERSION, AlertRecord, RegionRecord


@dataclass(frozen=True)
class AlertContext:
    """Facts about one camera that its alert records repeat.

    Attributes:
        source: Redacted name of the source.
        bundle: Digest of the bundle.
        engine: `<backend>-<precision>`.
        class_name: Kind of part; None if the bundle's common threshold is used.
        scale: Colour scale of the heatmaps.
        segmentation: Way in which regions are marked; see `AlertRecord.segmentation`.
        latched: Zones whose alerts stay until they are acknowledged.
        masks: Mask `(h, w)` of each zone on the anomaly map; a zone without one is the whole frame.
    """

    source: str
    bundle: str
    engine: str
    class_name: str | None
    scale: HeatmapScale
    segmentation: SegmentationKind = "threshold"
    latched: frozenset[str] = frozenset()
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def opening_record(
    result: FrameResult, verdict: ZoneVerdict, alert_id: str, context: AlertContext, opened_at: str
) -> AlertRecord:
    """Record of a new alert, without its images."""
    assert verdict.event is not None
    alert, prediction, judge = verdict.event.alert, result.prediction, result.judged_by
    size = (result.frame.image.shape[0], result.frame.image.shape[1])
    return AlertRecord(
        schema_version=SCHEMA_VERSION,
        edgead_version=edgead.__version__,
        id=alert_id,
        camera=result.camera,
        zone=verdict.zone,
        severity=alert.severity,
        state="open",
        opened_at=opened_at,
        held_at=None,
        closed_at=None,
        duration_s=None,
        ended_by=None,
        latched=verdict.zone in context.latched,
        acknowledged_at=None,
        acknowledged_by=None,
        note=None,
        judgement=None,
        judgement_kind=None,
        judgement_note=None,
        judged_at=None,
        judged_by=None,
        n_judgements=0,
        source=context.source,
        origin=result.frame.source,
        frame_index=result.frame.index,
        time_s=round(result.time_s, 3),
        score=verdict.score,
        threshold=verdict.threshold,
        pixel_threshold=prediction.pixel_threshold,
        peak_score=alert.peak_score,
        peak_frame_index=alert.peak_frame,
        segmentation=context.segmentation,
        image_size=list(size),
        regions=_regions(prediction, context.masks.get(verdict.zone), size),
        bundle=context.bundle if judge is None else judge.bundle,
        engine=context.engine if judge is None else judge.engine,
        class_name=context.class_name,
    )


def _regions(prediction: Prediction, mask: NDArray[np.bool_] | None, size: tuple[int, int]) -> list[RegionRecord]:
    segmentation = prediction.segmentation
    if mask is not None:
        if prediction.pose is not None:
            mask = map_to_frame(mask.astype(np.float32), prediction.pose) > 0.5
        segmentation = restricted(segmentation, mask)
    regions: list[RegionRecord] = []
    for region in find_regions(prediction.anomaly_map, prediction.pixel_threshold, size, segmentation):
        regions.append(
            RegionRecord(
                x=region.x, y=region.y, width=region.width, height=region.height, area_px=region.area_px,
                peak=region.peak,
            )
        )  # fmt: skip
    return regions
