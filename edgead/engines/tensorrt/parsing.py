"""Parsing an ONNX graph into a TensorRT network, with errors that name the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.engines.tensorrt.messages import shared_logger
from edgead.errors import EngineBuildError

if TYPE_CHECKING:
    import tensorrt as trt

SHOWN_ERRORS = 5


@dataclass
class ParsedNetwork:
    """A network with its parser and graph bytes, which hold the weights until the engine is built."""

    builder: trt.Builder
    network: trt.INetworkDefinition
    parser: trt.OnnxParser
    graph: bytes

    @property
    def inputs(self) -> list[trt.ITensor]:
        network: trt.INetworkDefinition = self.network
        return [network.get_input(i) for i in range(network.num_inputs)]

    @property
    def layers(self) -> list[trt.ILayer]:
        network: trt.INetworkDefinition = self.network
        return [network.get_layer(i) for i in range(network.num_layers)]

    @property
    def node_names(self) -> frozenset[str]:
        import onnx

        return frozenset(node.name for node in onnx.load_model_from_string(self.graph).graph.node)


def network_from_onnx(graph: bytes, network_flags: int) -> ParsedNetwork:
    """Parse a serialized ONNX model.

    Raises:
        EngineBuildError: If TensorRT cannot start or rejects the graph; the message quotes the parser errors.
    """
    import tensorrt as trt

    logger = shared_logger()
    try:
        builder = trt.Builder(logger)
        network = builder.create_network(network_flags)
        parser = trt.OnnxParser(network, logger)
        is_parsed = parser.parse(graph)
    except (TypeError, RuntimeError) as error:  # raised by the bindings if the library returns nothing
        raise EngineBuildError(
            f"TensorRT {trt.__version__} could not start: {error}.",
            hint="Check the GPU and its driver: edgead doctor.",
        ) from error
    if not is_parsed:
        raise EngineBuildError(
            f"TensorRT {trt.__version__} rejected this graph: {_errors(parser, graph)}",
            hint="Build another precision, or report this with the output of `edgead doctor`.",
        )
    return ParsedNetwork(builder, network, parser, graph)


def _errors(parser: trt.OnnxParser, graph: bytes) -> str:
    count = parser.num_errors
    if not count:
        return "the parser gave no reason."
    shown = [_sentence(parser.get_error(i), graph) for i in range(min(count, SHOWN_ERRORS))]
    more = [f"and {count - len(shown)} more errors."] if count > len(shown) else []
    return " ".join([*shown, *more])


def _sentence(error: trt.ParserError, graph: bytes) -> str:
    if hasattr(error, "node_name") and hasattr(error, "node_operator"):
        name, operator = error.node_name(), error.node_operator()
    else:
        name, operator = _node(graph, error.node())
    return f"node {error.node()} {name!r}, operator {operator or 'unknown'}: {error.desc()} ({error.code().name})."


def _node(graph: bytes, index: int) -> tuple[str, str]:
    """Name and operator of a node by its number, the only information TensorRT 8 gives."""
    import onnx

    nodes = onnx.load_model_from_string(graph).graph.node
    return (nodes[index].name, nodes[index].op_type) if 0 <= index < len(nodes) else ("", "")
