"""A tiny table of results, and hand-made records of the real table, for the tests of the results tool."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.commands.plant import SETTINGS
from tools.results.__main__ import main
from tools.results.cells import (
    PLAIN,
    TABLE,
    UNIFIED,
    Cell,
    ShippedCell,
    expand,
    expand_shipped,
    read_table,
    resolved_settings,
)
from tools.results.results import Results, load_results
from tools.results.run import Record

TINY: dict[str, Any] = {
    "about": "Tiny.",
    "budget": SETTINGS,
    "data_sets": ["disc", "cap"],
    "seeds": [0],
    "models": {"fastflow": {}, "hgad": {"modes": ["given", "none"]}},
    "per_class": {"models": ["fastflow"], "couplings": ["affine"], "bases": ["normal"]},
    "unified": [{"model": "hgad", "coupling": "uniform"}],
}


def write_table(folder: Path, **changes: Any) -> Path:
    """The tiny table as a file, with other values for some keys."""
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(TINY), **changes}))
    return path


def call(table: Path, work: Path, *arguments: str) -> int:
    """Run the command line with all outputs in one folder."""
    places = {"--config": table, "--work": work, "--page": work / "p.md", "--json": work / "p.json"}
    flat = [str(item) for pair in {**places, "--picture": work / "p.svg"}.items() for item in pair]
    return main([*flat, "--threads", "1", *arguments])


def make_record(cell: Cell, points: float) -> Record:
    """Record of a finished cell, with the same image AUROC in percent for every class and mode."""
    classes = read_table(TABLE).data_sets if cell.data == UNIFIED else (cell.data,)
    has_masks = cell.data != "solar_cell_mono"
    value = {
        "image_auroc": points / 100,
        "pixel_auroc": 0.9 if has_masks else None,
        "aupro_0.3": 0.8 if has_masks else None,
        "detection_rate": 0.5,
        "false_alarm_rate": 0.02,
    }
    evaluation = {"mean": value, "classes": dict.fromkeys(classes, value)}
    return {
        **{name: getattr(cell, name) for name in ("id", "data", "model", "coupling", "base", "seed", "settings")},
        **({"variant": cell.variant} if cell.variant else {}),
        "modes": list(cell.modes),
        "data_digest": "0",
        "command": cell.command,
        "git": "abc",
        "evaluations": dict.fromkeys(cell.modes or (PLAIN,), evaluation),
        "metrics": {"held_out_loss": 1.0, "latent_mean": 0.1, "latent_square_min": 0.9, "latent_square_max": 1.1},
        "parity": {"onnx_vs_unfolded": 2e-6},
        "cost": {"multiply_adds": 2_000_000_000, "flow_multiply_adds_folded": 500_000_000},
        "parameters": {"flow": 1_250_000, "trainable": 1_250_000},
        "n_images": {"fit": 8, "early_stop": 1, "threshold": 1},
        "seconds": {"features": 9.0, "closed form": 1.0, "training": 30.0, "export": 2.0, "evaluation": 3.0},
        "resumed": False,
        "machine": {"device": "cpu", "processor": "x86_64", "cores": 2, "threads": 1},
        "versions": {"python": "3", "torch": "2"},
        "finished_at": "2026-01-02T03:04:05",
    }


def make_shipped_record(cell: ShippedCell, found: int) -> Record:
    """Record of a finished cell as shipped that finds `found` of 20 defects at the promise, and one more at 5 %."""
    resolved = resolved_settings(cell.config(Path("data")))
    classes = read_table(TABLE).data_sets if cell.data == UNIFIED else (cell.data,)
    has_masks = cell.data != "solar_cell_mono"
    value = {
        "image_auroc": 0.9 + cell.seed / 100,
        "pixel_auroc": 0.9 if has_masks else None,
        "aupro_0.3": 0.8 if has_masks else None,
        "seg_f1": 0.4 if has_masks else None,
        "detection_rate": found / 20,
        "false_alarm_rate": 0.1,
        "n_good": 10,
        "n_defective": 20,
    }
    counts = {"found": found + 1, "n_defective": 20, "false_alarms": 2, "n_good": 10}
    form = {"image_size": 320, "form": "positions", "shrinkage": 0.05}
    modes = cell.modes or (PLAIN,)
    return {
        **{name: getattr(cell, name) for name in ("id", "data", "model", "seed", "settings")},
        "modes": list(cell.modes),
        "data_digest": "0",
        "command": cell.command,
        "git": "abc",
        "resolved": resolved,
        "evaluations": {mode: {"mean": value, "classes": dict.fromkeys(classes, value)} for mode in modes},
        "counts": {"0.05": dict.fromkeys(modes, dict.fromkeys(classes, counts))},
        "promise": 0.005,
        "forms": [{"class_name": name, **form} for name in classes]
        if cell.data == UNIFIED
        else [{**form, "top_fraction": 0.0025, "variation": 1.0}],
        "usage": {"train": {"seconds": 60.0 + cell.seed, "processor_s": 100.0, "peak_mb": 1234.4}},
        "bench": {"engine_ms": {"p50": 9.87}},
        "cost": {"multiply_adds": 2_000_000_000},
        "n_images": {"fit": 12, "early_stop": 0, "threshold": 11},
        "seconds": {"train": 60.0, "eval": 9.0},
        "machine": {"device": "cpu", "processor": "x86_64", "cores": 2, "threads": 2},
        "versions": {"python": "3", "torch": "2"},
        "finished_at": "2026-01-02T03:04:05",
    }


def make_shipped_results(found: Callable[[ShippedCell], int | None]) -> Results:
    """The real table with `found(cell)` of 20 defects in each cell as shipped; None leaves a cell out."""
    table = read_table(TABLE)
    shipped = expand_shipped(table)
    values = {cell.id: found(cell) for cell in shipped}
    records = {cell.id: make_shipped_record(cell, n) for cell in shipped if (n := values[cell.id]) is not None}
    return load_results(table, [*expand(table), *shipped], records)


def make_results(points: Callable[[Cell], float | None], *, variants: bool = False) -> Results:
    """The real table with image AUROC `points(cell)` in percent; None leaves a cell out."""
    table = read_table(TABLE)
    if not variants:
        table = table.model_copy(update={"variants": ()})
    cells = expand(table)
    values = {cell.id: points(cell) for cell in cells}
    records = {cell.id: make_record(cell, value) for cell in cells if (value := values[cell.id]) is not None}
    return load_results(table, cells, records)
