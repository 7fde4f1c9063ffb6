"""Check unfolded torch, folded torch and ONNX Runtime on all test images: `python tools/parity.py BUNDLE DATA`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from edgead.bundle import open_bundle
from edgead.data.layouts import find_dataset
from edgead.data.reader import read_image
from edgead.engines.opening import open_engine
from edgead.evaluation.compare import Comparison, compare_outputs, merge
from edgead.export.onnx_graph import DeployedModel
from edgead.models.torch_runner import TorchRunner
from edgead.models.zoo import load_model

BATCH = 8


def main(bundle_path: Path, data: Path) -> int:
    """Print the largest differences and the number of verdicts that flip."""
    bundle = open_bundle(bundle_path)
    model = load_model(bundle)
    place = (model, bundle.image_size, torch.device("cpu"))
    unfolded, folded = TorchRunner(model, *place), TorchRunner(DeployedModel(model), *place)
    threshold = bundle.thresholds().threshold.value
    test = find_dataset(data, need_train=False).test
    against_folded: list[Comparison] = []
    against_onnx: list[Comparison] = []
    with open_engine(bundle, "reference", threads=0) as runner:
        for start in range(0, len(test), BATCH):
            pictures = [
                read_image(s.path, **bundle.manifest.preprocessing.reading) for s in test[start : start + BATCH]
            ]
            batch = np.stack([bundle.preprocess(picture) for picture in pictures])
            truth = unfolded.infer(batch)
            against_folded.append(compare_outputs(truth, folded.infer(batch), threshold))
            against_onnx.append(compare_outputs(truth, runner.infer(batch), threshold))
    one, two = merge(against_folded), merge(against_onnx)
    print(
        f"| {data.name} | {one.n_images} | {one.max_relative_difference:.1e} | {two.max_relative_difference:.1e} "
        f"| {max(one.score_relative_difference, two.score_relative_difference):.1e} "
        f"| {max(one.peak_relative_difference, two.peak_relative_difference):.1e} "
        f"| {one.verdict_flips + two.verdict_flips} |"
    )
    return 0 if one.is_parity and two.is_parity else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
