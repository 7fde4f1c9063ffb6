"""Interface of a model on some backend: `Runner`, its tensors, and a runner without a model."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.contexts import OwnsNothing

Outputs = dict[str, NDArray[np.float32]]
CLASS_EXCLUDED = -1e4
# name of the bundle's own graph where engines are named
REFERENCE = "reference"


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (None where any size is allowed) and numpy dtype name of one tensor."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@runtime_checkable
class Runner(Protocol):
    """Model that turns a batch of images into anomaly maps; a context manager that owns its memory.

    `infer` takes `(N, H, W, 3)`, uint8, RGB, and returns `anomaly_map` `(N, h, w)` and `pred_score` `(N,)`, float32. A
    model of several classes also takes `class_bias` `(N, K)`, 0 for a class that the image may have and
    `CLASS_EXCLUDED` for the others (None: any class), and returns `class_score` `(N, K)`; other models ignore it. A
    model with NFA segmentation also returns `level_norm_<i>` `(N, h_i, w_i)`. The arrays belong to the caller. For a bundle
    with crop or tiles, `infer` also takes frames `(N, T, H, W, 3)` of T tiles, and answers for each frame.
    """

    @property
    def input_spec(self) -> TensorSpec: ...

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def engine_name(self) -> str:
        """`<backend>-<precision>`, for example `onnxruntime-fp32`."""
        ...

    @property
    def device(self) -> str:
        """Device of the computation: `cpu` or `cuda`."""
        ...

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FakeRunner(OwnsNothing):
    """Runner without a model: brightness above mid-grey, at a sixteenth of the resolution.

    With a synthetic source, the whole stream runs on a machine that has neither a model nor a camera.
    """

    engine_name = "fake-fp32"
    device = "cpu"

    def __init__(self, image_size: tuple[int, int] = (256, 256)) -> None:
        height, width = image_size
        self.input_spec = TensorSpec("image", (None, height, width, 3), "uint8")
        self.output_specs = (
            TensorSpec("anomaly_map", (None, height // 16, width // 16), "float32"),
            TensorSpec("pred_score", (None,), "float32"),
        )

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        n, height, width, _ = batch.shape
        blocks = batch.reshape(n, height // 16, 16, width // 16, 16, 3)
        anomaly_map = np.maximum(blocks.mean(axis=(2, 4, 5), dtype=np.float32) / 255.0 - 0.5, 0.0)
        return {"anomaly_map": anomaly_map, "pred_score": anomaly_map.max(axis=(1, 2))}
