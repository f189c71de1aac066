"""The proof that a graph is exact: every accumulator is bounded from the weights themselves, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.integer import operations as ops
from nvae_codec.integer.graph import Graph

FLOAT32_BOUND, FLOAT64_BOUND = 2**24, 2**53
"""Integers below these, and their sums and products, are exact in either type."""


def prove_exact(graph: Graph) -> dict[str, Tensor]:
    """Follow the bound of every channel, float64 (C,), through the graph: those of each step by its name.

    Raises ModelFileError where a sum might not be exact.
    """
    bounds: dict[str, Tensor] = {}
    for name, operation in graph.operations.items():
        inputs = [bounds[source] for source in operation.inputs]
        bounds[name] = _bound(operation, inputs)
        if float(bounds[name].max()) >= FLOAT32_BOUND:
            raise ModelFileError(f"{name} may exceed what float32 holds exactly")
    for kind in ("weight", "bias", "value", "table"):
        for operation in graph.operations.values():
            constant = operation.constants().get(kind)
            if constant is not None and not torch.equal(constant, constant.round()):
                raise ModelFileError(f"{operation.name}: {kind} is not whole")
    for operation in graph.operations.values():
        multiplier = operation.constants().get("multiplier")
        if multiplier is not None and not bool(torch.isfinite(multiplier).all()):
            raise ModelFileError(f"{operation.name}: a multiplier is not a number")
    return bounds


def _bound(operation: ops.Operation, inputs: list[Tensor]) -> Tensor:
    """The largest absolute value a channel, float64."""
    match operation:
        case ops.Input():
            return torch.full((operation.channels,), float(operation.bound), dtype=torch.double)
        case ops.Convolve():
            weight = operation.weight.double().cpu().abs()
            outputs, per_group = weight.shape[:2]
            first = torch.arange(outputs) // (outputs // operation.groups) * per_group
            reach = inputs[0][first[:, None] + torch.arange(per_group)[None]]
            total = (weight.sum((2, 3)) * reach).sum(1) + operation.bias.double().cpu().abs()
            if float(total.max()) >= (FLOAT64_BOUND if operation.double else FLOAT32_BOUND):
                raise ModelFileError(f"{operation.name}: an accumulator may reach {float(total.max()):.0f}")
            largest = float(max(-operation.low, operation.high))
            return torch.full((outputs // operation.shuffle**2,), largest, dtype=torch.double)
        case ops.Spread():
            return operation.value.double().cpu().abs()
        case ops.SpreadMap():
            return operation.value.double().cpu().abs().amax((1, 2))
        case ops.Add():
            # the sum itself must be exact before it is clamped
            if float((inputs[0] + inputs[1]).max()) >= FLOAT32_BOUND:
                raise ModelFileError(f"{operation.name}: a sum may not be exact")
            return torch.full_like(inputs[0], float(operation.bound))
        case ops.Concatenate():
            return torch.cat(inputs)
        case ops.Fold():
            return inputs[0].repeat_interleave(operation.factor**2)
        case ops.LookUp():
            # the middle of the table is at zero, so an even number of entries lacks one at the upper end
            if float(inputs[0].max()) > (operation.table.numel() - 1) // 2:
                raise ModelFileError(f"{operation.name}: an index may lie outside of the table")
            return torch.full_like(inputs[0], float(operation.table.abs().max()))
        case ops.Average():
            return 16 * inputs[0]
        case ops.Gate():
            if float((inputs[0] * inputs[1]).max()) >= FLOAT32_BOUND:
                raise ModelFileError(f"{operation.name}: a product may not be exact")
            return torch.full_like(inputs[0], float(operation.bound))
        case _:
            return inputs[0]
