"""Where each metric of `edgead eval` is shown: the one table that the terminal, the report and Jupyter read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgead.evaluation.evaluate import EvaluationResult, Metrics

Table = Literal["detection", "marks"]


@dataclass(frozen=True)
class MetricColumn:
    """Metric with its headings.

    Attributes:
        key: Field of `Metrics`.
        title: Heading in the report, which has every metric.
        table: Table of the terminal, of 80 columns, that shows it too; None = the report alone.
        short: Heading in that table; empty = `title`.
        count: Number of images or regions that a share is taken of; None for a score, which has no such number.
    """

    key: str
    title: str
    table: Table | None = None
    short: str = ""
    count: Callable[[Metrics], int] | None = None

    @property
    def terminal_title(self) -> str:
        """Heading in the table of the terminal."""
        return self.short or self.title

    def value(self, metrics: Metrics) -> float | None:
        """Value of the metric, 0..1; None where it is undefined."""
        return getattr(metrics, self.key)  # type: ignore[no-any-return]

    def text(self, metrics: Metrics) -> str:
        """Value as the terminal shows it: a score with four digits, a share in percent with the number it is taken of."""
        value = self.value(metrics)
        if value is None:
            return "-"
        return f"{value:.4f}" if self.count is None else f"{value:.1%} ({self.count(metrics)})"


def _unseen(metrics: Metrics) -> int:
    return metrics.n_good - metrics.n_trained_on


METRIC_COLUMNS = (
    MetricColumn("image_auroc", "image AUROC", "detection"),
    MetricColumn("image_ap", "image AP"),
    MetricColumn("image_f1max", "image F1-max"),
    MetricColumn("pixel_auroc", "pixel AUROC", "detection"),
    MetricColumn("pixel_ap", "pixel AP"),
    MetricColumn("aupro_0_3", "AUPRO 0.3", "detection"),
    MetricColumn("aupro_0_05", "AUPRO 0.05", "detection"),
    MetricColumn("false_alarm_rate", "false alarms", "detection", count=_unseen),
    MetricColumn("detection_rate", "found", "detection", "detected", count=lambda metrics: metrics.n_defective),
    MetricColumn("seg_f1", "SegF1", "marks"),
    MetricColumn("seg_f1_best", "best SegF1", "marks", "best"),
    MetricColumn("mask_iou", "mask IoU", "marks"),
    MetricColumn("region_recall", "region recall", "marks", "regions hit", count=lambda metrics: metrics.n_regions),
    MetricColumn("marked_good_rate", "marked good", "marks", "good images marked", count=_unseen),
)


def tables_of(result: EvaluationResult) -> list[tuple[list[str], list[list[str]]]]:
    """Tables of an evaluation as texts, each with its headings and a row per class; of several classes, also their mean.

    The table of marked regions is left out where nothing is known of them.
    """
    parts = [(name, part.metrics) for name, part in result.classes.items()]
    if len(parts) > 1:
        parts.append(("mean", result.mean))
    tables = []
    for first, table in (("class", "detection"), ("marks", "marks")):
        columns = [column for column in METRIC_COLUMNS if column.table == table]
        if any(column.value(metrics) is not None for column in columns for _, metrics in parts):
            rows = [[name, *(column.text(metrics) for column in columns)] for name, metrics in parts]
            tables.append(([first, *(column.terminal_title for column in columns)], rows))
    return tables
