"""Write the scores of a folder's images as JSON: `python scores.py BUNDLE ENGINE FOLDER FILE`; runs on both machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import edgead


def main(bundle: str, engine: str, folder: str, file: str) -> None:
    """Write score, threshold and decision of each image, by its path below `folder`."""
    found = {}
    with edgead.load(bundle, engine=engine) as model:
        for path in sorted(Path(folder).rglob("*.png")):
            result = model.predict(model.read_image(path))
            found[str(path.relative_to(folder))] = (result.score, result.threshold, result.is_anomalous)
    Path(file).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
