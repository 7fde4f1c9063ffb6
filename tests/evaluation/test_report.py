"""HTML report: self-contained, well-formed, escaped, complete for every kind of test set."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.evaluation.evaluate import ScoredImage, evaluate
from edgead.evaluation.report import Report, report_html, write_report
from edgead.evaluation.report_charts import histogram, score_axis
from edgead.evaluation.report_gallery import ImageBudget, card, choose_images
from edgead.evaluation.report_slider import SCRIPT
from edgead.evaluation.threshold import class_thresholds
from edgead.imaging import Image
from edgead.prediction import Segmentation

VOID = {"meta", "img", "br", "input"}
NASTY = "<script>alert('x')</script> & \"co\""


class Outline(HTMLParser):
    """Collects tags, attributes and text, and checks that every tag is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[10:20, 12:30] = True
    return mask


def _picture(path: Path) -> Image:
    return np.full((60, 80, 3), 90, np.uint8)


def _image(i: int, class_name: str, defect: str, score: float, *, masked: bool = True) -> ScoredImage:
    anomaly_map = np.random.default_rng(i).random((6, 8)).astype(np.float32)
    anomaly_map[2, 2] += score
    bad = defect != "good"
    mask = Path("mask.png") if bad and masked else None
    return ScoredImage(Path(f"{defect}/{i}.png"), class_name, defect, bad, score, anomaly_map, (60, 80), mask)


def _report(images: list[ScoredImage]) -> Report:
    rng = np.random.default_rng(0)
    thresholds = {"all": class_thresholds(rng.random(30), rng.random(30) + 1, 0.9, 0.05)}
    result = evaluate(images, {"all": 1.0}, _mask, engine="fake-fp32")
    return Report("A test", {"Bundle": "b"}, result, images, thresholds, _picture, _mask)


def _mixed(class_name: str = "nut", *, masked: bool = True) -> list[ScoredImage]:
    good = [_image(i, class_name, "good", 0.1 * i) for i in range(13)]
    bad = [_image(20 + i, class_name, "dent" if i % 2 else "rust", 0.5 + 0.3 * i, masked=masked) for i in range(9)]
    return good + bad


def _outline(report: Report) -> Outline:
    outline = Outline()
    outline.feed(report_html(report))
    outline.close()
    assert outline.open == []
    return outline


CASES = {
    "one class": _mixed(),
    "fifteen classes": [image for i in range(15) for image in _mixed(f"class {i}")],
    "no masks": _mixed(masked=False),
    "good only": [image for image in _mixed() if not image.gt_label],
    "defective only": [image for image in _mixed() if image.gt_label],
    "nothing missed": [image for image in _mixed() if not image.gt_label or image.pred_score > 1.0],
    "one image": _mixed()[:1],
    "equal scores": [replace(image, pred_score=1.0) for image in _mixed()],
    "heavy tail": [replace(image, pred_score=image.pred_score**9) for image in _mixed()],
}


@pytest.mark.parametrize("name", CASES)
def test_report_is_well_formed_and_accessible(name: str) -> None:
    """The report of any test set has balanced tags, no NaN, alt texts on images, names on charts, scoped headers."""
    outline = _outline(_report(CASES[name]))
    assert not re.search(r"\b(nan|inf|None)\b", outline.text)
    kinds = [tag for tag, _ in outline.tags]
    assert {"h1", "table", "svg", "img"} <= set(kinds)
    for tag, attributes in outline.tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        for value in attributes.values():
            assert not re.search(r"\b(nan|inf|None)\b", value or "") or (value or "").startswith("data:")


def test_report_loads_nothing() -> None:
    """No link to another file or host: images and script are inline, links stay on the page, the script asks for nothing."""
    outline = _outline(_report(_mixed()))
    assert not {"link", "iframe", "object"} & {tag for tag, _ in outline.tags}
    assert all(set(attributes) <= {"type", "class"} for tag, attributes in outline.tags if tag == "script")
    assert not re.search(r"fetch|XMLHttp|import|https?:|innerHTML|eval\(", SCRIPT)
    for _, attributes in outline.tags:
        if "src" in attributes:
            assert (attributes["src"] or "").startswith("data:image/")
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in report_html(_report(_mixed()))


def test_every_name_is_escaped() -> None:
    """Title, facts, classes, defects and file names are escaped: they appear as text, never as markup."""
    images = [replace(i, class_name=NASTY, image_path=Path(f'"><img onerror=x>{i.image_path.name}')) for i in _mixed()]
    images = [replace(i, defect=NASTY) if i.gt_label else i for i in images]
    outline = _outline(replace(_report(images), title=NASTY, facts={NASTY: NASTY}))
    assert [attributes.get("type") for tag, attributes in outline.tags if tag == "script"] == ["application/json", None]
    assert not any("onerror" in attributes for _, attributes in outline.tags)
    assert outline.text.count(NASTY) >= 6


def test_gallery_shows_the_worst_first() -> None:
    """Misses rise from the lowest score, alarms fall from the highest, finds are one per kind of defect and the nearest."""
    images = _mixed()
    misses, alarms, quiet, finds = choose_images(images, 1.0, 2)
    assert [group.verdict for group in (misses, alarms, quiet, finds)] == ["missed", "alarm", "fine", "found"]
    assert [round(image.pred_score, 3) for image in quiet.images] == [1.0]
    assert [round(image.pred_score, 3) for image in misses.images] == [0.5, 0.8]
    assert [round(image.pred_score, 3) for image in alarms.images] == [1.2, 1.1]
    assert [image.defect for image in finds.images[:2]] == ["dent", "rust"]
    assert len({id(image) for image in finds.images}) == len(finds.images) == 3
    assert all(image.gt_label and image.pred_score > 1.0 for image in finds.images)


def test_the_report_says_how_many_images_it_shows() -> None:
    """Of each group that is larger than what is embedded; a group whose images were all left out is not called empty."""
    text = report_html(_report(_mixed()))
    assert '<p class="soft shown">3 of 11 shown.</p><div class="cards" data-group="fine">' in text
    assert '<p class="soft shown"></p><div class="cards" data-group="missed">' in text
    assert text.count('class="soft empty" hidden') == 4


def test_good_images_nearest_to_an_alarm_stand_in() -> None:
    """Without any false alarm the highest good images are shown instead."""
    groups = {group.title: group for group in choose_images(_mixed(), 5.0, 4)}
    assert groups["Worst false alarms"].images == []
    nearest = groups["Good images nearest to a false alarm"].images
    assert [round(image.pred_score, 3) for image in nearest] == [1.2, 1.1]


def test_pictures_stay_within_the_budget() -> None:
    """Once the budget is used up, no further image is drawn, and the report states how many were left out."""
    budget = ImageBudget(1)
    report = _report(_mixed())
    scale = report.thresholds["all"].heatmap_scale
    assert budget.allows()
    assert "<figure" in card(report.images[0], scale, 1.0, (_picture, _mask), budget)
    assert not budget.allows()
    assert budget.n_left_out == 1


def test_ground_truth_is_drawn_where_the_mask_is() -> None:
    """Only defective images with a mask get a ground-truth panel; every defective one has a map on its own colours."""
    report = _report(_mixed())
    scale, readers = report.thresholds["all"].heatmap_scale, (_picture, _mask)
    with_mask = card(report.images[-1], scale, 1.0, readers, ImageBudget(10**6))
    without = card(replace(report.images[-1], mask=None), scale, 1.0, readers, ImageBudget(10**6))
    assert (with_mask.count("<img"), without.count("<img")) == (4, 3)
    assert "own colours" in without
    assert "own colours" not in card(report.images[0], scale, 1.0, readers, ImageBudget(10**6))


@pytest.mark.parametrize("largest", [2.0, 1e3, 1e9])
def test_score_axis_is_monotone_and_keeps_the_threshold_in_view(largest: float) -> None:
    """Linear or compressed, the axis rises, holds every score in 0..1 and gives the good scores and threshold room."""
    scores = np.array([0.1, 0.5, 0.9, 1.1, largest])
    axis = score_axis(scores, 0.5, 1.0)
    places = [axis.position(float(score)) for score in sorted([*scores, 1.0])]
    assert places == sorted(places)
    assert 0.0 <= places[0]
    assert places[-1] <= 1.0
    assert all(0.0 <= axis.position(tick) <= 1.0 for tick in axis.ticks)
    assert axis.position(1.0) - axis.position(0.1) > 0.03
    assert bool(axis.note) == (largest > 100)


def test_histogram_keeps_a_single_outlier_visible() -> None:
    """One image among a thousand still has a bar, and every bar stays inside the chart."""
    svg = histogram(np.append(np.linspace(0, 1, 999), 50.0), np.array([]), 1.2)
    heights = [float(h) for h in re.findall(r'class="good"[^>]*height="([\d.]+)"', svg)]
    assert min(heights) >= 2.0
    assert max(heights) <= 300


def test_report_is_written_whole(tmp_path: Path) -> None:
    """`write_report` leaves one file, UTF-8, ending with the closing tag."""
    write_report(tmp_path / "deep" / "report.html", _report(_mixed()))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8").endswith("</html>\n")


def test_the_heatmap_outlines_the_segmentation() -> None:
    """The outline follows the automatic segmentation of the image."""
    image = _image(3, "nut", "dent", 2.0)
    everywhere = replace(image, segmentation=Segmentation(np.ones((6, 8), np.float32), 0.5))
    scale = _report([image]).thresholds["all"].heatmap_scale
    first, second = (card(i, scale, 1.0, (_picture, _mask), ImageBudget(10**6)) for i in (image, everywhere))
    assert first != second


def test_left_out_scores_and_the_images_behind_the_threshold_are_named() -> None:
    """The promise says which scores it comes from, and the good images that set the threshold are drawn where they are known."""
    report = _report(_mixed())
    plain = report_html(report)
    assert "30 held-out good images" in plain
    assert "Good images that set the threshold" not in plain
    sheet = np.full((40, 90, 3), 60, np.uint8)
    drawn = report_html(replace(report, are_left_out=True, threshold_sheet=sheet))
    assert "30 left-out scores of good images" in drawn
    assert "held-out" not in drawn
    assert 'class="sheet"' in drawn


def test_a_predicted_class_has_no_slider() -> None:
    """Images that were judged by thresholds of their own cannot follow one threshold."""
    images = [replace(image, own_threshold=1.0) for image in _mixed()]
    assert 'type="range"' not in report_html(_report(images))


NEXT = {
    "one class": (
        "7 of 9 defective images were found, and 2 of 13 good images raised a false alarm.",
        ["missed", "false alarms"],
    ),
    "nothing missed": ("7 of 7 defective images were found, and 2 of 13 good", ["false alarms"]),
    "good only": ("There was no defective image, and 2 of 13 good", ["false alarms", "test/<defect>"]),
    "defective only": ("7 of 9 defective images were found, and there was no good image.", ["missed", "test/good"]),
    "all right": ("7 of 7 defective images were found, and 0 of 11 good", ["edgead stream"]),
}


@pytest.mark.parametrize("name", NEXT)
def test_the_report_begins_with_what_was_found_and_what_to_do(name: str) -> None:
    """In plain words above the facts; each piece of advice only where it fits."""
    all_right = [image for image in _mixed() if (image.pred_score > 1.0) == image.gt_label]
    text = _outline(_report({**CASES, "all right": all_right}[name])).text
    words, advice = NEXT[name]
    first = text[: text.index("Bundle")]
    assert words in first
    pieces = {"missed": "the missed images", "false alarms": "Look at the false alarms", "test/<defect>": "in test/<defect>",
              "test/good": "in test/good", "edgead stream": "edgead stream"}  # fmt: skip
    assert [key for key, piece in pieces.items() if piece in first] == advice


def test_pictures_come_before_figures() -> None:
    """People look at the pictures first; with several classes the table of metrics is the way to them."""
    one, two = (_outline(_report(images)).text for images in (_mixed(), _mixed() + _mixed("bolt")))
    assert one.index("Images and heatmaps") < one.index("Mask IoU, SegF1")
    assert two.index("Mask IoU, SegF1") < two.index("Images and heatmaps")
