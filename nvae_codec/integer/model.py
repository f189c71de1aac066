"""A frozen model: the exact network, its latents and tables, and the identity that files carry."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nvae_codec.integer.graph import Graph
from nvae_codec.likelihoods.tables import Tables
from nvae_codec.polyphase import Phase, list_phases, pixels_output


@dataclass(frozen=True)
class LatentGroup:
    """One group of latents as it is coded.

    stride: pixels a step of its map. channels: all that the network knows. kept: those that are coded, the others sit
    at the prior's mean. steps: the grid of each kept channel in 2^-12. multiplier (channels,) float64 takes z from
    2^-12 to the network's integers, within bound. has_prior: the top group's prior is N(0, 1.01), without a head.
    coarse: how many times wider the grid is in the first batch of a segment, where no bits come back.
    flow_bounds and flow_multipliers (halves, channels) float64: the same of z before each half of its flows, of which
    the first, third, ... read what is before a place, the others what is behind it.
    """

    stride: int
    channels: int
    kept: tuple[int, ...]
    steps: tuple[int, ...]
    multiplier: NDArray[np.float64] = field(repr=False)
    bound: int
    has_prior: bool
    coarse: int
    flow_bounds: tuple[int, ...] = ()
    flow_multipliers: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)), repr=False)


@dataclass(frozen=True)
class IntegerModel:
    """All that coding needs. pixel_bits and latent_bits are the P of each kind of symbol (docs/format.md).

    likelihood: its kind, as the recipe's. channels: colours of a pixel. value_bits: of a colour value. padding: rows
    and columns of zeros on each side of a tile that the network sees. side: of the images that the network was made
    for, 0 where it takes any.
    """

    name: str
    graph: Graph
    groups: tuple[LatentGroup, ...]
    tables: Tables
    stride: int
    levels: int
    components: int
    colour_order: tuple[int, ...]
    bounded_colour: bool
    pixel_bits: int
    latent_bits: int
    identity: bytes
    canary: str
    likelihood: str = "colourwise"
    channels: int = 3
    value_bits: int = 8
    padding: int = 0
    side: int = 0

    @property
    def top_value(self) -> int:
        """The largest value of a pixel's colour; the network sees ``2 * value - top_value``."""
        return (1 << self.value_bits) - 1

    @cached_property
    def experts(self) -> int:
        """Sets of the heads after the base, of which coding uses one per image."""
        count = 1
        while pixels_output(1, count) in self.graph.outputs:
            count += 1
        return count

    def outputs_of(self, expert: int) -> list[str]:
        """Names of the graph's outputs that coding with an expert takes."""
        own = {pixels_output(phase, expert) for phase in range(len(self.phases))}
        return [name for name in self.graph.outputs if name in own or not name.startswith("pixels.")]

    @cached_property
    def phases(self) -> list[Phase]:
        """The phases of the likelihood in the order of decoding."""
        return list_phases(self.levels)

    def __hash__(self) -> int:
        return int.from_bytes(self.identity[:8], "little")
