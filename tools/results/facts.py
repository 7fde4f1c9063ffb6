"""Parts of the results page about the runs: settings, soundness, and reproduction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.results.cells import COMMAND, UNIFIED
from tools.results.markdown import NAMES, NOTHING, number, table
from tools.results.results import Results
from tools.results.run import Record
from tools.results.show import duration


def what_was_run(results: Results) -> str:
    """How much is done, the settings, the data, the machine, the software and the time."""
    n_done, n_all = len(results.records), results.n_cells
    failed = f", {len(results.failed)} failed" if results.failed else ""
    partial = "; what follows is partial" if n_done < n_all else ""
    lines = [f"- {n_done} of {n_all} cells are finished{failed}{partial}."]
    budget = ", ".join(f"`{key}={yaml_text(value)}`" for key, value in results.table.budget.items())
    lines.append(f"- Every cell: {budget}.")
    for name, part in results.table.models.items():
        own = ", ".join(f"`{key}={yaml_text(value)}`" for key, value in part.settings.items())
        seeds = results.table.seeds if part.seeds is None else part.seeds
        own = f"{own}; " if own else ""
        lines.append(f"- {NAMES.get(name, name)}: {own}seed{'s' if len(seeds) > 1 else ''} {join(seeds)}.")
    if not results.records:
        return "\n".join(lines)
    images = {r["data"]: r["n_images"] for r in results.records}
    for data, counts in images.items():
        digests = {record["data_digest"] for record in results.records if record["data"] == data}
        several = f" The images changed between cells: {len(digests)} versions." if len(digests) > 1 else ""
        lines.append(
            f"- {'All data sets together' if data == UNIFIED else data}: {counts['fit']} good images to fit the model, {counts['early_stop']} for the held-out loss, "
            f"{counts['threshold']} for the threshold.{several}"
        )
    return "\n".join([*lines, *origin(results.records, "features, training, export and evaluation")])


def origin(records: Sequence[Record], what: str) -> list[str]:
    """Machine, software, days and time of some records, as items of a list; `what` names what their time is of."""
    total = sum(sum(record["seconds"].values()) for record in records)
    machines = {_machine(record) for record in records}
    versions = {_versions(record) for record in records}
    days = sorted(record["finished_at"][:10] for record in records)
    return [
        f"- Machine: {join(sorted(machines), '; ')}.",
        f"- Software: {join(sorted(versions), '; ')}; revision {join(sorted({r['git'] or 'unknown' for r in records}))}"
        f"{' (+: with local changes)' if any((r['git'] or '').endswith('+') for r in records) else ''}.",
        f"- {days[0]}{'' if days[0] == days[-1] else f' to {days[-1]}'}; total time of the cells: {duration(total)} ({what}).",
    ]


def _machine(record: Record) -> str:
    m = record["machine"]
    return f"{m['processor']} ({m['device']}), {m['cores']} CPU cores, {m['threads']} thread{'s' if m['threads'] > 1 else ''} per cell"


def _versions(record: Record) -> str:
    versions = record["versions"]
    named = ("python", "torch", "onnxruntime", "timm", "edgead")
    return ", ".join(f"{name} {versions[name]}" for name in named if name in versions)


def yaml_text(value: object) -> str:
    """A setting as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def join(values: Iterable[object], separator: str = ", ") -> str:
    """Values as one text."""
    return separator.join(str(value) for value in values)


def health(results: Results) -> str:
    """Checks of the trained latents and of the exported graphs."""
    head = (
        "architecture",
        "coupling",
        "base",
        "held-out loss",
        "latent mean",
        "latent mean square",
        "NLL and norm",
        "parity",
    )
    keys = dict.fromkeys((g.model, g.coupling, g.base) for g in results.groups.values() if not g.variant)
    rows = []
    for key in keys:
        records = [r for r in results.records if (r["model"], r["coupling"], r["base"]) == key and "variant" not in r]
        if not records:
            continue
        metrics = [r["metrics"] for r in records]
        low, high = _of(metrics, "latent_square_min"), _of(metrics, "latent_square_max")
        loss = _of(metrics, "held_out_loss")
        parts = [part for r in records for part in r["evaluations"].values()]
        correlation = [part["alignment"]["spearman"] for part in parts if "alignment" in part]
        rows.append(
            (
                *(NAMES.get(part, part) for part in key),
                f"{min(loss):.3f} to {max(loss):.3f}" if loss else NOTHING,
                number(max(_of(metrics, "latent_mean"), default=None), ".2f"),
                f"{min(low):.2f} to {max(high):.2f}" if low else NOTHING,
                number(min(correlation, default=None), ".3f"),
                f"{max(r['parity']['onnx_vs_unfolded'] for r in records):.0e}",
            )
        )
    if not rows:
        return NOTHING
    return (
        table(head, rows, 3)
        + "\n\nWorst values over data sets and seeds. At a maximum of the likelihood, the latent has mean 0 and mean square 1 per "
        "channel. *NLL and norm*: Spearman correlation of negative log-likelihood and latent norm. *Parity*: largest relative "
        "difference between the maps of the exported graph and those of the unfolded torch model."
    )


def _of(metrics: Sequence[Record], name: str) -> list[float]:
    return [m[name] for m in metrics if name in m]


def again(results: Results) -> str:
    """Commands that make the page and one cell."""
    example = next(iter(results.records), None)
    id_ = example["id"] if example else "pcb-fastflow-affine-normal-seed0"
    return (
        f"`{COMMAND} DATA_ROOT` runs missing cells and writes this page; after an interruption it continues where it stopped. "
        f"To repeat one cell: `{COMMAND} DATA_ROOT --only {id_} --again`. Ids are DATA-ARCHITECTURE-COUPLING-BASE-seedN, with "
        f"`{UNIFIED}` for the models of all data sets; `--list` prints all with their commands. Settings and command of "
        "every cell are in `results.json`. Training times exclude reading images and computing features, which cells share; "
        "multiply-adds are per image, in parentheses those of the flow."
    )


def failures(results: Results) -> str:
    """Cells that failed in the last run."""
    failed = [*results.failed, *(record for group in results.shipped for record in group.failed)]
    if not failed:
        return ""
    lines = [f"- `{record['id']}` failed: {record['error'].splitlines()[0]}" for record in failed]
    return "## Failed cells\n\n" + "\n".join(lines)
