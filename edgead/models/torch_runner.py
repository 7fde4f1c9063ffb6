"""Torch model behind the `Runner` protocol."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgead.contexts import OwnsNothing
from edgead.models.detector import Detector
from edgead.runner import Outputs, TensorSpec


class TorchRunner(OwnsNothing):
    """Runner of a detector, unfolded or folded.

    Args:
        model: Detector, or its folded form (`export.onnx_graph.DeployedModel`), which has the same call.
        detector: Detector that `model` is or was made from.
        image_size: Image size `(height, width)` in pixels.
        device: Device that the model is on.
    """

    engine_name = "torch-fp32"

    def __init__(self, model: nn.Module, detector: Detector, image_size: tuple[int, int], device: torch.device) -> None:
        self._model = model.eval()
        outputs = detector.outputs
        self._names = tuple(outputs)
        self._device, self.device = device, device.type
        self.input_spec = TensorSpec("image", (None, *image_size, 3), "uint8")
        self.output_specs = tuple(TensorSpec(name, (None, *size), "float32") for name, size in outputs.items())

    @torch.inference_mode()
    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        images = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        bias = None if class_bias is None else torch.from_numpy(class_bias).to(self._device)
        outputs = self._model(images, bias)
        return {name: value.cpu().numpy() for name, value in zip(self._names, outputs, strict=True)}
