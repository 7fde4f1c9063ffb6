"""SVG charts of the report, coloured by the CSS variables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 22, 26, 42


@dataclass(frozen=True)
class Axis:
    """Monotone map of values to 0..1, with ticks and a note for the axis label."""

    position: Callable[[float], float]
    ticks: Sequence[float]
    note: str


def score_axis(scores: Floats, centre: float, threshold: float) -> Axis:
    """Axis for scores: linear, or compressed by asinh if the scores reach far beyond the threshold.

    Args:
        scores: All scores on the axis, `(N,)`.
        centre: Typical good score, where a compressed axis is finest.
        threshold: Threshold; a compressed axis is about linear between `centre` and it.
    """
    low, high = min(float(scores.min()), threshold), max(float(scores.max()), threshold)
    unit = abs(threshold - centre) or (high - low) / 4 or 1.0
    if max(high - centre, centre - low) < 6 * unit:
        first, last = _with_margin(low, high)
        step = _nice_step((last - first) / 5)
        ticks = np.arange(math.ceil(first / step), math.floor(last / step) + 1) * step
        return Axis(lambda value: (value - first) / (last - first), ticks.tolist(), "")
    first, last = _with_margin(math.asinh((low - centre) / unit), math.asinh((high - centre) / unit))
    raw = [centre + unit * math.sinh(at) for at in np.linspace(first, last, 7)[1:-1]]
    return Axis(
        lambda value: (math.asinh((value - centre) / unit) - first) / (last - first),
        sorted({float(f"{value:.2g}") for value in raw}),
        "axis compressed away from the good scores",
    )


def scores_axis(good: Floats, defective: Floats, threshold: float) -> Axis:
    """Axis of the histogram of these scores, `(G,)` and `(D,)`, at least one of them."""
    scores = np.concatenate([good, defective])
    return score_axis(scores, float(np.median(good if good.size else scores)), threshold)


def histogram(good: Floats, defective: Floats, threshold: float) -> str:
    """Mirrored histogram: good images upwards, defective downwards, as shares of their own number.

    Args:
        good: Scores of good images, `(G,)`.
        defective: Scores of defective images, `(D,)`; one of the groups may be empty.
        threshold: Threshold, drawn as a dashed line.
    """
    axis = scores_axis(good, defective, threshold)
    n_bins = 36
    shares = [_shares(group, axis, n_bins) for group in (good, defective)]
    largest = max(float(share.max()) for share in shares) or 1.0
    room = HEIGHT - BOTTOM - TOP
    # A group without images gives its half of the chart to the other one.
    half = room / 2 if good.size and defective.size else room
    middle = TOP + half if good.size else TOP
    half -= 18  # for the group's name, clear of the highest bar
    width = (WIDTH - LEFT - RIGHT) / n_bins
    parts = []
    for share, name, sign in zip(shares, ("good", "bad"), (-1, 1), strict=True):
        for i in np.flatnonzero(share):
            # At least 2 units high: one image in a thousand must stay visible, since outliers matter most.
            height = max(2.0, float(share[i]) / largest * half)
            y = middle - height if sign < 0 else middle
            parts.append(
                f'<rect class="{name}" x="{LEFT + i * width:.1f}" y="{y:.1f}" width="{width - 0.8:.1f}" height="{height:.1f}"/>'
            )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{middle}" y2="{middle}"/>')
    parts += [_tick(LEFT + axis.position(tick) * (WIDTH - LEFT - RIGHT), number(tick)) for tick in axis.ticks]
    parts += _side_labels(good.size, defective.size, largest, middle, half)
    parts += _threshold_line(LEFT + axis.position(threshold) * (WIDTH - LEFT - RIGHT), threshold)
    parts.append(_text(WIDTH / 2 + 16, HEIGHT - 6, "image score" + (f" ({axis.note})" if axis.note else ""), "middle"))
    title = (
        f"Histogram of image scores: {good.size} good images above the line, {defective.size} defective images below "
        f"it, threshold {number(threshold)}."
    )
    return _svg(parts, title)


def rate_chart(
    points: Sequence[tuple[float, float]], names: tuple[str, str], mark: tuple[float, float] | None, mark_label: str
) -> str:
    """A curve in the unit square, with one marked operating point.

    Args:
        points: Points (x, y) in 0..1.
        names: Labels of the x and y axes.
        mark: Point of the shipped threshold; None for none.
        mark_label: Label of that point.
    """
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _square(tick, tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts += [_tick(x, f"{tick:.0%}"), _text(LEFT - 6, y + 4, f"{tick:.0%}", "end")]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_square(*point) for point in points))
    parts.append(f'<polyline class="curve" points="{path}"/>')
    if mark is not None:
        x, y = _square(*mark)
        right = x < WIDTH * 0.55
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        label_y = min(y + 20, HEIGHT - BOTTOM - 8)
        parts.append(_text(x + (11 if right else -11), label_y, mark_label, "start" if right else "end", "label"))
    parts += [_text(WIDTH / 2 + 16, HEIGHT - 6, names[0], "middle"), _text(4, 14, names[1], "start")]
    at = f" At the threshold: {mark_label}." if mark is not None else ""
    return _svg(parts, f"Curve of {names[1]} against {names[0]}.{at}")


def number(value: float) -> str:
    """A raw score for people: four significant digits, no exponent for ordinary sizes."""
    return f"{value:.4g}"


def _shares(group: Floats, axis: Axis, n_bins: int) -> Floats:
    places = np.array([axis.position(float(score)) for score in group])
    counts = np.histogram(places, bins=n_bins, range=(0.0, 1.0))[0]
    return np.asarray(counts / max(group.size, 1), np.float64)


def _side_labels(n_good: int, n_defective: int, largest: float, middle: float, half: float) -> list[str]:
    labels = [_text(LEFT - 6, middle + 4, "0", "end")]
    if n_good:
        labels.append(_text(LEFT - 6, middle - half + 8, f"{largest:.0%}", "end"))
        labels.append(_text(WIDTH - RIGHT, TOP + 10, f"good ({n_good})", "end", "good-text"))
    if n_defective:
        labels.append(_text(LEFT - 6, middle + half, f"{largest:.0%}", "end"))
        labels.append(_text(WIDTH - RIGHT, HEIGHT - BOTTOM - 3, f"defective ({n_defective})", "end", "bad-text"))
    return labels


def _threshold_line(x: float, threshold: float) -> list[str]:
    anchor = "start" if x < LEFT + 70 else "end" if x > WIDTH - RIGHT - 70 else "middle"
    line = f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{HEIGHT - BOTTOM}"/>'
    return [line, _text(x, TOP - 11, f"threshold {number(threshold)}", anchor, "label")]


def _square(x: float, y: float) -> tuple[float, float]:
    return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)


def _tick(x: float, label: str) -> str:
    y = HEIGHT - BOTTOM
    return f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}"/>' + _text(x, y + 17, label, "middle")


def _text(x: float, y: float, label: str, anchor: str, name: str = "") -> str:
    attribute = f' class="{name}"' if name else ""
    return f'<text{attribute} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{label}</text>'


def _svg(parts: list[str], title: str) -> str:
    # Only numbers and fixed words reach the markup, so nothing here needs escaping.
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>{"".join(parts)}</svg>'


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = 0.04 * (high - low) or max(1e-3 * abs(low), 1e-6)
    return low - margin, high + margin


def _nice_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= step * 0.999)
