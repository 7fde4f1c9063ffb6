"""Which layer computes in which type and on which processor, where the graph itself cannot say it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from edgead.engines.tensorrt.options import BatchRange
from edgead.errors import EngineBuildError

if TYPE_CHECKING:
    import tensorrt as trt

_FLOATS = ("FLOAT", "HALF")
_SUFFIX = re.compile(r"_\d+$")
INT8_ON_DLA = (
    "TensorRT on this generation of the accelerator takes int8 only with a calibration cache, not from the "
    "QuantizeLinear nodes that edgead's int8 graph consists of"
)


def pin_float32(layers: Sequence[trt.ILayer], names: Collection[str]) -> int:
    """Pin the layers of the named graph nodes to float32; used with the flag OBEY_PRECISION_CONSTRAINTS.

    Only layers that compute on floating-point numbers are pinned: TensorRT refuses a float precision on a shape
    computation.

    Args:
        layers: Of the parsed network.
        names: Of graph nodes. The parser names a node's second layer `<name>_1` and so on.

    Returns:
        Layers that were pinned.

    Raises:
        EngineBuildError: If `names` is not empty but no layer carries one of them, so that nothing would be protected.
    """
    import tensorrt as trt

    wanted = frozenset(names)
    pinned = 0
    for layer in layers:
        if not _is_named(layer.name, wanted) or not hasattr(layer, "precision"):
            continue
        outputs = [i for i in range(layer.num_outputs) if layer.get_output(i).dtype.name in _FLOATS]
        if outputs:
            layer.precision = trt.DataType.FLOAT
            pinned += 1
        for i in outputs:
            layer.set_output_type(i, trt.DataType.FLOAT)
    if wanted and not pinned:
        raise EngineBuildError(
            f"None of the {len(wanted)} graph nodes that must stay in float32 is a layer of the network, for example "
            f"{sorted(wanted)[0]!r}: the flow would be computed in float16.",
            hint="Build --fp32 instead, and report this with the output of `edgead doctor`.",
        )
    return pinned


def check_dla(builder: trt.Builder, core: int, precision: str, batch: BatchRange) -> None:
    """Check that the accelerator can take a network.

    Raises:
        EngineBuildError: If there is no such core, or the precision or the batch range is not for it.
    """
    cores = builder.num_DLA_cores
    if not 0 <= core < cores:
        there = f"the cores 0 to {cores - 1}" if cores else "no deep-learning accelerator that TensorRT can use"
        raise EngineBuildError(f"DLA core {core} was asked for; this board has {there}.", hint=_ON_THE_GPU)
    if precision == "int8":
        raise EngineBuildError(f"No int8 on the DLA: {INT8_ON_DLA}.", hint="Build --fp16 for it, or int8 for the GPU.")
    if precision != "fp16":
        raise EngineBuildError(f"The DLA computes in float16 or int8, not in {precision}.", hint="Build --fp16 for it.")
    if not batch.is_fixed:
        raise EngineBuildError(
            f"The DLA needs a fixed number of images per call (got {batch.least} to {batch.most}).",
            hint=f"Build for {batch.tuned} images.",
        )


def place_on_dla(
    config: trt.IBuilderConfig, layers: Sequence[trt.ILayer], core: int, kept: Collection[str]
) -> tuple[int, int]:
    """Put every layer before the first one of the flow on the accelerator, where it can run there.

    One contiguous stretch, since every change between GPU and DLA converts the tensors.

    Args:
        config: Gets the core and the fallback to the GPU.
        layers: In the order of the network.
        core: Checked with `check_dla`.
        kept: Names of the graph nodes that stay in float32, and so on the GPU.

    Returns:
        Layers on the accelerator, and all before the flow.

    Raises:
        EngineBuildError: If none can run there.
    """
    import tensorrt as trt

    wanted = frozenset(kept)
    first = next((i for i, layer in enumerate(layers) if _is_named(layer.name, wanted)), len(layers))
    config.default_device_type = trt.DeviceType.GPU
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    placed = 0
    for layer in layers[:first]:
        if config.can_run_on_DLA(layer):
            config.set_device_type(layer, trt.DeviceType.DLA)
            placed += 1
    if not placed:
        raise EngineBuildError(f"None of the {first} layers before the flow can run on the DLA.", hint=_ON_THE_GPU)
    return placed, first


_ON_THE_GPU = "Leave out the DLA: the engine then runs on the GPU."


def _is_named(layer: str, names: frozenset[str]) -> bool:
    return layer in names or _SUFFIX.sub("", layer) in names
