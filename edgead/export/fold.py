r"""Folding: all linear maps between two coupling subnets are merged into them.

Folding traverses a flow in float64 and tracks two quantities: the matrix A with x = A u, where x is the value in the
unfolded flow and u the one in the folded flow, and a pending shift of u. A linear flow only changes A and the shift. An
additive coupling becomes

.. math:: u \leftarrow u + D * \mathrm{relu}(E * u + e) + d

with A multiplied into E and its inverse into D (residual form), or, where that costs more multiply-adds, A is applied
by one 1x1 convolution and the half-width convolutions stay (sliced form). Shifts are never moved through a convolution:
with zero padding that would be wrong at the border, so a shift stays a bias of the layer that produced u.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from edgead.errors import ExportError
from edgead.export.folded import (
    AddCode,
    AddShift,
    CouplingStep,
    FoldedFlow,
    FoldedPositions,
    FoldedSubnet,
    ResidualStep,
    scale_output,
)
from edgead.flows.coupling import AdditiveCoupling, AffineCoupling
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import ActNorm, ChannelLinear, FixedPermutation, Inverted, PositionLinear
from edgead.flows.subnets import ConvSubnet

FoldForm = Literal["auto", "residual", "sliced"]
ORTHOGONAL_TOLERANCE = 1e-6
SEPARABLE_TOLERANCE = 1e-5


def fold_flow(
    flow: Flow,
    channels: int,
    size: tuple[int, int],
    *,
    form: FoldForm = "auto",
    condition: Tensor | None = None,
    exact: bool = False,
    log_det: Flow | None = None,
) -> FoldedFlow:
    """Fold a flow over feature maps `(N, channels, *size)`; float32, on the CPU, sharing no memory with `flow`.

    Args:
        flow: Sequence of channel-linear flows, couplings with `ConvSubnet`, and at most one per-position linear flow,
            before the first coupling.
        channels: Number of channels C.
        size: Grid `(h, w)` of the maps; only a per-position layer depends on it.
        form: Form of additive couplings; `auto` takes the one with fewer multiply-adds. Affine couplings are always sliced.
        condition: Position code `(1, P, h, w)` of conditional couplings: a constant, which becomes tables.
        exact: Whether to keep the latent itself, not only its norm.
        log_det: Part of `flow` whose log-determinant `FoldedFlow.with_log_det` returns; None = not needed.

    Raises:
        ExportError: If a part of the flow cannot be folded.
    """
    folder = _Folder(channels, size, form, condition, exact)
    steps = list(_flatten(flow))
    last = next((step for step in reversed(steps) if isinstance(step, (AdditiveCoupling, AffineCoupling))), None)
    for index, step in enumerate(steps):
        if step is last:
            folder.tail = _product(steps[index + 1 :], folder.identity)
        if isinstance(step, ChannelLinear):
            folder.linear(step)
        elif isinstance(step, PositionLinear):
            folder.position_linear(step)
        elif isinstance(step, (AdditiveCoupling, AffineCoupling)):
            folder.coupling(step)
        else:
            raise ExportError(f"{type(step).__name__} cannot be folded; foldable are linear flows and couplings.")
    return folder.finish(None if log_det is None else _linear_log_det(list(_flatten(log_det)), size))


def unfolded_multiply_adds(flow: Flow, channels: int, n_positions: int) -> int:
    """Multiply-adds per image of the unfolded flow; permutations are free, a scale counts one per channel."""
    per_position = 0
    for step in _flatten(flow):
        if isinstance(step, ActNorm):
            per_position += channels
        elif isinstance(step, (ChannelLinear, PositionLinear)):
            inner = step.flow if isinstance(step, Inverted) else step
            per_position += 0 if isinstance(inner, FixedPermutation) else channels**2
        elif isinstance(step, (AdditiveCoupling, AffineCoupling)):
            subnet = _subnet(step)
            convolutions = [subnet.first, subnet.second, *([subnet.condition] if subnet.condition is not None else [])]
            per_position += sum(conv.weight.numel() for conv in convolutions)
    return per_position * n_positions


class _Folder:
    """State of the traversal: x = matrix (u + shift), where `steps` compute u."""

    matrix: Tensor
    shift: Tensor

    def __init__(
        self, channels: int, size: tuple[int, int], form: FoldForm, condition: Tensor | None, exact: bool
    ) -> None:
        self.tail: Tensor | None = None
        self.condition = condition
        self.exact = exact
        self.size = size
        self.form = form
        self.identity = torch.eye(channels, dtype=torch.float64)
        self.steps: list[nn.Module] = []
        self._reset()

    def linear(self, flow: ChannelLinear) -> None:
        matrix, offset = (_double(tensor) for tensor in flow.matrix_and_offset())
        self.matrix = matrix @ self.matrix
        self.shift = self.shift + torch.linalg.solve(self.matrix, offset)

    def position_linear(self, flow: PositionLinear) -> None:
        if self.steps:
            raise ExportError("A per-position linear layer can only be folded before the first coupling.")
        weight = _double(flow.weight) @ self.matrix
        mean = torch.linalg.solve(self.matrix, _double(flow.mean).T).T - self.shift
        self._reset()
        self.steps.append(FoldedPositions(weight, mean, self.size))

    def coupling(self, flow: AdditiveCoupling | AffineCoupling) -> None:
        if isinstance(flow, AffineCoupling) or self.form == "sliced":
            self._sliced(flow)
        elif self.form == "residual" or self._residual_cost(flow) < self._sliced_cost(flow):
            self._residual(flow)
        else:
            self._sliced(flow)

    def finish(self, log_det: Tensor | None) -> FoldedFlow:
        self._push_scale()
        if torch.equal(self.matrix, self.identity) or (not self.exact and self._is_orthogonal(self.matrix)):
            self._flush_shift()
        else:
            self._materialise()
        folded = FoldedFlow(self.steps, log_det).to(torch.get_default_dtype())
        return folded.requires_grad_(False).eval()

    def _residual_cost(self, flow: AdditiveCoupling) -> int:
        first, second = _subnet(flow).first, _subnet(flow).second
        taps = first.weight[0, 0].numel() + second.weight[0, 0].numel()
        return taps * first.out_channels * len(self.shift) + self._end_cost(self.matrix)

    def _sliced_cost(self, flow: AdditiveCoupling) -> int:
        mix = 0 if self._is_plain() or self._follows_positions() else len(self.shift) ** 2
        return (
            mix
            + sum(conv.weight.numel() for conv in (_subnet(flow).first, _subnet(flow).second))
            + self._end_cost(self.identity)
        )

    def _end_cost(self, matrix: Tensor) -> int:
        """Cost of the remaining matrix after the last coupling: a 1x1 convolution, unless norms do not depend on it."""
        if self.tail is None:
            return 0
        end = self.tail @ matrix
        scales_only = torch.equal(end, torch.diag(end.diagonal()))
        return 0 if scales_only or (not self.exact and self._is_orthogonal(end)) else len(end) ** 2

    def _is_orthogonal(self, matrix: Tensor) -> bool:
        return float((matrix @ matrix.T - self.identity).abs().max()) <= ORTHOGONAL_TOLERANCE

    def _residual(self, flow: AdditiveCoupling) -> None:
        self._flush_shift()
        first, second = _subnet(flow).first, _subnet(flow).second
        expand = torch.einsum("hkij,kc->hcij", _double(first.weight), self.matrix[: flow.n_first])
        back = torch.linalg.inv(self.matrix)[:, flow.n_first :]
        project = torch.einsum("ck,khij->chij", back, _double(second.weight))
        subnet = FoldedSubnet(_conv(expand, _bias(first)), _conv(project, back @ _bias(second)), self._code(flow))
        self.steps.append(ResidualStep(subnet))

    def _sliced(self, flow: AdditiveCoupling | AffineCoupling) -> None:
        self._materialise()
        original = _subnet(flow)
        first, second = (_conv(_double(conv.weight), _bias(conv)) for conv in (original.first, original.second))
        clamp = flow.clamp if isinstance(flow, AffineCoupling) else None
        subnet = FoldedSubnet(first, second, self._code(flow))
        self.steps.append(CouplingStep(subnet, flow.n_first, len(self.shift) - flow.n_first, clamp))

    def _code(self, flow: AdditiveCoupling | AffineCoupling) -> AddCode | None:
        """Contribution of the position code to the hidden channels: a sum of row and column terms, like the code itself."""
        conv = _subnet(flow).condition
        if conv is None:
            return None
        if self.condition is None:
            raise ExportError("A conditional coupling can only be folded with its position code.")
        table = torch.einsum("hp,npij->nhij", _double(conv.weight)[:, :, 0, 0], _double(self.condition))
        rows, columns = table[..., :1], table[..., :1, :] - table[..., :1, :1]
        if float((rows + columns - table).abs().max()) > SEPARABLE_TOLERANCE * max(1.0, float(table.abs().max())):
            raise ExportError("The position code is not a sum of a function of the row and one of the column.")
        return AddCode(rows.clone(), columns.clone())

    def _materialise(self) -> None:
        """Make the steps compute x itself: for free within a per-position layer, else by one 1x1 convolution."""
        if self._is_plain():
            return
        if self._follows_positions():
            self._absorb_into_positions(self.matrix)
        else:
            self.steps.append(_conv(self.matrix[:, :, None, None], self.matrix @ self.shift))
        self._reset()

    def _push_scale(self) -> None:
        """Move a matrix that only scales channels into the last step that mixes them, back through the couplings."""
        scale = self.matrix.diagonal().clone()
        if torch.equal(self.matrix, self.identity) or not torch.equal(self.matrix, torch.diag(scale)):
            return
        mixers = [i for i, step in enumerate(self.steps) if isinstance(step, (FoldedPositions, nn.Conv2d))]
        if not mixers:
            return
        for step in self.steps[mixers[-1] :]:
            scale_output(step, scale)
        self.shift = scale * self.shift
        self.matrix = self.identity.clone()

    def _flush_shift(self) -> None:
        """Add the pending shift to the bias of the last step, or as a step of its own."""
        if not self.shift.any():
            return
        last = self.steps[-1] if self.steps else None
        if isinstance(last, ResidualStep):
            assert last.subnet.second.bias is not None
            last.subnet.second.bias.data += self.shift
        elif self._follows_positions():
            self._absorb_into_positions(self.identity)
        else:
            self.steps.append(AddShift(self.shift))
        self.shift = torch.zeros_like(self.shift)

    def _absorb_into_positions(self, matrix: Tensor) -> None:
        positions = self.steps[-1]
        assert isinstance(positions, FoldedPositions)
        weight = positions.weight_t.transpose(1, 2)
        shift = torch.linalg.solve(weight, self.shift[None, :, None].expand(len(weight), -1, -1))[:, :, 0]
        self.steps[-1] = FoldedPositions(matrix @ weight, positions.mean[:, 0] - shift, self.size)

    def _follows_positions(self) -> bool:
        return bool(self.steps) and isinstance(self.steps[-1], FoldedPositions)

    def _is_plain(self) -> bool:
        return torch.equal(self.matrix, self.identity) and not self.shift.any()

    def _reset(self) -> None:
        self.matrix = self.identity.clone()
        self.shift = self.identity.new_zeros(len(self.identity))


def _product(flows: list[Flow], identity: Tensor) -> Tensor:
    """Product of channel-linear flows in sequence; other flows are skipped here and refused elsewhere."""
    for flow in flows:
        if isinstance(flow, ChannelLinear):
            identity = _double(flow.matrix_and_offset()[0]) @ identity
    return identity


def _flatten(flow: Flow) -> Iterator[Flow]:
    if isinstance(flow, FlowSequence):
        for step in flow:
            yield from _flatten(step)
    else:
        yield flow


def _linear_log_det(steps: list[Flow], size: tuple[int, int]) -> Tensor:
    """Contribution `(h, w)` of all linear flows to the log-determinant at each position."""
    total = torch.zeros(size, dtype=torch.float64)
    for step in steps:
        if isinstance(step, ChannelLinear):
            total = total + _double(step.log_abs_det())
        elif isinstance(step, PositionLinear):
            total = total + torch.linalg.slogdet(_double(step.weight)).logabsdet.reshape(size)
    return total


def _subnet(flow: AdditiveCoupling | AffineCoupling) -> ConvSubnet:
    if not isinstance(flow.subnet, ConvSubnet):
        raise ExportError(f"A coupling with a {type(flow.subnet).__name__} cannot be folded; ConvSubnet can.")
    return flow.subnet


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return _double(conv.bias)


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    out_channels, in_channels, size, _ = weight.shape
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, dtype=torch.float64)
    conv.weight.data, conv.bias.data = weight.clone(memory_format=torch.contiguous_format), bias.clone()  # type: ignore[union-attr]
    return conv
