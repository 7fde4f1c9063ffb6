"""Table and JSON of a benchmark: what was measured beside what others published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tools.benchmarks.methods import Method, Protocol
from tools.benchmarks.published import Published, read_published
from tools.benchmarks.sets import METRICS, Benchmark, metrics_of
from tools.results.cells import PLAIN, UNIFIED
from tools.results.markdown import NAMES, NOTHING, percent, table
from tools.results.results import mean, spread
from tools.results.run import Record

WORDS = {"per-class": "a model per class", "unified": "one model for all", "unknown": "not stated"}
Values = dict[str, float | None]


@dataclass(frozen=True)
class Line:
    """One way to judge a benchmark, measured.

    Attributes:
        protocol: Protocol.
        method: Method.
        mode: Class information given to the model.
        seeds: Metrics in percent by class, for each seed.
    """

    protocol: Protocol
    method: Method
    mode: str
    seeds: dict[int, dict[str, Values]]

    @property
    def classes(self) -> list[str]:
        """Classes that every seed has."""
        each = [set(seed) for seed in self.seeds.values()]
        return sorted(set.intersection(*each)) if each else []

    def means(self, metric: str) -> list[float]:
        """Mean over the classes, for each seed; classes of which it is undefined are left out."""
        per_seed = [
            [value for name in self.classes if (value := seed[name][metric]) is not None]
            for seed in self.seeds.values()
        ]
        return [fmean(values) for values in per_seed if values]

    def of_class(self, name: str, metric: str) -> list[float]:
        """Value of a class, for each seed."""
        return [value for seed in self.seeds.values() if (value := seed[name][metric]) is not None]


def lines_of(
    benchmark: Benchmark, chosen: Sequence[Method], protocols: Sequence[Protocol], records: Sequence[Record]
) -> list[Line]:
    """What was measured, in the order of protocols and methods; nothing where no cell is finished."""
    found = []
    for protocol in protocols:
        for method in chosen:
            own = [
                one
                for one in records
                if "evaluations" in one
                and one["variant"] == method.name
                and (one["data"] == UNIFIED) == (protocol == "unified")
            ]
            modes = method.modes if protocol == "unified" and method.modes else (PLAIN,)
            for mode in modes if own else ():
                seeds: dict[int, dict[str, Values]] = {}
                for one in own:
                    classes = one["evaluations"][mode]["classes"]
                    seeds.setdefault(one["seed"], {}).update(
                        {name: metrics_of(benchmark, values) for name, values in classes.items()}
                    )
                found.append(Line(protocol, method, mode, seeds))
    return found


def to_json(
    benchmark: Benchmark, classes: Sequence[str], lines: Sequence[Line], records: Sequence[Record]
) -> dict[str, Any]:
    """Everything in the page under stable names; percent, None where undefined."""
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "classes": list(classes),
        "n_classes": benchmark.n_classes,
        "metrics": {key: METRICS[key] for key in benchmark.metrics},
        "rows": [_row(benchmark, line) for line in lines],
        "published": [one.model_dump() for one in read_published().get(benchmark.name, ())],
        "not_computed": list(benchmark.not_computed),
        "failed": [{"id": one["id"], "error": one["error"]} for one in records if "error" in one],
    }


def _row(benchmark: Benchmark, line: Line) -> dict[str, Any]:
    keys = benchmark.metrics
    return {
        "protocol": line.protocol,
        "method": line.method.name,
        "class_mode": None if line.mode == PLAIN else line.mode,
        "seeds": sorted(line.seeds),
        "n_classes": len(line.classes),
        "mean": {key: _rounded(mean(line.means(key))) for key in keys},
        "std_over_seeds": {key: _rounded(spread(line.means(key))) for key in keys},
        "classes": {
            name: {key: _rounded(mean(line.of_class(name, key))) for key in keys} for name in line.classes
        },
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def page(
    benchmark: Benchmark, classes: Sequence[str], lines: Sequence[Line], records: Sequence[Record], command: str
) -> str:
    """Markdown page of a benchmark."""
    failed = [one for one in records if "error" in one]
    whole = len(classes) == benchmark.n_classes
    about = [
        f"{len(classes)} of {benchmark.n_classes} classes: {', '.join(classes)}."
        + ("" if whole else " The published means are over all of them and cannot be compared with these."),
        "Percent, means over the classes, with the standard deviation over seeds where there are several. Rows with a source are "
        "published; the others were measured by this command, with nothing chosen on test images. Methods "
        "differ in image size, backbone and protocol, so that a difference between rows is not one between methods alone.",
        *benchmark.not_computed,
    ]
    parts = [f"# {benchmark.title}", f"    {command}", "\n".join(f"- {text}" for text in about)]
    parts += [_means(benchmark, lines, len(classes))]
    if lines:
        parts += ["## Image AUROC of each class", _each_class(lines, classes)]
    if failed:
        rows = [f"- `{one['id']}`: {str(one['error']).splitlines()[0]}" for one in failed]
        parts += ["## Failed", "\n".join([*rows, "", "The same command tries them again."])]
    return "\n\n".join(parts) + "\n"


def _means(benchmark: Benchmark, lines: Sequence[Line], n_classes: int) -> str:
    head = ("protocol", "method", *(METRICS[key] for key in benchmark.metrics), "classes", "seeds", "source")
    rows: list[Sequence[str]] = []
    published = read_published().get(benchmark.name, ())
    for protocol in WORDS:
        for line in (one for one in lines if one.protocol == protocol):
            # as fractions: `percent` is that of the results page
            values = [percent([value / 100 for value in line.means(key)]) for key in benchmark.metrics]
            share = str(n_classes) if len(line.classes) == n_classes else f"{len(line.classes)} of {n_classes}"
            rows.append((WORDS[protocol], _title(line), *values, share, str(len(line.seeds)), ""))
        for other in (one for one in published if one.protocol == protocol):
            rows.append((WORDS[protocol], other.method, *_published(benchmark, other)))
    return table(head, rows, 2)


def _published(benchmark: Benchmark, other: Published) -> list[str]:
    values = [str(other.values[key]) if key in other.values else NOTHING for key in benchmark.metrics]
    return [*values, str(benchmark.n_classes), NOTHING, other.source + (f"; {other.about}" if other.about else "")]


def _each_class(lines: Sequence[Line], classes: Sequence[str]) -> str:
    head = ("class", *(f"{_title(line)}, {WORDS[line.protocol]}" for line in lines))

    def value(line: Line, name: str) -> str:
        found = line.of_class(name, "image_auroc") if name in line.classes else []
        return percent([one / 100 for one in found])

    return table(head, ([name, *(value(line, name) for line in lines)] for name in classes))


def _title(line: Line) -> str:
    return line.method.title if line.mode == PLAIN else f"{line.method.title}, {NAMES[line.mode]}"
