"""Run an engine of edgead's with the Python that edgead is installed in: `own_engine.py JOB.json`."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main(file: str) -> None:
    """Do the job of a JSON file and print the result as one line of JSON."""
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    from edgead.bundle import open_bundle
    from edgead.data.reader import read_image
    from edgead.engines.opening import open_engine

    bundle = open_bundle(Path(job["model"]))
    with open_engine(bundle, job["engine"], threads=job["threads"]) as runner:
        image = bundle.preprocess(read_image(Path(job["images"][0]), **bundle.manifest.preprocessing.reading), None)[
            None
        ]
        runner.infer(image)
        result: dict[str, Any] = {"first_at": time.time()}
        times = []
        for index in range(job["warm_up"] + job["runs"]):
            started = time.perf_counter()
            runner.infer(image)
            if index >= job["warm_up"]:
                times.append(1e3 * (time.perf_counter() - started))
    result |= {"times_ms": times, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
