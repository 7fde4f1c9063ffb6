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


def layers_of_nodes(layers: Sequence[trt.ILayer], names: Collection[str], nodes: Collection[str]) -> frozenset[str]:
    """Names of the layers that graph nodes became.

    The parser names a node's first layer like the node and its others `<name>_1` and so on, which may just as well be the
    name of another node.

    Args:
        layers: Of the parsed network.
        names: Of the graph nodes that are looked for.
        nodes: Of every graph node.

    Raises:
        EngineBuildError: If `names` is not empty but none of them is a layer, so that nothing would be protected.
    """
    wanted, known = frozenset(names), frozenset(nodes)
    found = frozenset(
        layer.name
        for layer in layers
        if layer.name in wanted or (layer.name not in known and _SUFFIX.sub("", layer.name) in wanted)
    )
    if wanted and not found:
        raise EngineBuildError(
            f"None of the {len(wanted)} graph nodes that must stay in float32 is a layer of the network, for example "
            f"{min(wanted)!r}: the flow would be computed in float16.",
            hint="Build --fp32 instead, and report this with the output of `edgead doctor`.",
        )
    return found


def pin_float32(layers: Sequence[trt.ILayer], names: Collection[str]) -> int:
    """Pin the named layers to float32; used with the flag OBEY_PRECISION_CONSTRAINTS.

    Only layers that compute floating-point numbers are pinned: TensorRT refuses a float precision on a shape computation.

    Args:
        layers: Of the parsed network.
        names: From `layers_of_nodes`.

    Returns:
        Layers that were pinned.
    """
    import tensorrt as trt

    pinned = 0
    for layer in layers:
        if layer.name not in names or not hasattr(layer, "precision"):
            continue
        outputs = [i for i in range(layer.num_outputs) if layer.get_output(i).dtype.name in _FLOATS]
        if outputs:
            layer.precision = trt.DataType.FLOAT
            pinned += 1
        for i in outputs:
            layer.set_output_type(i, trt.DataType.FLOAT)
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
    config: trt.IBuilderConfig, layers: Sequence[trt.ILayer], core: int, flow: Collection[str]
) -> tuple[int, int]:
    """Put every layer before the first one of the flow on the accelerator, where it can run there.

    One contiguous stretch, since every change between GPU and DLA converts the tensors.

    Args:
        config: Gets the core and the fallback to the GPU.
        layers: In the order of the network.
        core: Checked with `check_dla`.
        flow: Names of the layers that stay in float32, and so on the GPU.

    Returns:
        Layers on the accelerator, and all before the flow.

    Raises:
        EngineBuildError: If none can run there.
    """
    import tensorrt as trt

    first = next((i for i, layer in enumerate(layers) if layer.name in flow), len(layers))
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
