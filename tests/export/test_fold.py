"""A folded flow is the unfolded one, to float64 accuracy, at image borders too."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgead.errors import ExportError
from edgead.export.fold import FoldForm, fold_flow, unfolded_multiply_adds
from edgead.export.folded import AddCode, AddShift, FoldedFlow, FoldedPositions, ResidualStep, folded_multiply_adds
from edgead.flows.base import DiagonalBase
from edgead.flows.blocks import CouplingKind, MixKind, coupling_block
from edgead.flows.coupling import AdditiveCoupling
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import (
    ActNorm,
    FixedPermutation,
    FixedRotation,
    Inverted,
    LULinear,
    OnFirstChannels,
    PositionLinear,
)
from edgead.flows.position_code import position_code
from edgead.flows.subnets import ConvSubnet
from edgead.models.level import squared_norm

from ..invariants import default_dtype, randomise

FORMS = get_args(FoldForm)
COUPLINGS = get_args(CouplingKind)
MIXES = get_args(MixKind)
SIZE = (5, 4)


def make_flow(
    channels: int,
    *,
    coupling: CouplingKind = "uniform",
    mix: MixKind = "rotation",
    kernels: tuple[tuple[int, int], ...] = ((3, 1),),
    blocks: int = 3,
    hidden_ratio: float = 0.75,
    start: str = "none",
    size: tuple[int, int] = SIZE,
    condition_channels: int = 0,
) -> FlowSequence:
    """The flow of a level with nothing left at its starting value, in the default dtype."""
    steps: list[Flow] = [
        coupling_block(
            channels,
            coupling=coupling,
            mix=mix,
            kernel_sizes=kernels[index % len(kernels)],
            hidden_channels=max(1, round(hidden_ratio * channels)),
            condition_channels=condition_channels,
        )
        for index in range(blocks)
    ]
    couplings = FlowSequence([*steps, ActNorm(channels)])
    randomise(couplings)
    first: list[Flow] = []
    if start == "positions":
        count = size[0] * size[1]
        weight = torch.eye(channels) + 0.4 * torch.randn(count, channels, channels) / channels**0.5
        first.append(PositionLinear(weight, torch.randn(count, channels)))
    elif start == "actnorm":
        first.append(ActNorm(channels))
        randomise(first[0])
    return FlowSequence([*first, couplings])


def norms(flow: nn.Module, x: Tensor) -> Tensor:
    z = flow(x)
    return squared_norm(z[0] if isinstance(z, tuple) else z)


def assert_same_norm(flow: Flow, folded: FoldedFlow, x: Tensor, tolerance: float = 1e-9) -> None:
    with torch.no_grad():
        expected = norms(flow, x)
        torch.testing.assert_close(norms(folded, x), expected, rtol=tolerance, atol=tolerance)


@given(
    channels=st.integers(2, 7),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    coupling=st.sampled_from(COUPLINGS),
    mix=st.sampled_from(MIXES),
    kernels=st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5])), min_size=1, max_size=3),
    blocks=st.integers(0, 4),
    hidden_ratio=st.sampled_from([0.3, 1.0, 2.5]),
    start=st.sampled_from(["none", "positions", "actnorm"]),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=150)
def test_folding_changes_no_norm(
    channels: int,
    height: int,
    width: int,
    coupling: CouplingKind,
    mix: MixKind,
    kernels: list[tuple[int, int]],
    blocks: int,
    hidden_ratio: float,
    start: str,
    form: FoldForm,
    seed: int,
) -> None:
    """Every form of folding keeps any flow's norm at every position, borders included."""
    torch.manual_seed(seed)
    with default_dtype(torch.float64):
        flow = make_flow(
            channels, coupling=coupling, mix=mix, kernels=tuple(kernels), blocks=blocks, hidden_ratio=hidden_ratio,
            start=start, size=(height, width),
        )  # fmt: skip
        folded = fold_flow(flow, channels, (height, width), form=form)
        assert_same_norm(flow, folded, torch.randn(2, channels, height, width))


@given(
    channels=st.integers(2, 7),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    coupling=st.sampled_from(COUPLINGS),
    mix=st.sampled_from(MIXES),
    kernels=st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 3])),
    blocks=st.integers(0, 3),
    start=st.sampled_from(["none", "positions", "actnorm"]),
    conditional=st.booleans(),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=150)
def test_exact_folding_keeps_latent_and_log_det(
    channels: int,
    height: int,
    width: int,
    coupling: CouplingKind,
    mix: MixKind,
    kernels: tuple[int, int],
    blocks: int,
    start: str,
    conditional: bool,
    form: FoldForm,
    seed: int,
) -> None:
    """Folded exactly, a flow gives the latent itself and the log-determinant at every position, with a code or without."""
    torch.manual_seed(seed)
    with default_dtype(torch.float64):
        flow = make_flow(
            channels, coupling=coupling, mix=mix, kernels=(kernels,), blocks=blocks, start=start, size=(height, width),
            condition_channels=8 if conditional else 0,
        )  # fmt: skip
        base = DiagonalBase(channels)
        randomise(base)
        flow = FlowSequence([flow, base])
        code = position_code(8, height, width) if conditional else None
        folded = fold_flow(flow, channels, (height, width), form=form, condition=code, exact=True, log_det=flow)
        norm_only = fold_flow(flow, channels, (height, width), form=form, condition=code)
        x = torch.randn(2, channels, height, width)
        with torch.no_grad():
            z, log_det = flow(x, code)
            found, found_log_det = folded.with_log_det(x)
            torch.testing.assert_close(found, z, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(folded(x), z, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(found_log_det.expand_as(log_det), log_det, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(squared_norm(norm_only(x)), squared_norm(z), rtol=1e-8, atol=1e-8)


def test_a_flow_on_the_first_channels_folds() -> None:
    """The start and base of a U-shaped flow, which touch a part of the channels, fold like any other linear flow."""
    with default_dtype(torch.float64):
        flow = FlowSequence(
            [OnFirstChannels(ActNorm(3), 3, 6), make_flow(6, blocks=2), OnFirstChannels(DiagonalBase(2), 2, 6)]
        )
        randomise(flow)
        x = torch.randn(2, 6, *SIZE)
        with torch.no_grad():
            torch.testing.assert_close(fold_flow(flow, 6, SIZE, exact=True)(x), flow(x)[0], rtol=1e-8, atol=1e-8)


def test_a_code_becomes_tables_of_rows_and_columns() -> None:
    """A position code leaves a value per row and per column and hidden channel; one that is no such sum is refused."""
    with default_dtype(torch.float64):
        flow = make_flow(4, mix="soft_permutation", kernels=((1, 1),), blocks=1, condition_channels=8)
        folded = fold_flow(flow, 4, SIZE, condition=position_code(8, *SIZE), form="sliced")
        code = next(module for module in folded.modules() if isinstance(module, AddCode))
        assert code.rows.shape[2:] == (SIZE[0], 1)
        assert code.columns.shape[2:] == (1, SIZE[1])
        with pytest.raises(ExportError, match="sum of a function of the row"):
            fold_flow(flow, 4, SIZE, condition=torch.randn(1, 8, *SIZE))
        with pytest.raises(ExportError, match="can only be folded with its position code"):
            fold_flow(flow, 4, SIZE)


@pytest.mark.parametrize("start", ["none", "positions", "actnorm"])
@pytest.mark.parametrize("mix", MIXES)
def test_both_forms_are_equal(mix: MixKind, start: str) -> None:
    """The residual form, the sliced form and their mixture give the same norms."""
    with default_dtype(torch.float64):
        flow = make_flow(6, mix=mix, kernels=((3, 3), (1, 1)), blocks=4, start=start)
        x = torch.randn(2, 6, *SIZE)
        for form in FORMS:
            assert_same_norm(flow, fold_flow(flow, 6, SIZE, form=form), x)


@pytest.mark.parametrize("form", FORMS)
def test_shifts_do_not_leak_through_the_zero_padding(form: FoldForm) -> None:
    """With shifts a hundred times the data, border positions still agree: no shift is moved through a convolution."""
    with default_dtype(torch.float64):
        flow = make_flow(5, mix="permutation", kernels=((5, 3),), blocks=3, start="actnorm")
        with torch.no_grad():
            for module in flow.modules():
                if isinstance(module, ActNorm):
                    module.offset.mul_(100.0)
        x = torch.randn(2, 5, *SIZE)
        assert_same_norm(flow, fold_flow(flow, 5, SIZE, form=form), x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "ends",
    [
        [FixedRotation(4)],
        [FixedPermutation(4), Inverted(FixedPermutation(4))],
        [LULinear(4)],
        [ActNorm(4)],
        [],
    ],
    ids=["rotation", "permutations", "lu", "actnorm", "nothing"],
)
def test_any_linear_end_folds(ends: list[Flow], form: FoldForm) -> None:
    """A flow may end in a coupling or in any linear map, orthogonal (then dropped) or not."""
    with default_dtype(torch.float64):
        step = AdditiveCoupling(ConvSubnet(2, 3, 2, (3, 3)), 4)
        flow = FlowSequence([LULinear(4), ActNorm(4), step, *copy.deepcopy(ends)]).double()
        randomise(flow)
        assert_same_norm(flow, fold_flow(flow, 4, SIZE, form=form), torch.randn(2, 4, *SIZE), tolerance=2e-6)


@pytest.mark.parametrize("flows", [[], [FixedRotation(3)], [LULinear(3)], [ActNorm(3)]])
def test_flows_without_couplings_fold(flows: list[Flow]) -> None:
    """Nothing, or linear maps alone, fold as well."""
    with default_dtype(torch.float64):
        flow = FlowSequence(copy.deepcopy(flows)).double()
        randomise(flow)
        assert_same_norm(flow, fold_flow(flow, 3, SIZE), torch.randn(2, 3, *SIZE), tolerance=1e-6)


@pytest.mark.parametrize("mix", MIXES)
def test_float32_folding_is_accurate(mix: MixKind) -> None:
    """In float32, as exported, a folded flow of realistic width is within 1e-5 of the unfolded one."""
    flow = make_flow(96, mix=mix, blocks=4, kernels=((3, 1),), hidden_ratio=0.75, start="none")
    randomise(flow, spread=0.03)
    assert_same_norm(flow, fold_flow(flow, 96, (8, 8)), torch.randn(2, 96, 8, 8), tolerance=1e-5)


def test_a_uniform_flow_folds_to_convolutions_and_relu_alone() -> None:
    """No exp, no tanh, no division, no gather and no log is left of a uniform flow."""
    flow = make_flow(6, mix="lu", start="positions", kernels=((3, 3), (1, 1)), blocks=4)
    folded = fold_flow(flow, 6, SIZE)
    used = _operators(folded, torch.randn(2, 6, *SIZE))
    assert {"_convolution", "relu"} <= used
    assert not used & {"exp", "tanh", "div", "log", "index", "gather", "linalg_solve", "softplus", "linalg_inv_ex"}


def test_an_affine_flow_keeps_its_exponential() -> None:
    """The check above is able to find an exponential: an affine flow has one."""
    folded = fold_flow(make_flow(6, coupling="affine"), 6, SIZE)
    assert {"exp", "tanh"} <= _operators(folded, torch.randn(2, 6, *SIZE))


def _operators(module: nn.Module, x: Tensor) -> set[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module(x)
    return {event.key.removeprefix("aten::") for event in profile.key_averages()}


def test_folding_leaves_the_flow_alone() -> None:
    """The trained flow is neither changed by folding nor sharing memory with the result."""
    flow = make_flow(6, mix="lu", start="positions", blocks=2)
    before = copy.deepcopy(flow.state_dict())
    folded = fold_flow(flow, 6, SIZE, form="sliced")
    with torch.no_grad():
        for tensor in [*folded.parameters(), *folded.buffers()]:
            tensor.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in flow.state_dict().items())


def test_the_start_swallows_what_is_linear_behind_it() -> None:
    """Maps and shifts between a per-position layer and the first coupling cost nothing, in either form."""
    with default_dtype(torch.float64):
        flow = make_flow(4, mix="lu", blocks=1, start="positions")
        for form, kinds in (("residual", [FoldedPositions, ResidualStep, nn.Conv2d]), ("sliced", None)):
            steps = list(fold_flow(flow, 4, SIZE, form=form).steps)
            assert isinstance(steps[0], FoldedPositions)
            assert len(steps) == 3
            assert not any(isinstance(step, AddShift) for step in steps)
            if kinds:
                assert [type(step) for step in steps] == kinds


def test_multiply_adds_are_those_counted_by_hand() -> None:
    """Costs of a 4-channel uniform block with hidden width 3 and kernels 3 and 1, on 5x4 positions."""
    block = coupling_block(4, coupling="uniform", mix="lu", kernel_sizes=(3, 1), hidden_channels=3)
    flow = FlowSequence([block, ActNorm(4)])
    randomise(flow)
    subnet = 9 * 2 * 3 + 1 * 3 * 2
    lu_both_ways, two_scales = 2 * 16, 2 * 4
    assert unfolded_multiply_adds(flow, 4, 20) == 20 * (subnet + lu_both_ways + two_scales)
    residual, last = 9 * 4 * 3 + 1 * 3 * 4, 16
    assert folded_multiply_adds(fold_flow(flow, 4, SIZE, form="residual"), 20) == 20 * (residual + last)
    first = 16
    assert folded_multiply_adds(fold_flow(flow, 4, SIZE, form="sliced"), 20) == 20 * (first + subnet + last)
    positions = FlowSequence([PositionLinear(torch.eye(4).repeat(20, 1, 1), torch.zeros(20, 4)), flow])
    assert unfolded_multiply_adds(positions, 4, 20) == 20 * (16 + subnet + lu_both_ways + two_scales)
    assert folded_multiply_adds(fold_flow(positions, 4, SIZE, form="sliced"), 20) == 20 * (16 + subnet + last)


@given(
    channels=st.integers(2, 9),
    coupling=st.sampled_from(COUPLINGS),
    mix=st.sampled_from(MIXES),
    kernels=st.lists(st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 3])), min_size=1, max_size=3),
    blocks=st.integers(0, 4),
    hidden_ratio=st.sampled_from([0.2, 0.5, 1.0, 3.0]),
    start=st.sampled_from(["none", "positions", "actnorm"]),
)
@settings(max_examples=200)
def test_auto_costs_no_more_than_either_form(
    channels: int,
    coupling: CouplingKind,
    mix: MixKind,
    kernels: list[tuple[int, int]],
    blocks: int,
    hidden_ratio: float,
    start: str,
) -> None:
    """Choosing the form per coupling never costs more than one form for all couplings of a level."""
    flow = make_flow(
        channels, coupling=coupling, mix=mix, kernels=tuple(kernels), blocks=blocks, hidden_ratio=hidden_ratio,
        start=start,
    )  # fmt: skip
    costs = {form: folded_multiply_adds(fold_flow(flow, channels, SIZE, form=form), 20) for form in FORMS}
    assert costs["auto"] <= min(costs["residual"], costs["sliced"])


def test_auto_takes_each_form_where_it_is_cheaper() -> None:
    """Narrow 1x1 subnets fold to the residual form, wide 3x3 ones to the sliced form; so does one before a last scale."""
    narrow = fold_flow(make_flow(8, kernels=((1, 1),), hidden_ratio=0.5), 8, SIZE)
    assert all(isinstance(step, ResidualStep) for step in list(narrow.steps)[:2])
    assert not isinstance(narrow.steps[-1], ResidualStep)
    wide = fold_flow(make_flow(8, kernels=((3, 3),), hidden_ratio=2.0), 8, SIZE)
    assert not any(isinstance(step, ResidualStep) for step in wide.steps)


def test_what_does_not_fold_is_refused() -> None:
    """A per-position layer behind a coupling, and a coupling with another subnet, are named in the error."""
    step = AdditiveCoupling(ConvSubnet(2, 3, 2, (1, 1)), 4)
    positions = PositionLinear(torch.eye(4).repeat(20, 1, 1), torch.zeros(20, 4))
    with pytest.raises(ExportError, match="before the first coupling"):
        fold_flow(FlowSequence([step, positions]), 4, SIZE)
    with pytest.raises(ExportError, match="Linear"):
        fold_flow(AdditiveCoupling(nn.Linear(2, 2), 4), 4, SIZE)
    with pytest.raises(ExportError, match="_Unknown"):
        fold_flow(_Unknown(), 4, SIZE)


class _Unknown(Flow):
    @property
    def is_uniform(self) -> bool:
        return True
