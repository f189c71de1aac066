"""The proof that half a flow is invertible: the mean that it subtracts at a position depends on earlier positions only.

Positions run over rows, columns and then channels; every other half reverses rows and columns. Inner channels form one
block per latent: block i may depend on what latent i may depend on, and on itself.
"""

import torch

from nvae_codec import ports
from nvae_codec.errors import ModelFileError
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.operations import Convolve, Input, LookUp


def check_half(graph: Graph, group: int, half: int, latents: int) -> None:
    """Raise ModelFileError unless ``shift.G.H`` depends on ``flow.G.H`` only, at earlier positions."""
    name, strict = graph.outputs[ports.shift(group, half)], False
    while not isinstance(operation := graph.operations[name], Input):
        if isinstance(operation, Convolve):
            strict = _check_kernel(operation, latents, mirror=half % 2 == 1) or strict
        elif not isinstance(operation, LookUp):
            raise ModelFileError(f"{operation.name}: an operation that flows do not have")
        name = operation.inputs[0]
    if name != ports.flow(group, half) or not strict:
        raise ModelFileError(f"half {half} of the flow of group {group} is not invertible")


def _check_kernel(layer: Convolve, latents: int, *, mirror: bool) -> bool:
    """Whether a layer reads earlier positions only, not its own. Raises ModelFileError if it reads later ones."""
    weight = layer.weight.flip((2, 3)) if mirror else layer.weight
    outputs, per_group, rows, columns = weight.shape
    inputs, middle = per_group * layer.groups, rows // 2
    square = rows == columns == 2 * layer.padding + 1 and layer.stride == layer.shuffle == 1
    if not square or inputs % latents or outputs % latents or outputs % layer.groups:
        raise ModelFileError(f"{layer.name}: a convolution that flows do not have")
    first = torch.arange(outputs) // (outputs // layer.groups) * per_group
    reader = torch.arange(outputs) // (outputs // latents)
    source = (first[:, None] + torch.arange(per_group)[None]) // (inputs // latents)
    at_own_position = weight[:, :, middle, middle]
    later = (weight[:, :, middle + 1 :], weight[:, :, middle, middle + 1 :], at_own_position[source > reader[:, None]])
    if any(bool(part.any()) for part in later):
        raise ModelFileError(f"{layer.name}: a flow that reads later positions is not invertible")
    return not bool(at_own_position[source == reader[:, None]].any())
