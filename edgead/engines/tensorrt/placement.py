"""Precision and processor of single layers, where the graph itself cannot express them."""

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
    "QuantizeLinear nodes of edgead's int8 graph"
)


def layers_of_nodes(layers: Sequence[trt.ILayer], names: Collection[str], nodes: Collection[str]) -> frozenset[str]:
    """Names of the layers that the parser made of graph nodes.

    The parser gives a node's first layer the node's name and the others `<name>_1` and so on, which may also be the name of
    another node.

    Args:
        layers: Layers of the parsed network.
        names: Names of the graph nodes to find.
        nodes: Names of all graph nodes.

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
            f"{min(wanted)!r}: the flow would run in float16.",
            hint="Build with --fp32 instead, and report this with the output of `edgead doctor`.",
        )
    return found


def pin_float32(layers: Sequence[trt.ILayer], names: Collection[str]) -> int:
    """Pin the named layers to float32; used with the flag OBEY_PRECISION_CONSTRAINTS.

    Only layers that compute floating-point numbers are pinned: TensorRT refuses a float precision on a shape computation.

    Args:
        layers: Layers of the parsed network.
        names: Layer names from `layers_of_nodes`.

    Returns:
        Number of pinned layers.
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
    """Check that the DLA can run a network.

    Raises:
        EngineBuildError: If the core does not exist, or does not support the precision or the batch range.
    """
    cores = builder.num_DLA_cores
    if not 0 <= core < cores:
        there = f"the cores 0 to {cores - 1}" if cores else "no deep-learning accelerator that TensorRT can use"
        raise EngineBuildError(f"DLA core {core} was requested; this board has {there}.", hint=_ON_THE_GPU)
    if precision == "int8":
        raise EngineBuildError(
            f"No int8 on the DLA: {INT8_ON_DLA}.", hint="Build with --fp16 for the DLA, or int8 for the GPU."
        )
    if precision != "fp16":
        raise EngineBuildError(f"The DLA computes in float16 or int8, not in {precision}.", hint="Build with --fp16.")
    if not batch.is_fixed:
        raise EngineBuildError(
            f"The DLA needs a fixed number of images per call (got {batch.least} to {batch.most}).",
            hint=f"Build for {batch.tuned} images.",
        )


def place_on_dla(
    config: trt.IBuilderConfig, layers: Sequence[trt.ILayer], core: int, flow: Collection[str]
) -> tuple[int, int]:
    """Place every layer before the flow on the DLA if it can run there.

    The layers form one contiguous stretch, because every transition between GPU and DLA converts the tensors.

    Args:
        config: Builder configuration to change.
        layers: Layers in network order.
        core: DLA core, checked with `check_dla`.
        flow: Names of the layers that stay in float32 and therefore on the GPU.

    Returns:
        Number of layers on the DLA, and number of layers before the flow.

    Raises:
        EngineBuildError: If no layer can run on the DLA.
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


_ON_THE_GPU = "Leave out --dla-core to run the engine on the GPU."
