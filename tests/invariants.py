"""The facts that every flow must hold, as assertions; `flows/test_invariants.py` shows that each can fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgead.flows.flow import Flow, per_sample

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make floating-point modules and tensors of `dtype` inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def randomise(module: nn.Module, spread: float = 0.3) -> None:
    """Give every parameter a random value: what starts at zero would hide a mistake."""
    for parameter in module.parameters():
        parameter.copy_(torch.randn_like(parameter) * spread)


def assert_invertible(flow: Flow, x: Tensor, condition: Tensor | None = None) -> None:
    """`inverse(forward(x))` is x, in shape and value."""
    z, log_det = flow(x, condition)
    assert z.shape == x.shape
    assert z.dtype == x.dtype
    assert log_det.shape == x.shape[:1] + x.shape[2:]
    back = flow.inverse(z, condition)
    assert back.shape == x.shape
    torch.testing.assert_close(back, x, rtol=TOLERANCE[x.dtype], atol=TOLERANCE[x.dtype])


def assert_log_det(flow: Flow, x: Tensor, condition: Tensor | None = None) -> None:
    """`log_det`, summed over the positions, is log |det| of the Jacobian that autograd computes, sample by sample."""
    _, log_det = flow(x, condition)
    expected = jacobian_log_det(flow, x, condition)
    torch.testing.assert_close(per_sample(log_det), expected, rtol=TOLERANCE[x.dtype], atol=TOLERANCE[x.dtype])


def jacobian_log_det(flow: Flow, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Log |det| of the Jacobian per sample, `(N,)`, by brute force."""
    values = []
    for sample in x:
        matrix = torch.autograd.functional.jacobian(lambda v: flow(v[None], condition)[0][0], sample)
        values.append(torch.linalg.slogdet(matrix.reshape(sample.numel(), -1)).logabsdet)
    return torch.stack(values)


def assert_finite_gradients(flow: Flow, x: Tensor, condition: Tensor | None = None) -> None:
    """The negative log-likelihood sends a finite gradient that is not all zero to every parameter."""
    z, log_det = flow(x, condition)
    (0.5 * z.square().sum() - log_det.sum()).backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name
