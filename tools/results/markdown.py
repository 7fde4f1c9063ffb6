"""Names and Markdown shared by the parts of the results page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.results.cells import PLAIN
from tools.results.results import mean, spread

NAMES = {
    "fastflow": "FastFlow",
    "cflow": "CFLOW",
    "uflow": "U-Flow",
    "hgad": "HGAD",
    "usf": "USF",
    "normal": "normal",
    "altub": "AltUB",
    "given": "class given",
    "predicted": "class predicted",
    "none": "class unknown",
    PLAIN: "no classes",
}
NOTHING = "–"
Row = Sequence[str]


def table(head: Row, rows: Iterable[Row], numbers_from: int = 1) -> str:
    """Markdown table; columns from `numbers_from` on are right-aligned."""
    rule = [":--" if index < numbers_from else "--:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def percent(values: Sequence[float]) -> str:
    """Mean of fractions in percent, with the standard deviation for two or more seeds."""
    if not values:
        return NOTHING
    middle, width = mean(values), spread(values)
    assert middle is not None
    return f"{100 * middle:.2f}" + ("" if width is None else f" ± {100 * width:.2f}")


def number(value: float | None, form: str, factor: float = 1.0) -> str:
    """Format a multiple of a value, or a dash for None."""
    return NOTHING if value is None else format(value * factor, form)
