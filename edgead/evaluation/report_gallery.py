"""Image gallery of the report: choice of images; image, heatmap and ground truth as inline JPEG."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.evaluation.evaluate import MaskReader, ScoredImage
from edgead.evaluation.report_charts import number
from edgead.heatmap import HeatmapScale, heatmap_from_map, overlay
from edgead.imaging import Image, jpeg_from_rgb, png_from_rgb, resize

ImageReader = Callable[[Path], Image]
PANEL_PX = 320
JPEG_QUALITY = 82
OWN_COLOURS = "own colours"
_OWN = ' class="own"'


@dataclass(frozen=True)
class Group:
    """Section of the gallery: verdict of its images, heading, images, the text shown if there are none, and their number in all."""

    verdict: str
    title: str
    images: list[ScoredImage]
    empty: str
    n_total: int


class ImageBudget:
    """Remaining bytes for images in a report; the limit lets it open on a phone."""

    def __init__(self, limit_bytes: int) -> None:
        self.left_bytes = limit_bytes
        self.n_left_out = 0

    def allows(self) -> bool:
        """Whether another card may be drawn; counts the refusals."""
        if self.left_bytes > 0:
            return True
        self.n_left_out += 1
        return False


def choose_images(images: Sequence[ScoredImage], threshold: float, per_group: int) -> list[Group]:
    """Choose the worst misses and false alarms, the good images nearest to an alarm, and typical and near finds."""
    good = sorted((image for image in images if not image.gt_label), key=lambda image: -image.pred_score)
    defective = sorted((image for image in images if image.gt_label), key=lambda image: image.pred_score)
    missed = [image for image in defective if not image.pred_score > threshold]
    alarms = [image for image in good if image.pred_score > threshold]
    groups = []
    if defective:
        groups.append(
            Group("missed", "Worst misses", missed[:per_group], "No defective image was missed.", len(missed))
        )
    if good:
        groups.append(
            Group("alarm", "Worst false alarms", alarms[:per_group], "No good image raised an alarm.", len(alarms))
        )
    if good:
        quiet = [image for image in good if not image.pred_score > threshold]
        groups.append(
            Group(
                "fine",
                "Good images nearest to a false alarm",
                quiet[: max(1, per_group // 2)],
                "There are none.",
                len(quiet),
            )
        )
    if defective:
        found = [image for image in defective if image.pred_score > threshold]
        shown = _typical(found)[: 2 * per_group]
        shown += [image for image in found if image not in shown][: max(1, per_group // 2)]
        title = "Finds: a typical one of each kind of defect, and those nearest to a miss"
        groups.append(Group("found", title, shown, "Nothing was found.", len(found)))
    return groups


def shown_of(n_shown: int, n_total: int) -> str:
    """How many of a group's images are in the file; a few of each keep it small."""
    return "" if n_shown >= n_total else f"{n_shown} of {n_total} shown."


def panels_html(panels: Sequence[tuple[Image, str, str]], budget: ImageBudget) -> str:
    """Pictures of a card, each with its label.

    Args:
        panels: Pixels `(H, W, 3)`, RGB, label and escaped alternative text of each.
        budget: Bytes left for pictures, which is charged.
    """
    parts = []
    for pixels, label, alt in panels:
        source, size = inline_jpeg(pixels)
        budget.left_bytes -= size
        height, width = pixels.shape[:2]
        own = _OWN if label == OWN_COLOURS else ""
        parts.append(
            f'<div{own}><img src="{source}" alt="{alt}" width="{width}" height="{height}" decoding="async">'
            f"<span>{label}</span></div>"
        )
    return "".join(parts)


def card(
    image: ScoredImage,
    scale: HeatmapScale,
    threshold: float,
    readers: tuple[ImageReader, MaskReader],
    budget: ImageBudget,
) -> str:
    """Figure with image, heatmap and, for defective images with a mask, ground truth; the caption has the verdict."""
    read_image, read_mask = readers
    panel = fit_panel(read_image(image.image_path))
    name = escape(f"{image.image_path.parent.name}/{image.image_path.name}", quote=True)
    panels = [
        (panel, "image", f"{name}"),
        (
            overlay(panel, image.anomaly_map, scale, image.segmentation),
            "heatmap",
            f"Heatmap of {name}",
        ),
    ]
    if image.gt_label:
        panels.append((own_scale(panel, image.anomaly_map), OWN_COLOURS, f"Map of {name} on its own colour scale"))
    if image.gt_label and image.mask is not None:
        marked = _with_contour(panel, read_mask(image.mask, image.size))
        panels.append((marked, "ground truth", f"{name} with the true defect outlined"))
    state = {(True, True): "found", (True, False): "missed", (False, True): "alarm", (False, False): "fine"}
    facts = (
        f'data-score="{image.pred_score!r}" data-bad="{int(image.gt_label)}" '
        f'data-state="{state[image.gt_label, image.pred_score > threshold]}"'
    )
    return f'<figure class="card" {facts}><div class="panels">{panels_html(panels, budget)}</div>{_caption(image, threshold, name)}</figure>'


def legend(scale: HeatmapScale) -> str:
    """Colour scale with the map values at both ends and in the middle."""
    places = np.linspace(0.0, 1.0, 256)
    values = np.interp(places, (0.0, 0.5, 1.0), (scale.low, scale.threshold, scale.high)).astype(np.float32)
    png = png_from_rgb(heatmap_from_map(values[None, :], scale))
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    alt = "Colour scale from dark blue (ordinary) over green (pixel threshold) to dark red (strongly anomalous)"
    return (
        f'<div class="legend"><img src="{source}" alt="{alt}" width="256" height="14"><div class="ends">'
        f"<span>ordinary<br>≤ {number(scale.low)}</span><span>pixel threshold<br>{number(scale.threshold)}</span>"
        f"<span>strong<br>≥ {number(scale.high)}</span></div>"
        '<p class="soft">The colour scale is set by good images and is the same in every heatmap. Ordinary areas stay '
        "clear; marked regions have a red outline. A miss is also shown on its own colours, which reach from its middle value to its highest: "
        "where the model looked, not how much it saw.</p></div>"
    )


def own_scale(panel: Image, anomaly_map: NDArray[np.float32]) -> Image:
    """The picture under its map, coloured from the map's median to its own maximum."""
    low, high = float(np.median(anomaly_map)), float(anomaly_map.max())
    if not high > low:
        return panel
    scale = HeatmapScale(low, (low + high) / 2, high)
    return overlay(panel, anomaly_map, scale, contours=False)


def _typical(found: list[ScoredImage]) -> list[ScoredImage]:
    """Pick the image with the median score of each kind of defect; `found` is sorted by score."""
    kinds = sorted({image.defect for image in found})
    members = [[image for image in found if image.defect == kind] for kind in kinds]
    return [images[len(images) // 2] for images in members]


def _caption(image: ScoredImage, threshold: float, name: str) -> str:
    alarm = image.pred_score > threshold
    verdict, kind = {
        (True, True): ("found", "ok"),
        (True, False): ("missed", "wrong"),
        (False, True): ("false alarm", "wrong"),
        (False, False): ("correctly good", "ok"),
    }[image.gt_label, alarm]
    defect = f" · {escape(image.defect)}" if image.gt_label else ""
    sign = f'<span class="sign">{"&gt;" if alarm else "≤"}</span>'
    return (
        f'<figcaption><b class="{kind}">{verdict}</b>{defect}<br>score {number(image.pred_score)} {sign} '
        f'threshold <span class="limit">{number(threshold)}</span><br><span class="file">{name}</span></figcaption>'
    )


def fit_panel(image: Image) -> Image:
    """Shrink an image to the size of a panel; a smaller one stays as it is."""
    height, width = image.shape[:2]
    factor = min(1.0, PANEL_PX / max(height, width))
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def _with_contour(panel: Image, mask: NDArray[np.bool_]) -> Image:
    """Outline the mask; contours are found at full size and then scaled, so small defects cannot vanish."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    factor = np.array([panel.shape[1] / mask.shape[1], panel.shape[0] / mask.shape[0]])
    moved = [np.rint((contour + 0.5) * factor - 0.5).astype(np.int32) for contour in contours]
    marked = np.array(panel)
    cv2.drawContours(marked, moved, -1, (255, 255, 255), 4)
    cv2.drawContours(marked, moved, -1, (0, 160, 40), 2)
    return marked


def inline_jpeg(pixels: Image) -> tuple[str, int]:
    """Address of an image `(h, w, 3)` that holds its JPEG, and its length in characters."""
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg_from_rgb(pixels, JPEG_QUALITY)).decode()
    return source, len(source)
