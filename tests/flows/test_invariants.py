"""The invariant helpers can fail: each is shown a flow that breaks its fact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgead.flows.blocks import coupling_block
from edgead.flows.flow import Flow, FlowSequence, no_log_det
from edgead.flows.linear import ActNorm, LULinear

from ..invariants import assert_finite_gradients, assert_invertible, assert_log_det, default_dtype, randomise


class _ForgetsOneLogDet(FlowSequence):
    def __init__(self, flows: list[Flow], forgotten: int) -> None:
        super().__init__(flows)
        self.forgotten = forgotten

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = no_log_det(x)
        for index, flow in enumerate(self):
            x, step = flow(x, condition)
            if index != self.forgotten:
                log_det = log_det + step
        return x, log_det


class _ForgetsOffset(LULinear):
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().inverse(z + self.offset.view(1, -1, 1, 1))


class _Detached(ActNorm):
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z.detach(), log_det


def _blocks() -> list[Flow]:
    blocks: list[Flow] = [
        coupling_block(4, coupling="affine", mix=mix, kernel_sizes=(3, 1), hidden_channels=4)
        for mix in ("rotation", "permutation", "lu")
    ]
    for block in blocks:
        randomise(block)
    return blocks


@pytest.mark.parametrize("forgotten", [0, 1, 2])
def test_a_forgotten_log_det_is_found(forgotten: int) -> None:
    """Dropping the log-determinant of any one block fails `assert_log_det`, and dropping none does not."""
    with default_dtype(torch.float64):
        blocks, x = _blocks(), torch.randn(2, 4, 3, 3)
        assert_log_det(_ForgetsOneLogDet(blocks, forgotten=-1), x)
        with pytest.raises(AssertionError):
            assert_log_det(_ForgetsOneLogDet(blocks, forgotten), x)


def test_a_wrong_inverse_is_found() -> None:
    """An inverse that treats the offset wrongly fails `assert_invertible`."""
    flow = _ForgetsOffset(4)
    randomise(flow)
    with pytest.raises(AssertionError):
        assert_invertible(flow, torch.randn(2, 4, 3, 3))


def test_a_parameter_that_cannot_learn_is_found() -> None:
    """A flow that cuts the gradient of its offset fails `assert_finite_gradients`."""
    with pytest.raises(AssertionError, match="offset"):
        assert_finite_gradients(_Detached(4), torch.randn(2, 4, 3, 3))
