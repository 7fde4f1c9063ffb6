"""Cells of the results page, expanded from a YAML file: each is one training run with its evaluations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgead.config import defaults
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.errors import ConfigError, DataError

TABLE = Path(__file__).with_name("table.yaml")
COMMAND = "python -m tools.results"
UNIFIED = "unified"
PLAIN = "plain"
_AXES = ("model.name", "model.coupling", "model.base", "train.seed")
_NO_FILE = Path(os.devnull)  # not an edgead.yaml that lies where the tool is run
Settings = dict[str, Any]
Mode = Literal["given", "predicted", "none"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPart(_Part):
    """Additions of one model: settings that its architecture dictates, its own seeds, its label modes."""

    settings: Settings = {}
    seeds: tuple[int, ...] | None = None
    modes: tuple[Mode, ...] = ()


class PerClassPart(_Part):
    """Axes of the cells that have a model per data set."""

    models: tuple[str, ...]
    couplings: tuple[Literal["affine", "uniform"], ...]
    bases: tuple[Literal["normal", "altub"], ...]


class UnifiedPart(_Part):
    """One way to train one model on all data sets."""

    model: str
    coupling: Literal["affine", "uniform"]
    base: Literal["normal", "altub"] = "normal"


class VariantPart(_Part):
    """A cell of the table with settings changed, to find out why it does as it does; shown beside it, part of no claim."""

    name: str = Field(pattern="[a-z_]+")
    about: str
    of: UnifiedPart
    data: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    settings: Settings


class ShippedPart(_Part):
    """A model as edgead ships it: cells that set nothing but the seed; `settings` are for a try on small images."""

    model: str
    data: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    modes: tuple[Mode, ...] = ()
    settings: Settings = {}


class Table(_Part):
    """The YAML file."""

    about: str
    budget: Settings
    data_sets: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    models: dict[str, ModelPart]
    per_class: PerClassPart
    unified: tuple[UnifiedPart, ...] = ()
    variants: tuple[VariantPart, ...] = ()
    shipped: tuple[ShippedPart, ...] = ()
    explanations: dict[str, str] = {}


@dataclass(frozen=True)
class Cell:
    """One training run and how it is evaluated.

    Attributes:
        data: Data set, or `unified` for one model of all data sets.
        model, coupling, base: Parts of the detector.
        seed: Random seed of the training.
        settings: Everything that differs from edgead's defaults, by dotted key.
        modes: Class information given to the model, one evaluation each; empty: one evaluation without any.
        variant: Name of the changed setting; empty for an unchanged cell.
    """

    data: str
    model: str
    coupling: str
    base: str
    seed: int
    settings: Settings
    modes: tuple[Mode, ...] = ()
    variant: str = ""

    @property
    def id(self) -> str:
        """Unique in the table, a file name, and what `--only` matches."""
        variant = (self.variant,) if self.variant else ()
        return "-".join((self.data, self.model, self.coupling, self.base, *variant, f"seed{self.seed}"))

    @property
    def command(self) -> str:
        """Trains and evaluates this cell again."""
        return f"{COMMAND} DATA_ROOT --only {self.id} --again"

    def config(self, folder: Path, cache: Path | None = None) -> Config:
        """Return the validated configuration of the cell.

        Args:
            folder: Training images.
            cache: Features shared between cells.

        Raises:
            ConfigError: If a setting is unknown or out of range.
        """
        places = {"data.root": str(folder), "train.cache_dir": None if cache is None else str(cache)}
        return load_config(_NO_FILE, {**self.settings, **places})


@dataclass(frozen=True)
class ShippedCell(Cell):
    """One training as a user starts it, with edgead's defaults, judged by the commands that a user types."""

    coupling: str = ""
    base: str = ""
    seed: int = 0
    settings: Settings = field(default_factory=dict)

    @property
    def id(self) -> str:
        """As of every cell; the defaults name its parts."""
        return f"{self.data}-{self.model}-shipped-seed{self.seed}"


def read_table(path: Path) -> Table:
    """Read and check the YAML file.

    Raises:
        ConfigError: If it cannot be read, has unknown keys, lists something twice, or a model changes the budget.
    """
    try:
        table = Table.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"The table {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}.") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{path} is no table of results:\n  " + "\n  ".join(lines)) from error
    parts = {"budget": table.budget, **{f"models.{name}": part.settings for name, part in table.models.items()}}
    for name, settings in parts.items():
        if own := sorted(settings.keys() & set(_AXES)):
            raise ConfigError(f"{name} in {path} sets {', '.join(own)}, which the cells differ in.")
    for name, part in table.models.items():
        if both := sorted(table.budget.keys() & part.settings.keys()):
            raise ConfigError(
                f"models.{name} in {path} changes {', '.join(both)}, but the budget is the same for every cell.",
                hint="Take the key out of `budget`, or out of the model.",
            )
    used = {*table.per_class.models, *(part.model for part in (*table.unified, *(v.of for v in table.variants)))}
    if missing := sorted(used - table.models.keys()):
        raise ConfigError(f"{path} uses {', '.join(missing)}, which `models` does not list.")
    cells = expand(table)
    known = {(cell.data, cell.model, cell.coupling, cell.base, cell.seed) for cell in cells if not cell.variant}
    for variant in table.variants:
        asked = {
            (data, variant.of.model, variant.of.coupling, variant.of.base, seed)
            for data in variant.data
            for seed in variant.seeds
        }
        if lacking := sorted(asked - known):
            raise ConfigError(f"variant {variant.name} in {path} changes a cell that is not there: {lacking[0]}.")
    for shipped in table.shipped:
        if unknown := sorted(set(shipped.data) - {*table.data_sets, UNIFIED}):
            raise ConfigError(f"shipped {shipped.model} in {path} names {', '.join(unknown)}, which is no data set.")
        if own := sorted(shipped.settings.keys() & {"model.name", "train.seed"}):
            raise ConfigError(f"shipped {shipped.model} in {path} sets {', '.join(own)}, which the cells differ in.")
    ids = [cell.id for cell in (*cells, *expand_shipped(table))]
    if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
        raise ConfigError(f"{path} has {twice[0]} more than once.", hint="A list names something twice.")
    if UNIFIED in table.data_sets:
        raise ConfigError(f"{path} has a data set {UNIFIED}, the name of the models of all data sets.")
    return table


def expand(table: Table) -> list[Cell]:
    """All cells, in an order that makes an unfinished table useful: every detector once before the next seed."""
    everything = [*_per_class(table), *_unified(table), *_variants(table)]
    first = {seed: index for index, seed in enumerate(table.seeds)}
    return sorted(everything, key=lambda cell: first.get(cell.seed, len(first) + cell.seed))


def _per_class(table: Table) -> Iterator[Cell]:
    axes = table.per_class
    for base, model, coupling, data in product(axes.bases, axes.models, axes.couplings, table.data_sets):
        yield from _seeds(table, data, UnifiedPart(model=model, coupling=coupling, base=base), ())


def _unified(table: Table) -> Iterator[Cell]:
    for part in table.unified:
        yield from _seeds(table, UNIFIED, part, table.models[part.model].modes)


def _variants(table: Table) -> Iterator[Cell]:
    for part in table.variants:
        for data in part.data:
            modes = table.models[part.of.model].modes if data == UNIFIED else ()
            for cell in _seeds(table, data, part.of, modes):
                if cell.seed in part.seeds:
                    yield replace(cell, settings={**cell.settings, **part.settings}, variant=part.name)


def _seeds(table: Table, data: str, part: UnifiedPart, modes: tuple[Mode, ...]) -> Iterator[Cell]:
    model = table.models[part.model]
    named = {"model.name": part.model, "model.coupling": part.coupling, "model.base": part.base}
    for seed in table.seeds if model.seeds is None else model.seeds:
        settings = {**named, **table.budget, **model.settings, "train.seed": seed}
        yield Cell(data, part.model, part.coupling, part.base, seed, settings, modes)


def expand_shipped(table: Table) -> list[ShippedCell]:
    """The cells as shipped, in the same order: every model once before the next seed."""
    cells = []
    for part in table.shipped:
        named = {} if part.model == defaults.MODEL else {"model.name": part.model}
        for data, seed in product(part.data, part.seeds):
            settings = {"train.seed": seed, **named, **part.settings}
            cells.append(ShippedCell(data, part.model, seed=seed, settings=settings, modes=part.modes))
    return sorted(cells, key=lambda cell: cell.seed)


def select(cells: Sequence[Cell], pattern: str | None) -> list[Cell]:
    """Cells whose id matches a pattern such as `pcb-*-seed0`.

    Raises:
        ConfigError: If none does.
    """
    chosen = [cell for cell in cells if pattern is None or fnmatchcase(cell.id, pattern)]
    if not chosen:
        raise ConfigError(
            f"No cell fits --only {pattern}; ids look like {cells[0].id}.",
            hint="Quote patterns: --only 'pcb-*-seed0'. `--list` prints all ids.",
        )
    return chosen


def data_folder(root: Path, cell: Cell) -> Path:
    """Training and test images of a cell."""
    return root if cell.data == UNIFIED else root / cell.data


def check_data(root: Path, table: Table, cells: Sequence[Cell]) -> None:
    """Check that every data set is there, and that one model of all sees no other ones.

    Raises:
        DataError: Naming what is missing or too much.
    """
    if not root.is_dir():
        raise DataError(f"The data folder {root} does not exist.", hint="Give the folder that holds the data sets.")
    present = {path.name for path in root.iterdir() if (path / "train").is_dir()}
    is_unified = any(cell.data == UNIFIED for cell in cells)
    needed = set(table.data_sets) if is_unified else {cell.data for cell in cells}
    if missing := sorted(needed - present):
        raise DataError(
            f"{root} does not hold {', '.join(missing)}; it has: {', '.join(sorted(present)) or 'no data set'}.",
            hint="A data set is a folder with train/good and test/*; --only skips cells.",
        )
    if is_unified and (foreign := sorted(present - needed)):
        raise DataError(
            f"{root} also holds {', '.join(foreign)}, which the unified cells would train on.",
            hint="List them in data_sets, or give a folder without them.",
        )


def data_digest(folder: Path) -> str:
    """Digest of names and contents in the sub-folders of an image folder, links followed, time stamps ignored."""
    digest = hashlib.sha256()
    walk = os.walk(folder, followlinks=True)
    files = (Path(place) / name for place, _, names in walk if Path(place) != folder for name in names)
    for path in sorted(path for path in files if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def is_same_work(record: Mapping[str, Any], cell: Cell, digest: str | None = None) -> bool:
    """Whether a record is of exactly this cell: the same settings, label modes and data, errors included.

    A default that edgead has changed since counts as a change, a key that it has gained does not.

    Args:
        record: From a cell's JSON.
        cell: Cell in the current table.
        digest: Digest of the current data; None if the data is not available.
    """
    if digest is not None and record.get("data_digest") != digest:
        return False
    if record.get("settings") != cell.settings or record.get("modes") != list(cell.modes):
        return False
    before = record.get("resolved")
    if before is None:
        return True
    now = resolved_settings(cell.config(Path("data")))
    return all(value == now[key] for key, value in before.items() if key in now)


def resolved_settings(config: Config) -> Settings:
    """Every setting that decides the numbers, by dotted key."""
    sections = config.model_dump(mode="json", include={"data", "model", "train"})
    flat = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    places = ("data.root", "train.device", "train.cache_dir", "train.cache_memory_mb")
    return {key: value for key, value in flat.items() if key not in places}
