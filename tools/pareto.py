"""Measure what larger inputs and backbones find for their engine time: `python -m tools.pareto DATA_ROOT WORK --sets pcb`.

Each point is `edgead train` with its defaults but the backbone and the size of the input, then `edgead eval`, `build-engine --fp32` and
`bench`, one after the other: run them on an idle machine. A finished point is not measured again; `--in-turns` times the engines of all
points again, one after the other in several rounds, so that they share what else the machine does. The picture has a panel for each
data set and one for their mean, with the points that nothing faster beats joined by a line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from edgead.builder.gate import time_in_turns
from edgead.bundle import open_bundle
from edgead.commands.training.runs import BUNDLE
from edgead.engines.onnx_runner import OnnxRunner
from edgead.imaging import Image
from edgead.progress import Silent
from edgead.storage import write_bytes, write_json
from tools.results.cells import PLAIN, ShippedCell
from tools.results.shipped_run import LENIENT, measure_shipped

SETS = ("magnetic_tile", "pcb", "solar_cell_mono")
POINTS = ("lite0:224", "lite0:320", "lite0:448", "lite0:640", "lite2:320", "lite2:448")
BACKBONE = "tf_efficientnet_{}"
MEAN = "mean"
ROUNDS, RUNS = 5, 15
PANEL, GAP, TOP, BOTTOM, LEFT = 250, 46, 92, 44, 52
HEIGHT = 350
STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  .grid { stroke: #d8dee4 }
  .front { fill: none; stroke: #57606a; stroke-dasharray: 4 3 }
  .lite0 { fill: #0969da }
  .lite1 { fill: #1a7f37 }
  .lite2 { fill: #b35900 }
  text { font: 12px sans-serif; fill: #424a53 }
  .title { font-size: 15px; font-weight: 600; fill: #1f2328 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d }
    .grid { stroke: #2a313a }
    .front { stroke: #9da7b3 }
    .lite0 { fill: #58a6ff }
    .lite1 { fill: #3fb950 }
    .lite2 { fill: #f0a04b }
    text { fill: #9da7b3 }
    .title { fill: #e6edf3 }
  }
"""


@dataclass(frozen=True)
class Point:
    """A model that was measured.

    Attributes:
        backbone: End of its name, such as `lite0`.
        size: Side of the input in pixels.
        auroc: Image AUROC of the test images, 0..1.
        found: Defects above the threshold for 5 % false alarms, as a share of all.
        false_alarms: Good test images above the same threshold, as a share of all.
        milliseconds: Median time of an image on the fp32 engine.
    """

    backbone: str
    size: int
    auroc: float
    found: float
    false_alarms: float
    milliseconds: float


def measure(data: Path, work: Path, backbone: str, size: int, settings: dict[str, Any]) -> Point:
    """Train and judge one model, unless its result is there.

    Args:
        data: Data set of one class.
        work: Folder for results and runs.
        backbone: End of the backbone's name.
        size: Side of the input in pixels.
        settings: Further settings.
    """
    folder = _folder(work, data.name, backbone, size)
    file = _file(work, data.name, backbone, size)
    if not file.is_file():
        chosen = {"train.seed": 0, "model.backbone": BACKBONE.format(backbone), "model.image_size": size, **settings}
        cell = ShippedCell(data=data.name, model="usf", settings=chosen)
        found = measure_shipped(cell, data, folder, {"settings": chosen}, len(os.sched_getaffinity(0)), Silent())
        (metrics,) = found["evaluations"][PLAIN]["classes"].values()
        (counts,) = found["counts"][LENIENT][PLAIN].values()
        point = Point(
            backbone,
            size,
            metrics["image_auroc"],
            counts["found"] / counts["n_defective"],
            counts["false_alarms"] / counts["n_good"],
            found["bench"]["engine_ms"]["p50"],
        )
        write_json(file, asdict(point))
    return Point(**json.loads(file.read_text(encoding="utf-8")))


def _folder(work: Path, name: str, backbone: str, size: int) -> Path:
    return work / f"{name}-{backbone}-{size}"


def _file(work: Path, name: str, backbone: str, size: int) -> Path:
    return _folder(work, name, backbone, size).with_suffix(".json")


def _timed_again(points: dict[str, list[Point]], work: Path) -> dict[str, list[Point]]:
    every = [(name, point) for name, own in points.items() for point in own]
    bundles = [_folder(work, name, point.backbone, point.size) / BUNDLE for name, point in every]
    files = [bundle / "engines" / "onnxruntime-fp32" / "model.onnx" for bundle in bundles]
    images = [open_bundle(bundle).calibration_images()[0] for bundle in bundles]
    times = iter(timed_in_turns(files, images))
    return {name: [replace(point, milliseconds=next(times)) for point in own] for name, own in points.items()}


def timed_in_turns(
    files: Sequence[Path], images: Sequence[Image], rounds: int = ROUNDS, runs: int = RUNS
) -> list[float]:
    """Median milliseconds of an image `(H, W, 3)` on each engine; every round runs all of them, newly opened."""
    times: list[list[float]] = [[] for _ in files]
    for _ in range(rounds):
        for own, file, image in zip(times, files, images, strict=True):
            with OnnxRunner(file, threads=0, engine_name=file.parent.name) as runner:
                # against itself: the second of both times has a warm engine
                own.append(time_in_turns(runner, runner, image, runs)[1])
    return [statistics.median(own) for own in times]


def with_mean(points: dict[str, list[Point]]) -> dict[str, list[Point]]:
    """The points of each data set, behind those that every set has, averaged."""
    rows = [{(point.backbone, point.size): point for point in own} for own in points.values()]
    mean = []
    for backbone, size in rows[0]:
        own = [row.get((backbone, size)) for row in rows]
        every = [point for point in own if point is not None]
        if len(every) == len(rows):
            values = zip(*[list(asdict(point).values())[2:] for point in every], strict=True)
            mean.append(Point(backbone, size, *map(statistics.mean, values)))
    return {MEAN: mean, **points} if len(points) > 1 else points


def front(points: Sequence[Point]) -> list[Point]:
    """Points of which no faster one has an image AUROC as high, the fastest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.milliseconds, -one.auroc)):
        if not best or point.auroc > best[-1].auroc:
            best.append(point)
    return best


def table(points: dict[str, list[Point]]) -> str:
    """A Markdown table with a row per point; those that nothing faster beats are bold."""
    lines = [
        "| data set | backbone | input | engine fp32 | image AUROC | found at 5 % | false alarms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, own in points.items():
        best = front(own)
        for point in own:
            auroc = f"**{point.auroc:.3f}**" if point in best else f"{point.auroc:.3f}"
            lines.append(
                f"| {name} | {point.backbone} | {point.size} px | {point.milliseconds:.1f} ms | {auroc} | "
                f"{point.found:.0%} | {point.false_alarms:.1%} |"
            )
    return "\n".join(lines)


def draw(points: dict[str, list[Point]]) -> str:
    """An SVG with a panel per data set: image AUROC over the engine's time, on a logarithmic scale."""
    width = LEFT + len(points) * (PANEL + GAP)
    every = [point for own in points.values() for point in own]
    lowest = math.floor(min(point.auroc for point in every) * 20) / 20
    ends = min(point.milliseconds for point in every) / 1.3, max(point.milliseconds for point in every) * 1.3
    parts = ['<text class="title" x="16" y="26">Image AUROC over the time of the fp32 engine</text>']
    x = 16
    for backbone in dict.fromkeys(point.backbone for point in every):
        parts.append(f'<circle class="{escape(backbone)}" cx="{x + 5}" cy="44" r="5"/>')
        parts.append(f'<text x="{x + 16}" y="48">{escape(backbone)}</text>')
        x += 80
    parts.append(f'<text x="{x}" y="48">figures: side of the input in px; line: nothing faster is as good</text>')
    for index, (name, own) in enumerate(points.items()):
        parts += _panel(LEFT + index * (PANEL + GAP), name, own, lowest, ends)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" role="img" '
        f'aria-label="Image AUROC over engine time">\n<style>{STYLE}</style>\n'
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{HEIGHT - 1}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(left: int, name: str, own: Sequence[Point], lowest: float, ends: tuple[float, float]) -> Iterator[str]:
    bottom, first, last = HEIGHT - BOTTOM, math.log(ends[0]), math.log(ends[1])

    def place(milliseconds: float, auroc: float) -> tuple[float, float]:
        x = left + PANEL * (math.log(milliseconds) - first) / (last - first)
        return x, bottom - (bottom - TOP) * (auroc - lowest) / (1.0 - lowest)

    yield f'<text class="title" x="{left}" y="{TOP - 8}">{escape(name)}</text>'
    for step in range(round((1.0 - lowest) * 20) + 1):
        auroc = lowest + step / 20
        y = place(ends[0], auroc)[1]
        yield f'<line class="grid" x1="{left}" x2="{left + PANEL}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{auroc:.2f}</text>'
    for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500):
        if ends[0] <= tick <= ends[1]:
            x = place(tick, lowest)[0]
            yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick} ms</text>'
    line = " ".join("{:.1f},{:.1f}".format(*place(point.milliseconds, point.auroc)) for point in front(own))
    yield f'<polyline class="front" points="{line}"/>'
    for point in own:
        x, y = place(point.milliseconds, point.auroc)
        about = f"{point.backbone}, {point.size} px: {point.auroc:.3f} in {point.milliseconds:.1f} ms"
        yield f'<circle class="{escape(point.backbone)}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(about)}</title></circle>'
        yield f'<text x="{x + 7:.1f}" y="{y - 7:.1f}">{point.size}</text>'


def main(arguments: Sequence[str] | None = None, settings: dict[str, Any] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pareto", description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="folder with the data sets")
    parser.add_argument("work", type=Path, help="folder for runs and finished points")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="names of the data sets")
    parser.add_argument(
        "--points", nargs="+", default=list(POINTS), help="backbone and size of the input, such as lite0:320"
    )
    parser.add_argument("--finished", action="store_true", help="measure nothing, show the points that are finished")
    parser.add_argument("--in-turns", action="store_true", help="time the engines of all points again, in turns")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--picture", type=Path, help="file for the picture, .svg")
    options = parser.parse_args(arguments)
    points: dict[str, list[Point]] = {name: [] for name in options.sets}
    for text in options.points:  # all sets at one point, so that their mean is there early
        backbone, _, size = text.partition(":")
        for name in options.sets:
            if options.finished and not _file(options.work, name, backbone, int(size)).is_file():
                continue
            points[name].append(measure(options.root / name, options.work, backbone, int(size), settings or {}))
            print(f"{name}: {points[name][-1]}", flush=True)
    if options.in_turns:
        points = _timed_again(points, options.work)
    shown = with_mean(points)
    if options.json is not None:
        write_json(options.json, {name: [asdict(point) for point in own] for name, own in shown.items()})
    if options.picture is not None:
        write_bytes(options.picture, draw(shown).encode())
    print(table(shown))


if __name__ == "__main__":
    main()
