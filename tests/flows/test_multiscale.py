"""Flows over several scales: invertible, with the log-determinant that autograd computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgead.config.model import ModelConfig
from edgead.errors import ConfigError
from edgead.flows.blocks import CouplingKind, coupling_block
from edgead.flows.flow import Flow, per_sample
from edgead.flows.multiscale import MultiScaleFlow, ParallelFlow, UShapedFlow
from edgead.flows.position_code import position_code

from ..invariants import default_dtype, randomise

CHANNELS, SIZES = (3, 8), ((4, 2), (2, 1))
KINDS = ("parallel", "u-shaped")


def make(kind: str, coupling: CouplingKind) -> MultiScaleFlow:
    def stage(_: int, width: int) -> Flow:
        return coupling_block(width, coupling=coupling, mix="lu", kernel_sizes=(3, 1), hidden_channels=6)

    with default_dtype(torch.float64):
        flow: MultiScaleFlow = (
            ParallelFlow([stage(0, c) for c in CHANNELS], CHANNELS)
            if kind == "parallel"
            else UShapedFlow(stage, CHANNELS, SIZES)
        )
        randomise(flow)
    return flow


def inputs(batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, c, *size, dtype=torch.float64) for c, size in zip(CHANNELS, SIZES, strict=True)]


def total_log_det(flow: MultiScaleFlow, xs: list[Tensor]) -> Tensor:
    return torch.stack([per_sample(latent.log_det) for latent in flow(xs, [None, None])]).sum(dim=0)


def jacobian_log_det(flow: MultiScaleFlow, xs: list[Tensor]) -> Tensor:
    """First sample, all scales flattened into one vector."""
    shapes = [x[:1].shape for x in xs]
    sizes = [shape.numel() for shape in shapes]

    def whole(vector: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]
        return torch.cat([latent.z.flatten() for latent in flow(parts, [None, None])])

    vector = torch.cat([x[:1].flatten() for x in xs])
    jacobian = torch.autograd.functional.jacobian(whole, vector)
    return torch.linalg.slogdet(jacobian).logabsdet  # type: ignore[arg-type]


@pytest.mark.parametrize("coupling", ["uniform", "affine"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_scales_map_back(kind: str, coupling: CouplingKind) -> None:
    """The inverse of the latents is the input of every scale."""
    flow, xs = make(kind, coupling), inputs()
    latents = flow(xs, [None, None])
    assert [latent.z.shape[1] for latent in latents] == list(flow.latent_channels)
    back = flow.inverse([latent.z for latent in latents], [None, None])
    for x, y in zip(xs, back, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("coupling", ["uniform", "affine"])
@pytest.mark.parametrize("kind", KINDS)
def test_log_dets_add_up_to_that_of_the_whole(kind: str, coupling: CouplingKind) -> None:
    """The sum over scales and positions is log |det| of the Jacobian over all scales at once."""
    flow, xs = make(kind, coupling), inputs()
    torch.testing.assert_close(total_log_det(flow, xs)[0], jacobian_log_det(flow, xs))


@pytest.mark.parametrize("kind", KINDS)
def test_the_uniform_form_scales_all_inputs_alike(kind: str) -> None:
    """The Jacobian determinant of a uniform flow over several scales is the same for any input, that of an affine not."""
    uniform, affine = make(kind, "uniform"), make(kind, "affine")
    assert uniform.is_uniform
    assert not affine.is_uniform
    for flow, alike in ((uniform, True), (affine, False)):
        volumes = torch.stack([jacobian_log_det(flow, [5.0 * x for x in inputs()]) for _ in range(3)])
        assert (float(volumes.max() - volumes.min()) < 1e-9) is alike


def test_every_parameter_of_a_u_learns() -> None:
    """The likelihood reaches each stage."""
    flow = make("u-shaped", "affine")
    latents = flow(inputs(), [None, None])
    sum(0.5 * z.square().sum() - log_det.sum() for z, log_det in latents).backward()  # type: ignore[union-attr]
    for parameter in flow.parameters():
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any())


def test_a_fine_latent_depends_on_the_coarse_features() -> None:
    """The finest latent depends on the coarsest features in a U, but not in flows side by side."""
    for kind, depends in (("u-shaped", True), ("parallel", False)):
        flow, xs = make(kind, "uniform"), inputs()
        before = flow(xs, [None, None])[0].z
        xs[1] = xs[1] + 1.0
        after = flow(xs, [None, None])[0].z
        assert (float((before - after).detach().abs().max()) > 1e-6) is depends


def test_other_grids_are_refused() -> None:
    """A U needs grids that halve, finest first, and enough channels to pass on."""
    make_stage = lambda _, width: coupling_block(  # noqa: E731
        width, coupling="uniform", mix="rotation", kernel_sizes=(1, 1), hidden_channels=2
    )
    with pytest.raises(ConfigError, match="halve"):
        UShapedFlow(make_stage, (8, 8), ((4, 4), (4, 4)))
    with pytest.raises(ConfigError, match="at least 8"):
        UShapedFlow(make_stage, (8, 7), ((4, 4), (2, 2)))


def test_the_position_code_is_the_formula() -> None:
    """Sines and cosines of column and row at the published frequencies, and a sum of a row and a column part."""
    code = position_code(8, 3, 5).double()
    assert code.shape == (1, 8, 3, 5)
    for i in range(2):
        omega = 10000 ** (-2 * i / 4)
        column, row = torch.arange(5.0).double(), torch.arange(3.0).double()
        torch.testing.assert_close(code[0, 2 * i, 1], torch.sin(omega * column), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(code[0, 2 * i + 1, 2], torch.cos(omega * column), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(code[0, 4 + 2 * i, :, 3], torch.sin(omega * row), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(code[0, 5 + 2 * i, :, 0], torch.cos(omega * row), atol=1e-6, rtol=1e-6)
    mixed = torch.randn(4, 8).double() @ code[0].flatten(1)
    table = mixed.view(4, 3, 5)
    parts = table[:, :, :1] + table[:, :1, :] - table[:, :1, :1]
    torch.testing.assert_close(parts, table)
    with pytest.raises(ConfigError, match="multiple of 4"):
        position_code(6, 2, 2)


def test_unset_parts_follow_the_detector() -> None:
    """Coupling and mix that are not given are those of the detector; uniform couplings get learnable mixes."""
    assert (ModelConfig().coupling, ModelConfig().mix) == ("uniform", "rotation")
    for name, mix in (("fastflow", "permutation"), ("cflow", "soft_permutation"), ("uflow", "permutation")):
        published = ModelConfig.model_validate({"name": name})
        assert (published.coupling, published.mix) == ("affine", mix)
        uniform = ModelConfig.model_validate({"name": name, "coupling": "uniform"})
        assert (uniform.coupling, uniform.mix) == ("uniform", "lu")
