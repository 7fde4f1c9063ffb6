"""Finished cells of a table, grouped over seeds, with means and standard deviations."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgead.errors import DataError
from tools.results.cells import PLAIN, UNIFIED, Cell, ShippedCell, Table, is_same_work
from tools.results.run import Record, is_record

Key = tuple[str, str, str, str, str]
IMAGE_AUROC = "image_auroc"


@dataclass
class Group:
    """One detector on one data set, over its seeds.

    Attributes:
        data, model, coupling, base, variant: Identity of the group.
        n_seeds: Number of seeds in the table.
        records: Records of the finished seeds, by seed.
        errors: Why seeds failed.
    """

    data: str
    model: str
    coupling: str
    base: str
    variant: str = ""
    n_seeds: int = 0
    records: list[Record] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """Everything but the seed."""
        return self.data, self.model, self.coupling, self.base, self.variant

    @property
    def modes(self) -> tuple[str, ...]:
        """Label modes that were evaluated."""
        return tuple(self.records[0]["evaluations"]) if self.records else ()

    def values(self, metric: str, mode: str = PLAIN, data: str | None = None) -> list[float]:
        """A metric of each finished seed, as a fraction; empty where it is undefined.

        Args:
            metric: Key in `edgead eval --json`.
            mode: Label mode.
            data: One class of a unified model; None: the mean over the classes.
        """
        return list(self.by_seed(metric, mode, data).values())

    @property
    def is_partial(self) -> bool:
        """Whether some seeds are finished and others are not."""
        return 0 < len(self.records) < self.n_seeds

    def by_seed(self, metric: str, mode: str = PLAIN, data: str | None = None) -> dict[int, float]:
        """The same as `values`, keyed by seed."""
        found = {}
        for record in self.records:
            part = record["evaluations"].get(mode)
            scope = part and (part["mean"] if data is None else part["classes"].get(data))
            if scope and scope[metric] is not None:
                found[record["seed"]] = scope[metric]
        return found


@dataclass
class ShippedGroup:
    """One model as shipped on one data set, or on all of them, over its seeds.

    Attributes:
        cell: One of its cells.
        seeds: Seeds in the table.
        records: Records of the finished seeds, by seed.
        failed: Cells that ended in an error.
    """

    cell: ShippedCell
    seeds: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """Content of the results page.

    Attributes:
        table: Table of all cells.
        groups: Groups in the order of the table, also those without results.
        records: Finished cells in the order of the table.
        failed: Cells that ended in an error, likewise.
        shipped: The models as shipped in the order of the table, also those without results; in none of the above.
    """

    table: Table
    groups: dict[Key, Group]
    records: list[Record]
    failed: list[Record]
    shipped: tuple[ShippedGroup, ...] = ()

    def of(self, data: str) -> list[Group]:
        """The groups of a data set, or of the unified models, without variants."""
        return [group for group in self.groups.values() if group.data == data and not group.variant]

    def per_class(self) -> list[Group]:
        """The groups with a model per data set, without variants."""
        return [group for group in self.groups.values() if group.data != UNIFIED and not group.variant]

    def variants(self, name: str) -> list[tuple[Group, Group]]:
        """The groups of a variant, each with the group that it changes."""
        changed = [group for group in self.groups.values() if group.variant == name]
        return [(group, self.groups[replace(group, variant="").key]) for group in changed]

    @property
    def n_cells(self) -> int:
        """How many cells the table has."""
        return sum(group.n_seeds for group in self.groups.values())

    def to_json(self) -> list[Record]:
        """The records for the published file: the settings as the table writes them, with all defaults of cells as shipped."""
        both = [*self.records, *self.failed]
        shipped = [record for group in self.shipped for record in (*group.records, *group.failed)]
        return [{key: value for key, value in record.items() if key != "resolved"} for record in both] + shipped


def published_records(path: Path) -> dict[str, Record]:
    """Records of a file that `Results.to_json` made, by cell id; empty where there is none.

    Raises:
        DataError: If it is another kind of file.
    """
    if not path.is_file():
        return {}
    hint = "Restore or remove the file, or name another one with --json."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no results: {error}.", hint=hint) from error
    if not isinstance(content, list) or not all(map(is_record, content)):
        raise DataError(f"{path} holds no results, but other JSON.", hint=hint)
    return {record["id"]: record for record in content}


def load_results(table: Table, cells: Sequence[Cell], records: Mapping[str, Record]) -> Results:
    """Group what is there; records of settings that the table no longer has are left out.

    Args:
        table: Table of results.
        cells: Cells of the table.
        records: By cell id.
    """
    groups: dict[Key, Group] = {}
    finished, failed = [], []
    trained = [cell for cell in cells if not isinstance(cell, ShippedCell)]
    for cell in sorted(trained, key=lambda cell: _table_order(table, cell)):
        key = cell.data, cell.model, cell.coupling, cell.base, cell.variant
        group = groups.setdefault(key, Group(*key))
        group.n_seeds += 1
        record = records.get(cell.id)
        if record is None or not is_same_work(record, cell):
            continue
        if "error" in record:
            group.errors.append(record["error"].splitlines()[0])
            failed.append(record)
        else:
            group.records.append(record)
            finished.append(record)
    return Results(table, groups, finished, failed, _shipped(cells, records))


def _shipped(cells: Sequence[Cell], records: Mapping[str, Record]) -> tuple[ShippedGroup, ...]:
    """A default that has changed since opens a cell again, but its record stays until then: the page says what changed."""
    groups: dict[tuple[str, str], ShippedGroup] = {}
    for cell in cells:
        if not isinstance(cell, ShippedCell):
            continue
        group = groups.setdefault((cell.model, cell.data), ShippedGroup(cell))
        group.seeds.append(cell.seed)
        record = records.get(cell.id)
        if record is not None and is_same_work({**record, "resolved": None}, cell):
            (group.failed if "error" in record else group.records).append(record)
    return tuple(groups.values())


def _table_order(table: Table, cell: Cell) -> tuple[int, ...]:
    """Data sets, then architectures, couplings and bases as listed, then seeds."""
    axes = table.per_class
    places = (
        ((*table.data_sets, UNIFIED), cell.data),
        (tuple(table.models), cell.model),
        (axes.couplings, cell.coupling),
        (axes.bases, cell.base),
        (("", *(part.name for part in table.variants)), cell.variant),
    )
    return (*(names.index(name) if name in names else len(names) for names, name in places), cell.seed)


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return statistics.fmean(values) if values else None


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample (n - 1); None of fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else None


def pooled_spread(samples: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation within samples of different means, weighted by their degrees of freedom."""
    known = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in known)
    if not freedom:
        return None
    return math.sqrt(sum(statistics.variance(sample) * (len(sample) - 1) for sample in known) / freedom)
