"""Measure anomalib beside edgead: `python -m tools.bench_peer DATA_ROOT`.

Both get the same images, the same backbone weights and the same number of threads. anomalib is installed into an environment
of its own. Rows that are finished are skipped, so the same command goes on after an interruption; a row over its budget
is reported as such. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from edgead.storage import write_json
from tools.bench_peer.chart import write_chart
from tools.bench_peer.environment import PEERS, footprint, make_environment, make_own_environment
from tools.bench_peer.page import write_page
from tools.bench_peer.plan import QUICK_IMAGES, ROWS, Plan, link_images
from tools.bench_peer.rows import Places, Record, measure_latency, measure_row

QUICK = Plan(size=128, batch=8, epochs=1, train_minutes=1, budget_minutes=5, rounds=1, runs=5, n_images=QUICK_IMAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write JSON, page and picture."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    os.environ["OMP_NUM_THREADS"] = str(plan.threads)
    work: Path = options.work
    if not options.only_page:
        _measure(options, plan, _places(options, work))
    content = {
        "made": date.today().isoformat(),
        "machine": _machine(),
        "plan": plan.to_json(),
        "sets": {name: _of_set(work / name) for name in options.sets},
        "footprint": _read(work / "footprint.json").get("result"),
    }
    if options.only_page and options.json.is_file():
        content = json.loads(options.json.read_text(encoding="utf-8"))
    write_json(options.json, content)
    write_chart(options.picture, content)
    write_page(options.page, content, os.path.relpath(options.picture, options.page.parent))
    print(f"{options.page}, {options.json}, {options.picture}")
    return 0


def _measure(options: argparse.Namespace, plan: Plan, places: Places) -> None:
    for name in options.sets:
        _measure_set(options.root / name, options.rows or ROWS, plan, places)
    environments = places.peer.parents[1], places.device.parents[1]
    once(places.work / "footprint.json", {}, lambda: footprint(*environments, places.work))


def _measure_set(root: Path, rows: Sequence[str], plan: Plan, places: Places) -> None:
    folder = places.work / root.name
    images = link_images(root, folder / "images", plan.n_images, plan.seed)
    for row in rows:
        once(folder / f"{row}.json", plan.to_json(), partial(measure_row, row, images, plan, places))
    records = _of_set(folder)["rows"]
    settings = plan.to_json() | {"rows": sorted(records)}
    once(folder / "latency.json", settings, partial(measure_latency, images, plan, places, records))


def once(file: Path, settings: dict[str, Any], measure: Callable[[], Record]) -> None:
    """Do a measurement unless it was done with the same settings; one that fails is tried again by the next call."""
    if _read(file).get("settings") == settings:
        return
    started = time.monotonic()
    try:
        result = measure()
    except Exception as error:  # whatever one row dies of, the next one is measured
        print(f"{file.parent.name} {file.stem}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return
    write_json(file, {"settings": settings, "result": result})
    status = result.get("status", "measured")
    print(f"{file.parent.name} {file.stem}: {status}, {time.monotonic() - started:.0f} s", flush=True)


def _places(options: argparse.Namespace, work: Path) -> Places:
    peer = make_environment(options.environment, PEERS)
    device = make_own_environment(options.own_environment)
    weights = work / "backbone.pth"
    if not weights.is_file():
        _write_weights(weights)
    return Places(peer.absolute(), device.absolute(), weights.absolute(), options.imagenette, work.absolute())


def _write_weights(file: Path) -> None:
    """Write the packaged backbone weights under timm's names, so that both sides read the same tensors."""
    import timm
    import torch

    from edgead.models.backbone_weights import load_weights
    from edgead.models.packaged_weights import LITE0

    network = timm.create_model(LITE0)
    load_weights(network, LITE0, "lite0")
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)


def _of_set(folder: Path) -> dict[str, Any]:
    rows = {row: _read(folder / f"{row}.json").get("result") for row in ROWS}
    return {
        "rows": {row: record for row, record in rows.items() if record},
        "latency": _read(folder / "latency.json").get("result", {}),
    }


def _plan(options: argparse.Namespace) -> Plan:
    if options.quick:
        return QUICK
    return Plan(
        size=options.size, coreset=options.coreset, epochs=options.epochs, train_minutes=options.train_minutes,
        budget_minutes=options.budget, threads=options.threads, seed=options.seed, rounds=options.rounds, n_images=options.images,
    )  # fmt: skip


def _machine() -> str:
    name = platform.processor() or platform.machine()
    for line in (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else ()
    ):
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _parser() -> argparse.ArgumentParser:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m tools.bench_peer", description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path, metavar="DATA_ROOT", help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", default=["pcb"], help="names of data sets in it")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="only these rows")
    parser.add_argument("--size", type=int, default=plan.size, help="side of the square input in px")
    parser.add_argument("--images", type=int, help="most training, good test and defective test images each")
    parser.add_argument(
        "--epochs", type=int, help="most epochs of FastFlow and EfficientAD; default: until their time is over"
    )
    parser.add_argument(
        "--coreset",
        type=float,
        default=plan.coreset,
        help="share of the patches that PatchCore keeps; its own default is 0.1",
    )
    parser.add_argument(
        "--train-minutes",
        type=float,
        default=plan.train_minutes,
        help="time after which FastFlow and EfficientAD stop training",
    )
    parser.add_argument(
        "--budget", type=float, default=plan.budget_minutes, metavar="MINUTES", help="time after which a row is ended"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads of every engine")
    parser.add_argument("--rounds", type=int, default=plan.rounds, help="rounds of the latency measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="few images and epochs at 128 px: tries the tool, measures nothing"
    )
    parser.add_argument("--imagenette", type=Path, help="Imagenette, unpacked; without it EfficientAD is not run")
    parser.add_argument(
        "--work", type=Path, default=Path("build/bench-peer/work"), help="links, models and finished rows"
    )
    parser.add_argument(
        "--environment", type=Path, default=Path("build/bench-peer/anomalib"), help="environment of anomalib"
    )
    parser.add_argument(
        "--own-environment",
        type=Path,
        default=Path("build/bench-peer/edgead"),
        help="environment of edgead without torch",
    )
    parser.add_argument(
        "--only-page", action="store_true", help="write page and picture from the JSON at hand and stop"
    )
    parser.add_argument("--json", type=Path, default=Path("docs/peers.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/peers.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/peers.svg"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
