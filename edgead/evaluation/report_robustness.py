"""Section of the report on robustness: a small chart per change and a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from edgead.evaluation.evaluate import Rate
from edgead.evaluation.report_gallery import inline_jpeg
from edgead.evaluation.robustness import ChangeResult, Robustness, RobustnessPoint

WIDTH = 420
LEFT, RIGHT, TOP = 46, 14, 20
PANEL, GAP, BOTTOM = 84, 26, 34
DASH = "–"
# Value, label and place 0..1 of the ticks of a share; false alarms are spread near 0, where the promise is.
SHARE_TICKS = (0.0, 0.5, 1.0)
ALARM_TICKS = (0.0, 0.1, 0.5, 1.0)
AUROC_TICKS = (0.5, 0.75, 1.0)


def robustness_section(result: Robustness) -> str:
    """Markup of the section, with its heading."""
    figures = "".join(
        f'<figure class="chart"><figcaption>{escape(change.title)}: {_verdict(result, change)}</figcaption>'
        f"{_chart(result, change)}{_examples(change)}</figure>"
        for change in result.changes
    )
    left_out = "".join(f'<p class="soft">Left out: {escape(text)}</p>' for text in result.left_out)
    return (
        '<section aria-labelledby="robustness"><h2 id="robustness">Light, focus, compression, position</h2>'
        f"<p>Copies of {result.n_good} good and {result.n_defective} defective images, changed in {len(result.changes)} ways "
        f"and judged at the same threshold. {escape(result.rule)} The shaded strengths are the stated range: changes that "
        f'ordinary lines show.</p>{left_out}<div class="charts">{figures}</div>{_table(result)}</section>'
    )


def _verdict(result: Robustness, change: ChangeResult) -> str:
    if result.unchanged.breaks(result.promise):
        return "promise broken without it"
    broken = change.broken_at(result.promise)
    if broken is not None:
        return f"promise broken at {escape(broken.label)}"
    return "promise kept" if result.n_good else "no good images"


def _chart(result: Robustness, change: ChangeResult) -> str:
    points = (result.unchanged, *change.points)
    panels: tuple[tuple[str, Sequence[float], Callable[[float], float], list[float | None], str], ...] = (
        ("image AUROC", AUROC_TICKS, _of_auroc, [point.image_auroc for point in points], "good"),
        ("defects found", SHARE_TICKS, float, [point.found.value for point in points], "good"),
        ("false alarms", ALARM_TICKS, math.sqrt, [point.false_alarms.value for point in points], "bad"),
    )
    panels = tuple(panel for panel in panels if any(value is not None for value in panel[3]))
    height = TOP + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    end = sum(point.strength <= change.mild for point in points) - 1
    parts = []
    for index, (name, ticks, place, values, colour) in enumerate(panels):
        top = TOP + index * (PANEL + GAP)
        parts.append(
            f'<rect class="range" x="{_x(0, points):.1f}" y="{top}" width="{_x(end, points) - _x(0, points):.1f}" height="{PANEL}"/>'
        )
        for tick in ticks:
            y = _y(top, place(tick))
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            label = f"{tick:g}" if name == "image AUROC" else f"{tick:.0%}"
            parts.append(_text(LEFT - 6, y + 4, label, "end"))
        parts.append(_text(LEFT, top - 6, name, "start", "label"))
        if colour == "bad":
            y = _y(top, place(result.promise))
            parts.append(f'<line class="threshold" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(WIDTH - RIGHT, top - 6, f"dashed: promise {_percent(result.promise)}", "end"))
            parts += _whiskers(points, top, place)
        parts += _curve([(_x(i, points), _y(top, place(v))) for i, v in enumerate(values) if v is not None], colour)
    bottom = height - BOTTOM
    for i, point in enumerate(points):
        parts.append(_text(_x(i, points), bottom + 17, f"{point.number:g}" if i else "none", "middle"))
    title = (
        f"{escape(change.title)}, strengths {escape(', '.join(point.label for point in change.points))}. "
        + " ".join(
            f"{name}: {', '.join(_number(name, value) for value in values)}." for name, _, _, values, _ in panels
        )
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}"><title>{title}</title>{"".join(parts)}'
        f"{_text(WIDTH / 2 + 16, height - 3, escape(change.unit), 'middle')}</svg>"
    )


def _examples(change: ChangeResult) -> str:
    labels = (change.mild_label, change.points[-1].label)
    parts = [
        f'<div><img src="{inline_jpeg(image)[0]}" alt="A good image, changed: {escape(label)}" width="{image.shape[1]}" '
        f'height="{image.shape[0]}" loading="lazy"><span>{escape(label)}</span></div>'
        for image, label in zip(change.examples, labels, strict=False)
    ]
    return f'<div class="pair">{"".join(parts)}</div>' if parts else ""


def _whiskers(points: Sequence[RobustnessPoint], top: float, place: Callable[[float], float]) -> list[str]:
    parts = []
    for i, point in enumerate(points):
        if point.false_alarms.interval is not None:
            low, high = (_y(top, place(end)) for end in point.false_alarms.interval)
            x = _x(i, points)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    return parts


def _curve(places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places]
    return [f'<polyline class="{"curve" if colour == "good" else "curve alarms"}" points="{path}"/>', *dots]


def _table(result: Robustness) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            "change", "strength", "image AUROC", "found", "false alarms", "95 % interval", "promise broken at",
            "twice the promise broken at",
        )
    )  # fmt: skip
    rows = [_row("none", result.unchanged, DASH, DASH)]
    for change in result.changes:
        broken = [change.broken_at(factor * result.promise) for factor in (1, 2)]
        rows.append(_row(change.title, change.at_mild, *(DASH if point is None else point.label for point in broken)))
    return (
        '<h3>At the end of each stated range</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-labelledby="robustness"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _row(title: str, point: RobustnessPoint, *broken: str) -> str:
    interval = point.false_alarms.interval
    cells = [
        point.label,
        DASH if point.image_auroc is None else f"{point.image_auroc:.3f}",
        _rate(point.found),
        _rate(point.false_alarms),
        DASH if interval is None else f"{_percent(interval[0])} to {_percent(interval[1])}",
        *broken,
    ]
    return f'<tr><th scope="row">{escape(title)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _rate(rate: Rate) -> str:
    return DASH if rate.value is None else f"{_percent(rate.value)} ({rate.k} of {rate.n})"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.3f}" if name == "image AUROC" else _percent(value)


def _of_auroc(value: float) -> float:
    return max(0.0, 2 * value - 1)


def _x(index: int, points: Sequence[RobustnessPoint]) -> float:
    margin = 16
    return LEFT + margin + index * (WIDTH - LEFT - RIGHT - 2 * margin) / (len(points) - 1)


def _y(top: float, place: float) -> float:
    return top + (1 - place) * PANEL


def _text(x: float, y: float, label: str, anchor: str, name: str = "") -> str:
    attribute = f' class="{name}"' if name else ""
    return f'<text{attribute} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{label}</text>'
