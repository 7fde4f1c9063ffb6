"""Tables and picture of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import Any

from edgead.data.synthetic.kinds.registry import LOOK_ALIKES
from tools.kinds.rows import ROWS, Row
from tools.results.cells import PLAIN
from tools.results.markdown import NAMES, percent, table
from tools.results.run import Record

_CELL, _LABEL, _HEAD = (58, 40), 190, 34
_STYLE = (
    ".card{fill:#ffffff}.normal{fill:none;stroke:#0969da;stroke-width:1.2}.defective{fill:none;stroke:#b35900;stroke-width:1.2}"
    "text{font:10px sans-serif;fill:#424a53}.axis{stroke:#d0d7de}"
    "@media (prefers-color-scheme: dark){.card{fill:#0d1117}.normal{stroke:#58a6ff}.defective{stroke:#f0a04b}text{fill:#9da7b3}"
    ".axis{stroke:#30363d}}"
)


def mode_rows(records: Sequence[Record], n_kinds: int) -> list[tuple[Row, str, list[list[Record]]]]:
    """Rows that are measured, with each class mode, and the records of each seed; seeds that lack a class are left out."""
    found = []
    for row in ROWS:
        own = [record for record in records if record["row"] == row.name and "evaluations" in record]
        by_seed = [
            [record for record in own if record["seed"] == seed] for seed in sorted({one["seed"] for one in own})
        ]
        complete = [part for part in by_seed if row.unified or len(part) == n_kinds]
        for mode in row.modes or (PLAIN,):
            if complete:
                found.append((row, mode, complete))
    return found


def classes_of(seed: Sequence[Record], mode: str) -> dict[str, Any]:
    """Metrics by class of one seed, of one model or of a model per class."""
    return {name: found for record in seed for name, found in record["evaluations"][mode]["classes"].items()}


def tables(records: Sequence[Record], kinds: Sequence[str]) -> str:
    """Markdown: means over the classes, image AUROC of each class, and the marks that are right elsewhere."""
    rows = mode_rows(records, len(kinds))
    if not rows:
        return "Nothing is measured yet."
    return "\n\n".join((_means(rows), _each_class(rows, kinds), _look_alikes(rows)))


def _means(rows: Sequence[tuple[Row, str, list[list[Record]]]]) -> str:
    def line(row: Row, mode: str, seeds: list[list[Record]]) -> list[str]:
        classes = [list(classes_of(seed, mode).values()) for seed in seeds]

        def mean_of(key: str) -> str:
            per_seed = [[one[key] for one in seed if one[key] is not None] for seed in classes]
            return percent([fmean(values) for values in per_seed if values])

        accuracy = [record["evaluations"][mode].get("class_accuracy") for seed in seeds for record in seed]
        overlaps = [
            fmean(one["overlap"] for record in seed for one in record["histograms"]["classes"].values())
            for seed in seeds
        ]
        seconds = fmean(sum(sum(record["seconds"].values()) for record in seed) for seed in seeds)
        return [
            row.title, NAMES[mode], str(len(seeds)), mean_of("image_auroc"), mean_of("pixel_auroc"), mean_of("detection_rate"),
            mean_of("false_alarm_rate"), percent([one for one in accuracy if one is not None]), f"{fmean(overlaps):.3f}",
            f"{seconds:.0f}",
        ]  # fmt: skip

    head = (
        "model",
        "class",
        "seeds",
        "image AUROC",
        "pixel AUROC",
        "found",
        "false alarms",
        "class right",
        "overlap",
        "seconds",
    )
    return table(head, (line(*row) for row in rows), numbers_from=2)


def _each_class(rows: Sequence[tuple[Row, str, list[list[Record]]]], kinds: Sequence[str]) -> str:
    shown = [row for row in rows if row[1] in (PLAIN, "none")]
    head = ("image AUROC", *(row.name.replace("_", " ") for row, _, _ in shown))
    return table(
        head, ([kind, *(_of_class(seeds, mode, kind, "image_auroc") for _, mode, seeds in shown)] for kind in kinds)
    )


def _of_class(seeds: list[list[Record]], mode: str, kind: str, key: str) -> str:
    values = [classes_of(seed, mode).get(kind, {}).get(key) for seed in seeds]
    return percent([value for value in values if value is not None])


def _look_alikes(rows: Sequence[tuple[Row, str, list[list[Record]]]]) -> str:
    shown = [row for row in rows if row[1] in (PLAIN, "none")]
    head = ("AUROC of the defect", *(row.name.replace("_", " ") for row, _, _ in shown))

    def values(mode: str, seeds: list[list[Record]], kind: str, defect: str) -> str:
        found = (classes_of(seed, mode).get(kind, {}).get("defects", {}).get(defect, {}) for seed in seeds)
        return percent([one["image_auroc"] for one in found if one.get("image_auroc") is not None])

    lines = (
        [f"{pair.defect} of {pair.defect_of}, right on {pair.right_on}", *(values(mode, seeds, pair.defect_of, pair.defect) for _, mode, seeds in shown)]
        for pair in LOOK_ALIKES
    )  # fmt: skip
    return table(head, lines)


def likelihoods(records: Sequence[Record], kinds: Sequence[str]) -> str:
    """SVG: histograms of the map at normal and at defective positions, a row per model and a column per class, first seed."""
    rows = [
        (row, seeds[0]) for row, mode, seeds in mode_rows(records, len(kinds)) if mode == (row.modes or (PLAIN,))[0]
    ]
    width, height = _LABEL + _CELL[0] * len(kinds) + 12, _HEAD + (_CELL[1] + 8) * len(rows) + 26
    parts = [f'<rect class="card" width="{width}" height="{height}"/>']
    for column, kind in enumerate(kinds):
        parts.append(f'<text x="{_LABEL + _CELL[0] * column + 4}" y="{_HEAD - 10}">{escape(kind)}</text>')
    for line, (row, seed) in enumerate(rows):
        top = _HEAD + (_CELL[1] + 8) * line
        parts.append(f'<text x="8" y="{top + _CELL[1] / 2 + 4:.0f}">{escape(_short(row.title))}</text>')
        classes = {name: one for record in seed for name, one in record["histograms"]["classes"].items()}
        for column, kind in enumerate(kinds):
            left = _LABEL + _CELL[0] * column
            parts.append(f'<path class="axis" d="M{left} {top + _CELL[1]}h{_CELL[0] - 6}"/>')
            parts += [
                _curve(classes[kind][label], label, left, top) for label in ("normal", "defective") if kind in classes
            ]
    parts.append(
        f'<text x="8" y="{height - 8}">anomaly map, low to high; blue: positions of good pictures, orange: defective positions; '
        "each curve has its own height</text>"
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'


def _curve(shares: Sequence[float], label: str, left: float, top: float) -> str:
    highest = max(shares) or 1.0
    step = (_CELL[0] - 6) / len(shares)
    points = " ".join(
        f"{left + (index + 0.5) * step:.1f},{top + _CELL[1] * (1 - share / highest):.1f}"
        for index, share in enumerate(shares)
    )
    return f'<polyline class="{label}" points="{points}"/>'


def _short(title: str) -> str:
    return title if len(title) <= 34 else title[:33] + "…"
