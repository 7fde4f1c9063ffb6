"""Coupling blocks of the model families."""

from __future__ import annotations

from typing import Literal

from edgead.flows.coupling import AdditiveCoupling, AffineCoupling
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import ActNorm, ChannelLinear, FixedPermutation, FixedRotation, Inverted, LULinear
from edgead.flows.subnets import ConvSubnet

CouplingKind = Literal["uniform", "affine"]
MixKind = Literal["rotation", "permutation", "soft_permutation", "lu"]


def coupling_block(
    channels: int,
    *,
    coupling: CouplingKind,
    mix: MixKind,
    kernel_sizes: tuple[int, int],
    hidden_channels: int,
    clamp: float = 2.0,
    condition_channels: int = 0,
) -> FlowSequence:
    """One step of a flow: mix the channels, couple, and (with `lu`) undo and rescale.

    Args:
        channels: Number of channels C >= 2.
        coupling: `uniform` = additive, `affine` = Real NVP.
        mix: `rotation`: a fixed rotation. `permutation`: ActNorm and a fixed permutation, the block of FastFlow and
            U-Flow. `soft_permutation`: ActNorm and a fixed rotation, the block of CFLOW and HGAD.
            `lu`: the uniformly-scaling-flow block, P (s ⊙ (W c(W⁻¹ (Pᵀx − b)) + b) + o), with the coupling c conjugated
            by a learnable matrix W and a fixed permutation P (arXiv:2510.09452 and its code).
        kernel_sizes: Kernel sizes of the subnet's two convolutions.
        hidden_channels: Hidden width of the subnet.
        clamp: Soft clamp of the affine coupling.
        condition_channels: Channels P of the condition that every subnet also gets; 0 = none.

    Example:
        >>> block = coupling_block(6, coupling="affine", mix="permutation", kernel_sizes=(3, 1), hidden_channels=8)
        >>> [type(flow).__name__ for flow in block], block.is_uniform
        (['AffineCoupling', 'ActNorm', 'FixedPermutation'], False)
    """
    step = _coupling(channels, coupling, kernel_sizes, hidden_channels, clamp, condition_channels)
    if mix == "rotation":
        return FlowSequence([FixedRotation(channels), step])
    if mix == "soft_permutation":
        return FlowSequence([step, ActNorm(channels), FixedRotation(channels)])
    permutation = FixedPermutation(channels)
    if mix == "permutation":
        return FlowSequence([step, ActNorm(channels), permutation])
    lu = LULinear(channels)
    before: list[ChannelLinear] = [Inverted(permutation), Inverted(lu)]
    return FlowSequence([*before, step, lu, ActNorm(channels), permutation])


def _coupling(
    channels: int,
    kind: CouplingKind,
    kernel_sizes: tuple[int, int],
    hidden_channels: int,
    clamp: float,
    condition_channels: int,
) -> Flow:
    first, second = channels - channels // 2, channels // 2
    answers = second if kind == "uniform" else 2 * second
    subnet = ConvSubnet(first, hidden_channels, answers, kernel_sizes, condition_channels)
    return AdditiveCoupling(subnet, channels) if kind == "uniform" else AffineCoupling(subnet, channels, clamp)
