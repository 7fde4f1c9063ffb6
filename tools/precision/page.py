"""Page `docs/precision.md`, generated from the records."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgead.storage import write_bytes
from tools.precision.measure import Record
from tools.precision.table import COMMAND, UNIFIED, RecipePart, Table, places, recipe_form
from tools.results.markdown import NOTHING, Row, number, table

GOAL_POINTS = 0.3
GOAL_COVERAGE = 0.9
CORRELATION = 5  # column of the recipes' table
FORMS = {
    "fp32": "fp32",
    "fp16": "fp16",
    "int8": "int8, all layers",
    "int8-gated": "int8, gated",
    "int8-gated-tensorrt": "int8, gated, TensorRT's form",
}
LAYOUTS = {"onnxruntime": "ONNX Runtime's form", "tensorrt": "TensorRT's form"}
ABOUT = """\
Detection accuracy with FP16 and INT8 on ONNX Runtime's CPU provider, one seed per model. *All layers*: every layer that can
run at lower precision does. *Gated*: the engine that `edgead build-engine --int8` installs; sensitive layers stay in float,
and the engine is refused if it separates pseudo-defects from held-out good images less well. *TensorRT's form*: the graph
for TensorRT (symmetric int8, quantised at other places), run by ONNX Runtime for its scores; TensorRT itself was never run.
The float32 models are those of [results.md](results.md), and the default one; the recipes are in `calibration/`.
Recipes and gates use good images and pseudo-defects made from them; no choice was made on test images."""
SEPARATION = """\
*Drop*: points of image AUROC lost on pseudo-defects. *Separation*: distance from the median good image to the median
pseudo-defect, in interquartile ranges of the good images, as a multiple of that of float32; it shows the effect on the tail
where defects are. *Correlation*: rank correlation of all scores with float32. Test columns: mean change in points over
models and data sets; for reporting only."""


def write_page(path: Path, table_: Table, records: Mapping[str, Record]) -> None:
    """Write the page."""
    write_bytes(path, render(table_, records).encode())


def render(table_: Table, records: Mapping[str, Record]) -> str:
    """Text of the page."""
    sections = [
        f"<!-- Made by `{COMMAND}` from the JSON of its jobs; changes by hand are lost. -->",
        "# Precision",
        ABOUT,
        _verdict(table_, records),
        "## Image AUROC",
        _metric(table_, records, "image_auroc"),
        "## AUPRO 0.3",
        _metric(table_, records, "aupro_0.3"),
        "## Share of int8, and latency",
        _costs(table_, records),
    ]
    for part in table_.recipes:
        gated = "gated" if part.gated else "all layers"
        sections += [f"## Recipes, {LAYOUTS[part.layout]}, {gated}", _recipes(table_, records, part)]
    sections += [SEPARATION, "## Reproduction", f"`{COMMAND} DATA_ROOT`; one job: `--only ID --again`."]
    return "\n\n".join(section for section in sections if section) + "\n"


def _rows(table_: Table) -> Iterator[tuple[str, str, str]]:
    """Model key, training data and data set of each row."""
    for name, model in table_.models.items():
        for data in table_.data_sets:
            yield name, UNIFIED if model.unified else data, data


def _test(records: Mapping[str, Record], model: str, place: str, form: str, data: str, metric: str) -> float | None:
    record = records.get(f"{model}-{place}-{form}")
    value = record["test"].get(data, {}).get(metric) if record else None
    return None if value is None else float(value)


def _metric(table_: Table, records: Mapping[str, Record], metric: str) -> str:
    rows: list[Row] = []
    for model, place, data in _rows(table_):
        values = [_test(records, model, place, form, data, metric) for form in table_.forms]
        if any(value is not None for value in values):
            rows.append((table_.models[model].label, data, *(number(value, ".2f", 100) for value in values)))
    return table(("model", "data set", *(FORMS[form] for form in table_.forms)), rows, 2)


def _costs(table_: Table, records: Mapping[str, Record]) -> str:
    rows: list[Row] = []
    for name, model in table_.models.items():
        for place in places(table_, name):
            for form in ("int8-gated", "int8-gated-tensorrt"):
                record = records.get(f"{name}-{place}-{form}")
                if record is None:
                    continue
                reference, engine = record["milliseconds"]
                ratio = f"{engine / reference:.2f}" if form == "int8-gated" else NOTHING
                rows.append((model.label, place, FORMS[form], f"{record['coverage']:.1%}", ratio))
    head = ("model", "trained on", "form", "multiply-adds in int8", "time / fp32 time")
    note = "Times are medians of both engines run in turns, one image at a time; the machine also did other work."
    return table(head, rows, 3) + "\n\n" + note


def _verdict(table_: Table, records: Mapping[str, Record]) -> str:
    lines = []
    for data in table_.data_sets:
        before = _test(records, "usf", data, "fp32", data, "image_auroc")
        said = []
        for form, where in (("int8-gated", ""), ("int8-gated-tensorrt", "in TensorRT's form ")):
            after = _test(records, "usf", data, form, data, "image_auroc")
            if before is None or after is None:
                continue
            coverage = records[f"usf-{data}-{form}"]["coverage"]
            holds = abs(after - before) * 100 <= GOAL_POINTS and coverage >= GOAL_COVERAGE
            said.append(
                f"{where}{100 * (after - before):+.2f} points, {coverage:.1%}: {'holds' if holds else 'missed'}"
            )
        if said:
            lines.append(f"- {data}: {'; '.join(said)}")
    if not lines:
        return ""
    goal = f"Goal for gated INT8 of USF: within {GOAL_POINTS} points of fp32 with {GOAL_COVERAGE:.0%} of the multiply-adds in int8."
    return "\n".join([goal, "", *lines])


def _recipes(table_: Table, records: Mapping[str, Record], part: RecipePart) -> str:
    rows: list[Row] = []
    for recipe in part.recipes:
        found = []
        for name in part.models:
            for place in places(table_, name):
                record = records.get(f"{name}-{place}-{recipe_form(table_, part, recipe)}")
                plain = records.get(f"{name}-{place}-fp32")
                if record and plain:
                    found.append((record, plain))
        if not found:
            continue
        rows.append(
            (
                recipe,
                str(len(found)),
                f"{100 * statistics.mean(record['drop'] for record, _ in found):+.2f}",
                f"{100 * max(record['drop'] for record, _ in found):+.2f}",
                f"{statistics.geometric_mean(record['separation'] for record, _ in found):.3f}",
                f"{statistics.mean(record['correlation'] for record, _ in found):.4f}",
                _change(found, "image_auroc"),
                _change(found, "aupro_0.3"),
            )
        )
    if not rows:
        return ""
    head = (
        "recipe",
        "bundles",
        "drop, mean",
        "drop, worst",
        "separation",
        "correlation",
        "test: image AUROC",
        "test: AUPRO 0.3",
    )
    closest = max(rows, key=lambda row: float(row[CORRELATION]))[0]
    return f"{table(head, rows)}\n\nHighest rank correlation with float32: `{closest}`."


def _change(found: list[tuple[Record, Record]], metric: str) -> str:
    changes = [
        values[metric] - plain["test"][data][metric]
        for record, plain in found
        for data, values in record["test"].items()
        if values[metric] is not None and plain["test"][data][metric] is not None
    ]
    return f"{100 * statistics.mean(changes):+.2f}" if changes else NOTHING
