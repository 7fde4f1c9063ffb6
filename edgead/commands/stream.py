"""`edgead stream`: a bundle and a source become a running stream."""

from __future__ import annotations

import signal
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from edgead.bundle import Bundle
from edgead.config import AlertConfig, StreamConfig
from edgead.evaluation.segmentation import segmenter_of
from edgead.evaluation.threshold import at_rate
from edgead.runner import Runner
from edgead.stream.alerts import AlertRules, closing_level
from edgead.stream.annotation import Annotator
from edgead.stream.detector import Detector
from edgead.stream.meter import StreamStatus, StreamSummary
from edgead.stream.pipeline import RunOptions, run_stream
from edgead.stream.sinks.alert_folder import AlertContext, AlertFolder
from edgead.stream.sinks.recorder import Recorder
from edgead.stream.sinks.sink import Sink
from edgead.stream.sinks.window import Window
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import SourceOptions


@dataclass(frozen=True)
class StreamOutputs:
    """Where results go; None and False leave an output out."""

    alerts_dir: Path | None = None
    record: Path | None = None
    display: bool = False


def stream(
    bundle: Bundle,
    runner: Runner,
    source_uri: str,
    outputs: StreamOutputs,
    *,
    config: StreamConfig,
    alert_config: AlertConfig,
    class_name: str | None = None,
    max_frames: int | None = None,
    false_alarm_rate: float | None = None,
    on_status: Callable[[StreamStatus], None] | None = None,
    stop: threading.Event | None = None,
) -> StreamSummary:
    """Judge every frame of a source until it ends, `max_frames` are judged or SIGINT or SIGTERM comes.

    Args:
        bundle: Gives input size, thresholds and colour scale.
        runner: An open engine of this bundle; used on another thread than the one that opened it.
        source_uri: As `stream.sources.registry.source_from_uri` takes it.
        outputs: Alert folder, recording, window.
        config: Queues, time limits, drawing.
        alert_config: When a run of anomalous frames becomes an alert.
        class_name: The kind of part; None takes the bundle's common threshold.
        max_frames: End after so many judged frames.
        false_alarm_rate: Use the thresholds for this rate instead of the shipped ones.
        on_status: Gets the state of the running stream about ten times a second.
        stop: Ends the stream from outside.

    Raises:
        EdgeadError: The first failure; outputs are complete up to there.
    """
    stop = threading.Event() if stop is None else stop
    calibration = bundle.calibration(class_name)
    if false_alarm_rate is not None:
        calibration = at_rate(calibration, false_alarm_rate)
    source = source_from_uri(source_uri, _source_options(config, bundle.manifest.preprocessing.white_level))
    threshold = calibration.threshold.value
    nfa = bundle.manifest.nfa
    detector = Detector(
        runner,
        image_size=bundle.image_size,
        threshold=threshold,
        pixel_threshold=calibration.pixel_threshold.value,
        class_bias=bundle.class_bias([class_name]),
        segment=segmenter_of(nfa, class_name, false_alarm_rate).segment if nfa else None,
    )
    rules = AlertRules(
        threshold=threshold,
        closing_level=closing_level(calibration.scores, threshold, alert_config.close_ratio),
        open_frames=alert_config.open_frames,
        window_frames=alert_config.window_frames,
        close_frames=alert_config.close_frames,
        cooldown_s=alert_config.cooldown_s,
    )
    annotator = Annotator(
        calibration.heatmap_scale,
        typical_score=statistics.median(calibration.scores) if calibration.scores else threshold,
        opacity=config.opacity,
    )
    sinks: list[Sink] = []
    if outputs.alerts_dir is not None:
        context = AlertContext(source.name, bundle.digest, runner.engine_name, class_name)
        sinks.append(AlertFolder(outputs.alerts_dir, calibration.heatmap_scale, context, opacity=config.opacity))
    if outputs.record is not None:
        sinks.append(Recorder(outputs.record, annotator.draw))
    if outputs.display:
        sinks.append(Window(annotator.draw, stop))
    options = RunOptions(queue_size=config.queue_size, fallback_fps=config.record_fps, max_frames=max_frames)
    with stop_on_signals(stop):
        return run_stream(source, detector, rules, sinks, options, stop=stop, on_status=on_status)


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a second one raises KeyboardInterrupt. The old handlers come back at the end.

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals_seen = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal signals_seen
        signals_seen += 1
        stop.set()
        if signals_seen > 1:
            raise KeyboardInterrupt

    old_handlers = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in old_handlers.items():
            signal.signal(number, old)


def _source_options(config: StreamConfig, white_level: int) -> SourceOptions:
    return SourceOptions(
        open_timeout_s=config.open_timeout_s,
        read_timeout_s=config.read_timeout_s,
        max_restarts=config.max_restarts,
        restart_window_s=config.restart_window_s,
        folder_fps=config.folder_fps,
        white_level=white_level,
    )
