"""Measure accuracy and latency of every model at lower precision: `python -m tools.precision DATA_ROOT`.

Trains missing bundles, builds every form of them for ONNX Runtime on this CPU, and writes `docs/precision.md` from the
JSON of the jobs. Finished jobs are skipped, so the same command continues after an interruption. INT8 recipes are compared
on held-out good images and pseudo-defects; test images are only for reporting.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgead.progress import Silent
from edgead.storage import write_json
from tools.precision.measure import Record, bundle_of, measure
from tools.precision.page import write_page
from tools.precision.table import Job, Table, jobs_of, read_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is missing and write the page; 1 if a job failed."""
    options = _parser().parse_args(arguments)
    table = read_table(options.config)
    records = {**_published(options.json), **_finished(options.work)}
    jobs = jobs_of(table, options.only)
    failed = 0
    if not options.only_page:
        for number, job in enumerate(jobs, start=1):
            if job.id in records and not options.again:
                continue
            started = time.monotonic()
            try:
                records[job.id] = _do(table, job, options.root, options.work)
            except Exception as error:  # whatever one job dies of, the next one is done
                failed += 1
                print(f"{number}/{len(jobs)} {job.id}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            write_json(options.work / "jobs" / f"{job.id}.json", records[job.id])
            print(
                f"{number}/{len(jobs)} {job.id}: {_line(records[job.id])}, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    known = {job.id for job in jobs_of(table)}
    records = {name: record for name, record in sorted(records.items()) if name in known}
    write_json(options.json, records)
    write_page(options.page, table, records)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.precision", description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path, metavar="DATA_ROOT", help="folder of the data sets")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("table.yaml"), help="the table")
    parser.add_argument("--work", type=Path, default=Path("runs/precision"), help="bundles and finished jobs")
    parser.add_argument("--only", metavar="PATTERN", help="jobs whose id matches, such as 'usf-*-int8*'")
    parser.add_argument("--again", action="store_true", help="also the jobs that are finished")
    parser.add_argument("--only-page", action="store_true", help="write the page from the results at hand and stop")
    parser.add_argument("--page", type=Path, default=Path("docs/precision.md"))
    parser.add_argument("--json", type=Path, default=Path("docs/precision.json"))
    return parser


def _published(path: Path) -> dict[str, Record]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _finished(work: Path) -> dict[str, Record]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (work / "jobs").glob("*.json")}


def _do(table: Table, job: Job, root: Path, work: Path) -> Record:
    bundle = bundle_of(table, job, root, work, Silent())
    return measure(job, bundle, root, Silent())


def _line(record: Record) -> str:
    tests = ", ".join(f"{name} {values['image_auroc']:.4f}" for name, values in record["test"].items())
    return f"drop {record['drop']:+.4f}, separation x{record['separation']:.2f}; test {tests}"


if __name__ == "__main__":
    sys.exit(main())
