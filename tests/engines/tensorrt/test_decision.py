"""Choice of graph, flags and pins by the installed TensorRT version."""

from __future__ import annotations

import pytest

from edgead.engines.fingerprint import Precision
from edgead.engines.tensorrt.decision import BuildStrategy, decide
from edgead.errors import EngineBuildError

from .conftest import VERSIONS, World

TYPED = VERSIONS[1:]


def flag_names(plan: BuildStrategy) -> set[str]:
    return {flag.name for flag in plan.builder_flags}


@pytest.mark.parametrize("version", ["8.6.1"])
@pytest.mark.parametrize(
    ("precision", "variant", "flags"),
    [
        ("fp32", "fp32", set()),
        ("fp16", "fp32", {"FP16", "OBEY_PRECISION_CONSTRAINTS"}),
        ("int8", "int8", {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}),
    ],
)
def test_tensorrt_8_lowers_by_flags_and_pins(world: World, precision: Precision, variant: str, flags: set[str]) -> None:
    """Precision flags, float32 scales, an explicit batch, and pins where anything may be lowered."""
    plan = decide(precision)
    assert (plan.variant, plan.scale_type, flag_names(plan)) == (variant, "float32", flags)
    assert plan.needs_pins == (precision != "fp32")
    assert plan.network_flags == 1 << int(world.scene.trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    assert not plan.is_strongly_typed


@pytest.mark.parametrize("version", TYPED)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_from_tensorrt_10_the_graph_says_the_types(world: World, precision: Precision, version: str) -> None:
    """Strong typing by the number that the version gives it, and none of the flags that it excludes; none on 11."""
    plan = decide(precision)
    assert (plan.variant, plan.scale_type, flag_names(plan), plan.needs_pins) == (precision, "float16", set(), False)
    assert plan.network_flags == (0 if version.startswith("11") else 2)
    assert plan.is_strongly_typed


@pytest.mark.parametrize("version", ["10.3.0"])
def test_the_weak_way_is_selectable_on_10(world: World) -> None:
    """The flags of 8.x without its explicit batch."""
    plan = decide("fp16", weakly_typed=True)
    assert (plan.variant, plan.network_flags, plan.needs_pins) == ("fp32", 0, True)
    assert "FP16" in flag_names(plan)


@pytest.mark.parametrize("version", ["11.4.0.106"])
def test_there_is_no_weak_way_on_11(world: World) -> None:
    """It is refused with the version."""
    with pytest.raises(EngineBuildError, match=r"11\.4"):
        decide("fp16", weakly_typed=True)


@pytest.mark.parametrize("version", TYPED)
def test_the_dla_wants_weak_typing_before_11(world: World, version: str) -> None:
    """Flags where there are some, the graph's own types where there are none."""
    assert decide("fp16", for_dla=True).is_strongly_typed == version.startswith("11")
