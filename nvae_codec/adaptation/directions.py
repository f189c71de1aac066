"""Which layers a file may change, and in which directions: learned when a model is exported.

An output layer's change is written in coordinates in which its features are uncorrelated, of about equal effect on the
bits, and with the constant first: so few coordinates differ from zero, and one step fits all. For features h with mean
m and covariance U diag(v) U^T, the directions are the constant, and the rows of U^T (h - m). Each direction and each
output is scaled by the root of the mean square of its gradient, the diagonal of the Fisher information: a coordinate of
1 changes a pixel's nats by about one half, to second order.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec import ports
from nvae_codec.adaptation.depthwise import measure_effects
from nvae_codec.adaptation.differentiable import PixelNetwork
from nvae_codec.adaptation.kernel import raw_gradient
from nvae_codec.adaptation.layers import real_weight
from nvae_codec.adaptation.sample import PhaseSample, take_sample
from nvae_codec.integer.model import Adaptable, IntegerModel
from nvae_codec.integer.operations import Convolve

Float64 = NDArray[np.float64]

LEARNED_PIXELS = 1 << 19
"""What directions are learned from: more would take memory and change little."""
DIRECTION_BITS, GAIN_BITS, LARGEST_UNIT = 28, 13, 2.0**26
LEAST_VARIANCE = 1e-2, 1e-6
"""Of the median, and of the largest: features that hardly vary among the training images must not become huge where
they do."""
LEAST_EFFECT = 1e-2, 1e-3
"""The same of directions and outputs that hardly change any bits."""


def learn_directions(model: IntegerModel, images: Iterable[Sequence[NDArray[np.uint8]]]) -> IntegerModel:
    """The model with its adaptable layers: output layers of a colourwise mixture; of others none.

    images: lists of images of one kind each; those of kind i show what expert i (or the last) is for.
    """
    if model.likelihood != "colourwise":
        return model
    kinds = list(images)
    layers: dict[str, Adaptable] = {}
    for expert in range(model.experts):
        outputs = [model.graph.outputs[ports.pixels(index, expert)] for index in range(len(model.phases))]
        operations = [model.graph.operations[name] for name in outputs]
        if not all(isinstance(op, Convolve) and op.weight.shape[2:] == (1, 1) for op in operations):
            return model
        shown = kinds[min(expert, len(kinds) - 1)]
        own = model.with_expert(expert)
        rng = np.random.Generator(np.random.PCG64(expert))
        for sample in take_sample(own, shown, LEARNED_PIXELS, rng, torch.device("cpu")):
            layers.setdefault(sample.operation, learn_layer(own, sample))
    for expert in range(model.experts):
        own = dataclasses.replace(model, expert=expert)
        shown = kinds[min(expert, len(kinds) - 1)]
        for layer in learn_depthwise(own, shown):
            layers.setdefault(layer.operation, layer)
    return dataclasses.replace(model, adaptable=tuple(layers.values()))


def learn_layer(model: IntegerModel, sample: PhaseSample) -> Adaptable:
    """The directions of one output layer."""
    operation = model.graph.operations[sample.operation]
    assert isinstance(operation, Convolve)
    directions = find_directions(sample)
    weight = real_weight(operation)
    gradient = raw_gradient(model, weight @ sample.features, sample)[1]
    seen = (directions @ sample.features) ** 2
    by_output = _with_floor(np.sqrt(np.mean(gradient**2, axis=1, dtype=np.float64)), LEAST_EFFECT)
    effect = (gradient / by_output[:, None].astype(np.float32)) ** 2 @ seen.T / sample.count
    by_direction = _with_floor(np.sqrt(effect.mean(0, dtype=np.float64)), LEAST_EFFECT)
    gains = 1 / (by_output * operation.multiplier.double().numpy())
    return round_layer(sample.operation, directions / by_direction[:, None], gains)


def learn_depthwise(model: IntegerModel, images: Sequence[NDArray[np.uint8]]) -> list[Adaptable]:
    """Depthwise layers that only pixels depend on: each tap and the bias are a direction of their own."""
    network = PixelNetwork(model)
    frames = network.frames(images, LEARNED_PIXELS // 4, np.random.Generator(np.random.PCG64(0)), torch.device("cpu"))
    layers = []
    for name, (reach, slope) in measure_effects(network, frames).items():
        operation = model.graph.operations[name]
        assert isinstance(operation, Convolve)
        least = _with_floor(reach, LEAST_EFFECT)
        effect = _with_floor(least * slope, LEAST_EFFECT)
        directions = np.eye(operation.weight[0].numel() + 1)
        directions[-1, -1] = np.median(least)
        layers.append(round_layer(name, directions, 1 / (effect * operation.multiplier.double().numpy())))
    return layers


def find_directions(sample: PhaseSample) -> Float64:
    """The constant, and the principal components of the features, the largest first, of unit variance: (P, P)."""
    features = sample.features[:-1].astype(np.float64)
    mean = features.mean(1)
    variance, axes = np.linalg.eigh(np.cov(features, bias=True).reshape(len(features), -1))
    order = np.argsort(-variance)
    scale = np.sqrt(_with_floor(variance[order], LEAST_VARIANCE))
    directions = np.zeros((len(features) + 1, len(features) + 1))
    directions[0, -1] = 1
    directions[1:, :-1] = (axes[:, order] / scale).T
    directions[1:, -1] = -directions[1:, :-1] @ mean
    return directions


def _with_floor(values: Float64, least: tuple[float, float]) -> Float64:
    """No value below these shares of the median and of the largest."""
    floor = max(least[0] * float(np.median(values)), least[1] * float(values.max()), 1e-12)
    raised: Float64 = np.maximum(values, floor)
    return raised


def round_layer(name: str, directions: Float64, gains: Float64) -> Adaptable:
    """Directions (D, P) and gains (O,) as integers, with their common shift.

    A coordinate of 1 changes no weight by more than LARGEST_UNIT integers: what would is scaled down.
    """
    reach = np.abs(directions).max(1) * np.median(gains)
    directions = directions * np.minimum(1, LARGEST_UNIT / np.maximum(reach, 1))[:, None]
    gains = np.minimum(gains, LARGEST_UNIT / np.abs(directions).max())
    first = DIRECTION_BITS - int(np.ceil(np.log2(np.abs(directions).max())))
    second = GAIN_BITS - int(np.ceil(np.log2(np.abs(gains).max())))
    integers, factors = (
        np.rint(each * 2.0**bits).astype(np.int32) for each, bits in ((directions, first), (gains, second))
    )
    return Adaptable(name, integers, factors, first + second)
