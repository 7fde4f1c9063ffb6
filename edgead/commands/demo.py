"""`edgead demo`: the whole workflow on generated parts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle
from edgead.commands.build_engine import BuiltEngine, build_engine
from edgead.commands.evaluate import Evaluation, evaluate_bundle
from edgead.commands.stream import StreamOutputs, stream
from edgead.commands.train import TrainResult, train
from edgead.commands.training.requirements import require_torch, require_weights
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.data.synthetic.make import write_dataset
from edgead.engines.opening import open_with_thresholds
from edgead.errors import ConfigError
from edgead.progress import Progress
from edgead.stream.monitoring.meter import StreamSummary
from edgead.suggestion import did_you_mean

N_TRAIN = 200
N_TEST_GOOD = 30
N_TEST_PER_DEFECT = 6
SIDE = 320
SEED = 7
VIDEO_FRAMES = 400


@dataclass(frozen=True)
class DemoResult:
    """Results and paths of a demo, and its total time in seconds."""

    data: Path
    training: TrainResult
    engine: BuiltEngine
    evaluation: Evaluation
    stream: StreamSummary
    video: Path
    alerts: Path
    seconds: float


def demo(config: Config, progress: Progress, *, out: Path, part: str) -> DemoResult:
    """Generate parts, train, build an engine, evaluate, and stream a generated line with timed defects.

    Args:
        config: Configuration for training; `data.root` is replaced.
        progress: Receives notes and progress.
        out: Output folder; must be new or empty.
        part: Kind of part, see `data.synthetic.parts.PARTS`.

    Raises:
        ConfigError: If the part is unknown, or `out` is not empty.
        MissingDependencyError: If a package that training needs is not installed.
    """
    require_torch("The demo trains, which")
    require_weights(config.model)
    from edgead.data.synthetic.parts import PARTS

    if part not in PARTS:
        raise ConfigError(
            f"There is no synthetic part {part!r}; available: {', '.join(PARTS)}.{did_you_mean(part, PARTS)}"
        )
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty.", hint="Choose another folder with --out, or remove it.")
    started = time.monotonic()
    data = out / "data" / part
    progress.note(f"Generating {N_TRAIN} good parts ({part}: {PARTS[part].description}) and a test set in {data}")
    write_dataset(
        data, part, n_train=N_TRAIN, n_test_good=N_TEST_GOOD, n_test_per_defect=N_TEST_PER_DEFECT, seed=SEED,
        size=(SIDE, SIDE), progress=lambda done, total: progress.update("Generating", done, total),
    )  # fmt: skip
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": data})})
    training = train(config, progress, out=None, runs=out / "runs", resume=False)
    engine = build_engine(training.bundle, "fp32", "auto", progress)
    opened, bundle = open_with_thresholds(
        training.bundle, engine.name, threads=config.engine.threads, on_note=progress.note
    )
    with opened as runner:
        evaluation = evaluate_bundle(bundle, runner, data, progress, false_alarm_rate=None, report=out / "report")
        summary = _watch(config, bundle, runner, out, part, progress)
    seconds = time.monotonic() - started
    return DemoResult(data, training, engine, evaluation, summary, out / "line.mp4", out / "alerts", seconds)


def _watch(config: Config, bundle: Bundle, runner: object, out: Path, part: str, progress: Progress) -> StreamSummary:
    from edgead.runner import Runner

    assert isinstance(runner, Runner)
    progress.note(f"Watching a generated line of {VIDEO_FRAMES} frames")
    return stream(
        bundle,
        runner,
        [CameraConfig(name="line", source=f"synthetic:{part}")],
        StreamOutputs(alerts_dir=out / "alerts", record=out / "line.mp4"),
        config=config,
        max_frames=VIDEO_FRAMES,
        on_status=lambda status: progress.update("Watching", status.n_frames, VIDEO_FRAMES),
    )
