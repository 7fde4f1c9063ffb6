"""Changes of the model under a running stream: `python -m tools.hot_swap BUNDLE --swaps 1000`.

Two models of one store take turns under three cameras: two that wait for the engine, so that a lost frame leaves a gap
in their numbers, and a live one. The second model has the first one's graph; its engine is made to give scores, and its
bundle thresholds, that are a known multiple, so that each verdict shows by itself which model it came from.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import MANIFEST
from edgead.commands.stream import StreamOutputs, stream
from edgead.config.file import load_config
from edgead.config.stream import CameraConfig
from edgead.contexts import OwnsNothing
from edgead.engines.opening import open_with_thresholds
from edgead.line import model_changer
from edgead.line.model_changer import LineModels
from edgead.line.model_store import Installed, ModelStore
from edgead.line.throughput import bench_images
from edgead.manifest import ClassThresholds
from edgead.own_digest import BLANK, with_own_digest
from edgead.runner import REFERENCE, Outputs, Runner, TensorSpec
from edgead.stream.consumers.consumer import Item
from edgead.stream.notices import ModelChanged
from edgead.stream.result import FrameResult
from edgead.stream.sources.memory import MemorySource

FACTORS = (1.0, 1.5)
LIVE_FPS = 50.0
TOLERANCE = 1e-4
MANY = 10**9


class MarkedRunner(OwnsNothing):
    """An engine whose scores are a multiple of another one's."""

    def __init__(self, runner: Runner, factor: float) -> None:
        self._runner = runner
        self._factor = np.float32(factor)
        self.input_spec: TensorSpec = runner.input_spec
        self.output_specs = runner.output_specs
        self.engine_name = runner.engine_name
        self.device = runner.device

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        outputs = self._runner.infer(batch, class_bias)
        return {name: outputs[name] * self._factor for name in ("anomaly_map", "pred_score")}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)


class MarkedModel:
    """An open model whose scores and thresholds are multiplied by a factor."""

    def __init__(self, path: Path, factor: float) -> None:
        runner, own = open_with_thresholds(open_bundle(path), REFERENCE, threads=1)
        # in the middle of the images, so that alerts open and close all the time
        level = float(np.median(own.reference()["pred_score"]))
        thresholds = {name: _scaled(record, factor, level) for name, record in own.manifest.thresholds.items()}
        self.bundle = own.with_thresholds(thresholds, None)
        self.runner: Runner = MarkedRunner(runner, factor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.__exit__(kind, error, trace)


@dataclass
class Ledger(OwnsNothing):
    """Consumer that checks every result.

    Attributes:
        scores: Score of each image of the sources, by the engine without a factor.
        factors: Factor by digest.
        threshold: Threshold without a factor.
    """

    name = "ledger"
    lossless = True
    scores: Sequence[float]
    factors: dict[str, float]
    threshold: float
    next_index: dict[str, int] = field(default_factory=dict)
    n_lost: int = 0
    n_wrong: int = 0
    n_results: int = 0
    n_changes: int = 0
    longest_gap_s: float = 0.0
    last_s: float | None = None

    def wants(self, item: Item) -> bool:
        return isinstance(item, FrameResult | ModelChanged)

    def accept(self, item: Item) -> None:
        if isinstance(item, ModelChanged):
            self.n_changes += 1
            return
        assert isinstance(item, FrameResult)
        if item.is_repeat:
            return
        self.n_results += 1
        now_s = time.monotonic()
        if self.last_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self.last_s)
        self.last_s = now_s
        expected = self.next_index.get(item.camera, 0)
        if item.camera != "live":
            self.n_lost += item.frame.index - expected
        self.next_index[item.camera] = item.frame.index + 1
        factor = self.factors[item.judged_by.bundle] if item.judged_by is not None else 0.0
        score = self.scores[item.frame.index % len(self.scores)]
        is_right = abs(item.worst.score - score * factor) <= TOLERANCE * abs(score * factor)
        is_right &= abs(item.worst.threshold - self.threshold * factor) <= TOLERANCE * abs(self.threshold * factor)
        self.n_wrong += not is_right


@dataclass(frozen=True)
class SwapReport:
    """Result of a run.

    Attributes:
        swaps: Number of changes of the model that the stream announced.
        frames: Number of frames judged.
        lost: Number of frames missing: gaps in the numbers of the cameras that wait, and frames of any camera that were
            captured, and neither judged nor replaced by a newer one before the stream was told to stop.
        wrong: Number of verdicts whose score or threshold is not that of the model whose digest they carry.
        alerts: Number of alert records checked.
        wrong_alerts: Number of those whose threshold is not that of the bundle that they name.
        swap_ms: Median time from an activation to the first frame under the new model, in ms.
        longest_gap_ms: Longest time between two results, in ms.
        seconds: Duration of the run.
    """

    swaps: int
    frames: int
    lost: int
    wrong: int
    alerts: int
    wrong_alerts: int
    swap_ms: float
    longest_gap_ms: float
    seconds: float

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.wrong or self.wrong_alerts)


def hot_swap(bundle: Path, folder: Path, swaps: int) -> SwapReport:
    """Change the model `swaps` times under load.

    Args:
        bundle: Bundle folder.
        folder: Empty folder for the store and the alerts.
        swaps: Number of changes.
    """
    store = ModelStore(folder / "models")
    models = [install_copy(store, bundle, seed) for seed in range(len(FACTORS))]
    factors = {model.digest: factor for model, factor in zip(models, FACTORS, strict=True)}

    def open_marked(path: Path, engine: str) -> MarkedModel:
        return MarkedModel(path, FACTORS[[model.name for model in models].index(path.name)])

    first = open_marked(store.path(models[0]), REFERENCE)
    images = list(bench_images(first.bundle))
    ledger = Ledger(_scores(first, images), factors, first.bundle.thresholds().threshold.value)
    stop = threading.Event()
    cameras = [CameraConfig(name=name, source="memory") for name in ("left", "right", "live")]
    sources = {
        "left": MemorySource(images, MANY),
        "right": MemorySource(images, MANY),
        "live": MemorySource(images, MANY, fps=LIVE_FPS),
    }
    swap_ms: list[float] = []

    def change() -> None:
        try:
            for index in range(swaps):
                started, before = time.monotonic(), ledger.n_changes
                store.activate(models[(index + 1) % 2].name, who="hot_swap")
                while ledger.n_changes == before and not stop.wait(0.002):
                    pass
                swap_ms.append((time.monotonic() - started) * 1e3)
        finally:
            stop.set()

    changer = threading.Thread(target=change, daemon=True)
    settings = {
        "alerts.open_frames": 1, "alerts.window_frames": 1, "clips.seconds_before": 0, "clips.seconds_after": 0,
        # the changes here are the script's alone
        "model_health.watch_s": 0,
    }  # fmt: skip
    config = load_config(None, settings)
    started = time.monotonic()
    poll_s, model_changer.POLL_S = model_changer.POLL_S, 0.01
    changer.start()
    try:
        with first:
            summary = stream(
                first.bundle, first.runner, cameras, StreamOutputs(folder / "alerts"), config=config, stop=stop,
                sources=sources, consumers=[ledger], models=LineModels(store, models[0], open_marked, first),
            )  # fmt: skip
    finally:
        model_changer.POLL_S = poll_s
        stop.set()
    changer.join(60.0)
    alerts, wrong_alerts = _check_alerts(folder / "alerts", factors, ledger.threshold)
    # frames that were read ahead when the stream was told to stop are not lost
    waiting = 2 * (config.stream.queue_size + 1) + 2
    missing = summary.n_captured - summary.n_processed - summary.n_dropped - summary.n_unjudged
    return SwapReport(
        ledger.n_changes, ledger.n_results, ledger.n_lost + max(0, missing - waiting), ledger.n_wrong, alerts, wrong_alerts,
        round(statistics.median(swap_ms), 1), round(ledger.longest_gap_s * 1e3, 1), round(time.monotonic() - started, 1),
    )  # fmt: skip


def install_copy(store: ModelStore, bundle: Path, seed: int) -> Installed:
    """Install a copy of the bundle under a digest of its own; no engine is built, the graph itself judges."""
    staged = store.folder / f"staged-{seed}"
    shutil.copytree(bundle, staged, ignore=shutil.ignore_patterns("engines"))
    content = json.loads((staged / MANIFEST).read_text(encoding="utf-8"))
    content["provenance"]["seed"] = seed
    content["sha256"] = {**content["sha256"], MANIFEST: BLANK}
    (staged / MANIFEST).write_bytes(with_own_digest(json.dumps(content).encode()))
    copied = open_bundle(staged)
    manifest, name = copied.manifest, copied.digest[:12]
    model = Installed(
        name, copied.digest, manifest.model, manifest.classes, manifest.provenance.created_at, REFERENCE, "", "hot_swap"
    )
    store.add(staged, model, activate=False)
    return model


def _scores(model: MarkedModel, images: Sequence[NDArray[np.uint8]]) -> list[float]:
    bundle: Bundle = model.bundle
    inputs = np.stack([bundle.preprocess(image) for image in images])
    return [float(model.runner.infer(one[None])["pred_score"][0]) for one in inputs]


def _scaled(record: ClassThresholds, factor: float, level: float) -> ClassThresholds:
    def by(value: float) -> float:
        return value * factor

    return record.model_copy(
        update={
            "scores": tuple(map(by, record.scores)),
            "map_maxima": tuple(map(by, record.map_maxima)),
            "threshold": record.threshold.model_copy(update={"value": by(level)}),
            "pixel_threshold": record.pixel_threshold.model_copy(update={"value": by(record.pixel_threshold.value)}),
            "heatmap_low": by(record.heatmap_low),
            "heatmap_high": by(record.heatmap_high),
        }
    )


def _check_alerts(folder: Path, factors: dict[str, float], threshold: float) -> tuple[int, int]:
    """Number of alert records, and of those whose threshold is not that of the bundle that they name."""
    from edgead.commands.alerts import list_alerts

    records = list_alerts(folder)
    wrong = [
        r for r in records if abs(r["threshold"] - threshold * factors[r["bundle"]]) > TOLERANCE * abs(r["threshold"])
    ]
    return len(records), len(wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the report, and return 1 if a frame was lost or a verdict was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--swaps", type=int, default=1000)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = hot_swap(chosen.bundle, Path(folder), chosen.swaps)
    print(
        f"{report.swaps} swaps under {report.frames} judged frames in {report.seconds:.0f} s: {report.lost} frames lost, "
        f"{report.wrong} verdicts under a wrong digest; {report.alerts} alert records, {report.wrong_alerts} under a wrong "
        f"digest. From activation to the change {report.swap_ms:.0f} ms (median); longest time between two results "
        f"{report.longest_gap_ms:.0f} ms."
    )
    return 0 if report.is_right and report.swaps == chosen.swaps else 1


if __name__ == "__main__":
    raise SystemExit(main())
