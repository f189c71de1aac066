"""Tracing: the float network as one graph of simple operations, recorded by torch.fx from the code that is trained.

Each z and each plane of known pixels becomes an input of the graph; each prior, posterior and phase becomes an output.
Each half of a flow is separate: its input is z before it, its output the mean that it subtracts.
"""

from typing import Any, cast

from torch import Tensor, fx, nn

from nvae_codec import ports
from nvae_codec.network.cells import Constant, ConstantMap, Scale
from nvae_codec.network.convolution import FactorizedConv2d
from nvae_codec.network.flow import list_halves
from nvae_codec.network.groups import Group
from nvae_codec.network.likelihood import PhasedHeads
from nvae_codec.network.nvae import Nvae
from nvae_codec.polyphase import Plane

LEAVES = (
    nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.SiLU, nn.Hardswish, nn.ELU, nn.Sigmoid, nn.AdaptiveAvgPool2d, nn.Identity,
    nn.Upsample, nn.GELU, Scale, Constant, ConstantMap, FactorizedConv2d,
)  # fmt: skip


class _Skeleton(nn.Module):
    """The network with latents and pixels as named inputs, in place of draws and data."""

    def __init__(self, network: Nvae, tracer: fx.Tracer) -> None:
        super().__init__()
        self.network = network
        self._tracer = [tracer]

    def forward(self, image: Tensor, blank: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        inputs: dict[str, Any] = {}

        def find_input(name: str) -> Any:
            if name not in inputs:
                inputs[name] = self._tracer[0].create_proxy("placeholder", name.replace(".", "_"), (), {})
                inputs[name].node.meta["input"] = name
            return inputs[name]

        def choose(group: int, prior: Tensor | None, posterior: Tensor) -> Tensor:
            if prior is not None:
                outputs[ports.prior(group)] = prior
            outputs[ports.posterior(group)] = posterior
            return find_input(ports.z(group))  # type: ignore[no-any-return]

        def look(plane: Plane) -> Tensor:
            return find_input(plane.name)  # type: ignore[no-any-return]

        def predict(phase: int, expert: int, raw: Tensor) -> None:
            outputs[ports.pixels(phase, expert)] = raw

        features = self.network.hierarchy(image, blank, choose)
        heads = self.network.likelihood
        if isinstance(heads, PhasedHeads):
            heads.predict_all(features, look, predict, experts=range(1 + len(heads.experts)))
        else:
            heads(features, look, lambda phase, raw: predict(phase, 0, raw))
        for group, module in enumerate(self.network.hierarchy.groups):
            for half, shift in enumerate(list_halves(cast(Group, module).flows)):
                outputs[ports.shift(group, half)] = shift.mean(find_input(ports.flow(group, half)))
        return outputs


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES)


def trace(network: Nvae) -> fx.GraphModule:
    """The whole network as one graph.

    Each placeholder has the name of its port in ``meta["input"]``; the output is a dict by port name (ports.py).
    """
    tracer = _Tracer()
    skeleton = _Skeleton(network, tracer)
    graph = tracer.trace(skeleton)
    for node in graph.nodes:
        if node.op == "placeholder":
            node.meta.setdefault("input", node.target)
    return fx.GraphModule(skeleton, graph)
