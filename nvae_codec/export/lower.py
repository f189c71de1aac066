"""Lowering: from the nodes of a trace to layers, merging nodes that one operation can compute."""

from dataclasses import dataclass, field
from typing import cast

from torch import fx, nn

from nvae_codec.errors import ModelFileError
from nvae_codec.export.layers import LAYERS, Layer, Module


@dataclass
class Lowered:
    """layers: by name, in order. outputs: names of layers by port name. watched: the fx node of each layer's range."""

    layers: dict[str, Layer] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    watched: dict[str, str] = field(default_factory=dict)


def lower(traced: fx.GraphModule) -> Lowered:
    """The layers of a trace. Raises ModelFileError for a node of an unknown kind."""
    modules = dict(traced.named_modules())
    result, layer_of = Lowered(), dict[str, Layer]()
    for node in traced.graph.nodes:
        if node.op == "output":
            result.outputs = {name: layer_of[value.name].name for name, value in node.args[0].items()}
            continue
        module = modules[cast(str, node.target)] if node.op == "call_module" else None
        sources = [layer_of[source.name] for source in node.all_input_nodes]
        layer = _merge(node, module, sources) or _begin(node, module, _inputs(node, layer_of))
        layer_of[node.name] = result.layers[layer.name] = layer
        result.watched[layer.name] = node.name
    return result


def _inputs(node: fx.Node, layer_of: dict[str, Layer]) -> list[str]:
    """Names of a node's inputs in the order of its arguments; one may occur twice."""
    arguments = node.args[0] if node.args and isinstance(node.args[0], list | tuple) else node.args
    return [layer_of[argument.name].name for argument in arguments if isinstance(argument, fx.Node)]


def _begin(node: fx.Node, module: Module, inputs: list[str]) -> Layer:
    """A new layer for a node."""
    for kind in LAYERS:
        layer = kind.from_node(node, module, inputs)
        if layer is not None:
            return layer
    raise ModelFileError(f"export does not support {node.op} {node.target}")


def _merge(node: fx.Node, module: Module, sources: list[Layer]) -> Layer | None:
    """The layer before a node, changed to include the node, if that is possible."""
    if len(sources) != 1:
        return None
    if isinstance(module, nn.Identity):
        return sources[0]
    alone = len(node.all_input_nodes[0].users) == 1
    return sources[0] if alone and sources[0].absorb(node, module) else None
