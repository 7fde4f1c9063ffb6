"""`edgead stream`: run a stream from a bundle and its sources."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from edgead.bundle import Bundle
from edgead.commands.model_facts import model_facts
from edgead.commands.shadow import open_shadow
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.engines.detached import LOWEST
from edgead.errors import ConfigError
from edgead.line.alert_station import AlertStation
from edgead.line.dashboard import Dashboard
from edgead.line.model_changer import LineModels, ModelChanger
from edgead.line.model_control import StoreControl
from edgead.line.model_health import ModelHealth
from edgead.line.readied import LineSettings, make_ready
from edgead.line.shadow import LineShadow
from edgead.line.start_report import Judge, last_start, note_start, start_report
from edgead.manifest import ClassThresholds
from edgead.progress import Progress, Silent
from edgead.runner import Runner
from edgead.stream.alarms.alarm_keeper import AlarmKeeper
from edgead.stream.annotation import Annotator
from edgead.stream.camera import Camera
from edgead.stream.consumers.consumer import Consumer
from edgead.stream.consumers.recorder import Recorder, check_recording
from edgead.stream.consumers.window import Window, require_screen
from edgead.stream.control import Control
from edgead.stream.delivery.sink import Sink
from edgead.stream.malloc_arenas import limit_malloc_arenas
from edgead.stream.monitoring.meter import StreamStatus, StreamSummary
from edgead.stream.pipeline import RunOptions, run_stream
from edgead.stream.scorer import Scorer
from edgead.stream.sources.source import Source
from edgead.teach.base import open_base
from edgead.teach.stream_teaching import StreamTeaching
from edgead.teach.teachings import FOLDER as TAUGHT
from edgead.teach.teachings import Teachings
from edgead.teach.worker_process import WorkerProcess, install_taught

# Signals that arrive within this time are one request to stop.
_SAME_STOP_S = 0.2


@dataclass(frozen=True)
class StreamOutputs:
    """Outputs of a stream; None and False disable an output."""

    alerts_dir: Path | None = None
    record: Path | None = None
    display: bool = False


def stream(
    bundle: Bundle,
    runner: Runner,
    cameras: Sequence[CameraConfig],
    outputs: StreamOutputs,
    *,
    config: Config,
    max_frames: int | None = None,
    false_alarm_rate: float | None = None,
    false_alarms_per_hour: float | None = None,
    on_status: Callable[[StreamStatus], None] | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    sources: Mapping[str, Source] | None = None,
    consumers: Sequence[Consumer] = (),
    event_sinks: Mapping[str, Sink] | None = None,
    models: LineModels | None = None,
    shadow: tuple[Path, str | None] | None = None,
) -> StreamSummary:
    """Judge every frame of one or more cameras until they end, `max_frames` are judged or a signal comes.

    Args:
        bundle: Bundle with input size, thresholds and colour scale.
        runner: Open engine of this bundle; used on another thread than the one that opened it.
        cameras: Settings of the cameras; sources as `stream.sources.registry.source_from_uri` takes them.
        outputs: Alert folder, recording, window.
        config: Queues, time limits, drawing, and when a run of anomalous frames becomes an alert.
        max_frames: Stop after this many judged frames.
        false_alarm_rate: Use the thresholds for this rate instead of the shipped ones.
        false_alarms_per_hour: Alarm budget of all cameras together; see `alarm_budget`.
        on_status: Callback that receives the state of the running stream about ten times a second.
        progress: Receives notes and progress before the stream starts.
        stop: Event that ends the stream from outside.
        sources: Sources by camera name, in place of those in the settings.
        consumers: Further receivers of every result and notice.
        event_sinks: Further receivers of events by name, beside those of the settings; they need an alert folder.
        models: Model store that the stream follows: a model that becomes active takes over; None = one model for good.
        shadow: Bundle that judges a share of the frames beside this one and changes nothing, and its engine; None = the
            best engine present.

    Raises:
        BundleError: If the base bundle for teaching is damaged.
        ConfigError: If a recording or a window is asked of several cameras, the recording has an unknown suffix, or teaching is
            asked for without a dashboard or a model store.
        StorageError: If the recording cannot be written.
        EdgeadError: The first failure; outputs are complete up to that point.
    """
    if len(cameras) > 1 and (outputs.record or outputs.display):
        raise ConfigError(
            f"--record and --display show one camera, and there are {len(cameras)}.",
            hint="Leave them out, and add --web HOST:PORT, which shows all cameras in a browser; or give one camera alone.",
        )
    if outputs.record is not None:
        check_recording(outputs.record)
    if outputs.display:
        require_screen()
    limit_malloc_arenas()
    teaching = _teaching(config, cameras, outputs, models)
    stop = threading.Event() if stop is None else stop
    progress = progress or Silent()
    line = LineSettings(cameras, config, false_alarm_rate, false_alarms_per_hour, outputs.alerts_dir)
    readied = make_ready(line, bundle, runner, progress, sources or {})
    made, memory = readied.cameras, readied.memory
    previous = None if outputs.alerts_dir is None else last_start(outputs.alerts_dir)
    kept = [] if memory is None else memory.kept
    report = start_report(bundle, runner, made, readied.choices, kept, readied.forgotten, previous)
    for sentence in report.sentences:
        progress.note(sentence)
    control = Control()
    keeper = AlarmKeeper(
        made,
        control,
        assumed_fps=config.stream.record_fps,
        per_hour=readied.budget,
        basis=config.alerts.false_alarm_basis,
    )
    with ExitStack() as stack:
        # first, so that a signal at the end cannot interrupt the last deliveries and the closing of the records
        stack.enter_context(stop_on_signals(stop))
        all_consumers: list[Consumer] = [keeper, *consumers]
        station = None
        watch = LineShadow(line, made, stop)
        if outputs.alerts_dir is not None:
            station = stack.enter_context(
                AlertStation(
                    outputs.alerts_dir,
                    made,
                    cameras,
                    bundle,
                    runner.engine_name,
                    config,
                    control,
                    event_sinks or {},
                    stop,
                    report.values,
                )
            )
            watch.report_to(station)
            note_start(outputs.alerts_dir, Judge.of(bundle, runner))
            all_consumers += station.consumers
        if memory is not None:
            memory.settle()
            all_consumers.append(memory)
        dashboard = None
        health = ModelHealth([camera.name for camera in made], config.model_health, watch.report)
        model_control = None
        if models is not None:
            model_control = StoreControl(models.store, outputs.alerts_dir, lambda: health.watch, model_facts)
            stack.callback(model_control.close)
        if config.web.address is not None:
            if station is None:
                raise ConfigError("The dashboard shows alerts, and needs a folder for them.", hint="Add --alerts DIR.")
            dashboard = stack.enter_context(
                Dashboard(
                    config.web.address,
                    made,
                    cameras,
                    bundle,
                    runner,
                    station,
                    keeper,
                    control,
                    config,
                    progress,
                    model_control,
                    watch.report,
                    teaching,
                )
            )
            all_consumers += dashboard.consumers
        if teaching is not None:
            all_consumers.append(teaching)

        if shadow is not None:
            stack.callback(watch.consumer.end, "the stream ended")
            watch.begin(open_shadow(*shadow, nice=LOWEST if watch.is_live else 0), bundle)
            all_consumers.append(watch.consumer)
        annotator = _annotator(made[0], bundle.thresholds(cameras[0].class_name), config)
        if models is not None:
            all_consumers.append(health)
            changer = ModelChanger(models, line, made, control, keeper, station, dashboard, annotator, health)
            stack.enter_context(changer)

        def show(status: StreamStatus) -> None:
            if station is not None:
                station.poll(status)
            if dashboard is not None:
                dashboard.update(status)
            if on_status is not None:
                on_status(status)

        summary = run_stream(
            made,
            Scorer.of(bundle, runner),
            [*all_consumers, *_pictures(annotator, outputs, stop)],
            RunOptions(
                queue_size=config.stream.queue_size,
                fallback_fps=config.stream.record_fps,
                max_frames=max_frames,
                engine_timeout_s=config.stream.engine_timeout_s,
                capture_timeout_s=2 * (config.stream.open_timeout_s + config.stream.read_timeout_s),
            ),
            stop=stop,
            control=control,
            on_status=show,
        )
    found = watch.report()
    return summary if found is None else replace(summary, shadow=found.to_json())


def _teaching(
    config: Config, cameras: Sequence[CameraConfig], outputs: StreamOutputs, models: LineModels | None
) -> StreamTeaching | None:
    """Teaching on the dashboard, if there is a base bundle for it; a damaged one is found before people hold parts in their hands."""
    base = config.web.teach_base
    if base is None:
        return None
    if config.web.address is None or models is None or outputs.alerts_dir is None:
        raise ConfigError(
            "Teaching on the dashboard needs a dashboard, a folder for alerts and a model store.",
            hint="Add --web HOST:PORT, --alerts DIR and --models DIR, or leave out --teach-base.",
        )
    open_base(base)
    store = models.store.folder
    return StreamTeaching(
        Teachings(outputs.alerts_dir / TAUGHT),
        lambda folder, needs_rest, every_s: WorkerProcess(base, folder, needs_rest=needs_rest, every_s=every_s),
        lambda bundle, who, why: install_taught(store, bundle, who, why),
        {camera.name: camera.class_name for camera in cameras},
    )


def _annotator(camera: Camera, thresholds: ClassThresholds, config: Config) -> Annotator:
    zones = [polygon for zone in camera.zones for polygon in (*zone.shape.include, *zone.shape.exclude)]
    return Annotator(thresholds.heatmap_scale, opacity=config.stream.opacity, zones=zones)


def _pictures(annotator: Annotator, outputs: StreamOutputs, stop: threading.Event) -> list[Consumer]:
    """Consumers that record and show the only camera."""
    consumers: list[Consumer] = []
    if outputs.record is not None:
        consumers.append(Recorder(outputs.record, annotator.draw))
    if outputs.display:
        consumers.append(Window(annotator, stop))
    return consumers


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `stop`; a second SIGINT or SIGTERM raises KeyboardInterrupt.

    Copies of one stop count once: `timeout` and a closed terminal send several signals at the same moment. Under `nohup`
    SIGHUP stays ignored. The old handlers come back at the end. Outside the main thread, where Python allows no handlers,
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopped_s: float | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_s
        now_s = time.monotonic()
        if stopped_s is None:
            stopped_s = now_s
            stop.set()
        elif number != signal.SIGHUP and now_s - stopped_s > _SAME_STOP_S:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    old_handlers = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, old in old_handlers.items():
            signal.signal(number, old)
