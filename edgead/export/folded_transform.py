"""Whole flow of a detector, folded grid by grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from edgead.export.fold import fold_flow, unfolded_multiply_adds
from edgead.export.folded import FoldedFlow, folded_multiply_adds
from edgead.flows.base import DiagonalBase
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import ActNorm, OnFirstChannels, PositionLinear, SharedLinear
from edgead.flows.multiscale import Latent, UShapedFlow
from edgead.models.detector import Detector


class FoldedTransform(nn.Module):
    """Folded equivalent of `Detector.transform`: the whole flow, first layer and base included, grid by grid.

    Latents are exact only if the score needs them; log-determinants are zero unless it needs them.
    """

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.flow = model.flow
        self.needs_log_det = model.needs_log_det
        self.grids = grids(model)
        self.stages = nn.ModuleList(
            fold_flow(
                grid.flow, grid.channels, grid.size, condition=code, exact=model.needs_latent or grid.exact,
                log_det=grid.counted if model.needs_log_det else None,
            )
            for grid, code in zip(self.grids, model.codes(), strict=True)
        )  # fmt: skip
        self.starts = nn.ModuleList(
            nn.Identity()
            if grid.start is None
            else fold_flow(grid.start, grid.start.mean.shape[1], grid.size, exact=True)
            for grid in self.grids
        )

    def forward(self, inputs: Sequence[Tensor]) -> list[Latent]:
        whitened = [start(x) for start, x in zip(self.starts, inputs, strict=True)]
        if isinstance(self.flow, UShapedFlow):
            return self.flow.walk(whitened, self._stage)
        return [Latent(*self._stage(index, x)) for index, x in enumerate(whitened)]

    def _stage(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        folded = self.stages[index]
        assert isinstance(folded, FoldedFlow)
        return folded.with_log_det(x) if self.needs_log_det else (folded(x), x.new_zeros(()))

    def multiply_adds(self) -> tuple[int, int]:
        """Multiply-adds per image, unfolded and folded."""
        before = after = 0
        for grid, *folded in zip(self.grids, self.starts, self.stages, strict=True):
            positions = grid.size[0] * grid.size[1]
            before += unfolded_multiply_adds(grid.flow, grid.channels, positions)
            if grid.start is not None:
                before += grid.start.weight.numel()
            after += sum(folded_multiply_adds(part, positions) for part in folded if isinstance(part, FoldedFlow))
        return before, after


@dataclass(frozen=True)
class Grid:
    """Part of the flow on one grid.

    Attributes:
        start: Frozen first layer that cannot be part of `flow`, because more channels join after it.
        flow: Everything else, up to the base.
        counted: Part of `flow` whose log-determinant is counted: all but the first layer, which adds a constant.
        channels: Number of channels of `flow`.
        size: Grid `(h, w)`.
        exact: Whether the result is the input of another grid.
    """

    start: PositionLinear | None
    flow: Flow
    counted: Flow
    channels: int
    size: tuple[int, int]
    exact: bool


def grids(model: Detector) -> list[Grid]:
    """Flow of a detector, grid by grid."""
    found = []
    stages = model.flow.stages()
    for index, (level, stage, base) in enumerate(zip(model.levels, stages, model.bases, strict=True)):
        assert isinstance(base, Flow)
        if not isinstance(model.flow, UShapedFlow):
            start, channels, size = model.flow_grids[index]
            parts = [stage, base] if start is None else [start, stage, base]
            found.append(Grid(None, FlowSequence(parts), FlowSequence([stage, base]), channels, size, False))
            continue
        width, kept = model.flow.widths[index], model.flow.latent_channels[index]
        parts = [stage]
        if isinstance(base, DiagonalBase):
            parts.append(OnFirstChannels(base, kept, width))
        counted = FlowSequence(parts)
        if isinstance(level.start, (ActNorm, SharedLinear)):
            whole = FlowSequence([OnFirstChannels(level.start, level.channels, width), *parts])
            found.append(Grid(None, whole, counted, width, level.size, index > 0))
        else:
            found.append(Grid(level.start, counted, counted, width, level.size, index > 0))
    return found
