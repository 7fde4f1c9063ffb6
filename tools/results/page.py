"""Results page: Markdown generated from the records."""

from __future__ import annotations

import os
from pathlib import Path

from edgead.storage import write_bytes
from tools.results.as_shipped import as_shipped
from tools.results.cells import COMMAND, PLAIN, UNIFIED
from tools.results.claims import judge
from tools.results.facts import again, failures, health, what_was_run
from tools.results.markdown import NAMES, NOTHING, Row, number, percent, table
from tools.results.results import IMAGE_AUROC, Group, Results, mean, pooled_spread


def write_page(path: Path, chart: Path, results: Results) -> None:
    """Write the page with a link to the chart."""
    relative = Path(os.path.relpath(chart, path.parent)).as_posix()
    write_bytes(path, render(results, relative).encode())


def render(results: Results, chart: str) -> str:
    """Text of the page; `chart` is the path of the chart."""
    shipped = as_shipped(results)
    sections = [
        f"<!-- Made by `{COMMAND}` from the JSON of the cells; changes by hand are lost. -->",
        "# Results",
        *(("## As shipped", shipped, "## Detectors under one small budget") if shipped else ()),
        results.table.about,
        what_was_run(results),
        f"![Image AUROC of every detector and seed]({chart})",
        "## Expected and measured",
        _claims(results),
        "## Over all data sets",
        _summary(results),
    ]
    for data in results.table.data_sets:
        sections += [f"## {data}", _data_set(results, data)]
    sections += ["## One model for all data sets", _unified(results)]
    if results.table.variants:
        sections += ["## Effect of single settings", _variants(results)]
    sections += ["## Checks", health(results)]
    sections += ["## Reproduction", again(results), failures(results)]
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
        "Differences are in points of image AUROC. Couplings and bases are compared in pairs with all else equal (one pair per "
        "data set and detector); p is the two-sided p-value of a sign-flip test, significant below 0.05. The unified models "
        "are compared over seeds (Welch's interval). *Within noise* means that these data cannot decide. Claims of no worse "
        "mean are confirmed by any mean that is not lower."
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
        n_done = sum(bool(g.records) for g in groups)
        metrics = (IMAGE_AUROC, "pixel_auroc", "aupro_0.3", "detection_rate", "false_alarm_rate")
        means = [mean([m for g in groups if (m := mean(g.values(metric))) is not None]) for metric in metrics]
        image = number(means[0], ".2f", 100) + _share(n_done, len(groups), "data sets")
        width = number(pooled_spread([g.values(IMAGE_AUROC) for g in groups]), ".2f", 100)
        rows.append((*_detector(groups[0]), image, width, *(number(m, ".2f", 100) for m in means[1:])))
    factors = [_factor(results, axis, value) for axis, value in _FACTORS]
    return "\n\n".join(
        [
            table(head, rows, 3),
            table(("detectors", "image AUROC", "std over seeds"), factors),
            "All numbers in percent: means over the data sets, and standard deviations over seeds, pooled over the data sets. "
            "Pixel metrics are over the data sets with masks. *Detected*: share of defective images above the shipped "
            "threshold; *false alarms*: share of good images above it. The second table gives means over the rows of all "
            "data sets.",
        ]
    )


_FACTORS = (("coupling", "affine"), ("coupling", "uniform"), ("base", "normal"), ("base", "altub"))


def _factor(results: Results, axis: str, value: str) -> Row:
    samples = [g.values(IMAGE_AUROC) for g in results.per_class() if getattr(g, axis) == value]
    means = [m for sample in samples if (m := mean(sample)) is not None]
    image = number(mean(means), ".2f", 100) + _share(len(means), len(samples), "rows")
    name = f"all with {value} couplings" if axis == "coupling" else f"all with {_BASES[value]}"
    return name, image, number(pooled_spread(samples), ".2f", 100)


_BASES = {"normal": "a normal base", "altub": "AltUB"}


def _share(done: int, expected: int, what: str) -> str:
    """Note on an incomplete mean: how many of the expected values it has."""
    return f" ({done} of {expected} {what})" if 0 < done < expected else ""


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


def _measures(group: Group, mode: str = PLAIN) -> Row:
    metrics = (IMAGE_AUROC, "pixel_auroc", "aupro_0.3", "detection_rate", "false_alarm_rate")
    return [percent(group.values(metric, mode)) for metric in metrics]


def _image(group: Group, mode: str = PLAIN) -> str:
    """Image AUROC, with the number of seeds while some are missing, or the reason why there is none."""
    if not group.records and group.errors:
        return "failed: " + group.errors[0].replace("|", "\\|")
    return percent(group.values(IMAGE_AUROC, mode)) + _share(len(group.records), group.n_seeds, "seeds")


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
        measures = [_image(group), *_measures(group)[1:]]
        rows.append((*_detector(group), *measures, *_costs(group)))
    return table(head, rows, 3)


def _label(group: Group, mode: str) -> str:
    """Class information given to the model, with the share of correct classes where it predicts them."""
    found = [r["evaluations"][mode].get("class_accuracy") for r in group.records if mode in r["evaluations"]]
    known = [value for value in found if value is not None]
    right = f" ({100 * sum(known) / len(known):.1f} % correct)" if known and mode == "predicted" else ""
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
            image, others = _image(group, mode), _measures(group, mode)[1:]
            each = [percent(group.values(IMAGE_AUROC, mode, data)) for data in sets]
            name, coupling, _ = _detector(group)
            rows.append((name, coupling, _label(group, mode), image, *each, *others, *_costs(group)))
    return (
        table(head, rows, 3)
        + "\n\nImage AUROC is computed per data set, and averaged over the data sets. *Class given*: the model gets the data set "
        "of each image; *class predicted*: it predicts it first; *class unknown*: neither, with one threshold for all. "
        "*No classes*: one flow for all data sets, with a threshold for each."
    )


def _variants(results: Results) -> str:
    """Each variant beside the cells that it changes, over the seeds that both have."""
    parts = []
    for variant in results.table.variants:
        rows = []
        for changed, base in results.variants(variant.name):
            for mode in changed.modes or results.table.models[changed.model].modes or (PLAIN,):
                seeds = set(changed.by_seed(IMAGE_AUROC, mode)) & set(base.by_seed(IMAGE_AUROC, mode))
                cells = []
                for metric in (IMAGE_AUROC, "pixel_auroc", "aupro_0.3"):
                    pair = [[v for s, v in g.by_seed(metric, mode).items() if s in seeds] for g in (base, changed)]
                    cells.append(f"{percent(pair[0])} → {percent(pair[1])}" if pair[0] and pair[1] else NOTHING)
                name, coupling, _ = _detector(changed)
                rows.append((f"{name}, {coupling}", changed.data, NAMES[mode], *cells, str(len(seeds))))
        settings = ", ".join(f"`{key}={value}`" for key, value in variant.settings.items())
        head = ("detector", "data set", "label", "image AUROC", "pixel AUROC", "AUPRO 0.3", "seeds")
        parts.append(
            f"**{variant.name.replace('_', ' ').capitalize()}** ({settings}): {variant.about}\n\n{table(head, rows, 3)}"
        )
    return "\n\n".join(parts)
