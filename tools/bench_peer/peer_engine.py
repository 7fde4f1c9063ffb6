"""Run an OpenVINO export with the Python of the peers' environment: `peer_engine.py JOB.json`.

A process of its own for each measurement, so that start-up time and memory are those of one engine. `inferencer` uses
anomalib's own class, `openvino` the run time alone. Nothing of edgead is imported.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main(file: str) -> None:
    """Do the job of a JSON file and print the result as one line of JSON."""
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    infer = _inferencer(job) if job["with"] == "inferencer" else _openvino(job)
    image = _read(job["images"][0], job["size"])
    infer(image)
    result: dict[str, Any] = {"first_at": time.time()}
    times = []
    for index in range(job["warm_up"] + job["runs"]):
        started = time.perf_counter()
        infer(image)
        if index >= job["warm_up"]:
            times.append(1e3 * (time.perf_counter() - started))
    result |= {"times_ms": times, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
    if job["scores"]:
        found = [infer(_read(path, job["size"])) for path in job["images"]]
        result |= {"scores": [score for score, _ in found], "labels": [label for _, label in found]}
    print(json.dumps(result))


def _openvino(job: dict[str, Any]) -> Any:
    """The run time alone, batch fixed to one."""
    import openvino

    core = openvino.Core()
    model = core.read_model(job["model"])
    model.reshape([1, 3, job["size"], job["size"]])
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job["threads"]}
    compiled = core.compile_model(model, "CPU", options)
    score, label = (next(o for o in compiled.outputs if name in o.names) for name in ("pred_score", "pred_label"))

    def infer(image: Any) -> tuple[float, bool]:
        outputs = compiled(image)
        return float(np.ravel(outputs[score])[0]), bool(np.ravel(outputs[label])[0])

    return infer


def _inferencer(job: dict[str, Any]) -> Any:
    """The class that anomalib's documents name for this."""
    from anomalib.deploy import OpenVINOInferencer

    inferencer = OpenVINOInferencer(path=job["model"], device="CPU")

    def infer(image: Any) -> tuple[float, bool]:
        found = inferencer.predict(image[0].transpose(1, 2, 0))
        return float(np.ravel(found.pred_score)[0]), bool(np.ravel(found.pred_label)[0])

    return infer


def _read(path: str, size: int) -> Any:
    """`(1, 3, size, size)` float32 RGB in 0..1, resized with an antialiasing filter as in training."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 255


if __name__ == "__main__":
    main(sys.argv[1])
