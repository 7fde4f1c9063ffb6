"""The hierarchical mixture and HGAD's losses, against one position at a time in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgead.errors import ShapeError
from edgead.flows.mixture import (
    LOSS_TERMS,
    HgadLoss,
    HierarchicalMixture,
    hgad_loss,
    log_sum_exp,
    softmax_entropy,
)

from ..invariants import randomise

TERMS = ("likelihood", "information", "entropy", "intra", "log_sigmoid")


def make_case(
    channels: int = 6, classes: int = 3, components: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[HierarchicalMixture, Tensor, Tensor, Tensor]:
    """A mixture without symmetries; latents `(2, C, 3, 2)`, log-determinants, and a label per image."""
    mixture = HierarchicalMixture(channels, classes, components).to(dtype)
    randomise(mixture, 1.0)
    z = torch.randn(2, channels, 3, 2, dtype=dtype) * 1.5
    return mixture, z, torch.randn(2, 3, 2, dtype=dtype), torch.randint(classes, (2,))


def naive_terms(mixture: HierarchicalMixture, z: Tensor, log_det: Tensor, labels: Tensor) -> dict[str, float]:
    """Every loss term by the formulas, one position at a time; labels are per position."""
    mu, delta = mixture.mu.detach().double(), mixture.delta.detach().double()
    log_pi = torch.log_softmax(mixture.psi.detach().double(), 0)
    log_w = torch.log_softmax(mixture.phi.detach().double(), 1)
    classes, channels = mu.shape
    sums = dict.fromkeys(TERMS, 0.0)
    for n in range(z.shape[0]):
        for row in range(z.shape[2]):
            for column in range(z.shape[3]):
                x, jacobian = z[n, :, row, column].detach().double(), float(log_det[n, row, column])
                y = int(labels[n, row, column])
                half = torch.stack([-0.5 * (x - mu[k]).square().sum() for k in range(classes)])
                sums["likelihood"] -= (float(torch.logsumexp(half + log_pi, 0)) + jacobian) / channels
                posterior = torch.log_softmax(half + log_pi, 0)
                for k in range(classes):
                    share = 0.98 * (k == y) + 0.02 / classes
                    sums["information"] += share * float(posterior[k] - log_pi[k])
                p = torch.softmax(half, 0)
                sums["entropy"] -= float(torch.special.xlogy(p, p).sum())
                nu = [mu[y], *(mu[y] + d for d in delta[y])]
                parts = torch.stack([-0.5 * (x - v).square().sum() for v in nu]) + log_w[y]
                within = float(torch.logsumexp(parts, 0)) + jacobian
                sums["intra"] -= within / channels
                density = within - 0.5 * channels * math.log(2 * math.pi)
                sums["log_sigmoid"] += float(np.logaddexp(0.0, -density / channels))
    return {name: value / labels.numel() for name, value in sums.items()}


@torch.no_grad()
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 8), st.integers(0, 1000))
def test_terms_are_the_formulas(classes: int, components: int, channels: int, seed: int) -> None:
    """Every term and both totals equal the naive sums, for any number of classes, components and channels."""
    torch.manual_seed(seed)
    mixture, z, log_det, labels = make_case(channels, classes, components)
    expected = naive_terms(mixture, z, log_det, labels.view(-1, 1, 1).expand_as(log_det))
    loss = hgad_loss(mixture, z, log_det, labels, stage=2)
    for name in TERMS:
        assert float(getattr(loss, name)) == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name
    first = expected["likelihood"] - 100.0 * expected["information"] + expected["entropy"]
    assert float(hgad_loss(mixture, z, log_det, labels, stage=1).total) == pytest.approx(first, rel=1e-9)
    assert float(loss.total) == pytest.approx(first + expected["intra"] + expected["log_sigmoid"], rel=1e-9)
    weights = {"information": -100.0, "entropy": 1.0, "intra": 1.0, "log_sigmoid": 1.0}
    for left_out, weight in weights.items():
        kept = [term for term in LOSS_TERMS if term != left_out]
        without = hgad_loss(mixture, z, log_det, labels, stage=2, terms=kept)
        assert float(getattr(without, left_out)) == 0.0
        assert float(loss.total - without.total) == pytest.approx(weight * expected[left_out], rel=1e-6, abs=1e-9)


def test_class_logits_are_half_squared_distances() -> None:
    """They equal the distances computed directly."""
    mixture, z, _, _ = make_case()
    difference = z.unsqueeze(1) - mixture.mu.view(1, 3, 6, 1, 1)
    torch.testing.assert_close(mixture.class_logits(z), -0.5 * difference.square().sum(dim=2))


@pytest.mark.parametrize("stage", [1, 2])
def test_fibers_are_positions(stage: int) -> None:
    """Feature vectors `(1, C, 1, n)` with a label each have the loss of the same vectors in maps, labelled by image."""
    mixture, z, log_det, labels = make_case()
    spread = labels.view(-1, 1, 1).expand_as(log_det)
    fibers = z.transpose(0, 1).reshape(1, 6, 1, -1)
    found = hgad_loss(mixture, fibers, log_det.reshape(1, 1, -1), spread.reshape(1, 1, -1), stage)
    torch.testing.assert_close(found, hgad_loss(mixture, z, log_det, labels, stage))
    torch.testing.assert_close(found, hgad_loss(mixture, z, log_det, spread, stage))


def test_wrong_arguments_are_named() -> None:
    """Labels of another shape, another stage and sizes below 1 are refused."""
    mixture, z, log_det, _ = make_case()
    with pytest.raises(ShapeError, match="labels"):
        hgad_loss(mixture, z, log_det, torch.zeros(3, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="stage must be 1 or 2, got 3"):
        hgad_loss(mixture, z, log_det, torch.zeros(2, dtype=torch.int64), 3)
    with pytest.raises(ValueError, match=">= 1, got 4, 0, 2"):
        HierarchicalMixture(4, 0, 2)


LEARNS = {
    "likelihood": {"z", "log_det", "mu", "psi"},
    "information": {"z", "mu"},
    "entropy": {"z", "mu"},
    "intra": {"z", "log_det", "delta", "phi"},
    "log_sigmoid": {"z", "log_det", "delta", "phi"},
}


def reached(value: Tensor, mixture: HierarchicalMixture, z: Tensor, log_det: Tensor) -> set[str]:
    """Names of what gets a gradient that is not all zero."""
    named = {"z": z, "log_det": log_det, **dict(mixture.named_parameters())}
    grads = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {name for name, grad in zip(named, grads, strict=True) if grad is not None and bool((grad != 0).any())}


@pytest.mark.parametrize("term", TERMS)
def test_each_term_teaches_what_it_should(term: str) -> None:
    """The flow learns from all terms, mu from the first three, psi from L_g alone, delta and phi from the last two."""
    mixture, z, log_det, labels = make_case()
    z.requires_grad_()
    log_det.requires_grad_()
    value = getattr(hgad_loss(mixture, z, log_det, labels, stage=2), term)
    assert reached(value, mixture, z, log_det) == LEARNS[term]


def test_the_first_stage_leaves_the_mixed_centres_alone() -> None:
    """In stage 1 delta and phi get no gradient at all, and the terms of stage 2 are zero."""
    mixture, z, log_det, labels = make_case()
    z.requires_grad_()
    log_det.requires_grad_()
    loss = hgad_loss(mixture, z, log_det, labels, stage=1)
    assert reached(loss.total, mixture, z, log_det) == {"z", "log_det", "mu", "psi"}
    assert mixture.delta.grad is None
    assert float(loss.intra) == float(loss.log_sigmoid) == 0.0


def test_one_class_has_no_information_and_no_entropy() -> None:
    """With K = 1 both terms are exactly zero, and everything is finite, gradients included."""
    mixture, z, log_det, _ = make_case(classes=1, dtype=torch.float32)
    loss = hgad_loss(mixture, z, log_det, torch.zeros(2, dtype=torch.int64), stage=2)
    assert float(loss.information.detach()) == float(loss.entropy.detach()) == 0.0
    loss.total.backward()
    for parameter in mixture.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0, 1000.0])
def test_far_latents_stay_finite(scale: float) -> None:
    """In float32 at 200 channels every term and gradient is finite; entropy and information stay exact to 1e-3."""
    mixture, _, _, _ = make_case(200, 15, 10, torch.float32)
    z = (torch.randn(2, 200, 2, 2) * scale).requires_grad_()
    log_det, labels = torch.randn(2, 2, 2), torch.tensor([3, 14])
    loss = hgad_loss(mixture, z, log_det, labels, stage=2)
    loss.total.backward()
    assert all(bool(torch.isfinite(value)) for value in loss)
    assert z.grad is not None
    assert all(bool(torch.isfinite(p.grad).all()) for p in [z, *mixture.parameters()] if p.grad is not None)
    expected = naive_terms(mixture, z, log_det, labels.view(-1, 1, 1).expand_as(log_det))
    for name in TERMS:
        assert float(getattr(loss, name).detach()) == pytest.approx(expected[name], rel=1e-5, abs=1e-3), name


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12), st.sampled_from([1.0, 1e3]))
def test_plain_operators_give_torchs_numbers(values: list[float], scale: float) -> None:
    """Log-sum-exp, its gradient and the entropy are torch's, and finite where exponentials over- or underflow."""
    x = torch.tensor([values], dtype=torch.float64) * scale
    x.requires_grad_()
    torch.testing.assert_close(log_sum_exp(x), torch.logsumexp(x, 1))
    (gradient,) = torch.autograd.grad(log_sum_exp(x).sum(), x)
    torch.testing.assert_close(gradient, torch.softmax(x, 1))
    p = torch.softmax(x, 1)
    torch.testing.assert_close(softmax_entropy(x), -torch.special.xlogy(p, p).sum(dim=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("classes", "expected"), [(15, 6.60), (12, 6.38), (40, 7.58)])
def test_the_information_term_opens_the_smoothed_gap(classes: int, expected: float) -> None:
    """Optimising a latent by the information term alone ends at a logit gap of ln(q_y / q_other)."""
    mixture = HierarchicalMixture(classes, classes, 1)
    z = nn.Parameter(torch.zeros(1, classes, 1, 1))
    labels = torch.tensor([2])
    optimiser = torch.optim.LBFGS([z], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -mixture.mutual_information(z, labels).mean()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    logits = mixture.class_logits(z).detach().flatten()
    gaps = (logits[2] - logits)[torch.arange(classes) != 2]
    assert math.log((0.98 + 0.02 / classes) / (0.02 / classes)) == pytest.approx(expected, abs=0.01)
    torch.testing.assert_close(gaps, torch.full((classes - 1,), expected), atol=0.05, rtol=0)


@pytest.mark.parametrize(("classes", "channels", "low", "high"), [(15, 200, 5, 5), (40, 200, 5, 5), (12, 200, 4.9, 5)])
def test_centres_start_five_apart(classes: int, channels: int, low: float, high: float) -> None:
    """Main centres start at pairwise distance 5, or a little less where floors bite; the last channels are unused."""
    distances = nn.functional.pdist(HierarchicalMixture(channels, classes).mu.detach())
    assert low - 1e-4 <= float(distances.min()) <= float(distances.max()) <= high + 1e-4


def test_more_classes_than_channels_start_apart() -> None:
    """With K > C no two centres start together: 5 within a block of C, 5 in the root mean square over all."""
    mixture = HierarchicalMixture(16, 40, 2)
    distances = nn.functional.pdist(mixture.mu.detach())
    assert float(distances.min()) > 1.0
    assert float(distances.square().mean().sqrt()) == pytest.approx(5.0, rel=0.05)
    torch.testing.assert_close(nn.functional.pdist(mixture.mu.detach()[:16]), torch.full((120,), 5.0))


def test_weights_start_uniform_and_offsets_normal() -> None:
    """Psi and phi start at zero, offsets with the norm of a standard normal vector, far beyond the main centres."""
    mixture = HierarchicalMixture(200, 15)
    assert not bool(mixture.psi.any())
    assert not bool(mixture.phi.any())
    assert mixture.delta.shape == (15, 9, 200)
    assert float(mixture.delta.detach().norm(dim=2).mean()) == pytest.approx(14.1, abs=0.3)


def test_class_bias_picks_and_sums_classes() -> None:
    """One allowed class gives its density, several the sum of theirs, all the sum over all without weights."""
    mixture, z, log_det, _ = make_case()
    own = torch.stack([mixture.class_log_likelihood(z, log_det, torch.tensor([k, k])) for k in range(3)])
    bias = torch.tensor([[0.0, -1e4, -1e4], [-1e4, 0.0, 0.0]], dtype=torch.float64)
    found = mixture.log_likelihood(z, log_det, bias)
    torch.testing.assert_close(found[0], own[0, 0])
    torch.testing.assert_close(found[1], torch.logsumexp(own[1:, 1], 0))
    torch.testing.assert_close(mixture.log_likelihood(z, log_det, torch.zeros(2, 3).double()), torch.logsumexp(own, 0))
    torch.testing.assert_close(mixture.log_likelihood(z, log_det), torch.logsumexp(own, 0))


def test_the_density_integrates_to_one() -> None:
    """Within a class, the density of a 1-channel latent sums to 1 over a fine grid: the constant is right."""
    mixture = HierarchicalMixture(1, 2, 3).double()
    randomise(mixture, 1.0)
    z = torch.linspace(-15, 15, 3001, dtype=torch.float64).view(1, 1, 1, -1)
    zeros = torch.zeros(1, 1, 3001, dtype=torch.float64)
    for k in range(2):
        density = mixture.class_log_likelihood(z, zeros, torch.tensor([k])).exp()
        assert float(density.detach().sum()) * 0.01 == pytest.approx(1.0, rel=1e-6)


def test_the_result_names_every_term() -> None:
    """Loss terms are found by name, the total first."""
    assert HgadLoss._fields == ("total", *TERMS)
