"""From the changes in a file to the adapted integer model, which is proved exact again: a file is untrusted input."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.adaptation.parameters import Adaptation, LayerChange
from nvae_codec.errors import DamagedFileError
from nvae_codec.integer.model import Adaptable, IntegerModel
from nvae_codec.integer.operation import FLOAT32_BOUND, FLOAT64_BOUND
from nvae_codec.integer.operations import Convolve


def adapt_model(model: IntegerModel, adaptation: Adaptation) -> IntegerModel:
    """The model with changed layers, of which coding takes the outputs of the adaptation's expert.

    Raises DamagedFileError where an accumulator of the changed layers might not be exact.
    """
    changed = {}
    for place, change in adaptation.changes.items():
        layer = model.adaptable[place]
        changed[layer.operation] = change_layer(model, layer, change)
    adapted = dataclasses.replace(model, graph=model.graph.replace(changed), expert=adaptation.expert)
    adapted.__dict__["bounds"] = model.bounds
    return adapted


def change_layer(model: IntegerModel, layer: Adaptable, change: LayerChange) -> Convolve:
    """The convolution with its integer change added to weight and bias.

    A row whose accumulator might then be inexact is halved, rounded to integers, and its multiplier doubled, until it
    is exact. Raises DamagedFileError where that does not help.
    """
    operation = model.graph.operations[layer.operation]
    assert isinstance(operation, Convolve)
    row = _join(operation) + integer_change(layer, change)
    inputs = model.bounds[operation.inputs[0]].largest
    halvings = np.zeros(len(row), np.int64)
    for _ in range(MOST_HALVINGS):
        changed = _with_rows(operation, _halve(row, halvings), halvings)
        *sums, whole = changed.sums(inputs).numpy()
        beyond = whole >= (FLOAT64_BOUND if operation.digits else FLOAT32_BOUND)
        for digit in sums:
            beyond |= digit >= FLOAT32_BOUND
        if not beyond.any():
            return changed
        halvings += beyond
    raise DamagedFileError(f"damaged: its adaptation of {layer.operation} is out of bounds")


MOST_HALVINGS = 8


def is_exact(model: IntegerModel, layer: Adaptable, change: LayerChange) -> bool:
    """Whether :func:`change_layer` can keep the accumulators exact."""
    try:
        change_layer(model, layer, change)
    except DamagedFileError:
        return False
    return True


def _halve(row: NDArray[np.int64], halvings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (O, P) by 2^halvings (O,), to the nearest integer; halves go up."""
    half: NDArray[np.int64] = (1 << halvings >> 1)[:, None]
    return (row + half) >> halvings[:, None]


def _join(operation: Convolve) -> NDArray[np.int64]:
    """Weight and bias, (O, P)."""
    weight = torch.cat([operation.weight.flatten(1), operation.bias[:, None]], 1)
    return weight.double().cpu().numpy().astype(np.int64)


def _with_rows(operation: Convolve, row: NDArray[np.int64], halvings: NDArray[np.int64]) -> Convolve:
    """The convolution with other weights and biases (O, P), and multipliers for halved rows."""
    device = operation.weight.device
    weight = torch.from_numpy(row[:, :-1].reshape(operation.weight.shape)).float()
    return dataclasses.replace(
        operation,
        weight=weight.to(device).contiguous(memory_format=torch.channels_last),
        bias=torch.from_numpy(row[:, -1]).float().to(device),
        multiplier=operation.multiplier * torch.from_numpy(2.0**halvings).float().to(device),
    )


def integer_change(layer: Adaptable, change: LayerChange) -> NDArray[np.int64]:
    """coordinates · directions · gains · step, rounded to the layer's integers: int64 (O, P).

    All products are exact in 64 bits, which the model's reader has checked.
    """
    total = (
        change.coordinates.astype(np.int64)
        @ layer.directions.astype(np.int64)
        * layer.gains[:, None]
        * (4 + change.step % 4)
    )
    shift = layer.shift + 2 + change.step // 4
    changed: NDArray[np.int64] = (total + (1 << (shift - 1))) >> shift
    return np.clip(changed, -FURTHEST, FURTHEST)


FURTHEST = 2**23
"""Beyond what any proof allows, and well within what sums hold."""


def real_weight(operation: Convolve) -> NDArray[np.float32]:
    """Weight and bias of a 1x1 convolution, (O, P), in the units of its outputs."""
    weight = torch.cat([operation.weight.flatten(1), operation.bias[:, None]], 1).cpu().double()
    return (weight * operation.multiplier.cpu().double()[:, None]).float().numpy()
