"""Features of the frozen backbone through ONNX Runtime, which takes less than half of torch's time on a CPU."""

from __future__ import annotations

import io
import statistics
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from edgead.models.backbone import Backbone

TIMED_RUNS = 5
# Pixels of a run: more images at a time take memory for their activations, and are not faster.
PIXELS = 16 * 320 * 320


class BackboneSession:
    """Backbone in ONNX Runtime, with the attributes that `extract_features` reads.

    Args:
        backbone: Backbone on the CPU.
        image_size: Size `(height, width)` of its images, in pixels.
        threads: Number of threads; 0 = one for each core.
    """

    def __init__(self, backbone: Backbone, image_size: tuple[int, int], threads: int = 0) -> None:
        import onnxruntime
        import torch

        self.keys = backbone.keys
        self.channels = backbone.channels
        self.sizes = backbone.sizes
        self.weights_digest = backbone.weights_digest
        self.image_size = image_size
        buffer = io.BytesIO()
        names = [f"features_{index}" for index in range(len(self.keys))]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the TorchScript exporter warns of its deprecation on every call
            torch.onnx.export(
                _in_order(backbone),
                (torch.zeros(2, *self.image_size, 3, dtype=torch.uint8),),
                buffer,  # type: ignore[arg-type]  # a file object works
                opset_version=17,
                dynamo=False,
                input_names=["image"],
                output_names=names,
                dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Features by key of `(N, H, W, 3)` uint8 RGB, as `Backbone` gives them."""
        import torch

        step = max(1, PIXELS // (images.shape[1] * images.shape[2]))
        found = [
            self._session.run(None, {"image": images[start : start + step].numpy()})
            for start in range(0, len(images), step)
        ]
        values = [one[0] if len(one) == 1 else np.concatenate(one) for one in zip(*found, strict=True)]
        return {key: torch.from_numpy(array) for key, array in zip(self.keys, values, strict=True)}

    def milliseconds(self) -> float:
        """Median time of one image on this machine, in milliseconds."""
        image = {"image": np.zeros((1, *self.image_size, 3), np.uint8)}
        self._session.run(None, image)
        times = []
        for _ in range(TIMED_RUNS):
            started = time.perf_counter()
            self._session.run(None, image)
            times.append(1e3 * (time.perf_counter() - started))
        return statistics.median(times)


def session_on(device: torch.device, backbone: Backbone, image_size: tuple[int, int]) -> BackboneSession | None:
    """The backbone in ONNX Runtime where torch would run on the CPU; None on a GPU."""
    return BackboneSession(backbone, image_size) if device.type == "cpu" else None


def torch_milliseconds(backbone: Backbone, image_size: int, device: torch.device) -> float:
    """Time of the backbone in torch for a square image, in milliseconds, after a first run; the backbone moves to the device."""
    import torch

    backbone = backbone.to(device)
    image = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8, device=device)

    def run() -> None:
        for features in backbone(image).values():
            features.cpu()  # waits for a GPU

    with torch.no_grad():
        run()
        started = time.perf_counter()
        run()
    return 1e3 * (time.perf_counter() - started)


def _in_order(backbone: Backbone) -> torch.nn.Module:
    import torch

    class InOrder(torch.nn.Module):
        """Features in the order of the keys: a graph has no dictionary."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            features = self.backbone(images)
            return tuple(features[key] for key in backbone.keys)

    return InOrder().eval()
