"""Measurements of one set: a training per row, then the latency of every engine in turns."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.storage import write_json
from tools.bench_peer.judging import image_auroc, judge, judge_own, verdicts
from tools.bench_peer.plan import ROWS, Images, Plan
from tools.bench_peer.running import last_json, run

HERE = Path(__file__).parent
ENGINES = ("fp32", "int8")
WARM_UP = 10
ENGINE_BUDGET_S = 600.0
Record = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Interpreters and folders.

    Attributes:
        peer: Interpreter of anomalib's environment.
        device: Interpreter of an environment with edgead's device side alone.
        weights: Weights of the backbone for the peers.
        imagenette: Images that EfficientAD needs; None = its row is not run.
        work: Folder of this run.
    """

    peer: Path
    device: Path
    weights: Path
    imagenette: Path | None
    work: Path


def measure_row(row: str, images: Images, plan: Plan, places: Places) -> Record:
    """Train, score and export one row; what failed or used up its budget is in `status`."""
    folder = places.work / images.name / row
    shutil.rmtree(folder, ignore_errors=True)  # of other settings, or of a run that was interrupted
    folder.mkdir(parents=True)
    if row == "efficientad" and places.imagenette is None:
        why = "not run: it trains with Imagenette and teacher weights that anomalib downloads; name a copy with --imagenette"
        return {"status": why}
    if row.startswith("edgead"):
        return _own(row, images, plan, folder)
    return _peer(row, images, plan, places, folder)


def _own(row: str, images: Images, plan: Plan, folder: Path) -> Record:
    edgead = [sys.executable, "-m", "edgead"]
    size = [] if row == "edgead" else ["--image-size", str(plan.size)]
    bundle = folder / "run"
    train = [
        *edgead,
        "train",
        str(images.folder),
        "--out",
        str(bundle),
        "--seed",
        str(plan.seed),
        "--device",
        "cpu",
        "--set",
        "train.variation=0",
        *size,
    ]
    log = folder / "train.log"
    ran = run(train, log, 60 * plan.budget_minutes)
    if ran.code != 0:
        return {"status": _why(ran.code, log, plan)}
    record: Record = {"status": "measured", "training_s": ran.seconds, "training_mb": ran.peak_mb, "engines": {}}
    if row.endswith("again"):
        return record
    for engine in ENGINES:
        name = f"onnxruntime-{engine}"
        build = [*edgead, "build-engine", str(bundle), f"--{engine}", "--backend", "onnxruntime", "--device", "cpu"]
        file = folder / f"{engine}.json"
        judged = [*edgead, "eval", str(bundle), "--data", str(images.folder), "--engine", name, "--json", str(file)]
        for command in (build, judged):
            ran = run(command, log, 60 * plan.budget_minutes)
            if ran.code != 0:
                record.setdefault("notes", []).append(f"{engine}: {_why(ran.code, log, plan)}")
                break
        else:
            values = judge_own(json.loads(file.read_text(encoding="utf-8")))
            record["engines"][engine] = values
    record |= record["engines"].get("fp32", {})
    manifest = json.loads((_bundle(bundle) / "bundle.json").read_text(encoding="utf-8"))
    record["input"] = f"{manifest['preprocessing']['image_size'][0]} px"
    return record


def _peer(row: str, images: Images, plan: Plan, places: Places, folder: Path) -> Record:
    job = {
        "model": row, "data": str(images.folder), "out": str(folder), "size": plan.size, "weights": str(places.weights),
        "batch": plan.batch, "workers": plan.threads, "threads": plan.threads, "held_out": plan.held_out, "seed": plan.seed,
        "epochs": plan.epochs if row in ("fastflow", "efficientad") else None, "train_minutes": plan.train_minutes,
        "coreset": plan.coreset, "imagenet": None if places.imagenette is None else str(places.imagenette),
        "test": [str(sample.path) for sample in images.test],
    }  # fmt: skip
    write_json(folder / "job.json", job)
    log = folder / "train.log"
    ran = run([places.peer, HERE / "peer_train.py", folder / "job.json"], log, 60 * plan.budget_minutes, OFFLINE)
    return judge_peer(ran.code, images, plan, places, folder)


def judge_peer(code: int | None, images: Images, plan: Plan, places: Places, folder: Path) -> Record:
    """Record of a peer's row from what its training left in a folder, with what its engines find.

    Args:
        code: Exit status of the training; None if its budget was used up.
        images, plan, places: As for `measure_row`.
        folder: Folder of the row.
    """
    log = folder / "train.log"
    result = _read(folder / "result.json")
    stages = result.get("stages", {})
    if "score" not in stages:
        return {"status": _why(code, log, plan), "stages": stages}
    counted = [stages[name] for name in ("import", "fit", "export-fp32") if name in stages]
    record: Record = {
        "status": "measured" if code == 0 else f"measured in part: {_why(code, log, plan)}",
        "training_s": sum(stage["seconds"] for stage in counted), "training_mb": max(stage["peak_mb"] for stage in counted),
        "input": f"{plan.size} px", "stages": stages, "notes": result.get("notes", []), "epochs": result.get("epochs"),
        **judge(images.test, folder / "raw.npz", result["thresholds"]), "engines": {},
    }  # fmt: skip
    for engine in ENGINES:
        if f"export-{engine}" in stages:
            ran = _engine(folder, engine, images, plan, places, runs=0, scores=True)
            if ran.code != 0:
                record["notes"].append(
                    f"the {engine} engine, one image at a time: {_why(ran.code, folder / 'engine.log', plan)}"
                )
                continue
            found = last_json(ran)
            record["engines"][engine] = {
                "image_auroc": image_auroc(images.test, found["scores"]), **verdicts(images.test, found["labels"])
            }  # fmt: skip
    return record


OFFLINE = {"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}


def measure_latency(images: Images, plan: Plan, places: Places, records: dict[str, Record]) -> Record:
    """Time each engine in short processes, all of them in every round; medians over the rounds."""
    asked = [
        (row, engine)
        for row in ROWS
        for engine in records.get(row, {}).get("engines", {})
        if records[row]["status"].startswith("measured")
    ]
    values: dict[tuple[str, str], list[Record]] = {one: [] for one in asked}
    for _ in range(plan.rounds):
        for row, engine in asked:
            folder = places.work / images.name / row
            ran = _engine(folder, engine, images, plan, places, runs=plan.runs, scores=False)
            found = last_json(ran)
            values[row, engine].append({
                "ms": statistics.median(found["times_ms"]), "start_s": found["first_at"] - ran.started_at,
                "mb": found["peak_mb"],
            })  # fmt: skip
    result: Record = {}
    for (row, engine), rounds in values.items():
        result.setdefault(row, {})[engine] = {
            key: statistics.median(one[key] for one in rounds) for key in ("ms", "start_s", "mb")
        } | {"rounds_ms": [one["ms"] for one in rounds]}
    for row in result:
        if not row.startswith("edgead") and "fp32" in result[row]:
            folder = places.work / images.name / row
            ran = _engine(folder, "fp32", images, plan, places, runs=plan.runs, scores=False, with_="inferencer")
            found = last_json(ran)
            result[row]["inferencer"] = {
                "ms": statistics.median(found["times_ms"]), "start_s": found["first_at"] - ran.started_at,
                "mb": found["peak_mb"],
            }  # fmt: skip
    return result


def _engine(
    folder: Path, engine: str, images: Images, plan: Plan, places: Places, *, runs: int, scores: bool,
    with_: str = "openvino",
) -> Any:  # fmt: skip
    own = folder.name.startswith("edgead")
    model = _bundle(folder / "run") if own else folder / engine / "weights" / "openvino" / "model.xml"
    job = {
        "model": str(model), "engine": f"onnxruntime-{engine}", "with": with_, "size": plan.size, "threads": plan.threads,
        "warm_up": WARM_UP if runs else 0, "runs": runs, "scores": scores,
        "images": [str(sample.path) for sample in images.test],
    }  # fmt: skip
    file = folder / "engine-job.json"
    write_json(file, job)
    python, script = (places.device, "own_engine.py") if own else (places.peer, "peer_engine.py")
    return run([python, HERE / script, file], folder / "engine.log", ENGINE_BUDGET_S)


def _bundle(folder: Path) -> Path:
    return folder if (folder / "bundle.json").is_file() else folder / "bundle"


def _read(path: Path) -> Record:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _why(code: int | None, log: Path, plan: Plan) -> str:
    if code is None:
        return f"over its budget of {plan.budget_minutes:g} minutes"
    lines: Sequence[str] = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "no message")
    return f"failed with status {code}: {said[:200]}"
