"""Part of the results page about the models as shipped: `edgead train` with its defaults on every data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.results.cells import COMMAND, PLAIN, UNIFIED, resolved_settings
from tools.results.facts import join, origin, yaml_text
from tools.results.markdown import NAMES, NOTHING, Row, table
from tools.results.results import IMAGE_AUROC, Results, ShippedGroup, mean
from tools.results.run import Record
from tools.results.shipped_run import BENCH, LENIENT, LENIENT_RATE, TRAIN, counts_of, train_options

# defaults that say what is tried, and on how much
_BUDGET = (
    "model.backbone", "model.image_size", "train.larger_sizes", "model.levels", "train.forms", "train.shrinkage",
    "train.centres", "train.top_fractions", "train.pseudo_defects", "train.pseudo_limit", "train.variation_limit",
)  # fmt: skip


def as_shipped(results: Results) -> str:
    """The section; empty while there is no result."""
    groups = results.shipped
    records = [record for group in groups for record in group.records]
    if not records and not any(group.failed for group in groups):
        return ""
    promises = [f"{100 * rate:g} %" for rate in sorted({record["promise"] for record in records})]
    parts = [
        "What `edgead train` and `edgead eval` give with their defaults: nothing was set but the seed and, for one model of all "
        "data sets, the model. Each command ran in a process of its own. The test images chose nothing. "
        f"`{COMMAND} DATA_ROOT --only '*-shipped-*'` measures what is missing.",
        "\n".join([*_what_was_run(groups, records), *(origin(records, "all commands") if records else [])]),
        _accuracy(results, promises[0] if len(promises) == 1 else "the promise"),
        "Means over the seeds, with the range in parentheses where they differ; AUROC, AUPRO and SegF1 in percent. *Found* and "
        f"*false alarms*: defective and good test images above the threshold, at the promise that training makes ({join(promises) or NOTHING}) and with "
        f"`--false-alarm-rate {LENIENT}`. *SegF1*: F1 of the pixels marked at the promise. AUPRO and SegF1 need masks. *Class given*: the model gets "
        "the data set of each image; *class unknown*: one threshold for all. *Training*: wall time of `edgead train` from its start to the "
        "bundle, and its largest resident memory. *Engine*: median time of an image on the fp32 engine of ONNX Runtime on this CPU "
        "(`edgead build-engine --fp32`, `edgead bench`); what int8 saves is in [Engines](engines.md#int8-measured). Time, memory "
        "and engine of a model of all data sets are the same in each of its rows.",
        table(("data set", "model", "chosen form", "multiply-adds", "processor time of training"), _forms(results), 3),
    ]
    return "\n\n".join(parts)


def _what_was_run(groups: Sequence[ShippedGroup], records: Sequence[Record]) -> list[str]:
    n_all = sum(len(group.seeds) for group in groups)
    n_failed = sum(len(group.failed) for group in groups)
    failed = f", {n_failed} failed" if n_failed else ""
    partial = "; what follows is partial" if len(records) < n_all else ""
    lines = [f"- {len(records)} of {n_all} cells are finished{failed}{partial}."]
    for model in dict.fromkeys(group.cell.model for group in groups):
        lines += _commands([group for group in groups if group.cell.model == model])
    if not records:
        return lines
    stated = {key: [record["resolved"][key] for record in records] for key in _BUDGET}
    shared = [
        f"`{key}={yaml_text(values[0])}`" for key, values in stated.items() if all(v == values[0] for v in values)
    ]
    lines.append(f"- Defaults that decide what is tried: {', '.join(shared)}; fitted in closed form, without epochs.")
    if changed := _changed_since(groups):
        lines.append(f"- Defaults that have changed since: {', '.join(changed)}.")
    images = {record["data"]: record["n_images"] for record in records}
    for data, counts in images.items():
        name = "All data sets together" if data == UNIFIED else data
        digests = {record["data_digest"] for record in records if record["data"] == data}
        several = f" The images changed between cells: {len(digests)} versions." if len(digests) > 1 else ""
        lines.append(
            f"- {name}: {counts['fit']} good images to fit the model, {counts['threshold']} of them for the threshold, each scored "
            f"by a fit without it.{several}"
        )
    return lines


def _changed_since(groups: Sequence[ShippedGroup]) -> list[str]:
    """Defaults of now that are not those of the cells, with the values of then."""
    found: dict[str, None] = {}
    for group in groups:
        now = resolved_settings(group.cell.config(Path("data")))
        for record in group.records:
            for key, value in record["resolved"].items():
                if key != "train.seed" and key in now and value != now[key]:
                    found[f"`{key}` was `{yaml_text(value)}`"] = None
    return list(found)


def _commands(groups: Sequence[ShippedGroup]) -> Iterator[str]:
    """The command of each part of the table, with its seeds."""
    seen: dict[str, list[str]] = {}
    for group in groups:
        cell = group.cell
        words = train_options({key: value for key, value in cell.settings.items() if key != "train.seed"})
        where = "DATA_ROOT" if cell.data == UNIFIED else "DATA_ROOT/SET"
        seen.setdefault(" ".join(["edgead train", where, *words]), []).append(join(group.seeds))
    for command, texts in seen.items():
        yield f"- {NAMES.get(groups[0].cell.model, groups[0].cell.model)}: `{command}` with `--seed` {join(dict.fromkeys(texts), '; ')}."


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {join(seeds)}"


def _rows(results: Results) -> Iterator[tuple[ShippedGroup, str, str]]:
    """Each group with a data set and a label mode, by data set."""
    for data in results.table.data_sets:
        for group in results.shipped:
            if group.cell.data in (data, UNIFIED):
                for mode in group.cell.modes or (PLAIN,):
                    yield group, data, mode


def _accuracy(results: Results, promise: str) -> str:
    head = (
        "data set", "model", "seeds", "image AUROC", "AUPRO 0.3", "SegF1", f"found at {promise}", "false alarms",
        f"found at {100 * LENIENT_RATE:g} %", "false alarms", "training", "memory", "engine fp32",
    )  # fmt: skip
    rows = []
    for group, data, mode in _rows(results):
        records = group.records
        parts = [record["evaluations"][mode]["classes"][data] for record in records]
        at_promise = [counts_of(part) for part in parts]
        lenient = [record["counts"][LENIENT][mode][data] for record in records]
        metrics = [_percent([part[key] for part in parts]) for key in (IMAGE_AUROC, "aupro_0.3", "seg_f1")]
        if not records and group.failed:
            metrics[0] = "failed: " + group.failed[0]["error"].splitlines()[0].replace("|", "\\|")
        counts = [
            text
            for found in (at_promise, lenient)
            for text in (_counts(found, "found", "n_defective"), _counts(found, "false_alarms", "n_good"))
        ]
        n = len(records)
        rows.append(
            (
                data,
                _name(group, mode),
                str(n) if n == len(group.seeds) else f"{n} of {len(group.seeds)}",
                *metrics,
                *counts,
                *_costs(records),
            )
        )
    return table(head, rows, 2)


def _name(group: ShippedGroup, mode: str) -> str:
    model = NAMES.get(group.cell.model, group.cell.model)
    return model if mode == PLAIN else f"{model}, {NAMES[mode]}"


def _costs(records: Sequence[Record]) -> Row:
    return (
        spanned([record["usage"][TRAIN]["seconds"] for record in records], "{:.0f}".format, " s"),
        spanned([record["usage"][TRAIN]["peak_mb"] for record in records], "{:,.0f}".format, " MB"),
        spanned([record[BENCH]["engine_ms"]["p50"] for record in records], "{:.1f}".format, " ms"),
    )


def _forms(results: Results) -> Iterator[Row]:
    seen = set()
    for group, data, _ in _rows(results):
        if (group.cell.model, group.cell.data, data) in seen:
            continue
        seen.add((group.cell.model, group.cell.data, data))
        chosen: dict[str, list[int]] = {}
        for record in group.records:
            for form in record["forms"]:
                if form.get("class_name", data) == data:
                    chosen.setdefault(_form(form), []).append(record["seed"])
        texts = [text if len(chosen) == 1 else f"{text} ({_seeds(seeds)})" for text, seeds in chosen.items()]
        yield (
            data,
            NAMES.get(group.cell.model, group.cell.model),
            join(texts, "; ") or NOTHING,
            spanned([record["cost"]["multiply_adds"] / 1e9 for record in group.records], "{:.2f}".format, " G"),
            spanned([record["usage"][TRAIN]["processor_s"] for record in group.records], "{:.0f}".format, " s"),
        )


def _form(form: Record) -> str:
    parts = [f"{form['image_size']} px", form["form"]]
    if form["shrinkage"] is not None:
        parts.append(f"shrinkage {form['shrinkage']:g}")
    if "top_fraction" in form:
        parts.append(f"{100 * form['top_fraction']:g} % of the map")
    if form.get("variation"):
        parts.append(f"light at weight {form['variation']:g}")
    return ", ".join(parts)


def _percent(values: Sequence[float | None]) -> str:
    return spanned([100 * value for value in values if value is not None], "{:.2f}".format)


def _counts(counts: Sequence[Record], key: str, of: str) -> str:
    if not counts:
        return NOTHING
    total = join(sorted({part[of] for part in counts}), "/")
    return spanned([part[key] for part in counts], lambda value: f"{value:.1f}".removesuffix(".0"), f" of {total}")


def spanned(values: Sequence[float], text: Callable[[float], str], unit: str = "") -> str:
    """Mean with its unit, and the range where it can be seen; a dash for nothing.

    Args:
        values: A value of each seed.
        text: Writes a value.
        unit: Stands behind the mean.
    """
    middle = mean(values)
    if middle is None:
        return NOTHING
    low, high = text(min(values)), text(max(values))
    return f"{text(middle)}{unit}" + ("" if low == high else f" ({low} to {high})")
