"""Output on the terminal: progress bars, tables, notes. Used by `cli` only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box, markup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from typing_extensions import Self

from edgead.printable import path_text, printable

if TYPE_CHECKING:
    from edgead.commands.doctor import Diagnosis
    from edgead.commands.evaluate import Evaluation
    from edgead.commands.predict import Predictions
    from edgead.commands.train_each import EachPlan, EachResult
    from edgead.engines.fingerprint import EngineRecord
    from edgead.evaluation.evaluate import ClassResult, EvaluationResult
    from edgead.evaluation.robustness import Robustness, RobustnessPoint

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)
MIN_WIDTH = 60
MOST_PICTURES = 20
STATUS_STYLE = {"ok": "green", "info": "dim", "warning": "yellow", "failed": "bold red"}


class TerminalProgress:
    """Notes and progress bars with the remaining time on stderr; without a terminal, one line per finished task."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[detail]}"), console=err,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._live = err.is_terminal

    def note(self, text: str) -> None:
        self._print(text)

    def aside(self, text: str) -> None:
        """Print a sentence dimmed; see `progress.aside`."""
        self._print(text, style="dim")

    def _print(self, text: str, style: str | None = None) -> None:
        self._bars.console.print(printable(text, lines=True), markup=False, style=style)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        if not self._live:
            if done >= total:
                self.note(f"{task}: done{f' ({detail})' if detail else ''}")
            return
        if task not in self._tasks:
            self._bars.start()  # not earlier: of several training processes only one shows progress
            self._tasks[task] = self._bars.add_task(task, total=total, detail=detail)
        self._bars.update(self._tasks[task], completed=done, total=total, detail=detail)
        if done >= total:
            self._bars.update(self._tasks.pop(task), completed=total)

    @contextmanager
    def busy(self, task: str) -> Iterator[None]:
        """Show a moving bar for work of unknown length; nothing without a terminal."""
        if not self._live:
            yield
            return
        self._bars.start()
        waiting = self._bars.add_task(task, total=None, detail="")
        try:
            yield
        finally:
            self._bars.remove_task(waiting)

    def finish(self) -> None:
        """Stop the progress bars and free the terminal."""
        if self._live:
            self._bars.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()


def show_facts(facts: list[tuple[str, str]]) -> None:
    """Print names and values, one per line."""
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(value))
    out.print(table)


def show_class_states(plan: EachPlan) -> None:
    """Print each class with how far its training is."""
    table = names_last("state", "images", "class")
    for one in plan.classes:
        table.add_row(one.state, str(one.n_images), escape(one.name))
    out.print(table)


def show_class_trainings(result: EachResult) -> None:
    """Print each class with its verdict, promised false alarms, time and bundle."""
    table = names_last("class", "status", "verdict", "false alarms", "time", "bundle")
    for one in result.results:
        rate = "-" if one.false_alarm_rate is None else f"{one.false_alarm_rate:.2%}"
        seconds = "-" if one.seconds is None else f"{one.seconds:.0f} s"
        style = "bold red" if one.status == "failed" else "green"
        bundle = "-" if one.bundle is None else path_text(one.bundle)
        table.add_row(escape(one.name), f"[{style}]{one.status}[/]", one.verdict or "-", rate, seconds, escape(bundle))
    out.print(table)


def show_engine(record: EngineRecord) -> None:
    """Print the gate of an engine of lower precision against float32, and the layers in higher precision."""
    lower = record.lower
    if lower is None:
        return
    gate, precision = lower.gate, record.fingerprint.precision
    table = table_of("", "float32", precision)
    judged = f"image AUROC, {gate.n_good} good and {gate.n_defective} " + (
        "pseudo-defective" if gate.judged_by == "pseudo-defects" else "defective"
    )
    table.add_row(judged, f"{gate.reference_auroc:.4f}", f"{gate.engine_auroc:.4f}")
    table.add_row("score correlation (Spearman)", "", f"{gate.score_correlation:.4f}")
    table.add_row("held-out good images above float32's threshold", "", f"{gate.false_alarm_rate_before:.1%}")
    table.add_row("the same above its own threshold", "", f"{gate.false_alarm_rate:.1%}")
    table.add_row("milliseconds per image, in turns", f"{lower.reference_ms:.1f}", f"{lower.engine_ms:.1f}")
    table.add_row(f"multiply-adds in {precision}", "", f"{lower.coverage:.1%}")
    out.print(table)
    higher = [layer for layer in lower.layers if layer.precision != precision]
    if higher:
        rows = names_last("precision", f"error of {precision} alone", "kept higher")
        for layer in higher:
            rows.add_row(layer.precision, "" if layer.error is None else f"{layer.error:.1e}", escape(layer.name))
        out.print(rows)


def show_evaluation(found: Evaluation) -> None:
    """Print metrics per class and their mean, marked regions, and each kind of defect; rates with the number of images."""
    result = found.result
    out.print(f"engine {result.engine}")
    for number, (headings, rows) in enumerate(found.tables()):
        table = table_of(*headings)
        for name, *values in rows:
            table.add_row(escape(name), *values)
        out.print(table)
        if number == 0:
            _show_roc(result)
    for name, part in result.classes.items():
        if len(part.defects) > 1:
            defects = table_of("defect", "image AUROC", "detected")
            for kind, defect in part.defects.items():
                auroc = "-" if defect.image_auroc is None else f"{defect.image_auroc:.4f}"
                defects.add_row(escape(kind), auroc, _share(defect.detected.value, defect.detected.n))
            out.print(f"{escape(name)}: kinds of defect")
            out.print(defects)


def _show_roc(result: EvaluationResult) -> None:
    for name, part in result.classes.items():
        if (allowed := roc_text(part)) is not None:
            out.print(f"{f'{escape(name)}: ' if len(result.classes) > 1 else ''}{allowed}")


def roc_text(part: ClassResult) -> str | None:
    """Sentence about what the ROC allows at the observed number of false alarms; None where it cannot be told."""
    point, found = part.roc_point, part.detections
    if point is None or point.detections.value is None or found.value is None:
        return None
    alarms = f"{part.false_alarms.k} of {part.false_alarms.n} good images"
    if point.detections.k <= found.k:
        return f"No other threshold finds more of these images at as many false alarms ({alarms})."
    return (
        f"At as many false alarms ({alarms}) the ROC of these images reaches {point.detections.value:.1%} detected instead of "
        f"{found.value:.1%}, at a threshold of {point.threshold:.4g}. Only the test images tell that: it is no threshold to choose."
    )


def show_predictions(found: Predictions) -> None:
    """Print the highest scores with verdict and number of regions, and how many pictures are anomalous."""
    ranked = sorted(found.images, key=lambda image: image.score, reverse=True)
    out.print(f"engine {found.engine}")
    table = names_last("score", "threshold", "verdict", "regions", "picture")
    for image in ranked[:MOST_PICTURES]:
        style = "bold red" if image.is_anomalous else "green"
        table.add_row(
            f"{image.score:.4g}", f"{image.threshold:.4g}", f"[{style}]{image.verdict}[/]", str(len(image.regions)),
            escape(path_text(image.path)),
        )  # fmt: skip
    out.print(table)
    if len(ranked) > MOST_PICTURES:
        out.print(f"The {MOST_PICTURES} highest scores of {len(ranked)}; the files have all.")
    left_out = f"; {len(found.left_out)} could not be judged" if found.left_out else ""
    out.print(
        f"{found.n_anomalous} of {len(ranked)} pictures are anomalous at the threshold for {found.false_alarm_rate:.3g} "
        f"false alarms per image{left_out}."
    )


def show_robustness(result: Robustness) -> None:
    """Print each change at the end of its stated range, and the strength at which the promise breaks, in 80 columns."""

    def row(title: str, point: RobustnessPoint, broken: str) -> tuple[str, ...]:
        auroc = "-" if point.image_auroc is None else f"{point.image_auroc:.4f}"
        rates = ("-" if rate.value is None else f"{rate.value:.1%}" for rate in (point.found, point.false_alarms))
        return (title, point.label, auroc, *rates, broken)

    table = table_of("change", "strength", "image\nAUROC", "detected", "false\nalarms", "promise\nbroken at")
    table.add_row(*row("none", result.unchanged, "yes" if result.unchanged.breaks(result.promise) else "-"))
    for change in result.changes:
        broken = change.broken_at(result.promise)
        table.add_row(*row(change.title, change.at_mild, "-" if broken is None else broken.label))
    out.print(f"Robustness at the threshold for {result.promise:.3g} false alarms per image: {result.extent}")
    out.print(table)
    for line in (*result.left_out, result.rule):
        out.print(line)


def show_alerts(records: list[dict[str, Any]]) -> None:
    """Print one line per alert."""
    if not records:
        out.print("No alerts.")
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("alert, last to arrive first", no_wrap=True)
    for name in ("where", "state", "judged", "severity", "peak"):
        table.add_column(name)
    now = datetime.now(timezone.utc).isoformat()
    for record in records:
        by = record.get("acknowledged_by")
        future = ", dated in the future" if str(record.get("opened_at") or "") > now else ""
        table.add_row(
            escape(str(record.get("id"))),
            escape(f"{record.get('camera')}, {record.get('zone')}"),
            escape(f"{record.get('state')}{f', seen by {by}' if by else ''}{future}"),
            escape(str(record.get("judgement") or "-")),
            escape(str(record.get("severity") or "-")),
            escape(f"{_number(record.get('peak_score'))} / {_number(record.get('threshold'))}"),
        )
    out.print(table)


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the checks under their headings, advice below each that needs action, and a verdict."""
    width = max(len(check.name) for check in diagnosis.checks)
    indent = " " * (len("warning  ") + width + 2)
    for group, checks in groupby(diagnosis.checks, key=lambda check: check.group):
        out.print(f"[bold]{escape(group)}[/]")
        for check in checks:
            status = f"[{STATUS_STYLE[check.status]}]{check.status:<7}[/]"
            detail = textwrap.fill(
                printable(check.detail), max(out.width, MIN_WIDTH), initial_indent=indent, subsequent_indent=indent,
                break_on_hyphens=False,
            )  # fmt: skip
            out.print(f"{status}  {escape(check.name):<{width}}  {markup.escape(detail.lstrip())}")
            if check.advice:  # not wrapped, so that commands can be copied
                out.print(f"{' ' * len('warning  ')}[bold]→[/] {escape(check.advice)}")
    failed, warnings = diagnosis.count("failed"), diagnosis.count("warning")
    warned = f"{warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    if failed:
        out.print(f"[bold red]{failed} failed{', ' if warned else ''}{warned}.[/]")
    elif warned:
        out.print(f"[yellow]Nothing failed; {warned}.[/]")
    else:
        out.print("[green]Everything that could be checked is right.[/]")


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"


def escape(text: str) -> str:
    """Text of others that changes neither style nor terminal."""
    return markup.escape(printable(text))


def table_of(first: str, *others: str) -> Table:
    """A table with names in its first column and numbers in the others."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def names_last(first: str, *others: str) -> Table:
    """A table whose last column holds long names, which wrap instead of displacing the numbers."""
    table = table_of(first, *others[:-1])
    table.add_column(others[-1], overflow="fold")
    return table


def _share(value: float | None, n: int) -> str:
    return "-" if value is None else f"{value:.1%} ({n})"
