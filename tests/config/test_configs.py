"""The configurations in `configs/`: each loads, says how it is run, and makes the model that its paper describes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from edgead.commands.training.dry_run import DryRun, dry_run
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.config.training import DataConfig
from edgead.progress import Silent

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml"))
STREAMS = ("line.yaml", "cameras.yaml")
TRAINING = [path for path in CONFIGS if path.name not in STREAMS]
PAIR = ("uniform", "affine")
MODELS = ("fastflow", "cflow", "uflow", "usf-fastflow", "altub-fastflow", "hgad", "vae-usf")
FAMILIES = {"mvtec-ad": 15, "visa": 12, "btad": 3, "mvtec-3d": 10}

# Maps of the backbone `(C, h, w)` and millions of trainable parameters, as published or counted from the code.
PUBLISHED: dict[str, tuple[list[tuple[int, int, int]], float]] = {
    "fastflow": ([(256, 64, 64), (512, 32, 32), (1024, 16, 16)], 41.34),
    "fastflow-resnet18": ([(64, 64, 64), (128, 32, 32), (256, 16, 16)], 4.66),
    "fastflow-deit": ([(768, 24, 24)], 7.07),
    "fastflow-cait": ([(768, 28, 28)], 7.07),
    "cflow": ([(512, 32, 32), (1024, 16, 16), (2048, 8, 8)], 81.65),
    "cflow-resnet18": ([(128, 32, 32), (256, 16, 16), (512, 8, 8)], 8.62),
    "uflow": ([(768, 28, 28), (384, 14, 14)], 12.2),
    "hgad": ([(200, 64, 64), (200, 32, 32), (200, 16, 16)], 14.30),
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without data, so that the dry runs below describe the models alone."""
    monkeypatch.chdir(tmp_path)


def plan(path: Path, **overrides: object) -> DryRun:
    config = load_config(ROOT / path, {key.replace("__", "."): value for key, value in overrides.items()})
    return planned(config.model_copy(update={"data": DataConfig(root=Path("nowhere"))}))


@cache
def planned(config: Config) -> DryRun:
    """A dry run without data, once for settings that differ in the data folder alone."""
    return dry_run(config, Silent(), out=None, runs=Path("runs"))


def millions(name: str, **overrides: object) -> float:
    return plan(Path(f"configs/papers/models/{name}.yaml"), **overrides).n_learned / 1e6


def test_there_are_configurations() -> None:
    """Every model has one for every family of data sets, beside those for daily use."""
    assert {Path(f"configs/papers/{family}/{model}.yaml") for family in FAMILIES for model in MODELS} <= set(CONFIGS)
    assert {Path(f"configs/papers/models/{model}.yaml") for model in PUBLISHED} <= set(CONFIGS)
    assert Path("configs/default.yaml") in CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_configuration_loads_and_says_how_to_run_it(path: Path) -> None:
    """Every YAML file is valid, and its first line is the command that uses it."""
    load_config(ROOT / path, {})
    first, *others = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert first.startswith("# edgead ")
    assert f"--config {path.as_posix()}" in first
    assert others[0].startswith("# "), "a second line says what it is"


@pytest.mark.parametrize(
    "path",
    [
        # the models of the other families differ in size and epochs alone
        pytest.param(
            path, marks=pytest.mark.slow if path.parent.name in FAMILIES and path.parent.name != "btad" else ()
        )
        for path in TRAINING
    ],
    ids=str,
)
def test_configuration_can_be_trained(path: Path) -> None:
    """A dry run builds the model, with every level that the settings name."""
    found = plan(path)
    assert found.n_learned > 0
    assert dict(found.facts)["needs"].startswith("Each image takes")


@pytest.mark.parametrize("name", PUBLISHED)
def test_model_is_the_published_one(name: str) -> None:
    """Feature maps and trainable parameters are those of the paper; 1 % leaves room for rounded hidden widths and ends."""
    found = plan(Path(f"configs/papers/models/{name}.yaml"))
    maps, parameters = PUBLISHED[name]
    assert list(found.features.values()) == maps
    assert found.n_learned / 1e6 == pytest.approx(parameters, rel=0.01)


def test_published_variants() -> None:
    """FastFlow on ResNet-18 with the kernels of anomalib, and the two learnt numbers per channel of AltUB's base."""
    assert millions("fastflow-resnet18", model__kernels=[[3, 3], [1, 1]]) == pytest.approx(2.59, rel=0.01)
    assert millions("altub-fastflow") - millions("fastflow") == pytest.approx(2 * (256 + 512 + 1024) / 1e6, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("fastflow-resnet18", 0.69), ("fastflow", 11.0), ("fastflow-deit", 11.8), ("cflow-resnet18", 2.76),
        ("cflow", 44.1), pytest.param("uflow", 3.26, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_learnt_mixing_adds_what_the_reference_counts(name: str, added: float) -> None:
    """LU mixing has C^2 + C free numbers per block; both triangles are stored as square matrices, which is twice as much."""
    mixed, plain = (millions(name, model__coupling="uniform", model__mix=mix) for mix in ("lu", "permutation"))
    assert (mixed - plain) / 2 == pytest.approx(added, rel=0.01)


def test_uniform_subnets_emit_shifts_alone() -> None:
    """The last convolution of each subnet, hidden C/2 to C for an affine block, is half as large for an additive one."""
    uniform, affine = (millions("usf-fastflow", model__coupling=c, model__mix="permutation") for c in PAIR)
    halves = (32, 64, 128)
    per_pair = sum(half * half * (3 * 3 + 1 * 1) + 2 * half for half in halves)
    assert affine - uniform == pytest.approx(4 * per_pair / 1e6)


@pytest.mark.parametrize(("family", "classes"), FAMILIES.items())
def test_settings_of_a_family_name_its_data(family: str, classes: int) -> None:
    """A model per class starts with one class; HGAD takes the whole family."""
    for path in (path for path in CONFIGS if path.parent.name == family):
        root = load_config(ROOT / path, {}).data.root
        assert root == Path("data") / family if path.stem == "hgad" else root.parent == Path("data") / family
        assert f" {classes} classes" in (ROOT / path).read_text(encoding="utf-8").splitlines()[1]
