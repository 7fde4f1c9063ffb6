"""Frames to anomaly scores and maps, with the time of each stage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgead.aligner import Aligner
from edgead.bundle import Bundle
from edgead.errors import EngineError
from edgead.imaging import Image, ResizeRule, resize
from edgead.pose import Pose, align
from edgead.runner import Outputs, Runner
from edgead.stream.frame import Frame
from edgead.stream.result import JudgedBy
from edgead.tiled_runner import TiledRunner


@dataclass(frozen=True)
class PreparedFrame:
    """A frame and the resized image for the engine, `(h, w, 3)`, uint8, RGB.

    Attributes:
        frame: The frame.
        image: Frame at the engine's input size.
        prepare_ms: Time of the preparation.
        fault: Fault of the camera, in words.
        is_usable: Whether to judge the frame.
        fault_kind: Machine-readable name of the fault.
        n_outages: Number of reconnections of the source before this frame.
        tiles: Tiles `(T, h, w, 3)`, uint8, RGB, for an engine of tiles; None = the engine judges `image`.
        wanted: Indices of these tiles; None = all of the frame.
        aligned: Aligned frame at the engine's input size, in place of `image`; None without alignment, or with tiles.
        pose: Pose of the part; None without alignment, or if it was not found.
        lacks_part: Whether the part was not found.
        prepared_by: Scorer that prepared it; another one must not score it.
    """

    frame: Frame
    image: Image
    prepare_ms: float
    fault: str | None = None
    is_usable: bool = True
    fault_kind: str | None = None
    n_outages: int = 0
    tiles: NDArray[np.uint8] | None = None
    wanted: tuple[int, ...] | None = None
    aligned: Image | None = None
    pose: Pose | None = None
    lacks_part: bool = False
    prepared_by: Scorer | None = None

    @property
    def engine_input(self) -> NDArray[np.uint8]:
        """Input of the engine: an image `(h, w, 3)`, or tiles `(T, h, w, 3)`."""
        if self.tiles is not None:
            return self.tiles
        return self.image if self.aligned is None else self.aligned


class Scorer:
    """Runs the model on the newest frames of all cameras at once.

    `prepare` and `score` are apart so that the next frame can be prepared on the capture thread while the engine works
    on this one: shrinking a 1920×1080 frame costs 5 ms, which an fp16 engine does not have to spare.

    Args:
        runner: An open engine.
        image_size: Input size of the engine, `(height, width)`.
        resize_rule: Rule by which frames get that size, from the bundle.
        aligner: Alignment of the bundle; None = frames as they are.
        judged_by: Bundle and engine, for the results.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        image_size: tuple[int, int],
        resize_rule: ResizeRule = "area-then-bilinear",
        aligner: Aligner | None = None,
        judged_by: JudgedBy | None = None,
    ) -> None:
        self.judged_by = judged_by
        self._aligner = aligner
        self._runner = runner
        self._image_size = image_size
        self._resize_rule = resize_rule

    @property
    def engine_name(self) -> str:
        return self._runner.engine_name

    @staticmethod
    def of(bundle: Bundle, runner: Runner) -> Scorer:
        """Scorer with the rules of a bundle, for an open engine of it."""
        preprocessing = bundle.manifest.preprocessing
        return Scorer(
            runner, image_size=bundle.image_size, resize_rule=preprocessing.resize, aligner=bundle.aligner,
            judged_by=JudgedBy(bundle.digest, runner.engine_name),
        )  # fmt: skip

    def warm_up(self, n: int = 1, class_bias: NDArray[np.float32] | None = None) -> None:
        """Run once on a batch of n black images, so that no frame pays for lazy set-up."""
        tiles = (self._runner.grid.n_tiles,) if isinstance(self._runner, TiledRunner) else ()
        self._runner.infer(np.zeros((n, *tiles, *self._image_size, 3), np.uint8), class_bias)

    def prepare(self, frame: Frame, wanted: tuple[int, ...] | None = None) -> PreparedFrame:
        """Align a frame, scale it to the input size, and cut its tiles.

        A frame without the part is scaled and cut as it is, for checks; it must not be judged.

        Args:
            frame: Frame of any size.
            wanted: Indices of the tiles to cut; None = all. Without effect for an engine without tiles.
        """
        start = time.perf_counter()
        image = resize(frame.image, self._image_size, self._resize_rule)
        pose = None if self._aligner is None else self._aligner.pose(frame.image)
        whole = frame.image if pose is None else align(frame.image, pose)
        tiles = aligned = None
        if isinstance(self._runner, TiledRunner):
            tiles = self._runner.grid.cut(whole, wanted)
        elif pose is not None:
            aligned = resize(whole, self._image_size, self._resize_rule)
        return PreparedFrame(
            frame,
            image,
            (time.perf_counter() - start) * 1e3,
            tiles=tiles,
            wanted=wanted,
            aligned=aligned,
            pose=pose,
            lacks_part=self._aligner is not None and pose is None,
            prepared_by=self,
        )

    def prepare_again(self, prepared: PreparedFrame, wanted: tuple[int, ...] | None = None) -> PreparedFrame:
        """Prepare a frame that another scorer has prepared; what is known of camera faults stays."""
        again = self.prepare(prepared.frame, wanted)
        return replace(
            again,
            prepare_ms=prepared.prepare_ms + again.prepare_ms,
            fault=prepared.fault,
            is_usable=prepared.is_usable and not again.lacks_part,
            fault_kind=prepared.fault_kind,
            n_outages=prepared.n_outages,
        )

    def score(self, batch: Sequence[PreparedFrame], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        """Run the engine on frames of any cameras.

        Args:
            batch: At least one frame.
            class_bias: `(N, K)`, for an engine that takes one.

        Raises:
            EngineError: If the engine answers with a score that is not a number. Comparing it would always say "good".
        """
        outputs = self._outputs(batch, class_bias)
        scores = outputs["pred_score"]
        if not np.isfinite(scores).all():
            wrong = int(np.flatnonzero(~np.isfinite(scores))[0])
            frame = batch[wrong].frame
            raise EngineError(
                f"The engine {self.engine_name} gave the score {scores[wrong]} for frame {frame.index} of "
                f"{frame.source}; a score is a finite number.",
                hint="Run `edgead doctor`; if its reference images fail too, build the engine again.",
            )
        return outputs

    def _outputs(self, batch: Sequence[PreparedFrame], class_bias: NDArray[np.float32] | None) -> Outputs:
        if isinstance(self._runner, TiledRunner):
            tiles = [prepared.tiles for prepared in batch if prepared.tiles is not None]
            return self._runner.infer_tiles(tiles, [prepared.wanted for prepared in batch], class_bias)
        inputs = [prepared.engine_input for prepared in batch]
        images = inputs[0][None] if len(batch) == 1 else np.stack(inputs)
        return self._runner.infer(images, class_bias)
