"""Frames of tiles through one engine."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.runner import FakeRunner, Outputs, Runner
from edgead.stream.frame import Frame
from edgead.stream.scorer import Scorer
from edgead.tiled_runner import CPU_BATCH, TiledRunner
from edgead.views import TileGrid, Views

SIZE = (64, 64)


class CountingRunner(FakeRunner):
    """A runner that notes the size of each batch."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.batches: list[int] = []

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        self.batches.append(len(batch))
        assert class_bias is None or len(class_bias) == len(batch)
        return super().infer(batch, class_bias)


def make_runner(**values: object) -> tuple[TiledRunner, CountingRunner]:
    engine = CountingRunner()
    rule = Views.model_validate({"frame_size": (128, 192), "tiles": (3, 2), **values})
    return TiledRunner(engine, TileGrid(rule, SIZE)), engine


def frame_with_spot(x: int, y: int) -> NDArray[np.uint8]:
    frame = np.zeros((128, 192, 3), np.uint8)
    frame[y : y + 16, x : x + 16] = 255
    return frame


def test_the_score_of_a_frame_is_that_of_its_worst_tile() -> None:
    """A defect in one of six tiles counts as much as in a frame of its own."""
    runner, engine = make_runner()
    frame = frame_with_spot(80, 80)
    tiles = runner.grid.cut(frame)
    alone = engine.infer(tiles[4:5])["pred_score"][0]
    outputs = runner.infer(tiles[None])
    assert outputs["pred_score"].tolist() == [alone]
    assert alone > 0.4


def test_the_map_of_a_frame_shows_the_defect_at_its_place() -> None:
    """The stitched map is that of the whole frame at the tiles' scale."""
    runner, _ = make_runner()
    frame = frame_with_spot(80, 80)
    (found,) = runner.infer(runner.grid.cut(frame)[None])["anomaly_map"]
    blocks = frame.reshape(8, 16, 12, 16, 3).mean(axis=(1, 3, 4)) / 255
    np.testing.assert_allclose(found, np.maximum(blocks - 0.5, 0), atol=1e-6)


def test_specs_are_those_of_whole_frames() -> None:
    """Zones are laid over the stitched map."""
    runner, _ = make_runner()
    shapes = {spec.name: spec.shape for spec in runner.output_specs}
    assert shapes == {"anomaly_map": (None, 8, 12), "pred_score": (None,)}
    assert runner.input_spec.shape == (None, 6, 64, 64, 3)
    assert isinstance(runner, Runner)


def test_single_images_reach_the_engine_as_they_are() -> None:
    """The reference images of a bundle are inputs, not frames."""
    runner, engine = make_runner()
    assert runner.infer(np.zeros((2, *SIZE, 3), np.uint8))["anomaly_map"].shape == (2, 4, 4)
    assert engine.batches == [2]


def test_many_tiles_go_through_a_cpu_engine_in_small_batches() -> None:
    """Large batches leave the cache of a CPU, and a backend keeps the memory of its largest batch."""
    runner, engine = make_runner()
    runner.infer(np.zeros((3, 6, *SIZE, 3), np.uint8), np.zeros((3, 2), np.float32))
    assert sum(engine.batches) == 18
    assert max(engine.batches) <= CPU_BATCH


def test_an_engine_of_the_gpu_gets_all_tiles_at_once() -> None:
    """One call of a GPU costs less than several."""
    runner, engine = make_runner()
    engine.device = "cuda"
    runner.infer(np.zeros((3, 6, *SIZE, 3), np.uint8))
    assert engine.batches == [18]


def test_tiles_that_no_zone_needs_are_neither_cut_nor_judged() -> None:
    """A defect outside the wanted tiles is not seen, and costs nothing."""
    runner, engine = make_runner()
    scorer = Scorer(runner, image_size=SIZE)
    prepared = scorer.prepare(Frame(frame_with_spot(80, 80), 0, 0.0, "test"), (0, 1))
    assert prepared.tiles is not None
    assert prepared.tiles.shape == (2, *SIZE, 3)
    outputs = scorer.score([prepared])
    assert engine.batches == [2]
    assert outputs["pred_score"].tolist() == [0.0]
    assert outputs["anomaly_map"].shape == (1, 8, 12)


def test_cameras_with_different_tiles_share_a_call() -> None:
    """Each frame of a batch has the map of its own tiles."""
    runner, engine = make_runner()
    engine.device = "cuda"
    scorer = Scorer(runner, image_size=SIZE)
    frame = Frame(frame_with_spot(80, 80), 0, 0.0, "test")
    outputs = scorer.score([scorer.prepare(frame, (4,)), scorer.prepare(frame, (0, 1))])
    assert engine.batches == [3]
    assert outputs["pred_score"] == pytest.approx([outputs["anomaly_map"][0].max(), 0.0])


def test_warming_up_runs_whole_frames() -> None:
    """The first frame of a stream pays for no set-up."""
    runner, engine = make_runner()
    Scorer(runner, image_size=SIZE).warm_up(2)
    assert sum(engine.batches) == 12
