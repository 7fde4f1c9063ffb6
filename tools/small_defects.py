"""Measure small defects on large frames, squeezed and in tiles: `python -m tools.small_defects`.

Two bundles are trained on the same good frames, generated parts or, with `--mosaic FOLDER`, mosaics of real images. Then the
same unseen good frames are judged by both, without and with an artificial defect of a few pixels each. The table has, for
both, the share found at the shipped threshold with its false alarms, the share found where none of the good frames alarms, and
the time of a frame in calls of the engine.

A defect changes one place: the scores of the other tiles are those of the same frame without it, and are not computed again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import edgead
from edgead.config.file import parse_override
from edgead.data.folders import is_image
from edgead.data.reader import read_image
from edgead.data.sized_defects import make_sized_defect
from edgead.data.synthetic.make import make_part
from edgead.data.synthetic.parts import PARTS
from edgead.imaging import Image, png_from_rgb
from edgead.model import Model
from edgead.storage import write_bytes, write_json
from edgead.terminal import TerminalProgress
from edgead.tiled_runner import TiledRunner

Frames = Callable[[int], Image]
# Frames of this number and above are never trained on.
UNSEEN = 1_000_000
TIMED = 5
SCORES = "scores.json"


@dataclass(frozen=True)
class Row:
    """One bundle on the unseen frames.

    Attributes:
        name: `squeezed`, or the tiles.
        tiles: Number of inputs of a frame.
        n_good: Number of good frames, and of defects.
        found_shipped: Share of the defects above the shipped threshold.
        false_alarms: Number of good frames above it.
        found_at_none: Share of the defects above every good frame.
        frame_ms: Median time of a frame in the engine, cut and stitched.
        cost: That time in times of one call of the engine for each tile; 1 is no cost of its own.
    """

    name: str
    tiles: int
    n_good: int
    found_shipped: float
    false_alarms: int
    found_at_none: float
    frame_ms: float
    cost: float


def main(arguments: list[str] | None = None) -> int:
    """Train, judge and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", choices=sorted(PARTS), default="fabric", help="generated part")
    parser.add_argument("--mosaic", type=Path, help="folder of good images to make the frames of, instead of parts")
    parser.add_argument("--side", type=int, default=2048, help="side of a frame in px")
    parser.add_argument("--sizes", type=float, nargs=2, default=(6.0, 10.0), help="smallest and largest defect in px")
    parser.add_argument("--tiles", default="native")
    parser.add_argument("--overlap", type=float, default=0.1)
    parser.add_argument("--train", type=int, default=40, help="number of good frames to train on")
    parser.add_argument("--good", type=int, default=200, help="number of unseen good frames; each also gets a defect")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of both trainings")
    parser.add_argument("--work", type=Path, help="folder for frames, bundles and scores, reused if it has them")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    frames = _mosaics(options.mosaic, options.side) if options.mosaic else _parts(options.part, options.side)
    settings = dict(parse_override(text) for text in options.set)
    with tempfile.TemporaryDirectory(prefix="edgead-") as temporary:
        work = options.work or Path(temporary)
        rows = measure(
            frames, work, settings, tiles=options.tiles, overlap=options.overlap, n_train=options.train,
            n_good=options.good, sizes=tuple(options.sizes),
        )  # fmt: skip
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")
    return 0


def measure(
    frames: Frames,
    work: Path,
    settings: dict[str, Any],
    *,
    tiles: str,
    overlap: float,
    n_train: int,
    n_good: int,
    sizes: tuple[float, float],
) -> list[Row]:
    """Train both bundles on the same frames, and judge the same unseen ones.

    Args:
        frames: Frame of a number.
        work: Folder for frames, bundles and scores; those that it has are used again.
        settings: Settings of both trainings by dotted key.
        tiles: Tiles of the second one.
        overlap: Their overlap.
        n_train: Number of frames to train on.
        n_good: Number of unseen good frames.
        sizes: Smallest and largest defect in pixels.
    """
    for number in range(n_train):
        path = work / "good" / f"{number:04d}.png"
        if not path.is_file():
            write_bytes(path, png_from_rgb(frames(number)))
    models = {}
    for name, views in (("squeezed", {}), (f"tiles {tiles}", {"data.tiles": tiles, "data.overlap": overlap})):
        run = work / name.replace(" ", "-")
        if not (run / "bundle").is_dir():
            with TerminalProgress() as progress:
                edgead.train_bundle(work / "good", settings={**settings, **views}, out=run, progress=progress)
        models[name] = edgead.load(run / "bundle", engine="reference", threads=1)
    pairs = _scored(frames, work / SCORES, models, n_good, sizes)
    return [_row(name, models[name], np.array(pairs[name]), frames(UNSEEN)) for name in models]


def _scored(
    frames: Frames, path: Path, models: dict[str, Model], n_good: int, sizes: tuple[float, float]
) -> dict[str, list[tuple[float, float]]]:
    """Scores of each frame without and with a defect by bundle; those that the file has are not computed again."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    digests = {name: model.bundle.digest for name, model in models.items()}
    known = {one["number"]: one["scores"] for one in kept if one["bundles"] == digests and one["sizes"] == list(sizes)}
    with TerminalProgress() as progress:
        for number in range(n_good):
            if number in known:
                continue
            frame, random = frames(UNSEEN + number), np.random.default_rng(number)
            defective, place = make_sized_defect(frame, float(random.uniform(*sizes)), random, _place(frame, random))
            known[number] = {name: judge_pair(model, frame, defective, place) for name, model in models.items()}
            kept.append({"number": number, "bundles": digests, "sizes": sizes, "scores": known[number]})
            write_json(path, kept)
            progress.update("Frames", number + 1, n_good)
    return {name: [known[number][name] for number in range(n_good)] for name in models}


def judge_pair(model: Model, frame: Image, defective: Image, place: tuple[float, float]) -> tuple[float, float]:
    """Scores of a frame without and with a defect at a place (x, y) in shares, as two calls of `predict` would give them."""
    runner = model.runner
    if not isinstance(runner, TiledRunner):
        both = model.predict([frame, defective])
        return both[0].score, both[1].score
    every = range(runner.grid.n_tiles)
    changed = [
        index for index in every if (runner.grid.region(frame, index) != runner.grid.region(defective, index)).any()
    ]
    rest = [index for index in every if index not in changed]
    one, both_frames = [], [(frame, rest), (frame, changed), (defective, changed)]
    for image, wanted in both_frames:
        if wanted:
            one.append(float(runner.infer_tiles([runner.grid.cut(image, wanted)], [wanted])["pred_score"][0]))
        else:
            one.append(-np.inf)
    return max(one[0], one[1]), max(one[0], one[2])


def _row(name: str, model: Model, pairs: NDArray[np.float64], frame: Image) -> Row:
    good, defective = pairs.T
    threshold = model.thresholds().threshold.value
    runner, bundle = model.runner, model.bundle
    engine = runner.engine if isinstance(runner, TiledRunner) else runner
    n_tiles = runner.grid.n_tiles if isinstance(runner, TiledRunner) else 1
    single = np.ascontiguousarray(bundle.overview(frame)[None])
    engine.infer(single)
    frame_ms = _median_ms(lambda: runner.infer(bundle.preprocess(frame)[None]))
    call_ms = _median_ms(lambda: [engine.infer(single) for _ in range(n_tiles)])
    return Row(
        name=name,
        tiles=n_tiles,
        n_good=len(good),
        found_shipped=float((defective > threshold).mean()),
        false_alarms=int((good > threshold).sum()),
        found_at_none=float((defective > good.max()).mean()),
        frame_ms=round(frame_ms, 1),
        cost=round(frame_ms / call_ms, 3),
    )


def table(rows: list[Row]) -> str:
    """Rows as a table in Markdown."""
    lines = [
        "| bundle | inputs | found at the shipped threshold | false alarms | found at 0 false alarms | ms per frame | cost |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.tiles} | {row.found_shipped:.1%} | {row.false_alarms} of {row.n_good} | "
        f"{row.found_at_none:.1%} | {row.frame_ms:.0f} | {row.cost:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _median_ms(run: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times))


def _place(frame: Image, random: np.random.Generator) -> tuple[float, float]:
    """A random place on the part, which is brighter than the belt that it lies on."""
    small = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), 4)
    dark = 0.5 * float(np.median(small))
    while True:
        x, y = random.uniform(0.08, 0.92, 2)
        if small[int(y * small.shape[0]), int(x * small.shape[1])] >= dark:
            return float(x), float(y)


def _parts(part: str, side: int) -> Frames:
    return lambda number: make_part(part, np.random.default_rng([11, number]), (side, side))[0]


def _mosaics(folder: Path, side: int) -> Frames:
    """Mosaics of random good images; those to train on and the unseen ones share none."""
    files = sorted(path for path in folder.rglob("*") if is_image(path))

    def frame(number: int) -> Image:
        random = np.random.default_rng([11, number])
        own = files[1::2] if number >= UNSEEN else files[::2]
        canvas = np.zeros((side, side, 3), np.uint8)
        y = 0
        while y < side:
            x, height = 0, side
            while x < side:
                image = read_image(own[int(random.integers(len(own)))])
                part = image[: side - y, : side - x]
                canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
                x, height = x + part.shape[1], min(height, part.shape[0])
            y += height
        return canvas

    return frame


if __name__ == "__main__":
    sys.exit(main())
