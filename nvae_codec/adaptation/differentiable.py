"""The integer network after its latents, with gradients: for changes of layers before the output layers.

Values are rounded and clamped as the integer network does; gradients pass the rounding straight through (Bengio et al.
2013) and stop at clamps. Sums are float32, so values may differ in rare roundings: nothing that is decoded depends on
this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec import ports
from nvae_codec.adaptation.kernel import raw_nats
from nvae_codec.adaptation.sample import batch_tiles, cut_crops, fill_batch, read_values
from nvae_codec.coding.batch import order_colours
from nvae_codec.coding.canvas import plane_size
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.inference import exact_inference
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.operations import Add, Convolve, Input
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import Tile

Weights = Mapping[str, tuple[Tensor, Tensor]]
"""By layer: weight (O, I / groups, k, k) and bias (O,), in units of the layer's outputs."""
Watch = Callable[[str, Tensor, Tensor], None]
"""Takes a layer's name, input and output."""

FRAME_PIXELS = 1 << 14
"""Crops of one size are evaluated together up to so many pixels."""


@dataclass(frozen=True)
class Frame:
    """Crops of one size: values that the network reads, by name; of each phase prediction and pixel values (3, n).

    coded: colours of a pixel that are coded. pixels: of all crops.
    """

    values: dict[str, Any]
    phases: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
    size: tuple[int, int]
    coded: int
    pixels: int


class PixelNetwork:
    """The operations that only the pixels of one expert depend on."""

    def __init__(self, model: IntegerModel) -> None:
        self.model = model
        graph = model.graph
        own = [graph.outputs[ports.pixels(index, model.expert)] for index in range(len(model.phases))]
        latents = [name for port, name in graph.outputs.items() if ports.parse(port).kind != "pixels"]
        after = _ancestors(graph, own) - _ancestors(graph, latents)
        self.operations = {name: op for name, op in graph.operations.items() if name in after}
        read = {source for op in self.operations.values() for source in op.inputs}
        self.known = sorted(name for name in read if name not in after or isinstance(graph.operations[name], Input))
        self.outputs = own

    @property
    def depthwise(self) -> list[Convolve]:
        """Its depthwise convolutions."""
        layers = (op for op in self.operations.values() if isinstance(op, Convolve))
        return [op for op in layers if op.groups > 1 and op.weight.shape[1] == 1]

    def frames(
        self, images: Sequence[NDArray[np.uint8]], budget: int, rng: np.random.Generator, device: torch.device
    ) -> list[Frame]:
        """Crops of about ``budget`` pixels of the images, in random order; latents are drawn from the posterior."""
        gray = 2 * sum(i.shape[0] * i.shape[1] for i in images if i.ndim == 2) > sum(
            i.shape[0] * i.shape[1] for i in images
        )
        planes = [order_colours(image, self.model.colour_order) for image in images]
        crops = cut_crops([Shape.of(image) for image in images], budget, gray, rng)
        outputs = {port: name for port, name in self.model.graph.outputs.items() if ports.parse(port).kind != "pixels"}
        outputs |= {f"known.{index}": name for index, name in enumerate(self.known)}
        seen = dataclasses.replace(self.model, graph=self.model.graph.with_outputs(outputs))
        with exact_inference(device):
            found = [self._frame(seen, planes, part, device) for part in batch_tiles(crops, FRAME_PIXELS)]
        # made here, since autograd does not take tensors of inference mode
        return [
            dataclasses.replace(each, values={name: _to_torch(value) for name, value in each.values.items()})
            for each in found
        ]

    def _frame(
        self, model: IntegerModel, planes: Sequence[NDArray[np.uint8]], tiles: Sequence[Tile], device: torch.device
    ) -> Frame:
        batch = fill_batch(model, planes, tiles, device, [model.expert])
        for index in range(len(model.phases)):
            batch.show_known(index)
        values = {name: batch.network_output(f"known.{index}").numpy() for index, name in enumerate(self.known)}
        phases = [read_values(batch, index, phase) for index, phase in enumerate(model.phases)]
        pixels = len(tiles) * tiles[0].height * tiles[0].width
        return Frame(values, phases, batch.canvas.size, batch.coded, pixels)

    def nats(self, frame: Frame, weights: Weights, watch: Watch | None = None) -> Tensor:
        """-ln p of the crops' pixels, float64, with some layers' ``weights`` replaced."""
        values = dict(frame.values)
        for name, op in self.operations.items():
            if name in values:
                continue
            inputs = [values[source] for source in op.inputs]
            if isinstance(op, Convolve):
                values[name] = _convolve(op, inputs[0], *(weights.get(name) or real_parameters(op)))
                if watch is not None and name in weights:
                    watch(name, inputs[0], values[name])
                if op.shuffle > 1:
                    values[name] = F.pixel_shuffle(values[name], op.shuffle)
            elif isinstance(op, Add):
                values[name] = torch.clamp(inputs[0] + inputs[1], -op.limit, op.limit)
            else:
                values[name] = op.run(inputs)
        total = torch.zeros((), dtype=torch.float64)
        edge = self.model.padding
        for index, phase in enumerate(self.model.phases):
            rows, columns = plane_size(frame.size, phase.plane)
            raw = values[self.outputs[index]][:, :, edge : edge + rows, edge : edge + columns]
            flat, seen = raw.transpose(0, 1).flatten(1), frame.phases[index]
            total = total + _Mixture.apply(flat, self.model, *seen, frame.coded)  # type: ignore[no-untyped-call]
        return total


def _to_torch(value: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(value.copy()).contiguous(memory_format=torch.channels_last)


def real_parameters(operation: Convolve) -> tuple[Tensor, Tensor]:
    """Weight and bias in units of the layer's outputs."""
    multiplier = operation.multiplier
    return operation.weight * multiplier.view(-1, 1, 1, 1), operation.bias * multiplier


def _convolve(op: Convolve, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    total = F.conv2d(x, weight, bias, op.stride, op.padding, 1, op.groups)
    rounded: Tensor = _RoundAndClamp.apply(total, op.low, op.high)  # type: ignore[no-untyped-call]
    return rounded


class _RoundAndClamp(torch.autograd.Function):
    """clamp(round(x)), with the gradient of clamp."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward((x >= low) & (x <= high))
        return x.round().clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * ctx.saved_tensors[0], None, None


class _Mixture(torch.autograd.Function):
    """-ln p of a phase's pixels from its raw parameters (R, n), by the compiled kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        raw: Tensor,
        model: IntegerModel,
        prediction: NDArray[np.float32],
        values: NDArray[np.float32],
        coded: int,
    ) -> Tensor:
        nats, gradient = raw_nats(model, np.ascontiguousarray(raw.detach().numpy()), prediction, values, coded)
        ctx.save_for_backward(torch.from_numpy(gradient))
        return torch.tensor(nats, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * gradients[0].float(), None, None, None, None


def _ancestors(graph: Graph, names: Sequence[str]) -> set[str]:
    """The operations that these results depend on, with themselves."""
    found, stack = set[str](), list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += graph.operations[name].inputs
    return found
