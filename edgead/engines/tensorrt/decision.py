"""Graph variant, network flags and builder flags for a precision on the installed TensorRT.

The names that exist decide, never a version and never the number of an enum member: numbers change between versions
(strong typing is bit 1 in TensorRT 10 and bit 0 in 11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgead.engines.fingerprint import Precision
from edgead.errors import EngineBuildError

if TYPE_CHECKING:
    import tensorrt as trt

ScaleType = Literal["float32", "float16"]


@dataclass(frozen=True)
class BuildStrategy:
    """Build strategy for one precision on the installed TensorRT.

    Attributes:
        precision: Precision in the engine's name.
        variant: Graph for the builder: `fp32` is the bundle's own; `fp16` is typed, with float16 tensors; `int8` has
            QuantizeLinear and DequantizeLinear nodes.
        scale_type: Type of the scales in an `int8` graph: `float32` in opset 17, `float16` in opset 19.
        is_strongly_typed: Whether the builder follows the graph's own types; otherwise flags allow it to lower them.
        network_flags: Flags for `Builder.create_network`.
        builder_flags: Members of `trt.BuilderFlag` to set.
        needs_pins: Whether layers stay in float32 only if the builder pins them, because the graph cannot express it.
    """

    precision: Precision
    variant: Precision
    scale_type: ScaleType
    is_strongly_typed: bool
    network_flags: int
    builder_flags: tuple[trt.BuilderFlag, ...]
    needs_pins: bool


def decide(precision: Precision, *, weakly_typed: bool = False, for_dla: bool = False) -> BuildStrategy:
    """Choose the build strategy for the installed TensorRT.

    | installed | fp32 | fp16 | int8 |
    |---|---|---|---|
    | precision flags only (8.x) | fp32 graph | fp32 graph, flag, pins | Q/DQ with float32 scales, flags, pins |
    | flags and strong typing (10.x) | typed | fp16 graph, typed | Q/DQ with float16 scales, typed |
    | no precision flags (11.x) | as it is | fp16 graph | Q/DQ with float16 scales |

    Checked against the names of the bindings 8.6 to 11.4; no engine was built with it.

    Args:
        precision: Requested precision.
        weakly_typed: Use the first row if both are possible: a workaround if strong typing fails on an early 10.x.
        for_dla: Whether layers run on the deep-learning accelerator, which needs the first row before TensorRT 11.

    Raises:
        EngineBuildError: If `weakly_typed` is requested from a TensorRT without precision flags.
    """
    import tensorrt as trt

    has_flags = hasattr(trt.BuilderFlag, "FP16")
    has_typing = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    if weakly_typed and not has_flags:
        raise EngineBuildError(
            f"TensorRT {trt.__version__} has no precision flags: it builds exactly the types of the graph.",
            hint="Leave out the weakly typed build.",
        )
    if has_flags and (weakly_typed or for_dla or not has_typing):
        return BuildStrategy(
            precision=precision,
            variant="fp32" if precision == "fp16" else precision,
            scale_type="float32",
            is_strongly_typed=False,
            network_flags=0 if has_typing else _explicit_batch(),
            builder_flags=_precision_flags(precision),
            needs_pins=precision != "fp32",
        )
    return BuildStrategy(
        precision=precision,
        variant=precision,
        scale_type="float16",
        is_strongly_typed=True,
        network_flags=_strongly_typed() if has_flags else 0,
        builder_flags=(),
        needs_pins=False,
    )


def _explicit_batch() -> int:
    import tensorrt as trt

    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 0


def _strongly_typed() -> int:
    import tensorrt as trt

    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def _precision_flags(precision: Precision) -> tuple[trt.BuilderFlag, ...]:
    import tensorrt as trt

    if precision == "fp32" or not hasattr(trt.BuilderFlag, "FP16"):
        return ()
    flags = (trt.BuilderFlag.FP16, trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    return (*flags, trt.BuilderFlag.INT8) if precision == "int8" else flags
