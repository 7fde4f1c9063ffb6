"""The verbs of the command line as functions: train, build an engine, evaluate, stream.

Paths may be strings. Settings are those of `edgead config`, by dotted key, on top of a YAML file where one is given.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.errors import ConfigError
from edgead.progress import Progress, as_progress

if TYPE_CHECKING:
    from edgead.builder.choice import BackendName
    from edgead.commands.build_engine import BuiltEngine, EngineOptions
    from edgead.commands.evaluate import Evaluation
    from edgead.commands.scored_images import ClassMode
    from edgead.commands.train import TrainResult
    from edgead.config.root import Config
    from edgead.engines.fingerprint import Precision
    from edgead.evaluation.segmentation import SegmentationKind
    from edgead.model import Model
    from edgead.stream.delivery.sink import Sink
    from edgead.stream.result import FrameResult
    from edgead.stream.sources.source import Source

Frames = Iterable[NDArray[np.uint8]]


def train_bundle(
    data: str | os.PathLike[str] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    config: Config | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    resume: bool = False,
    progress: Progress | Callable[[str], object] | None = None,
) -> TrainResult:
    """Learn from good images and write a bundle; what `edgead train` does. Needs the extra `train`.

    Args:
        data: Folder of good images, or a data set in a known layout; None = the setting `data.root`.
        settings: Value per dotted key, for example `{"model.name": "fastflow", "train.epochs": 10}`.
        config: YAML file that `settings` override, or a finished `Config` alone; None reads `./edgead.yaml` where there is one.
        out: Folder of the run; None makes a new one in `runs`.
        runs: Parent folder of the runs, in which `latest` points at the newest.
        resume: Continue the interrupted run in `out`, or the newest unfinished one, with the settings of that run; those
            that are given may repeat them, and a finished `Config` has to agree with them.
        progress: Receives each note, for example `print`, or notes and progress as an object with `note` and `update`; None = silent.

    Returns:
        The run's folder, the verified bundle, losses and times. `result.bundle.path` is what `load` takes.

    Raises:
        ConfigError: If a setting is unknown, out of range, or differs from the run to resume.
        DataError: If the images do not suffice.
        TrainingError: If the loss is not finite.
        MissingDependencyError: If torch or timm is not installed.
    """
    from edgead.commands.train import train
    from edgead.commands.training.requirements import require_torch
    from edgead.commands.training.resume import resumed_config
    from edgead.config.root import Config

    require_torch("Training")
    values = {**(settings or {}), **({} if data is None else {"data.root": str(data)})}
    run, parent, shown = None if out is None else Path(out), Path(runs), as_progress(progress)
    if resume and not isinstance(config, Config):
        file = None if config is None else Path(config)
        chosen = resumed_config(file, values, shown, out=run, runs=parent)
    else:
        chosen = _settings(config, values)
    return train(chosen, shown, out=run, runs=parent, resume=resume)


def build_engine(
    bundle: Model | str | os.PathLike[str] = "runs/latest/bundle",
    precision: Precision = "fp32",
    *,
    backend: BackendName = "auto",
    options: EngineOptions | None = None,
    progress: Progress | Callable[[str], object] | None = None,
) -> BuiltEngine:
    """Build and check the best engine that this machine can run; what `edgead build-engine` does.

    Args:
        bundle: Folder of the bundle, or an open model of it.
        precision: `fp32`, `fp16` or `int8`; where the machine lacks it, the result says what was built instead.
        backend: `auto` takes TensorRT where it can be used, else ONNX Runtime.
        options: Calibration images, gate, device and TensorRT's options, from `engine_options`; None = defaults.
        progress: Receives each note, for example `print`, or notes and progress as an object with `note` and `update`; None = silent.

    Returns:
        The engine's name, which `load(engine=...)` takes, its record, and why it differs from the request.

    Raises:
        EngineBuildError: If the backend cannot build it.
        CheckFailed: If the engine misses its gate; an older engine stays in place.
    """
    from edgead.bundle import open_bundle
    from edgead.commands.build_engine import build_engine as build
    from edgead.model import Model

    opened = bundle.bundle if isinstance(bundle, Model) else open_bundle(Path(bundle))
    return build(opened, precision, backend, as_progress(progress), options)


def evaluate(
    model: Model | str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    report: str | os.PathLike[str] | None = None,
    class_mode: ClassMode = "none",
    segmentation: SegmentationKind | None = None,
    alignment: bool = False,
    good: Sequence[str | os.PathLike[str]] = (),
    bad: Sequence[str | os.PathLike[str]] = (),
    masks: Sequence[str | os.PathLike[str]] = (),
    robustness_images: int | None = None,
    progress: Progress | Callable[[str], object] | None = None,
) -> Evaluation:
    """Measure detection, localisation and false alarms on labelled images; what `edgead eval` does.

    Args:
        model: Open model, whose false-alarm rate applies; or a bundle's folder, of which the best engine is opened.
        data: Data set with a test part, or a folder with `good` beside folders of defects.
        report: Folder for the HTML report.
        class_mode: Class information for a model of several classes: `none`, `given` or `predicted`.
        segmentation: Marked regions to measure, `threshold`, `hysteresis` or `nfa`; None = the bundle's own.
        alignment: Whether to correlate likelihood and latent norm; needs torch.
        good: Folders of good images, in place of those recognised in `data`.
        bad: Folders of defective images, also alone, in place of those recognised in `data`.
        masks: Folders of masks or annotations of the images in `good` and `bad`.
        robustness_images: Largest number of good and of defective images that are changed in light, focus, compression and
            position to measure robustness, 0 = all; None = robustness is not measured.
        progress: Receives each note, for example `print`, or notes and progress as an object with `note` and `update`; None = silent.

    Returns:
        `result.metrics` has the numbers, `result.metrics.image_auroc` and so on, 0..1, None where undefined; `result.to_json()`
        has those of each class and kind of defect as plain values. Jupyter shows the tables that `edgead eval` prints.

    Raises:
        DataError: If there is no labelled image that can be read.
        ConfigError: If the bundle has no such segmentation.
    """
    from edgead.commands.evaluate import evaluate_bundle
    from edgead.data.chosen import FolderRoles
    from edgead.model import Model, load

    if not isinstance(model, Model):
        with load(model) as opened:
            return evaluate(
                opened, data, report=report, class_mode=class_mode, segmentation=segmentation, alignment=alignment,
                good=good, bad=bad, masks=masks, robustness_images=robustness_images, progress=progress,
            )  # fmt: skip
    roles = FolderRoles(*(tuple(Path(folder) for folder in folders) for folders in (good, bad, masks)))
    return evaluate_bundle(
        model.bundle, model.runner, Path(data), as_progress(progress), false_alarm_rate=model.false_alarm_rate,
        report=None if report is None else Path(report), class_mode=class_mode, segmentation=segmentation,
        alignment=alignment, roles=roles, robustness_images=robustness_images,
    )  # fmt: skip


def open_stream(
    model: Model,
    source: str | Source | Frames,
    *,
    class_name: str | None = None,
    alerts: str | os.PathLike[str] | None = None,
    sinks: Mapping[str, Sink] | None = None,
    settings: Mapping[str, Any] | None = None,
    config: Config | str | os.PathLike[str] | None = None,
    max_frames: int | None = None,
    progress: Progress | Callable[[str], object] | None = None,
) -> Iterator[FrameResult]:
    """Judge every frame of a source with the alert rules of `edgead stream`, and iterate over the judged frames.

    Capture and inference run on threads of their own. Of a live source the newest frame is judged: a slow loop misses
    frames. Any other source waits for the loop. Leaving the loop, by `break` or an exception, stops the stream.

    Args:
        model: Open model; nothing else may use it until the loop has ended.
        source: Address as `edgead stream --source` takes it (`camera:0`, a file, a folder, `rtsp://...`), an object with
            the protocol `Source`, or an iterable of `(H, W, 3)` uint8 RGB images.
        class_name: Kind of part, for a bundle of several.
        alerts: Folder for alert records, snapshots and clips; None keeps no alert.
        sinks: Receivers of events by name, at least once and in order; they need `alerts`. The name is what a sink's
            place in the history is kept under.
        settings: Value per dotted key, for example `{"alerts.open_frames": 1}`.
        config: YAML file that `settings` override, or a finished `Config` alone; None reads `./edgead.yaml` where there is one.
        max_frames: Number of judged frames to end after.
        progress: Receives each note, for example `print`, or notes and progress as an object with `note` and `update`; None = silent.

    Yields:
        Each judged frame: the frame, score and map, and for each zone the verdict, its alert and what changed.

    Raises:
        ConfigError: If sinks are given without an alert folder, or a setting is wrong.
        SourceError: If the source cannot be opened or fails.
        EngineError: If the engine fails.

    Examples:
        >>> import edgead
        >>> with edgead.load("runs/latest/bundle", engine="reference") as model:
        ...     images = [model.read_image("good.png"), model.read_image("cracked.png")]
        ...     frames = list(edgead.open_stream(model, images, settings={"alerts.open_frames": 1}))
        >>> [frame.is_anomalous for frame in frames if not frame.is_repeat]
        [False, True]
        >>> frames[1].worst.score > frames[1].worst.threshold
        True
    """
    if sinks and alerts is None:
        raise ConfigError("Sinks deliver the events of an alert folder, and none was given.", hint="Add alerts=FOLDER.")
    chosen = _settings(config, settings or {})
    return _judged_frames(model, source, class_name, alerts, sinks or {}, chosen, max_frames, as_progress(progress))


def _judged_frames(
    model: Model,
    source: str | Source | Frames,
    class_name: str | None,
    alerts: str | os.PathLike[str] | None,
    sinks: Mapping[str, Sink],
    config: Config,
    max_frames: int | None,
    progress: Progress,
) -> Iterator[FrameResult]:
    from edgead.commands.stream import StreamOutputs, stream
    from edgead.config.stream import CameraConfig
    from edgead.stream.consumers.result_queue import ResultQueue
    from edgead.stream.sources.iterable import IterableSource
    from edgead.stream.sources.source import Source

    plugged = None if isinstance(source, str) else source if isinstance(source, Source) else IterableSource(source)
    name = source if isinstance(source, str) else "images"
    camera = CameraConfig.model_validate({"name": "camera", "source": name, "class": class_name})
    results, stop = ResultQueue(), threading.Event()
    failures: list[BaseException] = []  # of the other thread; at most one

    def run() -> None:
        try:
            stream(
                model.bundle, model.runner, [camera], StreamOutputs(None if alerts is None else Path(alerts)),
                config=config, max_frames=max_frames, false_alarm_rate=model.false_alarm_rate, progress=progress,
                stop=stop, sources={} if plugged is None else {camera.name: plugged}, consumers=[results],
                event_sinks=sinks,
            )  # fmt: skip
        except BaseException as error:
            failures.append(error)
        finally:
            results.close()

    thread = threading.Thread(target=run, name="edgead stream", daemon=True)
    thread.start()
    try:
        yield from results.results()
    finally:
        stop.set()
        results.abandon()
        thread.join()
    if failures:
        raise failures[0]


def _settings(config: Config | str | os.PathLike[str] | None, overrides: Mapping[str, Any]) -> Config:
    from edgead.config.file import load_config
    from edgead.config.root import Config

    if isinstance(config, Config):
        if overrides:
            raise ConfigError(
                "A finished Config takes no further settings.", hint="Give a YAML file and settings, or a Config alone."
            )
        return config
    return load_config(None if config is None else Path(config), dict(overrides))
