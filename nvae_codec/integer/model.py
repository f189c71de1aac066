"""An integer model: the network, its latents and tables, and the identity that files carry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec import ports
from nvae_codec.integer.bounds import prove_exact
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.operation import Bounds
from nvae_codec.likelihoods.tables import Tables
from nvae_codec.polyphase import Phase, list_phases


@dataclass(frozen=True)
class LatentGroup:
    """One group of latents as it is coded.

    stride: pixels from one position of its map to the next. channels: all that the network reads. active: those that
    are coded; the others (pruned) are at the prior's mean. bin_widths: the grid of each active channel, in 2^-12 prior
    sigmas. multiplier (channels,) float64: converts z from 2^-12 to the network's integers, in [-bound, bound].
    has_prior: False for the top group, whose prior is N(0, 1.01) without a head. coarse: how many times wider the bins
    are in the first batch of a segment, whose bits do not come back. flow_bounds (halves,) and flow_multipliers
    (halves, channels) float64: the same for z before each half of its flows; the halves with even index read earlier
    positions, the others later ones.
    """

    stride: int
    channels: int
    active: tuple[int, ...]
    bin_widths: tuple[int, ...]
    multiplier: NDArray[np.float64] = field(repr=False)
    bound: int
    has_prior: bool
    coarse: int
    flow_bounds: tuple[int, ...]
    flow_multipliers: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class Adaptable:
    """A convolution that files may change for their images (docs/adaptation.md).

    operation: its name. A change is coordinates (O, D) times ``directions`` (D, P) times ``gains`` (O,), in units of
    2^-shift of the layer's integers; P = I / groups * k * k + 1 columns, those of a row of the weight and its bias.
    """

    operation: str
    directions: NDArray[np.int32] = field(repr=False)
    gains: NDArray[np.int32] = field(repr=False)
    shift: int

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and directions: what coordinates have."""
        return len(self.gains), len(self.directions)


@dataclass(frozen=True)
class IntegerModel:
    """All that coding needs.

    stride: the sides of what the network sees are multiples of it. scales: of the polyphase likelihood.
    components: of each mixture. pixel_bits, latent_bits: frequencies of pixels and latents sum to 2^bits
    (docs/format.md). likelihood: its kind, as in the recipe. channels: colours of a pixel. value_bits: bits of a colour
    value. padding: rows and columns of zeros that the network sees around each tile. side: of the images that the
    network was made for, 0 if any. identity: SHA-256 of all this but the name, canary: see canary.py.
    adaptable: the layers that a file may change, in the order of files. expert: whose heads coding uses, no part of the
    model file.
    """

    name: str
    graph: Graph
    groups: tuple[LatentGroup, ...]
    tables: Tables
    stride: int
    scales: int
    components: int
    colour_order: tuple[int, ...]
    bounded_colour: bool
    pixel_bits: int
    latent_bits: int
    likelihood: str
    channels: int
    value_bits: int
    padding: int
    side: int
    identity: bytes
    canary: str
    adaptable: tuple[Adaptable, ...] = ()
    expert: int = 0

    @property
    def top_value(self) -> int:
        """The largest value of a pixel's colour; the network sees ``2 * value - top_value``."""
        return (1 << self.value_bits) - 1

    @cached_property
    def bounds(self) -> dict[str, Bounds]:
        """What is proved of every value: adaptation changes none of it."""
        return prove_exact(self.graph)

    def to(self, device: torch.device) -> IntegerModel:
        """The same model with its constants on a device; what was proved of it need not be proved again."""
        moved = dataclasses.replace(self, graph=self.graph.to(device))
        moved.__dict__["bounds"] = self.bounds
        return moved

    @cached_property
    def experts(self) -> int:
        """Sets of heads after the base. Coding uses one of them for an image."""
        count = 1
        while ports.pixels(1, count) in self.graph.outputs:
            count += 1
        return count

    def with_expert(self, expert: int) -> IntegerModel:
        """The same model, whose pixels are coded by another expert; what was proved of it need not be proved again."""
        other = dataclasses.replace(self, expert=expert)
        other.__dict__["bounds"] = self.bounds
        return other

    def outputs_of(self, *experts: int) -> list[str]:
        """Names of the graph's outputs that coding with one of these experts takes."""
        own = {ports.pixels(phase, expert) for phase in range(len(self.phases)) for expert in experts}
        return [name for name in self.graph.outputs if name in own or ports.parse(name).kind != "pixels"]

    @cached_property
    def phases(self) -> list[Phase]:
        """The phases of the likelihood in the order of decoding."""
        return list_phases(self.scales)

    def __hash__(self) -> int:
        return int.from_bytes(self.identity[:8], "little")
