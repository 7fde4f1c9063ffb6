"""Picture of the comparison: a bar for each measurement, as plain SVG."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from edgead.storage import write_bytes
from tools.bench_peer.plan import NAMES

LABELS, COLUMN, GAP, ROW, HEAD = 190, 128, 18, 24, 58
COLUMNS = (
    ("image AUROC", "higher is better", "{:.3f}"),
    ("false alarms, %", "at its own threshold", "{:.1f}"),
    ("found, %", "at its own threshold", "{:.0f}"),
    ("training, s", "lower is better", "{:.0f}"),
    ("fastest engine, ms", "lower is better", "{:.1f}"),
    ("its start-up, s", "lower is better", "{:.2f}"),
    ("its memory, MB", "lower is better", "{:.0f}"),
)
WIDTH = LABELS + len(COLUMNS) * (COLUMN + GAP) + 20
STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  .own { fill: #0969da }
  .peer { fill: #b35900 }
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #424a53 }
  .title { font-size: 15px; font-weight: 600; fill: #1f2328 }
  .head { font-weight: 600; fill: #1f2328 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d }
    .own { fill: #58a6ff }
    .peer { fill: #f0a04b }
    text { fill: #9da7b3 }
    .title, .head { fill: #e6edf3 }
  }
"""


def write_chart(path: Path, content: dict[str, Any]) -> None:
    """Write the picture."""
    write_bytes(path, draw(content).encode())


def draw(content: dict[str, Any]) -> str:
    """An SVG with a block per data set, a row per detector and a column per measurement; bars of a column share a scale."""
    parts, y = [], 16.0
    for name, found in content["sets"].items():
        rows = {row: values_of(row, found) for row in NAMES if row in found["rows"]}
        parts.append(f'<text class="title" x="16" y="{y + 14:.0f}">{escape(name)}</text>')
        for column, (title, note, form) in enumerate(COLUMNS):
            x = LABELS + column * (COLUMN + GAP)
            parts.append(
                f'<text class="head" x="{x}" y="{y + 14:.0f}">{title}</text><text x="{x}" y="{y + 30:.0f}">{note}</text>'
            )
            parts += _bars([values[column] for values in rows.values()], list(rows), x, y + HEAD - 14, form)
        for index, row in enumerate(rows):
            parts.append(f'<text x="16" y="{y + HEAD + index * ROW:.0f}">{escape(NAMES[row])}</text>')
        y += HEAD + len(rows) * ROW + 16
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}" role="img" '
        f'aria-label="edgead beside anomalib">\n<style>{STYLE}</style>\n'
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1:.0f}" rx="8"/>\n{body}\n</svg>\n'
    )


def values_of(row: str, found: dict[str, Any]) -> list[float | None]:
    """Values of a row in the order of the columns; None where nothing was measured."""
    record = found["rows"][row]
    engines = [found["latency"].get(row, {}).get(engine) for engine in ("fp32", "int8")]
    fastest = min((engine for engine in engines if engine), key=lambda engine: float(engine["ms"]), default=None)
    return [
        record.get("image_auroc"),
        _percent(record, "false_alarms", "n_good"),
        _percent(record, "found", "n_defective"),
        record.get("training_s"),
        *(None if fastest is None else fastest[key] for key in ("ms", "start_s", "mb")),
    ]


def _percent(record: dict[str, Any], key: str, total: str) -> float | None:
    return 100 * record[key] / record[total] if record.get(total) else None


def _bars(values: list[float | None], rows: list[str], x: int, y: float, form: str) -> list[str]:
    largest = max((value for value in values if value is not None), default=0.0) or 1.0
    parts = []
    for index, (value, row) in enumerate(zip(values, rows, strict=True)):
        at = y + index * ROW
        if value is None:
            parts.append(f'<text x="{x}" y="{at + 14:.0f}">–</text>')
            continue
        width = max(1.0, (COLUMN - 44) * value / largest)
        kind = "own" if row.startswith("edgead") else "peer"
        parts.append(
            f'<rect class="{kind}" x="{x}" y="{at + 2:.0f}" width="{width:.1f}" height="{ROW - 8}" rx="2"/>'
            f'<text x="{x + width + 6:.1f}" y="{at + 14:.0f}">{form.format(value)}</text>'
        )
    return parts
