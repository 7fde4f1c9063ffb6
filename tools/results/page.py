"""The results page: Markdown from the records, nothing typed by hand."""

from __future__ import annotations

import os
from pathlib import Path

from edgead.storage import write_bytes
from tools.results.cells import COMMAND, PLAIN, UNIFIED
from tools.results.claims import judge
from tools.results.facts import again, failures, health, what_was_run
from tools.results.markdown import NAMES, NOTHING, Row, number, percent, table
from tools.results.results import IMAGE_AUROC, Group, Results, mean, pooled_spread


def write_page(path: Path, picture: Path, results: Results) -> None:
    """Write the page; `picture` is linked from it."""
    relative = Path(os.path.relpath(picture, path.parent)).as_posix()
    write_bytes(path, render(results, relative).encode())


def render(results: Results, picture: str) -> str:
    """The page's text."""
    sections = [
        f"<!-- Made by `{COMMAND}` from the JSON of the cells; changes by hand are lost. -->",
        "# Results",
        results.table.about,
        what_was_run(results),
        f"![Image AUROC of every detector and seed]({picture})",
        "## Expected and measured",
        _claims(results),
        "## Over all data sets",
        _summary(results),
    ]
    for data in results.table.data_sets:
        sections += [f"## {data}", _data_set(results, data)]
    sections += ["## One model for all data sets", _unified(results), "## Health", health(results)]
    sections += ["## Running it again", again(results), failures(results)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _claims(results: Results) -> str:
    claims = judge(results)
    rows = [
        (claim.text[0].upper() + claim.text[1:], f"**{claim.verdict}**", claim.numbers or NOTHING) for claim in claims
    ]
    notes = [
        f"*{claim.text[0].upper() + claim.text[1:]}* — {results.table.explanations[claim.name]}"
        for claim in claims
        if claim.name in results.table.explanations
    ]
    how = (
        "Points of image AUROC. Couplings and bases are compared in pairs that differ in nothing else (a pair per data set "
        "and detector); p is the chance of such a difference if the two were alike (sign-flip test, two-sided), and below "
        "0.05 it counts. The unified models are compared over seeds (Welch's interval). *Within noise* means that these "
        "data cannot tell. Claims of no worse mean are confirmed by any mean that is not below."
    )
    return "\n\n".join([table(("expected", "verdict", "measured"), rows, 3), how, *notes])


def _detector(group: Group) -> tuple[str, str, str]:
    return NAMES.get(group.model, group.model), group.coupling, NAMES.get(group.base, group.base)


def _summary(results: Results) -> str:
    head = (
        "architecture",
        "coupling",
        "base",
        "image AUROC",
        "std over seeds",
        "pixel AUROC",
        "AUPRO 0.3",
        "detected",
        "false alarms",
    )
    detectors = list(dict.fromkeys((g.model, g.coupling, g.base) for g in results.per_class()))
    rows = []
    for detector in detectors:
        groups = [g for g in results.per_class() if (g.model, g.coupling, g.base) == detector]
        metrics = (IMAGE_AUROC, "pixel_auroc", "aupro_0.3", "detection_rate", "false_alarm_rate")
        means = [mean([m for g in groups if (m := mean(g.values(metric))) is not None]) for metric in metrics]
        n_done = sum(bool(g.records) for g in groups)
        image = number(means[0], ".2f", 100) + (f" ({n_done} of {len(groups)})" if 0 < n_done < len(groups) else "")
        width = number(pooled_spread([g.values(IMAGE_AUROC) for g in groups]), ".2f", 100)
        rows.append((*_detector(groups[0]), image, width, *(number(m, ".2f", 100) for m in means[1:])))
    factors = [_factor(results, axis, value) for axis, value in _FACTORS]
    return "\n\n".join(
        [
            table(head, rows, 3),
            table(("part", "image AUROC", "std over seeds"), factors),
            "Means over the data sets and standard deviations over seeds pooled over them, in percent. Pixel metrics are over "
            "the data sets with masks.",
        ]
    )


_FACTORS = (("coupling", "affine"), ("coupling", "uniform"), ("base", "normal"), ("base", "altub"))


def _factor(results: Results, axis: str, value: str) -> Row:
    samples = [g.values(IMAGE_AUROC) for g in results.per_class() if getattr(g, axis) == value]
    means = [m for sample in samples if (m := mean(sample)) is not None]
    name = f"{axis} {NAMES.get(value, value)}"
    return name, number(mean(means), ".2f", 100), number(pooled_spread(samples), ".2f", 100)


_COSTS = ("training", "trainable", "multiply-adds")


def _costs(group: Group) -> Row:
    """Training time, trainable parameters, and multiply-adds of the exported graph with the flow's share."""
    if not group.records:
        return (NOTHING,) * 3
    first = group.records[0]
    whole = [record for record in group.records if not record["resumed"]]
    seconds = [r["seconds"]["closed form"] + r["seconds"]["training"] for r in whole or group.records]
    cost = first["cost"]
    return (
        f"{'' if whole else '≥ '}{number(mean(seconds), '.0f')} s",
        f"{first['parameters']['trainable'] / 1e6:.2f} M",
        f"{cost['multiply_adds'] / 1e9:.2f} G ({cost['flow_multiply_adds_folded'] / 1e9:.2f} G)",
    )


def _measures(group: Group, mode: str = PLAIN, data: str | None = None) -> Row:
    metrics = (IMAGE_AUROC, "pixel_auroc", "aupro_0.3", "detection_rate", "false_alarm_rate")
    return [percent(group.values(metric, mode, data)) for metric in metrics]


def _data_set(results: Results, data: str) -> str:
    head = (
        "architecture",
        "coupling",
        "base",
        "image AUROC",
        "pixel AUROC",
        "AUPRO 0.3",
        "detected",
        "false alarms",
        *_COSTS,
    )
    rows = []
    for group in results.of(data):
        measures = list(_measures(group))
        if not group.records and group.errors:
            measures[0] = "failed: " + group.errors[0].replace("|", "\\|")
        rows.append((*_detector(group), *measures, *_costs(group)))
    return table(head, rows, 3)


def _label(group: Group, mode: str) -> str:
    """What the model was told, with the share of images whose class it found where it had to."""
    found = [r["evaluations"][mode].get("class_accuracy") for r in group.records if mode in r["evaluations"]]
    known = [value for value in found if value is not None]
    right = f" ({100 * sum(known) / len(known):.1f} % right)" if known and mode == "predicted" else ""
    return NAMES.get(mode, mode) + right


def _unified(results: Results) -> str:
    groups = results.of(UNIFIED)
    if not groups:
        return "Not part of this table."
    sets = results.table.data_sets
    head = (
        "model",
        "coupling",
        "label",
        "mean image AUROC",
        *sets,
        "pixel AUROC",
        "AUPRO 0.3",
        "detected",
        "false alarms",
        *_COSTS,
    )
    rows = []
    for group in groups:
        for mode in group.modes or (results.table.models[group.model].modes or (PLAIN,)):
            image, *others = _measures(group, mode)
            if not group.records and group.errors:
                image = "failed: " + group.errors[0].replace("|", "\\|")
            each = [percent(group.values(IMAGE_AUROC, mode, data)) for data in sets]
            name, coupling, _ = _detector(group)
            rows.append((name, coupling, _label(group, mode), image, *each, *others, *_costs(group)))
    return (
        table(head, rows, 3)
        + "\n\nImage AUROC per data set and in the mean over them, each class ranked by itself. The "
        "thresholds are those of the image's class where that is given, or where the model knows no classes."
    )
