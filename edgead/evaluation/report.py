"""HTML report of an evaluation: one self-contained file for people, beside the JSON for scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from edgead.evaluation.evaluate import (
    ClassResult,
    EvaluationResult,
    MaskReader,
    Metrics,
    Rate,
    ScoredImage,
    image_counts,
)
from edgead.evaluation.metric_columns import METRIC_COLUMNS
from edgead.evaluation.next_step import found_in_words, next_step, totals
from edgead.evaluation.report_charts import histogram, number, rate_chart
from edgead.evaluation.report_gallery import (
    ImageBudget,
    ImageReader,
    card,
    choose_images,
    inline_jpeg,
    legend,
    shown_of,
)
from edgead.evaluation.report_robustness import robustness_section
from edgead.evaluation.report_slider import SCRIPT, slider
from edgead.evaluation.report_style import STYLE
from edgead.evaluation.robustness import Robustness
from edgead.evaluation.threshold import ASSUMPTION, rate_interval
from edgead.imaging import Image
from edgead.manifest import POOLED, ClassThresholds
from edgead.storage import write_bytes

MAX_IMAGE_BYTES = 12_000_000
CURVE_POINTS = 200
DASH = "–"


@dataclass(frozen=True)
class Report:
    """Content of a report.

    Attributes:
        title: Heading of the page.
        facts: Labelled facts in order, such as bundle, engine, data and versions; shown as given.
        result: Metrics.
        images: Scored images behind the metrics.
        thresholds: Thresholds and colour scale per class, and `all`, as in the bundle.
        read_image: Function that reads an image `(H, W, 3)`, uint8, RGB.
        read_mask: Function that reads the mask `(H, W)` of `ScoredImage.mask` and an original size.
        robustness: Results on changed images; None = not measured.
        are_left_out: Whether the scores behind the thresholds are left-out ones of all good images, not those of held-out ones.
        threshold_sheet: Picture of the good images that set the threshold, `(H, W, 3)`, uint8, RGB; None = there is none.
        missed_sheet: Picture of the known defects that the training missed; None = there is none.
    """

    title: str
    facts: Mapping[str, str]
    result: EvaluationResult
    images: Sequence[ScoredImage]
    thresholds: Mapping[str, ClassThresholds]
    read_image: ImageReader
    read_mask: MaskReader
    robustness: Robustness | None = None
    are_left_out: bool = False
    threshold_sheet: Image | None = None
    missed_sheet: Image | None = None


def write_report(path: Path, report: Report) -> None:
    """Write the report as one HTML file that needs no network; without its script only the slider is missing.

    Raises:
        StorageError: If the file cannot be written.
    """
    write_bytes(path, report_html(report).encode("utf-8", "backslashreplace"))


def report_html(report: Report) -> str:
    """Markup of the report; its images take at most about 12 MB."""
    budget = ImageBudget(MAX_IMAGE_BYTES)
    names = list(report.result.classes)
    sections = "".join(_class_section(report, name, f"class-{i}", budget) for i, name in enumerate(names))
    left_out = f'<p class="soft">{budget.n_left_out} images were left out to keep this file small.</p>'
    figures = _metrics_table(report.result) + (robustness_section(report.robustness) if report.robustness else "")
    pictures = sections + _threshold_images(report, budget) + _missed_defects(report, budget)
    # with several classes the table of metrics leads to each of them
    content = figures + pictures if len(names) > 1 else pictures + figures
    title = escape(report.title)
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in report.facts.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><header><h1>{title}</h1>"
        f"<p>{escape(found_in_words(report.result))} {escape(next_step(report.result))}</p>"
        f'<dl class="facts">{facts}</dl></header><main>{_tiles(report.result)}{content}'
        f"{left_out if budget.n_left_out else ''}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _tiles(result: EvaluationResult) -> str:
    mean = result.mean
    detections, false_alarms = totals(result)
    n = len(result.classes)
    what = f"mean over {n} classes; " if n > 1 else ""
    keys = {"Defects found": ' data-tile="found"', "False alarms": ' data-tile="alarms"'}
    tiles = [
        ("Defects found", _percent(detections.value), f"{detections.k} of {detections.n} defective images"),
        ("False alarms", _percent(false_alarms.value), f"{false_alarms.k} of {false_alarms.n} good images"),
        (
            "Image AUROC",
            _score(mean.image_auroc),
            f"{what}good and defective images in the right order; 1 is best, 0.5 is chance",
        ),
        (
            "AUPRO 0.05",
            _score(mean.aupro_0_05),
            f"{what}how well heatmaps cover the defects; 1 is best. AUPRO 0.3: {_score(mean.aupro_0_3)}",
        ),
        (
            "SegF1",
            _score(mean.seg_f1),
            f"{what}how well marks match the masks, pixel by pixel; 1 is best. Best of any threshold: {_score(mean.seg_f1_best)}",
        ),
    ]
    return (
        f'<div class="tiles" data-classes="{n}">'
        + "".join(
            f'<div class="tile"{keys.get(name, "")}><span>{name}</span><b>{value}</b><span>{note}</span></div>'
            for name, value, note in tiles
        )
        + "</div>"
    )


def _metrics_table(result: EvaluationResult) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            "class",
            *(column.title for column in METRIC_COLUMNS),
            "threshold",
            "good",
            "defective",
        )
    )
    rows = [
        f'<tr><th scope="row"><a href="#class-{i}">{escape(name)}</a></th>{_metric_cells(part.metrics)}</tr>'
        for i, (name, part) in enumerate(result.classes.items())
    ]
    if len(rows) > 1:
        rows.append(f'<tr class="mean"><th scope="row">mean</th>{_metric_cells(result.mean)}</tr>')
    blind = result.mean.n_without_mask
    note = f" Pixel metrics leave out {blind} defective images without a mask." if blind else ""
    if seen := result.mean.n_trained_on:
        note += (
            f" The false-alarm rate and marked good leave out {seen} good images that the bundle was trained on; the other "
            "metrics have them, and are too high."
        )
    return (
        '<section aria-labelledby="metrics"><h2 id="metrics">Metrics</h2><p class="soft">Pixel metrics and AUPRO are '
        "computed at the original image resolution; AUPRO up to a false-positive rate of 0.3 and 0.05. Mask IoU, SegF1 (F1 "
        "of all pixels) and region recall (share of true regions with a mark) are for the marked regions; best SegF1 is that of the "
        "best threshold of the map, which only the masks can tell. Marked good is the share of good images with any mark. "
        f"{DASH} means undefined or without ground truth."
        f'{note}</p><div class="scroll" tabindex="0" role="region" aria-label="Table of metrics">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _metric_cells(metrics: Metrics) -> str:
    cells = [(_percent if column.count else _score)(column.value(metrics)) for column in METRIC_COLUMNS]
    cells += [DASH if metrics.threshold is None else number(metrics.threshold)]
    cells += [str(metrics.n_good), str(metrics.n_defective)]
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _class_section(report: Report, name: str, anchor: str, budget: ImageBudget) -> str:
    part = report.result.classes[name]
    images = [image for image in report.images if image.class_name == name]
    thresholds = report.thresholds.get(name) or report.thresholds[POOLED]
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(name)}</h2>{_promise(part, thresholds, report.are_left_out)}'
        f"{_charts(part, images, thresholds)}{_defect_table(name, part)}{_gallery(report, part, images, thresholds, budget)}</section>"
    )


def _promise(part: ClassResult, thresholds: ClassThresholds, are_left_out: bool) -> str:
    record, measured = thresholds.threshold, part.false_alarms
    rate, n = (
        _percent(record.false_alarm_rate),
        f"{record.n_images} {'left-out scores of good images' if are_left_out else 'held-out good images'}",
    )
    if record.certified:
        promise = f"A new good image raises an alarm with a probability of at most {rate}, "
        promise += (
            "on average over trainings" if record.confidence is None else f"with {record.confidence:.0%} confidence"
        )
        promise += f" (certified from {n}"
        if rates := rate_interval(record):
            promise += f"; 95 % interval for this threshold {_percent(rates[0])} to {_percent(rates[1])}"
        promise += ")."
    else:
        promise = f"A new good image raises an alarm with a probability of about {rate} (extrapolated from {n}, too few to certify it"
        if record.interval is not None:
            promise += f"; 95 % interval of the threshold {number(record.interval[0])} to {number(record.interval[1])}, {ASSUMPTION}"
        promise += ")."
    seen = f" Measured here: {_percent(measured.value)}{_interval(measured)}." if measured.n else ""
    return f"<p>{promise}{seen}</p>"


def _charts(part: ClassResult, images: list[ScoredImage], thresholds: ClassThresholds) -> str:
    good = np.array([image.pred_score for image in images if not image.gt_label])
    defective = np.array([image.pred_score for image in images if image.gt_label])
    threshold = part.metrics.threshold or 0.0
    charts = [("scores", "Image scores", histogram(good, defective, threshold) + slider(part, images, thresholds))]
    counts = image_counts(images)
    if counts.has_both:
        far, recall = part.false_alarms.k / part.false_alarms.n, part.detections.k / part.detections.n
        called = part.detections.k + part.false_alarms.k
        label = f"{_percent(recall)} found, {_percent(far)} false alarms"
        roc = rate_chart(counts.roc_curve(CURVE_POINTS), ("false alarms", "defects found"), (far, recall), label)
        mark = (recall, part.detections.k / called) if called else None
        precision_label = f"{_percent(mark[1])} of alarms are correct" if mark else ""
        pr = rate_chart(counts.pr_curve(CURVE_POINTS), ("defects found", "correct alarms"), mark, precision_label)
        charts += [("roc", "ROC curve; dot: the threshold", roc), ("pr", "Precision-recall curve", pr)]
    figures = "".join(
        f'<figure class="chart" data-chart="{key}"><figcaption>{title}</figcaption>{svg}</figure>'
        for key, title, svg in charts
    )
    missing = "" if counts.has_both else '<p class="soft">Curves need good and defective test images.</p>'
    return f'<div class="charts">{figures}</div>{missing}'


def _defect_table(name: str, part: ClassResult) -> str:
    if not part.defects:
        return ""
    rows = "".join(
        f'<tr data-kind="{kind}"><th scope="row">{escape(name)}</th><td>{defect.detected.n}</td>'
        f'<td><span class="bar" aria-hidden="true"><i style="width:{100 * (defect.detected.value or 0.0):.1f}%"></i></span>'
        f'<span class="share">{_percent(defect.detected.value)}</span></td>'
        f'<td class="interval">{_interval(defect.detected, bare=True)}</td>'
        f"<td>{_score(defect.image_auroc)}</td></tr>"
        for kind, (name, defect) in enumerate(part.defects.items())
    )
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("defect", "images", "found", "95 % interval", "image AUROC")
    )
    return (
        '<h3>Kinds of defect</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="Kinds of defect of {escape(name, quote=True)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _gallery(
    report: Report, part: ClassResult, images: list[ScoredImage], thresholds: ClassThresholds, budget: ImageBudget
) -> str:
    threshold = part.metrics.threshold or 0.0
    per_group = 6 if len(report.result.classes) <= 3 else 3
    readers = (report.read_image, report.read_mask)
    parts = [f"<h3>Images and heatmaps</h3>{legend(thresholds.heatmap_scale)}"]
    for group in choose_images(images, threshold, per_group):
        parts.append(f"<h3>{group.title}</h3>")
        cards = [card(i, thresholds.heatmap_scale, threshold, readers, budget) for i in group.images if budget.allows()]
        parts.append(f'<p class="soft shown">{shown_of(len(cards), group.n_total)}</p>')
        parts.append(f'<div class="cards" data-group="{group.verdict}">{"".join(cards)}</div>')
        parts.append(f'<p class="soft empty"{" hidden" if group.n_total else ""}>{group.empty}</p>')
    return "".join(parts)


def _threshold_images(report: Report, budget: ImageBudget) -> str:
    """The good images that set the threshold, drawn by the training."""
    return _sheet(
        report.threshold_sheet,
        budget,
        ("setting", "Good images that set the threshold", "Good images with the highest scores"),
        "The good images of the training with the highest scores, the highest first, above their heatmaps. Are they really "
        "good? A defect among them hides every defect like it: leave it out with <code>edgead train --exclude NAME</code>. If "
        "they are rare but good, add more like them.",
    )


def _missed_defects(report: Report, budget: ImageBudget) -> str:
    """Known defects of the training that are not found, drawn by it."""
    return _sheet(
        report.missed_sheet,
        budget,
        ("missed", "Known defects that the training missed", "Missed known defects"),
        "The known defects that the training did not find, each judged by a choice of the form that had not seen it; those with the "
        "highest scores, the highest first, above their heatmaps.",
    )


def _sheet(sheet: Image | None, budget: ImageBudget, names: tuple[str, str, str], text: str) -> str:
    """Section with a picture that the training has drawn; `names` are its anchor, its title and what the picture shows."""
    if sheet is None or not budget.allows():
        return ""
    anchor, title, shown = names
    source, size = inline_jpeg(sheet)
    budget.left_bytes -= size
    height, width = sheet.shape[:2]
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{title}</h2><p>{text}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Pictures of these images">'
        f'<img class="sheet" src="{source}" width="{width}" height="{height}" decoding="async" '
        f'alt="{shown}, each with score, file name and heatmap"></div></section>'
    )


def _score(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    if value is None:
        return DASH
    digits = 0 if value in (0.0, 1.0) else 2 if value < 0.01 else 1
    return f"{100 * value:.{digits}f} %"


def _interval(rate: Rate, *, bare: bool = False) -> str:
    if rate.interval is None:
        return DASH if bare else ""
    low, high = rate.interval
    text = f"{_percent(low)} to {_percent(high)}"
    return text if bare else f" (95 % interval {text})"
