"""HTML page of a comparison: both heatmaps of every image whose verdict changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from edgead.evaluation.evaluate import ScoredImage
from edgead.evaluation.report_charts import number
from edgead.evaluation.report_gallery import ImageBudget, fit_panel, panels_html
from edgead.evaluation.report_style import STYLE
from edgead.heatmap import HeatmapScale, overlay
from edgead.imaging import Image

MAX_IMAGE_BYTES = 12_000_000


@dataclass(frozen=True)
class Judged:
    """One side's judgement of an image.

    Attributes:
        image: The image with the engine's outputs.
        threshold: Score above which the image is anomalous.
        scale: Colour scale at that threshold.
    """

    image: ScoredImage
    threshold: float
    scale: HeatmapScale

    @property
    def is_anomalous(self) -> bool:
        return self.image.pred_score > self.threshold


@dataclass(frozen=True)
class Change:
    """An image on which A and B give different verdicts."""

    a: Judged
    b: Judged

    @property
    def kind(self) -> str:
        """`defect lost`, `defect gained`, `false alarm gained` or `false alarm gone`, from A to B."""
        if self.a.image.gt_label:
            return "defect lost" if self.a.is_anomalous else "defect gained"
        return "false alarm gone" if self.a.is_anomalous else "false alarm gained"


KINDS = ("defect lost", "false alarm gained", "defect gained", "false alarm gone")
_HEADINGS = {
    "defect lost": "Defects that A finds and B misses",
    "false alarm gained": "False alarms of B alone",
    "defect gained": "Defects that B finds and A misses",
    "false alarm gone": "False alarms of A alone",
}


def comparison_html(
    title: str,
    facts: Mapping[str, str],
    lines: Sequence[str],
    changes: Sequence[Change],
    read_image: Callable[[Path], Image],
) -> str:
    """Markup of the page; its images take at most about 12 MB.

    Args:
        title: Heading of the page.
        facts: Labelled facts in order, such as both bundles and the data.
        lines: Results in sentences.
        changes: Images whose verdict differs.
        read_image: Function that reads an image `(H, W, 3)`, uint8, RGB.
    """
    budget = ImageBudget(MAX_IMAGE_BYTES)
    sections = []
    for kind in KINDS:
        found = [change for change in changes if change.kind == kind]
        cards = "".join(_card(change, read_image, budget) for change in found if budget.allows())
        if found:
            sections.append(f'<h2>{_HEADINGS[kind]} ({len(found)})</h2><div class="cards">{cards}</div>')
    if not changes:
        sections.append("<p>No verdict differs.</p>")
    if budget.n_left_out:
        sections.append(f'<p class="soft">{budget.n_left_out} images were left out to keep this file small.</p>')
    head = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><header><h1>{escape(title)}</h1>"
        f'<dl class="facts">{head}</dl></header><main>{"".join(f"<p>{escape(line)}</p>" for line in lines)}'
        f"{''.join(sections)}</main></body></html>\n"
    )


def _card(change: Change, read_image: Callable[[Path], Image], budget: ImageBudget) -> str:
    image = change.a.image
    panel = fit_panel(read_image(image.image_path))
    name = escape(f"{image.image_path.parent.name}/{image.image_path.name}", quote=True)
    panels = [(panel, "image", name)]
    for side, judged in (("A", change.a), ("B", change.b)):
        drawn = overlay(panel, judged.image.anomaly_map, judged.scale, judged.image.segmentation)
        panels.append((drawn, f"heatmap of {side}", f"Heatmap of {side} for {name}"))
    kind = "ok" if change.kind in ("defect gained", "false alarm gone") else "wrong"
    defect = f" · {escape(image.defect)}" if image.gt_label else ""
    scores = "<br>".join(f"{side}: {_verdict(judged)}" for side, judged in (("A", change.a), ("B", change.b)))
    return (
        f'<figure class="card"><div class="panels">{panels_html(panels, budget)}</div><figcaption><b class="{kind}">{change.kind}</b>'
        f'{defect}<br>{scores}<br><span class="file">{name}</span></figcaption></figure>'
    )


def _verdict(judged: Judged) -> str:
    sign = "&gt;" if judged.is_anomalous else "≤"
    verdict = "anomalous" if judged.is_anomalous else "good"
    return f"{verdict}, score {number(judged.image.pred_score)} {sign} threshold {number(judged.threshold)}"
