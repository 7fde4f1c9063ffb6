"""Every metric of `edgead eval` is shown and explained: a new one cannot be forgotten in a table."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from edgead.commands.evaluate import Evaluation
from edgead.evaluation.evaluate import METRIC_KEYS, ClassResult, EvaluationResult, Metrics, Rate
from edgead.evaluation.metric_columns import METRIC_COLUMNS, MetricColumn
from edgead.terminal import out, show_evaluation

ROOT = Path(__file__).parents[2]
NOT_SHOWN_AS_METRICS = {"threshold"}


def _evaluation(*names: str) -> Evaluation:
    """Results in which every metric has a value of its own."""
    values: dict[str, Any] = {field.name: 0.0 for field in fields(Metrics)}
    values |= {name: 100 for name in values if name.startswith("n_")} | {"n_trained_on": 0}
    values |= {column.key: 0.1 + number / 100 for number, column in enumerate(METRIC_COLUMNS)}
    part = ClassResult(Metrics(**values), Rate(1, 100), Rate(50, 100), None, {})
    return Evaluation(EvaluationResult("fake-fp32", dict.fromkeys(names, part), part.metrics), "threshold", None, ())


def test_every_metric_has_a_column() -> None:
    """Each field of `Metrics` but counts and the threshold has one column, and each column is such a field."""
    metrics = [field.name for field in fields(Metrics) if not field.name.startswith("n_")]
    assert sorted(column.key for column in METRIC_COLUMNS) == sorted(set(metrics) - NOT_SHOWN_AS_METRICS)


@pytest.mark.parametrize("column", METRIC_COLUMNS, ids=lambda column: column.key)
def test_every_metric_is_documented(column: MetricColumn) -> None:
    """The table of docs/evaluating.md has a row with the title and the JSON key of each metric."""
    key = METRIC_KEYS.get(column.key, column.key)
    section = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8").partition("## What is measured")[2]
    rows = [row.split("|")[1:3] for row in section.partition("\n## ")[0].splitlines() if row.startswith("| ")]
    found = [title for title, keys in rows if f"`{key}`" in keys]
    assert len(found) == 1
    assert column.title in found[0]
    assert column.terminal_title in found[0] or column.short == "best"


def test_the_terminal_shows_each_metric_of_its_tables_in_80_columns() -> None:
    """Title and value of every metric that has a table are printed, without a line beyond 80 columns."""
    evaluation = _evaluation("bottle")
    with out.capture() as capture:
        show_evaluation(evaluation)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    for column in METRIC_COLUMNS:
        value = re.escape(column.text(evaluation.metrics).split(" ")[0])
        assert bool(re.search(rf"(?<!\S){value}(?!\S)", text)) == (column.table is not None), column.key


@pytest.mark.parametrize("names", [("bottle",), ("bottle", "<nut>")])
def test_jupyter_shows_what_the_terminal_prints(names: tuple[str, ...]) -> None:
    """HTML and text of a result have every cell of the tables, escaped, with a mean for several classes."""
    evaluation = _evaluation(*names)
    html = evaluation._repr_html_()
    for headings, rows in evaluation.tables():
        assert all(f"<th>{heading}</th>" in html for heading in headings)
        assert len(rows) == len(names) + (len(names) > 1)
        assert all(f"<td>{text}</td>" in html for row in rows for text in row[1:])
        assert all(text in repr(evaluation) for row in rows for text in row)
    assert "<nut>" not in html
    assert evaluation.metrics is evaluation.result.mean
