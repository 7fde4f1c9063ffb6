"""Benchmarks: data, cells, published numbers and tables of `python -m tools.benchmarks`, and trainings on miniatures."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgead.config.file import load_config
from edgead.data.layouts import find_dataset
from edgead.data.synthetic.make import write_dataset
from edgead.errors import ConfigError, DataError
from tests.data.miniatures import LAYOUTS, write_miniature
from tests.data.pictures import write_mask, write_photo
from tools.benchmarks.__main__ import main
from tools.benchmarks.methods import PAPERS, PROTOCOLS, cells_of, chosen_methods, methods, settings_of
from tools.benchmarks.page import lines_of, page, to_json
from tools.benchmarks.published import read_published
from tools.benchmarks.sets import BENCHMARKS, METRICS, benchmark_of, metrics_of, open_data, samples_digest
from tools.results.cells import Settings

SIDE = 64
KINDS = ("cap", "disc")
# a closed form of two hundred images is small enough already; these leave out what it searches
TINY: Settings = {
    "model.image_size": SIDE, "model.levels": ["16:8"], "train.device": "cpu", "train.min_images": 10, "train.centres": 16, "train.forms": ["positions"],
    "train.shrinkage": [0.2], "train.pseudo_limit": 10, "train.calibration_images": 2, "train.reference_images": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generated classes in the layout of MVTec AD; do not change its files."""
    root = tmp_path_factory.mktemp("source")
    for seed, kind in enumerate(KINDS):
        write_dataset(root / kind, kind, n_train=14, n_test_good=3, n_test_per_defect=1, seed=seed, size=(SIDE, SIDE))
    return root


def _tiny_mvtec(root: Path, *classes: str) -> Path:
    for name in classes:
        for file in ("train/good/0.png", "train/good/1.png", "test/good/0.png", "test/scratch/0.png"):
            write_photo(root / name / file)
        write_mask(root / name / "ground_truth" / "scratch" / "0_mask.png")
    return root


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_miniature_is_what_the_benchmark_needs(source: Path, tmp_path: Path, name: str) -> None:
    """Both classes are found in its layout, with the same pictures, labels and masks as in the source, and none to spare."""
    benchmark, wanted = benchmark_of(name), find_dataset(source)
    home, dataset = open_data(benchmark, write_miniature(name, source, tmp_path / "data"))
    assert len(dataset.classes) == 2
    assert all((home / one).is_dir() for one in dataset.classes)

    def contents(samples: Any) -> list[tuple[bytes, bytes]]:
        return sorted((one.path.read_bytes(), one.mask_path.read_bytes() if one.mask_path else b"") for one in samples)

    assert contents(dataset.train) == contents(wanted.train)
    assert contents(dataset.test) == contents(wanted.test)
    for one in dataset.classes:  # and each class can be trained alone, on the same pictures
        alone = find_dataset(home / one)
        assert alone.classes == (one,)
        assert {sample.path for sample in alone.train} == {s.path for s in dataset.train if s.class_name == one}
        assert {sample.path for sample in alone.test} == {s.path for s in dataset.test if s.class_name == one}


def test_every_benchmark_has_a_miniature_and_published_numbers() -> None:
    """None of the seven is left out, and none has metrics or numbers that no table shows."""
    assert set(BENCHMARKS) == set(LAYOUTS) == set(read_published())
    for name, found in read_published().items():
        for one in found:
            assert set(one.values) <= set(BENCHMARKS[name].metrics) <= set(METRICS)
            assert all(1 < value <= 100 for value in one.values.values()), one


@pytest.mark.parametrize(
    ("name", "method", "file"),
    [
        *((name, "HGAD", "hgad") for name in ("mvtec-ad", "visa", "btad", "mvtec-3d")),
        ("mvtec-ad", "CFLOW-AD, WideResNet-50-2", "cflow"),
        ("mvtec-ad", "CFLOW-AD, ResNet-18", "cflow-resnet18"),
        ("mvtec-ad", "U-Flow", "uflow"),
        ("mvtec-ad", "FastFlow, CaiT-M48", "fastflow-cait"),
        ("mvtec-ad", "FastFlow + AltUB", "altub-fastflow"),
    ],
)
def test_published_numbers_are_those_of_the_settings(name: str, method: str, file: str) -> None:
    """The tables and the comments of `configs/papers` quote the same numbers."""
    one = next(one for one in read_published()[name] if one.method == method)
    text = (PAPERS / name / f"{file}.yaml").read_text(encoding="utf-8")
    said = {word.lower(): float(number) for word, number in re.findall(r"(image AUROC|pixel AUROC|AUPRO) (\d+\.\d+)", text, re.IGNORECASE)}  # fmt: skip
    assert said == {METRICS[key].lower().removesuffix(" 0.3"): value for key, value in one.values.items()}


@pytest.mark.parametrize(
    "path", sorted(path for path in PAPERS.glob("*/*.yaml") if path.parent.name != "models"), ids=lambda p: f"{p.parent.name}-{p.stem}"
)  # fmt: skip
def test_settings_are_those_of_the_papers(path: Path) -> None:
    """For the class, or the folder of all, that a file of `configs/papers` names, a cell has the settings of the file."""
    wanted = load_config(path, {})
    benchmark, place = benchmark_of(path.parent.name), wanted.data.root.name
    method = methods()["hgad-published" if path.stem == "hgad" else path.stem]
    protocol = "unified" if place == benchmark.name else "per-class"
    classes = ("one", "two") if protocol == "unified" else (place,)
    (cell,) = cells_of(benchmark, [method], [protocol], classes)  # type: ignore[list-item]
    found = cell.config(wanted.data.root)
    assert (found.model, found.train) == (wanted.model, wanted.train)


def test_papers_that_tune_classes_have_settings_of_each() -> None:
    """Fifteen classes of MVTec AD; one model for all of them has none of it."""
    benchmark = benchmark_of("mvtec-ad")
    method = methods()["uflow"]
    assert settings_of(method, benchmark, "tile")["train.learning_rate"] == 0.00605
    assert settings_of(method, benchmark)["train.learning_rate"] == 0.0001
    assert settings_of(method, benchmark_of("visa"), "tile") == settings_of(method, benchmark)
    assert settings_of(methods()["cflow"], benchmark, "transistor")["model.image_size"] == 128


def test_cells_are_those_of_the_protocols() -> None:
    """A cell for each class and one for all; HGAD is for all alone, with the three modes; ids are files of their own."""
    benchmark = benchmark_of("btad")
    chosen = chosen_methods(["usf", "hgad", "fastflow"])
    cells = cells_of(benchmark, chosen, PROTOCOLS, ("01", "02"), seeds=(0, 1), changes={"model.image_size": 128})
    first = [cell for cell in cells if cell.seed == 0]
    assert [(cell.data, cell.variant) for cell in first] == [
        ("01", "usf"), ("02", "usf"), ("unified", "usf"), ("unified", "hgad"),
        ("01", "fastflow"), ("02", "fastflow"), ("unified", "fastflow"),
    ]  # fmt: skip
    assert len({cell.id for cell in cells}) == 2 * len(first)
    assert {cell.modes for cell in first if cell.variant == "hgad"} == {("given", "predicted", "none")}
    assert {cell.config(Path("data")).model.image_size for cell in cells} == {128}
    assert {(cell.model, cell.coupling) for cell in first} == {("usf", "uniform"), ("hgad", "affine"), ("fastflow", "affine")}  # fmt: skip
    assert "--models hgad --protocol unified --seeds 1 --only 'unified-hgad-seed1' --again" in cells[-4].command
    with pytest.raises(ConfigError, match="nothing to train: hgad with --protocol per-class"):
        cells_of(benchmark, chosen_methods(["hgad"]), ["per-class"], ("01", "02"))
    with pytest.raises(ConfigError, match="at least 2 classes; there is 1: 01"):
        cells_of(benchmark, chosen, ["unified"], ("01",))


def test_what_is_not_known_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark or model that does not exist is answered with those that do, before anything is read."""
    rest = [str(tmp_path / "none"), "--work", str(tmp_path / "work")]
    assert main(["mvtec-da", *rest]) == 2
    said = capsys.readouterr().err
    assert "There is no benchmark 'mvtec-da'; there are: mvtec-ad, visa, btad, mvtec-3d" in said
    assert "Did you mean mvtec-ad?" in said
    assert main(["mvtec-ad", *rest, "--models", "usf", "fastflwo"]) == 2
    assert "no model 'fastflwo'; there are: usf, hgad, altub-cflow" in capsys.readouterr().err
    assert main(["mvtec-ad", *rest]) == 1
    assert f"The data folder {tmp_path / 'none'} does not exist." in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """The error says what is there and what the benchmark has; for another benchmark it names that one."""
    root = _tiny_mvtec(tmp_path / "mvtec", "bottle", "cable")
    with pytest.raises(
        DataError, match=r"is no BTAD: it holds MVTec AD layout, 2 classes \(bottle, cable\)\."
    ) as caught:
        open_data(benchmark_of("btad"), root)
    assert "CLASS/train/ok" in caught.value.hint
    assert "python -m tools.benchmarks mvtec-ad" in caught.value.hint
    with pytest.raises(DataError, match="no folder for the class bottle, only ground_truth, test, train") as caught:
        open_data(benchmark_of("mvtec-ad"), root / "bottle")
    assert "Name the folder above" in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is no VisA\. The data folder .* is empty") as caught:
        open_data(benchmark_of("visa"), tmp_path / "empty")
    assert "split_csv/1cls.csv" in caught.value.hint
    for part in ("test", "ground_truth"):
        shutil.rmtree(root / "cable" / part)
    with pytest.raises(DataError, match="has no test images of cable"):
        open_data(benchmark_of("mvtec-ad"), root)


def test_other_labels_or_files_are_other_data(tmp_path: Path) -> None:
    """A digest covers its class alone, and changes with a file's size, its label or its part."""
    root = _tiny_mvtec(tmp_path, "bottle", "cable")

    def digests() -> tuple[str, str, str]:
        dataset = find_dataset(root)
        return samples_digest(dataset, "bottle"), samples_digest(dataset, "cable"), samples_digest(dataset)

    before = digests()
    assert len(set(before)) == 3
    assert digests() == before
    for part in ("test", "ground_truth"):
        (root / "cable" / part / "scratch").rename(root / "cable" / part / "stain")
    renamed = digests()
    assert renamed[0] == before[0]
    assert renamed[1:] != before[1:]
    (root / "cable/test/stain/0.png").rename(root / "cable/test/good/1.png")
    shutil.rmtree(root / "cable/ground_truth")
    moved = digests()
    assert moved[1] != renamed[1]
    assert moved[2] != renamed[2]
    write_photo(root / "cable/train/good/0.png", (30, 40))
    assert digests()[1] != moved[1]


def test_metrics_of_kinds() -> None:
    """LOCO's two kinds come from the kinds of defect; what is undefined, or measured elsewhere, is None."""
    found = {
        "image_auroc": 0.75, "aupro_0.05": 0.5, "seg_f1": None,
        "defects": {"logical_anomalies": {"image_auroc": 0.25}, "structural_anomalies": {"image_auroc": 1.0}},
    }  # fmt: skip
    assert metrics_of(benchmark_of("mvtec-loco"), found) == {
        "image_auroc": 75.0, "image_auroc_logical": 25.0, "image_auroc_structural": 100.0,
    }  # fmt: skip
    assert metrics_of(benchmark_of("mvtec-ad-2"), found) == {
        "image_auroc": 75.0, "aupro_0.05": 50.0, "seg_f1": None, "seg_f1_private": None, "seg_f1_private_mixed": None,
    }  # fmt: skip


def _record(data: str, method: str, seed: int, modes: tuple[str, ...] = ("plain",), **values: float) -> dict[str, Any]:
    metrics = {name: {"image_auroc": value, "pixel_auroc": 0.9, "aupro_0.3": None} for name, value in values.items()}
    evaluations = {mode: {"classes": metrics} for mode in modes}
    return {
        "id": f"{data}-{method}-seed{seed}",
        "data": data,
        "variant": method,
        "seed": seed,
        "evaluations": evaluations,
    }


def test_the_table_has_ours_beside_the_published() -> None:
    """Means over classes, then over seeds; a class that one seed lacks does not count; failures are listed."""
    benchmark, chosen = benchmark_of("btad"), chosen_methods(["usf", "hgad"])
    modes = ("given", "predicted", "none")
    records = [
        _record("01", "usf", 0, **{"01": 0.8}), _record("02", "usf", 0, **{"02": 1.0}),
        _record("01", "usf", 1, **{"01": 0.6}), _record("02", "usf", 1, **{"02": 0.8}), _record("03", "usf", 1, **{"03": 0.1}),
        _record("unified", "hgad", 0, modes, **{"01": 0.5, "02": 0.6, "03": 0.7}),
        {"id": "03-usf-seed0", "data": "03", "variant": "usf", "seed": 0, "error": "DataError: gone\nmore"},
    ]  # fmt: skip
    lines = lines_of(benchmark, chosen, PROTOCOLS, records)
    text = page(benchmark, ("01", "02", "03"), lines, records, "python -m tools.benchmarks btad data")
    assert "| a model per class | edgead, default | 80.00 ± 14.14 | 90.00 ± 0.00 | – | 2 of 3 | 2 |  |" in text
    assert "| one model for all | edgead, HGAD in closed form, class unknown | 60.00 | 90.00 | – | 3 | 1 |  |" in text
    assert "| a model per class | U-Flow | 95.95 | 98.13 | 81.79 | 3 | – | arXiv:2211.12353; an epoch for each" in text
    assert text.index("| U-Flow |") < text.index("edgead, HGAD in closed form, class given") < text.index("| InvAD |")
    assert "| 03 | – | 70.00 | 70.00 | 70.00 |" in text
    assert "- `03-usf-seed0`: DataError: gone\n" in text
    assert "cannot be compared" not in text
    assert "cannot be compared" in page(benchmark, ("01", "02"), lines, records, "")
    content = to_json(benchmark, ("01", "02", "03"), lines, records)
    assert [(row["protocol"], row["method"], row["class_mode"]) for row in content["rows"]] == [
        ("per-class", "usf", None), *(("unified", "hgad", mode) for mode in modes),
    ]  # fmt: skip
    first = content["rows"][0]
    assert (first["seeds"], first["n_classes"]) == ([0, 1], 2)
    assert first["mean"] == {"image_auroc": 80.0, "pixel_auroc": 90.0, "aupro_0.3": None}
    assert first["classes"]["02"]["image_auroc"] == 90.0
    assert content["failed"] == [{"id": "03-usf-seed0", "error": "DataError: gone\nmore"}]
    assert {one["source"] for one in content["published"]} >= {"arXiv:2211.12353"}


def _call(name: str, root: Path, work: Path, *words: str) -> int:
    assigned = [word for key, value in TINY.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return main([name, str(root), "--work", str(work), "--threads", "1", *words, *assigned])


def _rows(name: str, work: Path) -> dict[tuple[str, str, str | None], dict[str, Any]]:
    """Measured rows; every metric that can be computed here is there."""
    content = json.loads((work / f"{name}.json").read_text())
    assert len(content["classes"]) == 2
    for row in content["rows"]:
        for key, value in row["mean"].items():
            assert (value is None) == key.startswith("seg_f1_private"), key
    return {(row["protocol"], row["method"], row["class_mode"]): row for row in content["rows"]}


MODES = [("unified", "hgad", mode) for mode in ("given", "predicted", "none")]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "btad"])
def test_a_miniature_is_trained_and_judged(source: Path, tmp_path: Path, name: str) -> None:
    """A model of one class and one of all classes, judged by the metrics of the benchmark, beside its published numbers."""
    root, work = write_miniature(name, source, tmp_path / "data"), tmp_path / "work"
    assert _call(name, root, work, "--models", "usf", "--only", "cap-*") == 0
    (alone,) = _rows(name, work).values()
    assert (alone["protocol"], list(alone["classes"])) == ("per-class", ["cap"])
    assert alone["mean"]["image_auroc"] > 60, "labels are swapped"
    assert _call(name, root, work, "--models", "hgad", "--protocol", "unified") == 0
    rows = _rows(name, work)
    assert list(rows) == MODES
    assert all(list(row["classes"]) == ["cap", "disc"] for row in rows.values())
    page = (work / f"{name}.md").read_text()
    assert all(one.method in page for one in read_published()[name])
    assert all(text in page for text in BENCHMARKS[name].not_computed)


@pytest.mark.slow
def test_the_same_command_continues(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both protocols in one command, which leaves what is finished as it is; the same command again trains nothing."""
    root, work = write_miniature("btad", source, tmp_path / "data"), tmp_path / "work"

    def written() -> dict[str, int]:
        return {path.stem: path.stat().st_mtime_ns for path in (work / "cells").iterdir()}

    assert _call("btad", root, work, "--only", "01-*") == 0
    first = written()
    assert list(first) == ["01-usf-seed0"]
    assert _call("btad", root, work) == 0
    every = written()
    assert sorted(every) == ["01-usf-seed0", "02-usf-seed0", "unified-hgad-seed0", "unified-usf-seed0"]
    assert every["01-usf-seed0"] == first["01-usf-seed0"]
    assert list(_rows("btad", work)) == [("per-class", "usf", None), ("unified", "usf", None), *MODES]
    page = (work / "btad.md").read_text()
    assert page in capsys.readouterr().out
    assert "| a model per class | edgead, default, with --set |" in page
    assert _call("btad", root, work) == 0
    assert written() == every
    assert (work / "btad.md").read_text() == page
    assert not list((work / "runs").glob("*-seed0"))
