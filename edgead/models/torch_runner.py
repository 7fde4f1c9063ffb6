"""A torch model behind the `Runner` contract."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import Self

from edgead.runner import Outputs, TensorSpec


class TorchRunner:
    """Runs a detector whose `forward` gives `(anomaly_map, pred_score)`.

    Args:
        model: In evaluation mode or not; it is put there.
        image_size: `(height, width)` in pixels.
        map_size: `(h, w)` of the anomaly map.
        device: Where the model already is.
    """

    engine_name = "torch-fp32"

    def __init__(
        self, model: nn.Module, image_size: tuple[int, int], map_size: tuple[int, int], device: torch.device
    ) -> None:
        self._model = model.eval()
        self._device = device
        self.input_spec = TensorSpec("image", (None, *image_size, 3), "uint8")
        self.output_specs = (
            TensorSpec("anomaly_map", (None, *map_size), "float32"),
            TensorSpec("pred_score", (None,), "float32"),
        )

    @torch.inference_mode()
    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        anomaly_map, pred_score = self._model(torch.from_numpy(np.ascontiguousarray(batch)).to(self._device))
        return {"anomaly_map": anomaly_map.cpu().numpy(), "pred_score": pred_score.cpu().numpy()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
