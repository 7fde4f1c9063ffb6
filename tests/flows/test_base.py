"""Learnable base distributions."""

from __future__ import annotations

import math

import torch

from edgead.flows.base import DiagonalBase, make_base


def test_the_likelihood_is_that_of_the_gaussian() -> None:
    """Through the base flow, the standard normal likelihood is that of the learnt Gaussian."""
    base = DiagonalBase(4).double()
    with torch.no_grad():
        base.mean.copy_(torch.randn(4))
        base.log_std.copy_(0.5 * torch.randn(4))
    z = torch.randn(6, 4, dtype=torch.float64) * 2
    u, log_det = base(z)
    found = log_det - 0.5 * u.square().sum(dim=1) - 2 * math.log(2 * math.pi)
    gaussian = torch.distributions.Normal(base.mean, base.log_std.exp())
    torch.testing.assert_close(found, gaussian.log_prob(z).sum(dim=1))


def test_fit_is_the_maximum_of_the_likelihood() -> None:
    """At the closed form no direction improves the likelihood: its gradient is zero, and any step is worse."""
    base = DiagonalBase(3).double()
    z = torch.randn(50, 3, 4, 5, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.2])[:, None, None] + 2
    base.fit(z)

    def nll() -> torch.Tensor:
        u, log_det = base(z)
        return (0.5 * u.square().sum(dim=1) - log_det).mean()

    best = nll()
    best.backward()
    for parameter in base.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) < 1e-9
        with torch.no_grad():
            parameter.add_(0.05)
        assert float(nll().detach()) > float(best.detach())


def test_the_normal_base_is_nothing() -> None:
    """The standard normal base changes no latent and has no parameter."""
    base = make_base("normal", 3)
    z = torch.randn(2, 3, 4, 4)
    assert torch.equal(base(z)[0], z)
    assert not base(z)[1].any()
    assert not list(base.parameters())
    assert base.is_uniform
    assert make_base("altub", 3).is_uniform
