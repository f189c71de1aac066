"""Changes of depthwise kernels and biases: few parameters before the output layers, shared by all pixels of a phase.

Unlike those of the output layers, their inputs change with the layers before them, so they are optimized together, on
crops, with gradients through the network (differentiable.py). The rest is as in optimize.py: proximal Adam in
coordinates of about equal curvature, then rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.adaptation.differentiable import Frame, PixelNetwork, real_parameters
from nvae_codec.adaptation.layers import is_exact
from nvae_codec.adaptation.optimize import STEP, choose_step
from nvae_codec.adaptation.parameters import LayerChange, step_size
from nvae_codec.integer.model import Adaptable, IntegerModel
from nvae_codec.integer.operations import Convolve

RATE, PRICE = 0.8, 5.0
"""Rounding steps, and nats of one: tried 0.4, 0.8 and 1.5, and 5 and 6."""
MOMENTUM, MEMORY, QUIET = 0.9, 0.95, 3.0
"""Adam's beta_1, beta_2 and epsilon. Gradients are noisier than those of the output layers."""
LARGEST_COORDINATE = 200


@dataclass(frozen=True)
class Layer:
    """A depthwise convolution: its place among the model's adaptable layers, and what a unit coordinate changes.

    unit: of weights and bias, (O, P), in units of the layer's outputs, by which rounded coordinates are multiplied.
    """

    place: int
    operation: Convolve
    step: int
    unit: Tensor

    @classmethod
    def of(cls, place: int, layer: Adaptable, operation: Convolve, pixels: int) -> Layer:
        """``pixels``: of all images."""
        step = choose_step(STEP, pixels)
        gains = layer.gains * 2.0**-layer.shift * step_size(step) * operation.multiplier.double().numpy()
        unit = gains[:, None] * np.diag(layer.directions)
        return cls(place, operation, step, torch.from_numpy(unit).float())

    def parameters(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias for coordinates (O, P)."""
        weight, bias = real_parameters(self.operation)
        change = coordinates * self.unit
        return weight + change[:, :-1].view(weight.shape), bias + change[:, -1]


def optimize_depthwise(
    model: IntegerModel, network: PixelNetwork, frames: Sequence[Frame], total: int, steps: int
) -> tuple[dict[int, LayerChange], float]:
    """Changes of the depthwise layers by their place, and what they gain in bits of all ``total`` pixels.

    ``model``: with the changes of the output layers to come, about. ``steps``: of the optimizer.
    """
    named = {op.name: op for op in network.depthwise}
    layers = [
        Layer.of(place, layer, named[layer.operation], total)
        for place, layer in enumerate(model.adaptable)
        if layer.operation in named
    ]
    if not layers or not frames:
        return {}, 0.0
    found = _descend(network, frames, layers, total, steps)
    rounded = [each.round().clamp(-LARGEST_COORDINATE, LARGEST_COORDINATE) for each in found]
    changes = {
        layer.place: LayerChange(layer.step, each.numpy().astype(np.int32))
        for layer, each in zip(layers, rounded, strict=True)
        if bool(torch.isfinite(each).all()) and bool(each.any())
    }
    changes = {place: change for place, change in changes.items() if is_exact(model, model.adaptable[place], change)}
    kept = [
        each if layer.place in changes else torch.zeros_like(each) for layer, each in zip(layers, rounded, strict=True)
    ]
    with torch.no_grad():
        before, after = (
            sum(float(network.nats(frame, _weights(layers, each))) for frame in frames)
            for each in ([torch.zeros_like(each) for each in kept], kept)
        )
    seen = sum(frame.pixels for frame in frames)
    return changes, (before - after) * total / seen / np.log(2)


def _weights(layers: Sequence[Layer], coordinates: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    return {layer.operation.name: layer.parameters(each) for layer, each in zip(layers, coordinates, strict=True)}


def _descend(
    network: PixelNetwork, frames: Sequence[Frame], layers: Sequence[Layer], total: int, steps: int
) -> list[Tensor]:
    """Real coordinates of each layer, by proximal Adam."""
    coordinates = [torch.zeros_like(layer.unit, requires_grad=True) for layer in layers]
    means, squares = ([torch.zeros_like(layer.unit) for layer in layers] for _ in range(2))
    for k in range(steps):
        frame = frames[k % len(frames)]
        loss = network.nats(frame, _weights(layers, coordinates)) * (total / frame.pixels)
        gradients = torch.autograd.grad(loss, coordinates)
        rate = RATE * min(1, (k + 1) / 5) * (1 - k / steps)
        with torch.no_grad():
            for each, gradient, mean, square in zip(coordinates, gradients, means, squares, strict=True):
                mean.mul_(MOMENTUM).add_(gradient, alpha=1 - MOMENTUM)
                square.mul_(MEMORY).addcmul_(gradient, gradient, value=1 - MEMORY)
                scale = rate / (torch.sqrt(square / (1 - MEMORY ** (k + 1))) + QUIET)
                each.sub_(scale * mean / (1 - MOMENTUM ** (k + 1)))
                each.copy_(torch.sign(each) * torch.clamp(each.abs() - scale * PRICE, min=0))
    return [each.detach() for each in coordinates]


def measure_effects(network: PixelNetwork, frames: Sequence[Frame]) -> Mapping[str, tuple[NDArray[np.float64], ...]]:
    """Of each depthwise layer: root mean squares of its inputs and of its outputs' gradients, (O,) each.

    Gradients are per pixel of the images, so that layers with fewer positions have larger ones.
    """
    weights = {
        op.name: (weight, bias.clone().requires_grad_())
        for op in network.depthwise
        for weight, bias in [real_parameters(op)]
    }
    inputs, gradients = (
        {name: torch.zeros(len(bias), dtype=torch.float64) for name, (_, bias) in weights.items()} for _ in range(2)
    )
    positions = dict.fromkeys(weights, 0)

    def watch(name: str, x: Tensor, out: Tensor) -> None:
        inputs[name] += x.detach().double().square().sum((0, 2, 3))
        positions[name] += x.shape[0] * x.shape[2] * x.shape[3]

        def note(gradient: Tensor) -> None:
            gradients[name].add_(gradient.double().square().sum((0, 2, 3)))

        out.register_hook(note)  # type: ignore[no-untyped-call]

    for frame in frames:
        network.nats(frame, weights, watch).backward()  # type: ignore[no-untyped-call]
    pixels = sum(frame.pixels for frame in frames)
    return {
        name: (np.sqrt(inputs[name].numpy() / positions[name]), np.sqrt(gradients[name].numpy() / pixels))
        for name in weights
    }
