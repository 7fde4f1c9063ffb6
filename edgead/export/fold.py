r"""Folding: everything linear between two coupling subnets disappears.

A flow is walked in float64 with two things in hand: the matrix A with x = A u, where x is what the unfolded flow holds
and u what the folded one holds, and a shift of u that waits to be added. A linear flow only changes A and the shift.
An additive coupling becomes

.. math:: u \leftarrow u + D * \mathrm{relu}(E * u + e) + d

with A multiplied into E and its inverse into D (residual form), or, where that costs more multiply-adds, A is applied
by one 1x1 convolution and the half-width convolutions stay (sliced form). Shifts never travel through a convolution:
with zero padding that would be wrong at the border, so a shift stays a bias of whatever produced u.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from edgead.errors import ExportError
from edgead.flows.coupling import AdditiveCoupling, AffineCoupling
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import ActNorm, ChannelLinear, FixedPermutation, Inverted, PositionLinear
from edgead.flows.subnets import ConvSubnet

FoldForm = Literal["auto", "residual", "sliced"]
ORTHOGONAL_TOLERANCE = 1e-6


class ResidualStep(nn.Module):
    """u + second(relu(first(u))): a coupling in residual form, full width outside, no 1x1."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, u: Tensor) -> Tensor:
        return u + self.second(self.first(u).relu())  # type: ignore[no-any-return]


class CouplingStep(nn.Module):
    """The coupling itself (sliced form): half-width convolutions on slices of u."""

    def __init__(self, coupling: AdditiveCoupling | AffineCoupling) -> None:
        super().__init__()
        self.coupling = coupling

    def forward(self, u: Tensor) -> Tensor:
        return self.coupling(u)[0]  # type: ignore[no-any-return]


class AddShift(nn.Module):
    """u + shift, one value per channel."""

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift[None, :, None, None].clone())

    def forward(self, u: Tensor) -> Tensor:
        return u + self.shift


class FoldedPositions(nn.Module):
    """One matrix per position, `(N, C, h, w)` to `(N, C, h, w)`, as a single batched product."""

    weight_t: Tensor
    mean: Tensor

    def __init__(self, weight: Tensor, mean: Tensor, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("weight_t", weight.transpose(1, 2).contiguous())
        self.register_buffer("mean", mean[:, None, :])
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        positions, _, channels = self.mean.shape
        columns = x.reshape(-1, channels, positions).permute(2, 0, 1)
        z = torch.matmul(columns - self.mean, self.weight_t)
        return z.permute(1, 2, 0).reshape(-1, channels, *self.size)


class FoldedFlow(nn.Module):
    """A flow for inference: `(N, C, H, W)` to a latent whose norm at each position is that of the unfolded flow.

    The latent itself may differ from the unfolded one by an orthogonal matrix, which no norm sees.
    """

    def __init__(self, steps: list[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


def fold_flow(flow: Flow, channels: int, size: tuple[int, int], *, form: FoldForm = "auto") -> FoldedFlow:
    """Fold a flow over feature maps `(N, channels, *size)`; float32, on the CPU, sharing no memory with `flow`.

    Args:
        flow: A sequence of channel-linear flows, couplings with `ConvSubnet`, and at most one per-position linear flow,
            in front of the first coupling.
        channels: C.
        size: `(h, w)` of the maps; only a per-position layer depends on it.
        form: `auto` takes, coupling by coupling, the form with fewer multiply-adds; affine couplings are always sliced.

    Raises:
        ExportError: If the flow holds something that does not fold.
    """
    folder = _Folder(channels, size, form)
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
    return folder.finish()


def unfolded_multiply_adds(flow: Flow, channels: int, n_positions: int) -> int:
    """Multiply-adds per image of the flow as it is trained; permutations are free, a scale counts one per channel."""
    per_position = 0
    for step in _flatten(flow):
        if isinstance(step, ActNorm):
            per_position += channels
        elif isinstance(step, (ChannelLinear, PositionLinear)):
            inner = step.flow if isinstance(step, Inverted) else step
            per_position += 0 if isinstance(inner, FixedPermutation) else channels**2
        elif isinstance(step, (AdditiveCoupling, AffineCoupling)):
            per_position += sum(conv.weight.numel() for conv in _convolutions(step))
    return per_position * n_positions


def folded_multiply_adds(folded: FoldedFlow, n_positions: int) -> int:
    """Multiply-adds per image of a folded flow."""
    total = 0
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel() * n_positions
        elif isinstance(module, FoldedPositions):
            total += module.weight_t.numel()
    return total


class _Folder:
    """The walk: x = matrix (u + shift), where `steps` compute u."""

    matrix: Tensor
    shift: Tensor

    def __init__(self, channels: int, size: tuple[int, int], form: FoldForm) -> None:
        self.tail: Tensor | None = None
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
            raise ExportError("A per-position linear layer folds only in front of the first coupling.")
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

    def finish(self) -> FoldedFlow:
        self._push_scale()
        if self._is_orthogonal(self.matrix):
            self._flush_shift()
        else:
            self._materialise()
        return FoldedFlow(self.steps).to(torch.get_default_dtype()).requires_grad_(False).eval()

    def _residual_cost(self, flow: AdditiveCoupling) -> int:
        first, second = _convolutions(flow)
        taps = first.weight[0, 0].numel() + second.weight[0, 0].numel()
        return taps * first.out_channels * len(self.shift) + self._end_cost(self.matrix)

    def _sliced_cost(self, flow: AdditiveCoupling) -> int:
        mix = 0 if self._is_plain() or self._follows_positions() else len(self.shift) ** 2
        return mix + sum(conv.weight.numel() for conv in _convolutions(flow)) + self._end_cost(self.identity)

    def _end_cost(self, matrix: Tensor) -> int:
        """What the last coupling leaves to the end of the flow: a 1x1 convolution, unless no norm sees it."""
        if self.tail is None:
            return 0
        end = self.tail @ matrix
        scales_only = torch.equal(end, torch.diag(end.diagonal()))
        return 0 if scales_only or self._is_orthogonal(end) else len(end) ** 2

    def _is_orthogonal(self, matrix: Tensor) -> bool:
        return float((matrix @ matrix.T - self.identity).abs().max()) <= ORTHOGONAL_TOLERANCE

    def _residual(self, flow: AdditiveCoupling) -> None:
        self._flush_shift()
        first, second = _convolutions(flow)
        expand = torch.einsum("hkij,kc->hcij", _double(first.weight), self.matrix[: flow.n_first])
        back = torch.linalg.inv(self.matrix)[:, flow.n_first :]
        project = torch.einsum("ck,khij->chij", back, _double(second.weight))
        self.steps.append(ResidualStep(_conv(expand, _bias(first)), _conv(project, back @ _bias(second))))

    def _sliced(self, flow: AdditiveCoupling | AffineCoupling) -> None:
        self._materialise()
        self.steps.append(CouplingStep(copy.deepcopy(flow).cpu().double()))

    def _materialise(self) -> None:
        """Make the steps compute x itself: for free inside a per-position layer, else by one 1x1 convolution."""
        if self._is_plain():
            return
        if self._follows_positions():
            self._absorb_into_positions(self.matrix)
        else:
            self.steps.append(_conv(self.matrix[:, :, None, None], self.matrix @ self.shift))
        self._reset()

    def _push_scale(self) -> None:
        """Give a matrix that only scales channels to the last step that mixes them, back through the couplings."""
        scale = self.matrix.diagonal().clone()
        if torch.equal(self.matrix, self.identity) or not torch.equal(self.matrix, torch.diag(scale)):
            return
        mixers = [i for i, step in enumerate(self.steps) if isinstance(step, (FoldedPositions, nn.Conv2d))]
        if not mixers:
            return
        for step in self.steps[mixers[-1] :]:
            _scale_output(step, scale)
        self.shift = scale * self.shift
        self.matrix = self.identity.clone()

    def _flush_shift(self) -> None:
        """Give the waiting shift to the bias of whatever made u; where nothing takes it, add it by itself."""
        if not self.shift.any():
            return
        last = self.steps[-1] if self.steps else None
        if isinstance(last, ResidualStep):
            assert last.second.bias is not None
            last.second.bias.data += self.shift
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


def _scale_output(step: nn.Module, scale: Tensor) -> None:
    """Make a step give scale ⊙ its output, from scale ⊙ its input where it is not one that mixes channels."""
    if isinstance(step, FoldedPositions):
        step.weight_t *= scale
    elif isinstance(step, nn.Conv2d):
        assert step.bias is not None
        step.weight.data *= scale[:, None, None, None]
        step.bias.data *= scale
    elif isinstance(step, AddShift):
        step.shift *= scale[None, :, None, None]
    elif isinstance(step, ResidualStep):
        step.first.weight.data /= scale[None, :, None, None]
        _scale_output(step.second, scale)
    elif isinstance(step, CouplingStep):
        n_first = step.coupling.n_first
        first, second = _convolutions(step.coupling)
        first.weight.data /= scale[None, :n_first, None, None]
        if isinstance(step.coupling, AdditiveCoupling):
            _scale_output(second, scale[n_first:])
        else:
            # only the shifts are in the output's units, the log scales are not
            ones = torch.ones(second.out_channels - (len(scale) - n_first), dtype=scale.dtype)
            _scale_output(second, torch.cat([ones, scale[n_first:]]))
    else:
        raise AssertionError(type(step))


def _product(flows: list[Flow], identity: Tensor) -> Tensor:
    """The matrix of channel-linear flows one after the other; what is not one is left out and refused elsewhere."""
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


def _convolutions(flow: AdditiveCoupling | AffineCoupling) -> tuple[nn.Conv2d, nn.Conv2d]:
    if not isinstance(flow.subnet, ConvSubnet):
        raise ExportError(f"A coupling with a {type(flow.subnet).__name__} cannot be folded; ConvSubnet can.")
    return flow.subnet.first, flow.subnet.second


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return _double(conv.bias)


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    out_channels, in_channels, size, _ = weight.shape
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, dtype=torch.float64)
    conv.weight.data, conv.bias.data = weight.contiguous(), bias.clone()  # type: ignore[union-attr]
    return conv
