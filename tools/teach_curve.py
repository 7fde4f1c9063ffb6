"""Measure how well a model is taught with few pictures: `python -m tools.teach_curve --base DIR --data SET [--data SET ...]`.

The pictures of `train/good` are shown in a random order, and a model is fitted each time that as many as `--counts` says were
accepted. Its image AUROC on the test folder is printed, which decides nothing. With `--measure` the command `edgead teach` runs
for each count in a process of its own, and its time and largest memory are printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.dataset import Sample
from edgead.data.reader import read_image
from edgead.evaluation.metrics import auroc
from edgead.evaluation.threshold import smallest_rate
from edgead.imaging import resize
from edgead.storage import write_json
from edgead.teach.base import Base, open_base
from edgead.teach.features import FeatureNet, Features
from edgead.teach.learning import outputs
from edgead.teach.teacher import Taught, Teacher

COUNTS = (5, 10, 20, 40, 64)
CHANCE = 0.5


@dataclass(frozen=True)
class Row:
    """One set with one number of pictures.

    Attributes:
        name: Name of the set.
        count: Number of pictures.
        form: `positions` or `centres`, and the shrinkage.
        image_auroc: AUROC of the test images.
        kept: Share of the full-data AUROC's excess over 0.5; None without it.
        rate: Promised false-alarm rate.
        seconds: Wall time of the command; None if it was not measured.
        peak_mb: Its largest resident memory in MB; None if it was not measured.
    """

    name: str
    count: int
    form: str
    image_auroc: float
    kept: float | None
    rate: float
    seconds: float | None = None
    peak_mb: float | None = None

    def line(self) -> str:
        """Line of a table in Markdown."""
        kept = "–" if self.kept is None else f"{self.kept:.0%}"
        cost = "– | –" if self.seconds is None else f"{self.seconds:.1f} s | {self.peak_mb:.0f} MB"
        return (
            f"| {self.name} | {self.count} | {self.form} | {self.image_auroc:.3f} | {kept} | {self.rate:.1%} | {cost} |"
        )


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and write it as JSON and as a picture where asked."""
    options = _parser().parse_args(arguments)
    base = open_base(options.base)
    full = {name: float(value) for name, _, value in (text.partition("=") for text in options.full)}
    rows: list[Row] = []
    print("| set | pictures | form | image AUROC | kept | promised | time | peak |\n|---|---|---|---|---|---|---|---|")
    for data in options.data:
        for row in curve(base, data, options.counts, full.get(data.name), options.cache, options.measure, options.seed):
            rows.append(row)
            print(row.line(), flush=True)
    if options.json is not None:
        write_json(options.json, [asdict(row) for row in rows])
    if options.picture is not None:
        draw(rows, full, options.picture)
    return 0


def curve(
    base: Base, data: Path, counts: list[int], full: float | None, cache: Path | None, measure: bool, seed: int
) -> list[Row]:
    """Rows of one set, in the order of the counts."""
    dataset = choose_dataset(data, FolderRoles())
    order = np.random.default_rng(seed).permutation(len(dataset.train))
    test = test_features(base, dataset.test, cache)
    defective = np.array([bool(sample.gt_label) for sample in dataset.test])
    teacher, taught, rows = Teacher(base), [], []
    for index in order:
        sample = dataset.train[int(index)]
        if teacher.add(read_image(sample.path), sample.name).is_accepted:
            taught.append(sample)
            if len(taught) in counts:
                row = _row(data.name, base, teacher.fit(), test, defective, full)
                rows.append(_measured(row, base, taught) if measure else row)
        if len(taught) == max(counts):
            break
    return rows


def test_features(base: Base, samples: tuple[Sample, ...], cache: Path | None) -> list[Features]:
    """Features of the test images, from the cache where they are there."""
    file = None if cache is None else cache / f"{base.digest[:16]}-{samples[0].path.parts[-4]}-{len(samples)}.npz"
    n_features = len(base.manifest.features)
    if file is not None and file.is_file():
        with np.load(file) as stored:
            arrays = [stored[f"feature_{index}"] for index in range(n_features)]
        return [tuple(array[number] for array in arrays) for number in range(len(samples))]
    net = FeatureNet(base, 0)
    found = [net(resize(read_image(sample.path), base.image_size)) for sample in samples]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **{f"feature_{i}": np.stack([one[i] for one in found]) for i in range(n_features)})  # type: ignore[arg-type]
    return found


def draw(rows: list[Row], full: dict[str, float], path: Path) -> None:
    """Draw the image AUROC over the number of pictures, with that of all pictures as a dashed line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        (line,) = axes.plot([row.count for row in own], [row.image_auroc for row in own], marker="o", label=name)
        if name in full:
            axes.axhline(full[name], color=line.get_color(), linestyle="--", linewidth=1)
    axes.set(xlabel="good pictures taught", ylabel="image AUROC", xscale="log")
    counts = sorted({row.count for row in rows})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(title="dashed: trained on all pictures")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _row(
    name: str, base: Base, taught: Taught, test: list[Features], defective: NDArray[np.bool_], full: float | None
) -> Row:
    scores = outputs(base, taught.learnt, test)["pred_score"]
    found = float(auroc(scores, defective) or 0.0)
    chosen = taught.learnt.chosen
    form = chosen.form if chosen.shrinkage is None else f"{chosen.form} {chosen.shrinkage:g}"
    kept = None if full is None else (found - CHANCE) / (full - CHANCE)
    return Row(name, len(taught.images), form, round(found, 4), kept, smallest_rate(len(taught.images)))


def _measured(row: Row, base: Base, samples: list[Sample]) -> Row:
    """Teach the same pictures with the command, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="edgead-") as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for number, sample in enumerate(samples):
            os.symlink(sample.path.resolve(), folder / f"{number:04d}{sample.path.suffix}")
        command = [sys.executable, "-m", "edgead", "teach", "--base", str(base.path), "--data", str(folder)]
        started = time.monotonic()
        with (Path(name) / "log").open("w") as log:
            process = subprocess.Popen([*command, "--out", str(Path(name) / "run")], stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        if process.returncode:
            raise RuntimeError((Path(name) / "log").read_text(encoding="utf-8"))
    return Row(**{**asdict(row), "seconds": round(seconds, 1), "peak_mb": round(usage.ru_maxrss / 1024, 1)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="base bundle of `edgead export --base`")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="data set with a test part; repeatable"
    )
    parser.add_argument("--counts", type=json.loads, default=list(COUNTS), help="numbers of pictures, as [5, 10, 20]")
    parser.add_argument(
        "--full", action="append", default=[], metavar="SET=AUROC", help="AUROC of a training on all pictures"
    )
    parser.add_argument("--cache", type=Path, help="folder for the features of the test images")
    parser.add_argument("--measure", action="store_true", help="measure time and memory of the command")
    parser.add_argument("--seed", type=int, default=0, help="order of the pictures")
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    parser.add_argument("--picture", type=Path, help="draw the curve into this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
