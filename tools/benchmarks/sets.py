"""Benchmarks that can be run: their layouts, the metrics that their papers use, and what of those is not computed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgead.data.dataset import Dataset
from edgead.data.folders import subfolders
from edgead.data.layouts import contents_of, find_dataset
from edgead.errors import ConfigError, DataError
from edgead.suggestion import did_you_mean

COMMAND = "python -m tools.benchmarks"
LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"
METRICS = {
    "image_auroc": "image AUROC",
    "image_auroc_logical": "logical",
    "image_auroc_structural": "structural",
    "pixel_auroc": "pixel AUROC",
    "aupro_0.3": "AUPRO 0.3",
    "aupro_0.05": "AUPRO 0.05",
    "seg_f1": "SegF1, public",
    "seg_f1_private": "SegF1, private",
    "seg_f1_private_mixed": "SegF1, private mixed",
}
_USUAL = ("image_auroc", "pixel_auroc", "aupro_0.3")
_OF_KIND = {"image_auroc_logical": LOGICAL, "image_auroc_structural": STRUCTURAL}
_MVTEC = "CLASS/train/good, CLASS/test/good, CLASS/test/KIND and CLASS/ground_truth/KIND"


@dataclass(frozen=True)
class Benchmark:
    """A published data set of several classes.

    Attributes:
        name: Name on the command line, and of its folder in `configs/papers`.
        title: Name for people.
        layout: Layout that `find_dataset` has to recognise.
        n_classes: Number of classes of the whole set.
        looks_like: What its folder holds.
        metrics: Keys of `METRICS`, in order.
        not_computed: Sentences about metrics of its papers that are not computed.
    """

    name: str
    title: str
    layout: str
    n_classes: int
    looks_like: str
    metrics: tuple[str, ...] = _USUAL
    not_computed: tuple[str, ...] = ()


_ALL = (
    Benchmark("mvtec-ad", "MVTec AD", "MVTec AD", 15, _MVTEC),
    Benchmark("visa", "VisA", "VisA", 12, "split_csv/1cls.csv and a folder for each class"),
    Benchmark(
        "btad", "BTAD", "BTAD", 3, "CLASS/train/ok, CLASS/test/ok, CLASS/test/ko and CLASS/ground_truth/ko (01, 02, 03)"
    ),
    Benchmark(
        "mvtec-3d",
        "MVTec 3D-AD, colour images",
        "MVTec 3D-AD",
        10,
        "CLASS/train/good/rgb, CLASS/test/KIND/rgb and CLASS/test/KIND/gt",
        not_computed=("The positions (`xyz`) are not used: rows are comparable with those of colour images alone.",),
    ),
    Benchmark(
        "real-iad",
        "Real-IAD",
        "Real-IAD",
        30,
        "realiad_jsons and the images of one resolution, such as realiad_1024 (or that folder beside realiad_jsons)",
        not_computed=("Each picture is judged alone: a score of a part from all its views is not computed.",),
    ),
    Benchmark(
        "mvtec-loco",
        "MVTec LOCO AD",
        "MVTec LOCO AD",
        5,
        f"CLASS/train/good, CLASS/test/good, CLASS/test/{LOGICAL}, CLASS/test/{STRUCTURAL} and CLASS/ground_truth",
        metrics=("image_auroc", *_OF_KIND),
        not_computed=("sPRO, the measure of its masks, is not computed: edgead has no such metric.",),
    ),
    Benchmark(
        "mvtec-ad-2",
        "MVTec AD 2",
        "MVTec AD 2",
        8,
        "CLASS/train/good, CLASS/test_public/good, CLASS/test_public/bad and CLASS/test_public/ground_truth/bad",
        metrics=("image_auroc", "aupro_0.05", "seg_f1", "seg_f1_private", "seg_f1_private_mixed"),
        not_computed=(
            "SegF1 of the private parts is computed by the benchmark's server alone: `python -m tools.mvtec_ad2` writes what "
            "it takes, from bundles that `--keep-bundles` leaves.",
        ),
    ),
)
BENCHMARKS: Mapping[str, Benchmark] = {one.name: one for one in _ALL}


def benchmark_of(name: str) -> Benchmark:
    """Benchmark by its name on the command line.

    Raises:
        ConfigError: If there is none, with the names that there are.
    """
    if name not in BENCHMARKS:
        raise ConfigError(
            f"There is no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}.{did_you_mean(name, BENCHMARKS)}"
        )
    return BENCHMARKS[name]


def open_data(benchmark: Benchmark, root: Path) -> tuple[Path, Dataset]:
    """Find the data of a benchmark.

    Args:
        benchmark: Benchmark that the folder should hold.
        root: Folder of all classes; some of them may be missing. For Real-IAD also the folder above, of whose
            resolutions the largest is taken.

    Returns:
        Folder in which each class has a folder of its name, and the whole data set.

    Raises:
        DataError: If it holds anything else, with what it holds and what it should.
    """
    expected = f"{benchmark.title} has {benchmark.looks_like}."
    if not root.is_dir():
        raise DataError(f"The data folder {root} does not exist.", hint=expected)
    home = _images_of(benchmark, root)
    try:
        dataset = find_dataset(home)
    except DataError as error:
        raise DataError(f"{root} is no {benchmark.title}. {error.message}", hint=expected) from error
    if dataset.layout != benchmark.layout:
        fitting = [one.name for one in _ALL if one.layout == dataset.layout]
        more = f" For this folder: {COMMAND} {fitting[0]}." if fitting else ""
        seen = dataset.description.partition(":")[0]
        raise DataError(f"{root} is no {benchmark.title}: it holds {seen}.", hint=expected + more)
    if lacking := [name for name in dataset.classes if not (home / name).is_dir()]:
        raise DataError(
            f"{root} holds no folder for the class {lacking[0]}, only {contents_of_folder(home)}.",
            hint=f"Name the folder above, which holds one folder for each class. {expected}",
        )
    if untested := sorted(set(dataset.classes) - {sample.class_name for sample in dataset.test}):
        raise DataError(f"{root} has no test images of {', '.join(untested)}.", hint=expected)
    return home, dataset


def contents_of_folder(folder: Path) -> str:
    """Names of the folders in a folder, or else its files, for an error."""
    names = [part.name for part in subfolders(folder)]
    return ", ".join(names[:8]) + (" and more" if len(names) > 8 else "") if names else contents_of(folder)


def _images_of(benchmark: Benchmark, root: Path) -> Path:
    """Folder of the classes: of Real-IAD's resolutions the largest, as training on the folder above them takes it."""
    if benchmark.layout != "Real-IAD":
        return root
    sizes = [part for part in subfolders(root) if part.name.startswith("realiad_") and "jsons" not in part.name]
    return max(sizes, key=lambda part: int("".join(filter(str.isdigit, part.name)) or 0), default=root)


def samples_digest(dataset: Dataset, class_name: str | None = None) -> str:
    """Digest of what a class, or all, is trained and judged on: names, parts, labels and sizes of images and masks.

    The contents are not read: these sets are large, and their files do not change.
    """
    digest = hashlib.sha256()
    for part, samples in (("train", dataset.train), ("test", dataset.test)):
        for sample in samples:
            if class_name in (None, sample.class_name):
                masks = sample.mask.files if sample.mask else ()
                sizes = [path.stat().st_size for path in (sample.path, *masks)]
                digest.update(f"{part} {sample.class_name} {sample.name} {sample.defect} {sizes}\n".encode())
    return digest.hexdigest()[:16]


def metrics_of(benchmark: Benchmark, found: Mapping[str, object]) -> dict[str, float | None]:
    """Metrics of a benchmark, in percent, from those of one class as `edgead eval --json` gives them; None if undefined."""
    defects = found.get("defects")
    kinds = defects if isinstance(defects, dict) else {}
    values = {**found, **{key: kinds.get(kind, {}).get("image_auroc") for key, kind in _OF_KIND.items()}}
    return {key: 100 * value if isinstance(value := values.get(key), float) else None for key in benchmark.metrics}
