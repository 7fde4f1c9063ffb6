"""Chart of the results page: a dot per seed, a row per detector, a panel per data set, as plain SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from tools.results.markdown import NAMES
from tools.results.results import IMAGE_AUROC, Group, Results, mean

WIDTH = 980
LEFT, RIGHT, TOP, BOTTOM = 204, 20, 88, 34
ROW, GAP, PANEL_GAP = 23, 18, 20
STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  .band { fill: #f3f5f8 }
  .grid { stroke: #d8dee4; stroke-width: 1 }
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #424a53 }
  .title { font-size: 15px; font-weight: 600; fill: #1f2328 }
  .head { font-size: 13px; font-weight: 600; fill: #1f2328 }
  .affine { --mark: #b35900 }
  .uniform { --mark: #0969da }
  .normal .dot { fill: none; stroke: var(--mark); stroke-width: 1.8 }
  .altub .dot { fill: var(--mark); stroke: #f3f5f8; stroke-width: 1; r: 4.9px }
  .mean { stroke: var(--mark); stroke-width: 2.4 }
  .range { stroke: var(--mark); stroke-width: 1; opacity: .45 }
  .best { font-weight: 600; fill: #1f2328 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d }
    .band { fill: #161b22 }
    .altub .dot { stroke: #161b22 }
    .grid { stroke: #2a313a }
    text { fill: #9da7b3 }
    .title, .head, .best { fill: #e6edf3 }
    .affine { --mark: #f0a04b }
    .uniform { --mark: #58a6ff }
  }
"""


def draw_chart(results: Results) -> str:
    """An SVG of the image AUROC of every per-data-set cell; legible on light and dark pages, and without colours.

    Orange and blue tell the couplings apart, hollow and filled dots the bases; each panel has an axis of its own.
    """
    detectors = list(dict.fromkeys((g.model, g.coupling, g.base) for g in results.per_class()))
    rows = _row_places(detectors)
    bottom = max(rows.values(), default=TOP) + ROW / 2 + 4
    height = bottom + BOTTOM
    sets = results.table.data_sets
    width = (WIDTH - LEFT - RIGHT - PANEL_GAP * (len(sets) - 1)) / len(sets)
    parts = [
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8"/>',
        f'<text class="title" x="20" y="30">{_title(results)}</text>',
        f'<text x="{WIDTH - 20}" y="30" text-anchor="end">a dot per seed, a bar at their mean, the best mean in figures; each panel has its own axis</text>',
        _legend(),
        *_row_labels(rows),
    ]
    for index, data in enumerate(sets):
        left = LEFT + index * (width + PANEL_GAP)
        parts += _panel(data, results.of(data), rows, left, width, bottom)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" '
        f'role="img" aria-label="Image AUROC of every detector, data set and seed">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _title(results: Results) -> str:
    """Title of the chart, with the number of finished cells while some are missing."""
    groups = results.per_class()
    n_done, n_all = sum(len(group.records) for group in groups), sum(group.n_seeds for group in groups)
    return "Image AUROC on test images, in percent" + (f" ({n_done} of {n_all} cells)" if n_done < n_all else "")


def _row_places(detectors: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], float]:
    """Height of each row's centre; a gap before each architecture."""
    places: dict[tuple[str, str, str], float] = {}
    y = float(TOP)
    previous = None
    for detector in detectors:
        if previous is not None:
            y += ROW + (GAP if detector[0] != previous else 0)
        else:
            y += ROW / 2 + 8
        places[detector] = y
        previous = detector[0]
    return places


def _legend() -> str:
    parts, x = [], 20
    for coupling, base, name in (
        ("affine", "normal", "affine, normal base"),
        ("affine", "altub", "affine, AltUB"),
        ("uniform", "normal", "uniform, normal base"),
        ("uniform", "altub", "uniform, AltUB"),
    ):
        parts.append(
            f'<g class="{coupling} {base}"><circle class="dot" cx="{x + 5}" cy="48" r="4"/></g>'
            f'<text x="{x + 15}" y="52">{name}</text>'
        )
        x += 34 + round(6.6 * len(name))
    return "".join(parts)


def _row_labels(rows: dict[tuple[str, str, str], float]) -> list[str]:
    parts = []
    for model in dict.fromkeys(model for model, _, _ in rows):
        places = [y for detector, y in rows.items() if detector[0] == model]
        middle = (min(places) + max(places)) / 2 + 4
        parts.append(f'<text class="head" x="20" y="{middle:.1f}">{escape(NAMES.get(model, model))}</text>')
    for (_, coupling, base), y in rows.items():
        parts.append(
            f'<text x="{LEFT - 14}" y="{y + 4:.1f}" text-anchor="end">{coupling}, {NAMES.get(base, base)}</text>'
        )
    return parts


def _panel(
    data: str,
    groups: Sequence[Group],
    rows: dict[tuple[str, str, str], float],
    left: float,
    width: float,
    bottom: float,
) -> list[str]:
    """Grid, axis and dots of one data set; the best mean is written beside its bar."""
    values = [100 * value for group in groups for value in group.values(IMAGE_AUROC)]
    ticks = axis_ticks(min(values), max(values)) if values else []
    parts = [f'<text class="head" x="{left:.1f}" y="78">{escape(data)}</text>', *_bands(rows, left, width)]
    if not ticks:
        return [*parts, f'<text x="{left:.1f}" y="{TOP + 24}">nothing measured yet</text>']
    inner, span = width - 28, ticks[-1] - ticks[0]

    def place(value: float) -> float:
        return left + 14 + inner * (value - ticks[0]) / span

    digits = 0 if all(tick.is_integer() for tick in ticks) else 1
    for tick in ticks:
        x = place(tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom:.1f}"/>'
            f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{tick:.{digits}f}</text>'
        )
    means = {g.key: 100 * m for g in groups if (m := mean(g.values(IMAGE_AUROC))) is not None}
    best = max(means.values())
    for group in groups:
        if group.key in means:
            y = rows[group.model, group.coupling, group.base]
            parts.append(_dots(group, y, left, place, means[group.key], is_best=means[group.key] == best))
    return parts


def _bands(rows: dict[tuple[str, str, str], float], left: float, width: float) -> list[str]:
    """A plain background per architecture, which also parts the panels."""
    parts = []
    for model in dict.fromkeys(model for model, _, _ in rows):
        places = [y for detector, y in rows.items() if detector[0] == model]
        top, height = min(places) - ROW / 2 - 2, max(places) - min(places) + ROW + 4
        parts.append(
            f'<rect class="band" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4"/>'
        )
    return parts


def _dots(group: Group, y: float, left: float, place: Callable[[float], float], middle: float, *, is_best: bool) -> str:
    xs = [place(100 * value) for value in group.values(IMAGE_AUROC)]
    x = place(middle)
    parts = [f'<line class="range" x1="{min(xs):.1f}" x2="{max(xs):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>']
    parts += [f'<circle class="dot" cx="{dot:.1f}" cy="{y:.1f}" r="4"/>' for dot in xs]
    if len(xs) > 1:
        parts.append(f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}"/>')
    if is_best:
        has_room = min(xs) - 50 > left
        at, anchor = (min(xs) - 9, "end") if has_room else (max(xs) + 9, "start")
        parts.append(f'<text class="best" x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{middle:.2f}</text>')
    name = f"{NAMES.get(group.model, group.model)}, {group.coupling}, {NAMES.get(group.base, group.base)}: mean {middle:.2f}"
    return f'<g class="{group.coupling} {group.base}"><title>{escape(name)}</title>{"".join(parts)}</g>'


def axis_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that enclose both."""
    width = max(high - low, 0.5)
    step = next(s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if width / s <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * index, 6) for index in range(first, max(last, first + 1) + 1)]
