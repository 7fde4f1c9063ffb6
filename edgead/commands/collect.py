"""`edgead collect`: save pictures of a source, without faults, near-copies and what a model finds anomalous."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgead.bundle import Bundle
from edgead.config.root import Config
from edgead.data.collection import open_collection
from edgead.evaluation.threshold import at_rate
from edgead.imaging import ResizeRule, resize, usual_reading
from edgead.line.cameras import source_options
from edgead.line.frame_check import frame_check, plain_frame_check
from edgead.runner import Runner
from edgead.storage import require_free_space
from edgead.stream import part_search
from edgead.stream.collector import LEAST_FREE_MB, SMALL, CollectOptions, Collector, CollectSummary, JudgedScore
from edgead.stream.frame import Frame
from edgead.stream.scorer import Scorer
from edgead.stream.sources.folder import FolderSource
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import Source


def collect(
    uri: str,
    out: Path,
    options: CollectOptions,
    *,
    config: Config,
    model: tuple[Bundle, Runner] | None = None,
    stop: threading.Event | None = None,
    source: Source | None = None,
    on_status: Callable[[CollectSummary], None] = lambda summary: None,
) -> CollectSummary:
    """Save pictures of a source, losslessly, until it ends, a limit is reached or `stop` is set; a later call goes on.

    Args:
        uri: Address of the source, as `source_from_uri` takes it.
        out: Folder of the pictures and their index.
        options: What to save.
        config: Time limits and limits of camera faults.
        model: Bundle and open engine that tell anomalous frames; None = none are told.
        stop: Event that ends the collection from outside.
        source: Source in place of the one that `uri` names.
        on_status: Callback with the counts so far, after each frame.

    Raises:
        StorageError: If the disk is full, or another process writes to the folder.
        EdgeadError: If the source cannot be opened or fails.
    """
    stop = stop or threading.Event()
    bundle = None if model is None else model[0]
    reading = usual_reading() if bundle is None else bundle.manifest.preprocessing.reading
    made = source or source_from_uri(uri, source_options(config.stream, reading, give_up=True))
    with open_collection(out, create=True) as collection:
        require_free_space(out, int(LEAST_FREE_MB * 1e6), purpose="Collecting pictures")
        collector = Collector(collection, options)
        fault, judge = _fault(bundle, config), _judge(model, options)
        if collector.is_full():
            return collector.summary
        with made as opened:
            for frame in opened.frames(stop):
                collector.add(frame, _time_s(frame, opened), fault(frame), partial(judge, frame))
                on_status(collector.summary)
                if collector.is_full() or stop.is_set():
                    break
        if stop.is_set() and not collector.is_full():
            collector.summary.ended_by = "stop"
        return collector.summary


def _fault(bundle: Bundle | None, config: Config) -> Callable[[Frame], str | None]:
    """Function from a frame to the kind of its fault; None if it has none."""
    check = plain_frame_check() if bundle is None else frame_check(bundle, config.stream, live=False)
    size = SMALL if bundle is None else bundle.image_size
    rule: ResizeRule = "area-then-bilinear" if bundle is None else bundle.manifest.preprocessing.resize

    def fault(frame: Frame) -> str | None:
        if frame.damage:
            return "damaged"
        if check is None:
            return None
        found = check(resize(frame.image, size, rule), frame.captured_at_s)
        return None if found.is_usable else found.kind or "suspected"

    return fault


def _judge(model: tuple[Bundle, Runner] | None, options: CollectOptions) -> Callable[[Frame], JudgedScore | str | None]:
    if model is None:
        return lambda frame: None
    bundle, runner = model
    thresholds = bundle.thresholds(options.class_name)
    if options.false_alarm_rate is not None:
        thresholds = at_rate(thresholds, options.false_alarm_rate)
    scorer, bias = Scorer.of(bundle, runner), bundle.class_bias([options.class_name])

    def judge(frame: Frame) -> JudgedScore | str:
        prepared = scorer.prepare(frame)
        if prepared.lacks_part:
            return part_search.KIND
        score, threshold = float(scorer.score([prepared], bias)["pred_score"][0]), thresholds.threshold.value
        return JudgedScore(score, threshold, score > threshold, bundle.digest)

    return judge


def _time_s(frame: Frame, source: Source) -> float | None:
    if source.live or source.paced:
        return frame.captured_at_s
    if isinstance(source, FolderSource):
        return None
    if frame.time_s is not None:
        return frame.time_s
    return None if source.fps is None else frame.index / source.fps
