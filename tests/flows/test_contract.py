"""One contract for every flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import ShapeError
from edgead.flows.base import DiagonalBase
from edgead.flows.blocks import CouplingKind, MixKind, coupling_block
from edgead.flows.coupling import AdditiveCoupling, AffineCoupling
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import (
    ActNorm,
    ChannelLinear,
    FixedPermutation,
    FixedRotation,
    Inverted,
    LULinear,
    OnFirstChannels,
    PositionLinear,
)
from edgead.flows.position_code import position_code
from edgead.flows.subnets import ConvSubnet

from ..invariants import (
    assert_finite_gradients,
    assert_invertible,
    assert_log_det,
    default_dtype,
    jacobian_log_det,
    randomise,
)

SIZE = (3, 3)
Make = Callable[[int], Flow]


def make_position_linear(channels: int, size: tuple[int, int] = SIZE) -> PositionLinear:
    count = size[0] * size[1]
    weight = torch.eye(channels) + 0.3 * torch.randn(count, channels, channels) / channels**0.5
    return PositionLinear(weight, torch.randn(count, channels))


def make_additive(channels: int) -> AdditiveCoupling:
    return AdditiveCoupling(ConvSubnet(channels - channels // 2, 5, channels // 2, (3, 1)), channels)


def make_affine(channels: int) -> AffineCoupling:
    return AffineCoupling(ConvSubnet(channels - channels // 2, 5, 2 * (channels // 2), (3, 1)), channels, clamp=2.0)


def make_block(coupling: CouplingKind, mix: MixKind) -> Make:
    return lambda channels: coupling_block(
        channels, coupling=coupling, mix=mix, kernel_sizes=(3, 3), hidden_channels=5, clamp=2.0
    )


LINEAR: dict[str, Make] = {
    "rotation": FixedRotation,
    "permutation": FixedPermutation,
    "lu": LULinear,
    "inverted-lu": lambda channels: Inverted(LULinear(channels)),
    "inverted-permutation": lambda channels: Inverted(FixedPermutation(channels)),
    "inverted-rotation": lambda channels: Inverted(FixedRotation(channels)),
    "actnorm": ActNorm,
    "base": DiagonalBase,
    "on-first-channels": lambda channels: OnFirstChannels(ActNorm(channels - 1), channels - 1, channels),
    "linear-sequence": lambda channels: FlowSequence([LULinear(channels), ActNorm(channels), FixedRotation(channels)]),
}
UNIFORM: dict[str, Make] = {
    **LINEAR,
    "positions": make_position_linear,
    "additive": make_additive,
    "block-uniform-rotation": make_block("uniform", "rotation"),
    "block-uniform-permutation": make_block("uniform", "permutation"),
    "block-uniform-soft-permutation": make_block("uniform", "soft_permutation"),
    "block-uniform-lu": make_block("uniform", "lu"),
    "sequence": lambda channels: FlowSequence(
        [make_position_linear(channels), make_block("uniform", "lu")(channels), ActNorm(channels)]
    ),
}
AFFINE: dict[str, Make] = {
    "affine": make_affine,
    "block-affine-rotation": make_block("affine", "rotation"),
    "block-affine-permutation": make_block("affine", "permutation"),
    "block-affine-soft-permutation": make_block("affine", "soft_permutation"),
    "block-affine-lu": make_block("affine", "lu"),
    "affine-sequence": lambda channels: FlowSequence([make_affine(channels), ActNorm(channels)]),
}
EVERY = {**UNIFORM, **AFFINE}


def make(name: str, channels: int, dtype: torch.dtype = torch.float64) -> Flow:
    with default_dtype(dtype):
        flow = EVERY[name](channels)
        randomise(flow)
    return flow


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("channels", [2, 5, 8])
@pytest.mark.parametrize("name", EVERY)
def test_inverse_undoes_forward(name: str, channels: int, dtype: torch.dtype) -> None:
    """A latent maps back to its input, for even and odd channel counts and in both precisions."""
    assert_invertible(make(name, channels, dtype), torch.randn(3, channels, *SIZE, dtype=dtype))


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("name", EVERY)
def test_log_det_is_that_of_the_jacobian(name: str, channels: int) -> None:
    """The reported log-determinant equals the one of the Jacobian that autograd computes."""
    assert_log_det(make(name, channels), torch.randn(2, channels, *SIZE, dtype=torch.float64))


@pytest.mark.parametrize("name", LINEAR)
def test_vectors_are_maps_of_one_position(name: str) -> None:
    """A channel-linear flow treats `(N, C)` as `(N, C, 1, 1)`, log-determinant and inverse included."""
    flow = make(name, 5)
    x = torch.randn(4, 5, dtype=torch.float64)
    assert_invertible(flow, x)
    assert_log_det(flow, x)
    z, log_det = flow(x)
    as_map, map_log_det = flow(x[:, :, None, None])
    torch.testing.assert_close(as_map[:, :, 0, 0], z)
    torch.testing.assert_close(map_log_det[:, 0, 0], log_det)


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_flows_scale_all_inputs_alike(name: str) -> None:
    """A flow that calls itself uniform has one Jacobian determinant for all inputs."""
    flow = make(name, 4)
    assert flow.is_uniform
    volumes = jacobian_log_det(flow, 3.0 * torch.randn(3, 4, *SIZE, dtype=torch.float64))
    assert float(volumes.max() - volumes.min()) < 1e-9


@pytest.mark.parametrize("name", AFFINE)
def test_affine_flows_scale_inputs_differently(name: str) -> None:
    """A flow with an affine coupling is not uniform, and its Jacobian determinant does depend on the input."""
    flow = make(name, 4)
    assert not flow.is_uniform
    volumes = jacobian_log_det(flow, 3.0 * torch.randn(3, 4, *SIZE, dtype=torch.float64))
    assert float(volumes.max() - volumes.min()) > 1e-3


LEARNING = [name for name in EVERY if list(EVERY[name](3).parameters())]


def test_only_the_fixed_flows_have_nothing_to_learn() -> None:
    """The list of learning flows below misses none but those that are fixed by design."""
    assert set(EVERY) - set(LEARNING) == {
        "rotation", "permutation", "inverted-permutation", "inverted-rotation", "positions"
    }  # fmt: skip


@pytest.mark.parametrize("name", LEARNING)
def test_every_parameter_learns(name: str) -> None:
    """The likelihood sends a finite gradient to every parameter."""
    assert_finite_gradients(make(name, 5), torch.randn(3, 5, *SIZE, dtype=torch.float64))


@pytest.mark.parametrize("name", EVERY)
def test_state_dict_holds_the_whole_flow(name: str) -> None:
    """A second flow that loads the state of a first gives the same latents, fixed matrices included."""
    first, second = make(name, 5), make(name, 5)
    x = torch.randn(2, 5, *SIZE, dtype=torch.float64)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x)[0], second(x)[0])


@pytest.mark.parametrize("name", LINEAR)
def test_matrix_and_offset_say_what_forward_does(name: str) -> None:
    """The matrix and offset that folding reads are the map that `forward` computes, as is the log-determinant."""
    flow = make(name, 5)
    if isinstance(flow, FlowSequence):
        flows = list(flow)
    else:
        flows = [flow]
    for step in flows:
        assert isinstance(step, ChannelLinear)
        matrix, offset = (tensor.double() for tensor in step.matrix_and_offset())
        x = torch.randn(6, 5, dtype=torch.float64)
        torch.testing.assert_close(step(x)[0], x @ matrix.T + offset)
        torch.testing.assert_close(step.log_abs_det().double(), torch.linalg.slogdet(matrix).logabsdet)


@given(
    channels=st.integers(2, 9),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    batch=st.integers(1, 3),
    coupling=st.sampled_from(["uniform", "affine"]),
    mix=st.sampled_from(get_args(MixKind)),
    kernels=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5])),
    seed=st.integers(0, 2**20),
)
def test_blocks_of_any_shape_hold_the_contract(
    channels: int,
    height: int,
    width: int,
    batch: int,
    coupling: CouplingKind,
    mix: MixKind,
    kernels: tuple[int, int],
    seed: int,
) -> None:
    """A block of any channels, kernels and map size is invertible and reports its log-determinant."""
    torch.manual_seed(seed)
    with default_dtype(torch.float64):
        flow = coupling_block(channels, coupling=coupling, mix=mix, kernel_sizes=kernels, hidden_channels=3)
        randomise(flow)
        x = torch.randn(batch, channels, height, width)
    assert_invertible(flow, x)
    if x[0].numel() <= 48:
        assert_log_det(flow, x)


@pytest.mark.parametrize("coupling", ["uniform", "affine"])
def test_conditional_blocks_hold_the_contract(coupling: CouplingKind) -> None:
    """A block that sees a position code is invertible under it, reports its volume, and depends on the code."""
    with default_dtype(torch.float64):
        flow = coupling_block(
            5, coupling=coupling, mix="soft_permutation", kernel_sizes=(1, 1), hidden_channels=6, condition_channels=8
        )
        randomise(flow)
        code = position_code(8, *SIZE)
        x = torch.randn(2, 5, *SIZE)
    assert_invertible(flow, x, code)
    assert_log_det(flow, x, code)
    assert_finite_gradients(flow, x, code)
    change = flow(x, code)[0] - flow(x, code.flip(3))[0]
    assert float(change.detach().abs().max()) > 1e-3


@pytest.mark.parametrize("coupling", ["uniform", "affine"])
def test_flows_without_context_say_each_positions_volume(coupling: CouplingKind) -> None:
    """With 1x1 kernels the log-determinant at a position is that of the position's own Jacobian."""
    with default_dtype(torch.float64):
        flow = coupling_block(4, coupling=coupling, mix="lu", kernel_sizes=(1, 1), hidden_channels=5)
        randomise(flow)
        x = torch.randn(2, 4, *SIZE)
    _, log_det = flow(x)
    alone = x.permute(0, 2, 3, 1).reshape(-1, 4, 1, 1)
    torch.testing.assert_close(log_det.flatten(), jacobian_log_det(flow, alone))


def test_log_dets_of_a_sequence_add() -> None:
    """The log-determinant of a sequence is the sum over its parts, each at its own input."""
    first, second = make("block-affine-lu", 4), make("block-affine-permutation", 4)
    x = torch.randn(3, 4, *SIZE, dtype=torch.float64)
    z, first_log_det = first(x)
    _, second_log_det = second(z)
    _, both = FlowSequence([first, second])(x)
    torch.testing.assert_close(both, first_log_det + second_log_det)


def test_a_new_coupling_is_the_identity() -> None:
    """Subnets start at zero, so that training starts from the linear part of the flow."""
    x = torch.randn(2, 6, *SIZE)
    for coupling in (make_additive(6), make_affine(6)):
        z, log_det = coupling(x)
        assert torch.equal(z, x)
        assert torch.equal(log_det, torch.zeros(2, *SIZE))


def test_affine_scales_stay_within_the_clamp() -> None:
    """However large the subnet's answer, no channel is scaled by more than exp(clamp)."""
    flow = make_affine(4)
    randomise(flow, spread=1e4)
    _, log_det = flow(torch.randn(8, 4, *SIZE))
    log_det = log_det.detach()
    assert float(log_det.abs().max()) <= 2.0 * 2 + 1e-4
    assert float(log_det.abs().max()) > 2.0


def test_actnorm_starts_by_standardising() -> None:
    """After `initialise` the batch has mean 0 and mean square 1 in every channel, vectors and maps alike."""
    for shape in ((64, 3, 4, 5), (256, 3)):
        x = torch.randn(shape, dtype=torch.float64) * 7 + 3
        flow = ActNorm(3).double()
        z = flow.initialise(x)
        columns = z.transpose(0, 1).flatten(1)
        torch.testing.assert_close(columns.mean(dim=1), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(columns.square().mean(dim=1), torch.ones(3, dtype=torch.float64))


def test_actnorm_does_not_blow_up_a_dead_channel() -> None:
    """A channel that is constant in the first batch is not scaled beyond float16 when it comes alive later."""
    x = torch.randn(64, 4, 3, 3)
    x[:, 2] = 0.5
    flow = ActNorm(4)
    flow.initialise(x)
    x[:, 2] += 3.0
    assert float(flow(x)[0].detach().abs().max()) < 60000.0


def test_a_sequence_initialises_each_part_with_the_output_of_the_one_before() -> None:
    """Two ActNorms in a row: the second finds standardised data and does nothing."""
    x = torch.randn(64, 3, 4, 4, dtype=torch.float64) * 5 - 2
    flow = FlowSequence([ActNorm(3), FixedRotation(3), ActNorm(3)]).double()
    z = flow.initialise(x)
    assert float(z.mean().abs()) < 1e-9
    _, _, last = flow
    assert isinstance(last, ActNorm)
    assert float(last.log_scale.detach().abs().max()) < 0.1
    assert torch.equal(z, flow(x)[0])


def test_other_shapes_are_refused() -> None:
    """A flow takes vectors or maps, and says so for anything else."""
    with pytest.raises(ShapeError, match=r"\(N, C\) or \(N, C, H, W\)"):
        ActNorm(3)(torch.randn(2, 3, 4))
