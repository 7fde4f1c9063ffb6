"""Parts of a folded flow: convolutions, ReLUs, tables, and for affine couplings exp and tanh."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgead.triangles import stored_numbers


class AddCode(nn.Module):
    """Contribution h + rows + columns of a position code to a subnet's hidden channels, as two small tables."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.rows + self.columns


class FoldedSubnet(nn.Module):
    """Subnet second(relu(code(first(u)))), with the position code as a constant."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, code: AddCode | None) -> None:
        super().__init__()
        self.first = first
        self.code = code
        self.second = second

    def forward(self, u: Tensor) -> Tensor:
        hidden = self.first(u)
        if self.code is not None:
            hidden = self.code(hidden)
        return self.second(hidden.relu())  # type: ignore[no-any-return]


class ResidualStep(nn.Module):
    """Coupling in residual form, u + subnet(u): full width outside, no 1x1."""

    def __init__(self, subnet: FoldedSubnet) -> None:
        super().__init__()
        self.subnet = subnet

    def forward(self, u: Tensor) -> Tensor:
        return u + self.subnet(u)  # type: ignore[no-any-return]


class CouplingStep(nn.Module):
    """Coupling in sliced form: half-width convolutions on slices of u.

    Args:
        subnet: Folded subnet.
        n_first: Number of unchanged channels.
        n_second: Number of changed channels.
        clamp: Clamp of an affine coupling; None for an additive one.
    """

    def __init__(self, subnet: FoldedSubnet, n_first: int, n_second: int, clamp: float | None) -> None:
        super().__init__()
        self.subnet = subnet
        self.n_first = n_first
        self.n_second = n_second
        self.clamp = clamp

    def forward(self, u: Tensor) -> Tensor:
        return self.with_log_scale(u)[0]

    def with_log_scale(self, u: Tensor) -> tuple[Tensor, Tensor | None]:
        """Output, and the log scales `(N, n_second, h, w)` of an affine coupling."""
        first, second = u[:, : self.n_first], u[:, self.n_first :]
        answer = self.subnet(first)
        if self.clamp is None:
            return torch.cat([first, second + answer], dim=1), None
        log_scale = self.clamp * torch.tanh(0.1 * answer[:, : self.n_second])
        changed = second * torch.exp(log_scale) + answer[:, self.n_second :]
        return torch.cat([first, changed], dim=1), log_scale


class AddShift(nn.Module):
    """Addition of a shift, one value per channel."""

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift[None, :, None, None].clone())

    def forward(self, u: Tensor) -> Tensor:
        return u + self.shift


class FoldedPositions(nn.Module):
    """Linear map per position, `(N, C, h, w)` to `(N, C, h, w)`, as a single batched product."""

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
    """Flow for inference: `(N, C, H, W)` to a latent whose norm at each position is that of the unfolded flow.

    Unless it was folded exactly, the latent may differ from the unfolded one by an orthogonal matrix, which leaves norms
    unchanged.

    Args:
        steps: Modules to apply in sequence.
        log_det: Contribution `(h, w)` of the linear flows to the log-determinant; only if it was requested.
    """

    log_det: Tensor | None

    def __init__(self, steps: list[nn.Module], log_det: Tensor | None = None) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.register_buffer("log_det", log_det)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent, and log-determinant `(N, h, w)` of each position; all log scales are summed at once."""
        assert self.log_det is not None
        total: Tensor | None = None
        for step in self.steps:
            if isinstance(step, CouplingStep):
                x, log_scale = step.with_log_scale(x)
                if log_scale is not None:
                    total = log_scale if total is None else total + log_scale
            else:
                x = step(x)
        return x, self.log_det if total is None else total.sum(dim=1) + self.log_det


def folded_multiply_adds(folded: FoldedFlow, n_positions: int) -> int:
    """Multiply-adds per image of a folded flow."""
    total = 0
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel() * n_positions
        elif isinstance(module, FoldedPositions):
            total += stored_numbers(module.weight_t.numpy())
    return total


def scale_output(step: nn.Module, scale: Tensor) -> None:
    """Make a step output scale ⊙ its output; the input of a step that does not mix channels is scaled as well."""
    if isinstance(step, FoldedPositions):
        step.weight_t *= scale
    elif isinstance(step, nn.Conv2d):
        assert step.bias is not None
        step.weight.data *= scale[:, None, None, None]
        step.bias.data *= scale
    elif isinstance(step, AddShift):
        step.shift *= scale[None, :, None, None]
    elif isinstance(step, ResidualStep):
        step.subnet.first.weight.data /= scale[None, :, None, None]
        scale_output(step.subnet.second, scale)
    elif isinstance(step, CouplingStep):
        step.subnet.first.weight.data /= scale[None, : step.n_first, None, None]
        changed = scale[step.n_first :]
        if step.clamp is not None:
            # only the shifts are in the output's units, the log scales are not
            changed = torch.cat([torch.ones_like(changed), changed])
        scale_output(step.subnet.second, changed)
    else:
        raise AssertionError(type(step))
