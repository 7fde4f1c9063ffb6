"""Value statistics of a graph's tensors on good images, and the ranges for an integer type.

Two passes over the images, one image at a time: extremes first, then histograms between them. Memory does not grow with
the number of images (ONNX Runtime's own calibrators keep every activation of a batch, too much for a small board).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.engines.onnx_session import feed_of, open_session

if TYPE_CHECKING:
    import onnxruntime

BINS = 4096
RangeMethod = Literal["minmax", "percentile", "entropy", "mse"]


@dataclass(frozen=True)
class TensorRange:
    """Interval of real values that an integer type covers; contains 0."""

    low: float
    high: float


@dataclass
class TensorStatistics:
    """Values of one tensor over all calibration images.

    Attributes:
        low, high: Smallest and largest value.
        channel_low, channel_high: Extremes of each channel, `(C,)`, of `(N, C, ...)`, or of `(..., C)` with channels last;
            extremes of the whole tensor for other shapes.
        counts: Histogram between `low` and `high`, `(BINS,)`.
    """

    low: float
    high: float
    channel_low: NDArray[np.float32]
    channel_high: NDArray[np.float32]
    counts: NDArray[np.int64]

    @property
    def magnitude(self) -> float:
        return max(abs(self.low), abs(self.high))


def collect_statistics(
    model: onnx.ModelProto,
    names: Sequence[str],
    images: NDArray[np.uint8],
    *,
    channels_last: Collection[str] = (),
    threads: int = 0,
    histograms: bool = True,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, TensorStatistics]:
    """Run the float graph on images and look at tensors inside.

    Args:
        model: Model with float32 tensors of these names.
        names: Names of the tensors to measure.
        images: `(N, H, W, 3)` uint8 RGB, N >= 1.
        channels_last: Names of the tensors with channels on the last axis.
        threads: Number of CPU threads of ONNX Runtime; 0 = one per core.
        histograms: Whether to make the second pass, which fills the histograms.
        on_image: Called after each image of each pass.
    """
    session = open_session(_with_outputs(model, names).SerializeToString(), threads)
    statistics: dict[str, TensorStatistics] = {}
    for values in _run(session, names, images, on_image):
        for name, value in values.items():
            low, high = _channel_extremes(value, name in channels_last)
            if name not in statistics:
                statistics[name] = TensorStatistics(0.0, 0.0, low, high, np.zeros(BINS, np.int64))
            known = statistics[name]
            known.channel_low = np.minimum(known.channel_low, low)
            known.channel_high = np.maximum(known.channel_high, high)
    for known in statistics.values():
        known.low, known.high = float(known.channel_low.min()), float(known.channel_high.max())
    if not histograms:
        return statistics
    for values in _run(session, names, images, on_image):
        for name, value in values.items():
            known = statistics[name]
            known.counts += _histogram(value, known.low, known.high)
    return statistics


def choose_range(
    statistics: TensorStatistics, method: RangeMethod, *, percentile: float = 99.99, symmetric: bool = False
) -> TensorRange:
    """Choose the interval that 8 bits cover.

    Args:
        statistics: Statistics of the tensor.
        method: `minmax` covers every value seen; `percentile` cuts the rarest values at both ends; `entropy` minimises the
            divergence of the quantised histogram from the original (as TensorRT's calibrator does); `mse` minimises the
            squared error, including clipping.
        percentile: Percentage of values to keep.
        symmetric: Whether ranges are -a..a.
    """
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if method == "minmax" or high == low:
        return TensorRange(low, high)
    edges = np.linspace(statistics.low, statistics.high, BINS + 1)
    centres, counts = (edges[1:] + edges[:-1]) / 2.0, statistics.counts.astype(np.float64)
    if method == "percentile":
        share = np.cumsum(counts) / counts.sum()
        rare = (1.0 - percentile / 100.0) / (2.0 if low < 0.0 < high else 1.0)
        bottom = min(float(edges[np.searchsorted(share, rare)]), 0.0) if low < 0.0 else 0.0
        top = max(float(edges[np.searchsorted(share, 1.0 - rare) + 1]), 0.0) if high > 0.0 else 0.0
        if symmetric:
            bottom, top = -max(-bottom, top), max(-bottom, top)
        return TensorRange(bottom, top)
    cost = _squared_error if method == "mse" else _divergence
    if method == "entropy" and statistics.low <= 0.0 <= statistics.high:
        # zeros from a ReLU are not part of the distribution: their spike would shrink every range
        counts[min(int(np.searchsorted(edges, 0.0, side="right")) - 1, BINS - 1)] = 0.0
    candidates = np.linspace(0.2, 1.0, 81)
    best = min(candidates, key=lambda factor: cost(centres, counts, low * factor, high * factor))
    low, high = low * best, high * best
    if not symmetric and low < 0.0 < high:
        # then each end by itself
        for end in ("low", "high"):
            best = min(
                candidates,
                key=lambda f: cost(
                    centres, counts, low * (f if end == "low" else 1), high * (f if end == "high" else 1)
                ),
            )
            low, high = (low * best, high) if end == "low" else (low, high * best)
    return TensorRange(float(low), float(high))


def _with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also outputs these inner float tensors."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    present = {output.name for output in extended.graph.output}
    for name in names:
        if name not in present:
            extended.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return extended


def _run(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    images: NDArray[np.uint8],
    on_image: Callable[[], None],
) -> Iterable[dict[str, NDArray[np.float32]]]:
    for index in range(len(images)):
        values = session.run(list(names), feed_of(session, images[index : index + 1]))
        yield dict(zip(names, values, strict=True))
        on_image()


def _channel_extremes(value: NDArray[np.float32], is_last: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if is_last:
        flat = value.reshape(-1, value.shape[-1])
        return flat.min(axis=0), flat.max(axis=0)
    if value.ndim < 3:
        return value.reshape(1, -1).min(axis=1), value.reshape(1, -1).max(axis=1)
    axes = (0, *range(2, value.ndim))
    return value.min(axis=axes), value.max(axis=axes)


def _histogram(value: NDArray[np.float32], low: float, high: float) -> NDArray[np.int64]:
    if high <= low:
        return np.zeros(BINS, np.int64)
    index = (value.ravel() - np.float32(low)) * np.float32(BINS / (high - low))
    return np.bincount(np.minimum(index.astype(np.int32), BINS - 1), minlength=BINS)


def _squared_error(centres: NDArray[np.float64], counts: NDArray[np.float64], low: float, high: float) -> float:
    step = (high - low) / 255.0
    if step <= 0.0:
        return float("inf")
    clipped = np.clip(centres, low, high)
    # inside values have a uniform rounding error, outside values the clipped part
    return float(counts @ ((centres - clipped) ** 2) + counts.sum() * step**2 / 12.0)


def _divergence(centres: NDArray[np.float64], counts: NDArray[np.float64], low: float, high: float) -> float:
    if high <= low:
        return float("inf")
    inside = (centres >= low) & (centres <= high)
    if inside.sum() < 128:
        return float("inf")
    reference = counts[inside].copy()
    reference[0] += counts[centres < low].sum()
    reference[-1] += counts[centres > high].sum()
    level = np.minimum(((centres[inside] - low) / (high - low) * 255.0).astype(np.int64), 254)
    used = counts[inside] > 0
    sums = np.bincount(level, counts[inside], 255)
    bins = np.bincount(level, used, 255)
    quantised = np.where(used, (sums / np.maximum(bins, 1))[level], 0.0)
    p, q = reference / reference.sum(), quantised / max(quantised.sum(), 1e-30)
    where = p > 0
    return float((p[where] * np.log(p[where] / np.maximum(q[where], 1e-12))).sum())
