"""Judge images from your own camera library: any iterable of RGB arrays is a source.

    python examples/custom_source.py BUNDLE

Replace `grab` by what your camera's SDK offers. For a camera that may be lost and found again, or that must give its newest
frame, write a class with the protocol `edgead.Source` instead: the same call takes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import edgead


def grab(n_frames: int = 12) -> Iterator[NDArray[np.uint8]]:
    """Frames of a line, `(480, 640, 3)`, uint8, RGB: grey, with a bright square now and then."""
    rng = np.random.default_rng(0)
    for index in range(n_frames):
        frame = rng.integers(90, 110, (480, 640, 3), dtype=np.uint8)
        if index % 4 == 3:
            frame[200:260, 300:360] = 255
        yield frame


def main(bundle: str) -> int:
    """Print a line for each frame; return the number of anomalous ones."""
    n_anomalous = 0
    with edgead.load(bundle) as model:
        for judged in edgead.open_stream(model, grab()):
            n_anomalous += judged.is_anomalous
            print(judged.frame.index, f"{judged.worst.score:.2f}", "anomalous" if judged.is_anomalous else "good")
    return n_anomalous


if __name__ == "__main__":
    main(sys.argv[1])
