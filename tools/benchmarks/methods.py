"""What is trained on a benchmark: edgead's defaults, and the published settings in `configs/papers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import yaml

from edgead.config.file import read_values
from edgead.errors import ConfigError
from edgead.suggestion import did_you_mean
from tools.benchmarks.sets import COMMAND, Benchmark
from tools.results.cells import UNIFIED, Cell, Mode, Settings

Protocol = Literal["per-class", "unified"]
PROTOCOLS: tuple[Protocol, ...] = ("per-class", "unified")
PAPERS = Path(__file__).parents[2] / "configs" / "papers"
MODELS = PAPERS / "models"
DEFAULTS = ("usf", "hgad")
_PER_CLASS = Path(__file__).with_name("per_class.yaml")
_MODES: tuple[Mode, ...] = ("given", "predicted", "none")


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: Name on the command line.
        title: Name in the tables.
        config: Name of its file in `configs/papers/models`; empty for edgead's defaults.
        changes: Settings beside that file.
        protocols: Whether it is one model per class, one for all of them, or may be either.
        modes: Class information that the model takes; empty for a model without.
    """

    name: str
    title: str
    config: str = ""
    changes: Settings = field(default_factory=dict)
    protocols: tuple[Protocol, ...] = PROTOCOLS
    modes: tuple[Mode, ...] = ()


@dataclass(frozen=True)
class BenchmarkCell(Cell):
    """Cell of a benchmark.

    Attributes:
        benchmark: Name of the benchmark.
        protocol: Protocol of the cell.
        method: Name of the method.
        changes: Options that repeat the settings of this call.
    """

    benchmark: str = ""
    protocol: Protocol = "per-class"
    method: str = ""
    changes: str = ""

    @property
    def id(self) -> str:
        """Unique in a working folder, a file name, and what `--only` matches."""
        return f"{self.data}-{self.method}-seed{self.seed}"

    @property
    def command(self) -> str:
        """Trains and evaluates this cell again."""
        words = [COMMAND, self.benchmark, "DATA_ROOT", "--work DIR", f"--models {self.method}"]
        words += [f"--protocol {self.protocol}", f"--seeds {self.seed}", f"--only '{self.id}'", "--again"]
        return " ".join([*words, self.changes]).strip()


def methods() -> dict[str, Method]:
    """All methods by name: the defaults first, then every file of `configs/papers/models`."""
    known = [
        Method("usf", "edgead, default", changes={"model.name": "usf"}),
        Method(
            "hgad", "edgead, HGAD in closed form", changes={"model.name": "hgad"}, protocols=("unified",), modes=_MODES
        ),
    ]
    for path in sorted(MODELS.glob("*.yaml")):
        if path.stem == "hgad":
            published = Method("hgad-published", "HGAD", "hgad", {}, ("unified",), _MODES)
            uniform = {"model.coupling": "uniform"}
            known += [published, replace(published, name="hgad-usf", title="HGAD with a uniform flow", changes=uniform)]
        else:
            known.append(Method(path.stem, TITLES.get(path.stem, path.stem), path.stem))
    return {one.name: one for one in known}


TITLES = {
    "altub-cflow": "CFLOW-AD + AltUB",
    "altub-fastflow": "FastFlow + AltUB",
    "cflow": "CFLOW-AD, WideResNet-50-2",
    "cflow-resnet18": "CFLOW-AD, ResNet-18",
    "fastflow": "FastFlow, WideResNet-50-2",
    "fastflow-cait": "FastFlow, CaiT-M48",
    "fastflow-deit": "FastFlow, DeiT-B",
    "fastflow-resnet18": "FastFlow, ResNet-18",
    "uflow": "U-Flow",
    "usf-cflow": "CFLOW-AD, uniform",
    "usf-fastflow": "FastFlow, uniform",
    "usf-uflow": "U-Flow, uniform",
    "vae-usf": "VAE-USFlow",
}


def chosen_methods(names: Sequence[str]) -> list[Method]:
    """Methods by name.

    Raises:
        ConfigError: If there is none of a name, with the names that there are.
    """
    known = methods()
    for name in names:
        if name not in known:
            raise ConfigError(f"There is no model {name!r}; there are: {', '.join(known)}.{did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(names)]


def settings_of(method: Method, benchmark: Benchmark, class_name: str | None = None) -> Settings:
    """Settings of a method by dotted key, without those that name data.

    Args:
        method: Method.
        benchmark: Benchmark, for which some papers tune settings per class.
        class_name: Class of a model of its own; None for one model of all, for which nothing is tuned.

    Raises:
        ConfigError: If a file of settings cannot be read.
    """
    values = read_values(MODELS / f"{method.config}.yaml", {}) if method.config else {}
    settings = {f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()}
    tuned = yaml.safe_load(_PER_CLASS.read_text(encoding="utf-8"))
    own = tuned.get(benchmark.name, {}).get(method.config, {}).get(class_name, {}) if class_name else {}
    return {**settings, **own, **method.changes}


def cells_of(
    benchmark: Benchmark,
    chosen: Sequence[Method],
    protocols: Sequence[Protocol],
    classes: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    changes: Settings | None = None,
    options: str = "",
) -> list[Cell]:
    """Cells of a benchmark, every method once before the next seed.

    Args:
        benchmark: Benchmark.
        chosen: Methods.
        protocols: Protocols; a method that has none of them has no cells.
        classes: Classes that are there.
        seeds: Seeds of the trainings.
        changes: Settings of every cell, which replace its own.
        options: The same as words of the command line.

    Raises:
        ConfigError: If there is no cell, or one model for all classes is asked for and there is one class.
    """
    if tuple(protocols) == (UNIFIED,) and len(classes) < 2:
        raise ConfigError(
            f"--protocol unified needs at least 2 classes; there is {len(classes)}: {', '.join(classes)}.",
            hint="Name the folder of all classes, or --protocol per-class.",
        )
    cells: list[Cell] = []
    for seed in seeds:
        for method in chosen:
            for protocol in (one for one in PROTOCOLS if one in protocols and one in method.protocols):
                places = list(classes) if protocol == "per-class" else [UNIFIED] if len(classes) > 1 else []
                for place in places:
                    own = settings_of(method, benchmark, place if protocol == "per-class" else None)
                    settings = {**own, **(changes or {}), "train.seed": seed}
                    modes = method.modes if protocol == UNIFIED else ()
                    cell = BenchmarkCell(
                        place, "", "", "", seed, settings, modes, method.name, benchmark.name, protocol, method.name, options
                    )  # fmt: skip
                    model = cell.config(Path("data")).model
                    cells.append(replace(cell, model=model.name, coupling=model.coupling or "", base=model.base))
    if not cells:
        names = ", ".join(method.name for method in chosen)
        raise ConfigError(
            f"There is nothing to train: {names} with --protocol {' '.join(protocols)} and {len(classes)} class(es).",
            hint=f"One model for all classes, which needs at least two: "
            f"{', '.join(method.name for method in methods().values() if method.protocols == (UNIFIED,))}.",
        )
    return cells
