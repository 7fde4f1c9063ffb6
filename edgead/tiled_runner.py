"""Runner of frames in tiles: all tiles of a frame through one engine, and back to one map and one score."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.runner import Outputs, Runner, TensorSpec
from edgead.views import Stitcher, TileGrid

# On a CPU larger batches leave the cache: 49 inputs of 320 px take 682 ms in batches of 2, 914 ms in batches of 8 (one thread).
CPU_BATCH = 2
TOP_FRACTION = 0.02


class TiledRunner:
    """Runs an engine on frames of several tiles.

    The score of a frame is the largest of its tiles' scores, and its map is stitched from theirs.

    Args:
        engine: Open engine for images of the input size; closed with this runner.
        grid: Tiles of a frame.
        top_positions: Number of map values that the score of a tile averages over; None = 2 % of its map.

    Attributes:
        engine: The engine.
        grid: Tiles of a frame.
        stitcher: Way back from the tiles' maps to the frame's.
    """

    def __init__(self, engine: Runner, grid: TileGrid, top_positions: int | None = None) -> None:
        self.engine = engine
        self.grid = grid
        (spec,) = [spec for spec in engine.output_specs if spec.name == "anomaly_map"]
        height, width = spec.shape[1] or 1, spec.shape[2] or 1
        self.stitcher = Stitcher(grid, (height, width))
        self.top_positions = top_positions or max(1, round(TOP_FRACTION * height * width))

    @property
    def input_spec(self) -> TensorSpec:
        """One frame's tiles `(N, T, h, w, 3)`."""
        spec = self.engine.input_spec
        return TensorSpec(spec.name, (None, self.grid.n_tiles, *spec.shape[1:]), spec.dtype)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(spec.name, (None, *self.stitcher.size), spec.dtype) if spec.name == "anomaly_map" else spec
            for spec in self.engine.output_specs
        )

    @property
    def engine_name(self) -> str:
        return self.engine.engine_name

    @property
    def device(self) -> str:
        return self.engine.device

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        """Run frames `(N, T, h, w, 3)`; single images `(N, h, w, 3)`, such as the reference, go to the engine as they are."""
        if batch.ndim == 4:
            return self.engine.infer(batch, class_bias)
        return self.infer_tiles(list(batch), [None] * len(batch), class_bias)

    def infer_tiles(
        self,
        frames: Sequence[NDArray[np.uint8]],
        wanted: Sequence[Sequence[int] | None],
        class_bias: NDArray[np.float32] | None = None,
    ) -> Outputs:
        """Run some tiles of each frame; the others cost nothing.

        Args:
            frames: Tiles `(T_i, h, w, 3)` of each of the N frames, at least one each.
            wanted: Indices of the tiles of each frame; None = all.
            class_bias: `(N, K)`, see `Runner`.
        """
        counts = [len(tiles) for tiles in frames]
        tiles = frames[0] if len(frames) == 1 else np.concatenate(frames)
        bias = None if class_bias is None else np.repeat(class_bias, counts, axis=0)
        step = CPU_BATCH if self.device == "cpu" else len(tiles)
        parts = [
            self.engine.infer(tiles[start : start + step], None if bias is None else bias[start : start + step])
            for start in range(0, len(tiles), step)
        ]
        joined = parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        ends = np.cumsum(counts)
        slices = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        maps = joined["anomaly_map"]
        outputs = {
            "anomaly_map": np.stack(
                [self.stitcher.stitch(maps[part], of) for part, of in zip(slices, wanted, strict=True)]
            ),
            "pred_score": np.array([joined["pred_score"][part].max() for part in slices], np.float32),
        }
        if "class_score" in joined:
            outputs["class_score"] = np.stack([joined["class_score"][part].mean(axis=0) for part in slices])
        return outputs

    def __enter__(self) -> Self:
        self.engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.__exit__(kind, error, trace)
