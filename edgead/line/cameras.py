"""Construction of cameras from their settings: sources, thresholds, rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.config.root import Config
from edgead.config.stream import AlertConfig, CameraConfig, StreamConfig, ZoneConfig
from edgead.errors import ConfigError
from edgead.evaluation.marking import marking_at
from edgead.evaluation.threshold import at_rate, threshold_from_scores
from edgead.imaging import Reading
from edgead.line.frame_check import frame_check
from edgead.line.threshold_choice import LineThresholds, resolve_threshold
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.stream.alarms.threshold_range import threshold_range
from edgead.stream.camera import Camera
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import Source, SourceOptions
from edgead.stream.zone_monitor import RuleOptions, ZoneMonitor
from edgead.stream.zones import WHOLE_IMAGE, ZoneShape, union, zone_score
from edgead.tiled_runner import TiledRunner


@dataclass(frozen=True)
class GoodMaps:
    """Anomaly maps `(n, h, w)` of held-out good images, and their classes; `top_positions`: see `zone_score`."""

    maps: NDArray[np.float32]
    classes: list[str]
    top_positions: int | None = None


def make_cameras(
    configs: Sequence[CameraConfig],
    bundle: Bundle,
    runner: Runner,
    config: Config,
    progress: Progress,
    *,
    false_alarm_rate: float | None = None,
    sources: Mapping[str, Source] = MappingProxyType({}),
) -> list[Camera]:
    """Make, but do not open, the cameras of a stream.

    Each zone gets its own threshold, from its scores on the bundle's held-out good images on this engine: in those the
    part must be where the camera will see it.

    Args:
        configs: Settings of the cameras; at least one.
        bundle: Bundle with thresholds and colour scale.
        runner: Open engine of the bundle.
        config: Settings shared by all cameras.
        progress: Receives notes and progress.
        false_alarm_rate: False-alarm rate of every camera and zone without a setting of its own.
        sources: Sources by camera name, in place of those in the settings.

    Raises:
        EdgeadError: If a source, class or zone does not exist, or a zone has no images for its threshold.
    """
    good = _good_maps(bundle, runner, progress) if any(zone for one in configs for zone in one.zones) else None
    reading = bundle.manifest.preprocessing.reading
    cameras = []
    for one in configs:
        # one of several cameras never stops reconnecting: the others need the stream
        options = source_options(config.stream_of(one), reading, give_up=len(configs) == 1)
        source = sources.get(one.name) or source_from_uri(one.source, options)
        camera = make_camera(one, source, bundle, runner, config, good=good, false_alarm_rate=false_alarm_rate)
        for warning in _threshold_warnings(one, camera, bundle):
            progress.note(warning)
        cameras.append(camera)
    return cameras


def make_camera(
    camera: CameraConfig,
    source: Source,
    bundle: Bundle,
    runner: Runner,
    config: Config,
    *,
    good: GoodMaps | None = None,
    false_alarm_rate: float | None = None,
) -> Camera:
    """Make a camera on any source; `good` is required if it has zones. See `make_cameras`."""
    rate = camera.false_alarm_rate or false_alarm_rate
    thresholds = bundle.thresholds(camera.class_name)
    if rate is not None:
        thresholds = at_rate(thresholds, rate)
    map_size = _map_size(runner)
    stitcher = runner.stitcher if isinstance(runner, TiledRunner) else None
    top_positions = bundle.manifest.graph.top_positions
    zones = []
    for zone in camera.zones or (ZoneConfig(name=WHOLE_IMAGE),):
        shape = ZoneShape(zone.name, zone.include, zone.exclude)
        scores = thresholds.scores
        if not shape.is_whole:
            assert good is not None
            scores = _zone_scores(shape, good, camera.class_name)
        choice = resolve_threshold(zone, camera, LineThresholds(false_alarm_rate=false_alarm_rate), with_budgets=False)
        threshold = thresholds.threshold
        if choice.kind == "false_alarm_rate" or not shape.is_whole:
            at = choice.value if choice.kind == "false_alarm_rate" else None
            rate_of_zone = at or zone.false_alarm_rate or threshold.false_alarm_rate
            threshold = threshold_from_scores(scores, rate_of_zone, threshold.confidence)
        monitor = ZoneMonitor(
            shape,
            map_size,
            scores,
            threshold,
            _rule_options(config.alerts_of(camera, zone)),
            top_positions=top_positions,
        )
        if stitcher is not None and monitor.mask is not None:
            _check_covered(zone.name, monitor.mask, stitcher.covered)
        if choice.kind == "threshold" and choice.value is not None:
            monitor.set_threshold(value=choice.value, false_alarm_rate=None)
        zones.append(monitor)
    return Camera(
        name=camera.name,
        source=source,
        zones=zones,
        pixel_threshold=thresholds.pixel_threshold.value,
        class_bias=bundle.class_bias([camera.class_name]),
        marking_at=lambda record: marking_at(
            bundle.manifest, thresholds, camera.class_name, threshold=record, false_alarm_rate=rate
        ),
        check_frame=frame_check(bundle, config.stream_of(camera), live=source.live)
        if source.live or source.paced
        else None,
        tiles=None if stitcher is None else stitcher.tiles_of(union([zone.mask for zone in zones])),
    )


def _check_covered(name: str, mask: NDArray[np.bool_], covered: NDArray[np.bool_]) -> None:
    """Refuse a zone that the crop of the bundle leaves out."""
    if not (mask & covered).any():
        raise ConfigError(
            f"The zone {name!r} lies outside the crop that this bundle was trained with.",
            hint="Move the zone, or train with another --crop.",
        )


def _threshold_warnings(config: CameraConfig, camera: Camera, bundle: Bundle) -> Iterator[str]:
    """Warnings about thresholds in the settings that the dashboard would refuse, or accept only with a warning."""
    thresholds = bundle.thresholds(config.class_name)
    for zone in config.zones or (ZoneConfig(name=WHOLE_IMAGE),):
        if zone.threshold is None and config.threshold is None:
            continue
        monitor = camera.zone(zone.name)
        assert monitor is not None
        meant = threshold_range(monitor.good_scores, thresholds.heatmap_scale, thresholds.threshold.value)
        warning = meant.refusal(monitor.threshold.value) or meant.warning(monitor.threshold)
        if warning:
            yield f"{camera.name}, {zone.name}: {warning if warning.startswith('Careful') else f'Careful: {warning}'}"


def _good_maps(bundle: Bundle, runner: Runner, progress: Progress) -> GoodMaps:
    held_out = bundle.held_out()
    if held_out is None:
        raise ConfigError(
            "A zone needs held-out good images for its threshold, and this bundle carries none.",
            hint="Train again with this version of edgead (and train.held_out_images above 0), or watch whole pictures.",
        )
    images, classes = held_out
    maps = []
    # one at a time: a backend keeps the memory of the largest batch that it has seen, 350 MB for eight
    for index in range(len(images)):
        bias = bundle.class_bias(classes[index : index + 1])
        maps.append(runner.infer(images[index : index + 1], bias)["anomaly_map"])
        progress.update("Thresholds of the zones", index + 1, len(images))
    positions = bundle.manifest.graph.top_positions
    corrections = bundle.held_out_corrections()
    found = np.concatenate(maps) + (0.0 if corrections is None else corrections[0])
    return GoodMaps(found, classes, positions)


def _zone_scores(shape: ZoneShape, good: GoodMaps, class_name: str | None) -> tuple[float, ...]:
    mask = shape.mask((good.maps.shape[1], good.maps.shape[2]))
    chosen: Iterator[NDArray[np.float32]] = (
        one for one, name in zip(good.maps, good.classes, strict=True) if class_name in (None, name)
    )
    return tuple(zone_score(one, mask, good.top_positions) for one in chosen)


def _map_size(runner: Runner) -> tuple[int, int]:
    (spec,) = [spec for spec in runner.output_specs if spec.name == "anomaly_map"]
    height, width = spec.shape[1:]
    assert height is not None
    assert width is not None
    return height, width


def _rule_options(alerts: AlertConfig) -> RuleOptions:
    return RuleOptions(
        open_frames=alerts.open_frames,
        window_frames=alerts.window_frames,
        close_frames=alerts.close_frames,
        close_ratio=alerts.close_ratio,
        cooldown_s=alerts.cooldown_s,
        min_area=alerts.min_area,
        latch=alerts.latch,
        resume_s=alerts.resume_s,
        severities=alerts.severities,
    )


def source_options(config: StreamConfig, reading: Reading, *, give_up: bool) -> SourceOptions:
    """Options of a camera's source from the settings of the stream."""
    names = {field.name for field in dataclasses.fields(SourceOptions)} - {"reading", "give_up"}
    return SourceOptions(reading=reading, give_up=give_up, **config.model_dump(include=names))
