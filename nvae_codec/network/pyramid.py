"""The pyramid start: initial weights with which latents carry the image's own pixels, coarse to fine.

A hierarchy with random weights spends most of its training on finding out that latents can carry pixels. Here they do
from the first step: all pixels, or with phases those of the first one. Each scale has the pixels in squares of 2x2. The
first pixel of each square belongs to the next coarser scale. Each group carries one of the other three, the diagonal
one first, as phases do. A group's prior starts at the mean of the known neighbours. All weights are trained from there.

A latent is a pixel's value in decorrelated colours, times a gain. Its posterior starts about as wide as the difference
between two levels, so that the likelihood codes the values within that width.
"""

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from nvae_codec.network.cells import ResidualCell, Upsample
from nvae_codec.network.groups import NvaeGroup
from nvae_codec.network.hierarchy import Encoder, Hierarchy
from nvae_codec.network.likelihood import Head, PhasedHeads, PlainHead

COLOURS = torch.tensor([[3, 3, 3], [0, 1, -1], [2, -1, -1]]) / torch.tensor([27, 2, 6])[:, None].sqrt()
"""Orthonormal: the sum of the colours and two differences. Equal noise of the three is equal noise of the colours."""
GAINS = (3.0, 4.5, 4.5)
"""Of each decorrelated colour: latents use most of the range that the soft clamp of means has."""
POSTERIOR_LOG_SIGMA, PRIOR_LOG_SIGMA = -8.0, -1.2
"""Raw: sigmas of 0.02 and 0.3."""
LOG_SCALES = (-6.0, -5.0)
"""Of the likelihood's first and last component."""
KNOTS = ((0.0, 0.8, 1.6, 2.4, 3.0, 3.5), (0.0, 1.2, 2.2, 3.0), (0.0, 1.2, 2.2, 3.0))
"""Where the piecewise linear inverse of the soft clamp bends, for each decorrelated colour."""

FIRST, RIGHT, BELOW, ACROSS = range(4)
"""The pixels of a square."""
ORDER = (ACROSS, RIGHT, BELOW)
"""The pixels that the groups of a scale carry; the top scale has a group for FIRST before them."""
NEIGHBOURS: dict[int, dict[int, tuple[tuple[int, int], ...]]] = {
    ACROSS: {FIRST: ((0, 0), (0, 1), (1, 0), (1, 1))},
    RIGHT: {FIRST: ((0, 0), (0, 1)), ACROSS: ((-1, 0), (0, 0))},
    BELOW: {FIRST: ((0, 0), (1, 0)), ACROSS: ((0, -1), (0, 0))},
}
"""The four nearest known pixels of a pixel, as offsets (rows, columns) of their squares."""
SQUARE = 12
"""Channels 3 * pixel + colour of a state: a square's pixels. Encoders of coarser scales have two such sets, of the
positive and the negative parts, since ReLUs lie between."""
PREDICTION = 2 * SQUARE
"""First of six channels of a state: the positive and the negative part of each colour of a group's prediction."""
PREDICTIONS = slice(PREDICTION, PREDICTION + 6)


@torch.no_grad()
def start_as_pyramid(hierarchy: Hierarchy, likelihood: PhasedHeads | PlainHead) -> None:
    """Set the weights of a network whose recipe has ``pyramid_start`` (and was checked for it)."""
    encoder = hierarchy.encoder
    _start_encoder(encoder)
    linear = 0 if len(encoder.preprocess) else encoder.groups[0]  # groups that read the stem itself
    for index, group in enumerate(hierarchy.groups):
        pixel = ORDER[(index - 1) % len(ORDER)] if index else FIRST
        _start_group(cast(NvaeGroup, group), pixel, rectified=index < len(hierarchy.groups) - linear)
    for step in [*hierarchy.steps, *hierarchy.postprocess]:
        if isinstance(step, Upsample):
            _start_upsample(step)
    if isinstance(likelihood, PlainHead):
        _start_plain_head(likelihood)
    else:
        _start_base(likelihood.base)


def carrying_parts(hierarchy: Hierarchy, likelihood: PhasedHeads | PlainHead) -> list[nn.Module]:
    """The modules that latents which carry pixels pass, except the branches of their residual cells."""
    return [hierarchy, likelihood if isinstance(likelihood, PlainHead) else likelihood.base]


def _clear(layer: nn.Module, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """A convolution's weight and bias, of which some rows (outputs) are set to zero."""
    weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
    weight[rows], bias[rows] = 0, 0
    return weight, bias


def _start_encoder(encoder: Encoder) -> None:
    """Squares of the finest scale from the stem, those of each coarser scale from the first pixels of the finer one.

    With phases the stem only gives the first phase's pixels, and the layer after it their squares.
    """
    weight, _ = _clear(encoder.stem, slice(SQUARE))
    side = encoder.patch
    pixels = [(FIRST, 0)] if len(encoder.preprocess) else [(pixel, pixel) for pixel in range(4)]
    for pixel, position in pixels:
        for colour in range(3):
            for seen in range(3):  # the stem reads patches as pixel_unshuffle puts them
                weight[3 * pixel + colour, side**2 * seen + position, 1, 1] = GAINS[colour] * COLOURS[colour, seen]
    for index, step in enumerate([*encoder.preprocess, *encoder.steps]):
        weight, _ = _clear(cast(nn.Sequential, step)[0], slice(2 * SQUARE))
        for pixel in range(4):
            for colour in range(3):
                for part, sign in enumerate((1, -1)):
                    row = weight[part * SQUARE + 3 * pixel + colour, :, 1 + pixel // 2, 1 + pixel % 2]
                    row[colour] = sign
                    if index:
                        row[SQUARE + colour] = -sign


def _start_group(group: NvaeGroup, pixel: int, *, rectified: bool) -> None:
    """Let a group carry a pixel; ``rectified``: the encoder has it in two parts."""
    width, latents = group.combine.out_channels, group.latents
    weight, bias = _clear(group.posterior_head)
    combine, _ = _clear(group.combine)
    combine[:, :width, 0, 0] = torch.eye(width)
    if group.prior_head is not None:
        _start_prediction(group, pixel)
        combine[PREDICTIONS] = 0  # for the next prediction
        _clear(group.merge, slice(2 * SQUARE))
        # the head's output is added to the prior, so it subtracts the prior that it reads
        weight[:, -2 * latents :, 1, 1] = -torch.eye(2 * latents)
    for colour in range(3):
        channel = 3 * pixel + colour
        weight[colour, channel, 1, 1] = 1
        if rectified:
            weight[colour, SQUARE + channel, 1, 1] = -1
        bias[latents + colour] = POSTERIOR_LOG_SIGMA
        combine[channel, width + colour] = 1


def _start_prediction(group: NvaeGroup, pixel: int) -> None:
    """Let the cell compute the mean of a pixel's neighbours, and the prior's head read it."""
    spatial, expand, _, last = cast(ResidualCell, group.cells[0]).body
    head, head_bias = _clear(cast(nn.Sequential, group.prior_head)[1])
    nn.init.normal_(head[group.latents :], std=0.02)
    head_bias[group.latents :] = PRIOR_LOG_SIGMA
    kernel = cast(Tensor, spatial.weight)
    hidden, _ = _clear(expand, slice(6))
    middle = kernel.shape[2] // 2
    for known, offsets in NEIGHBOURS[pixel].items():
        _clear(spatial, slice(3 * known, 3 * known + 3))
        for row, column in offsets:
            kernel[3 * known : 3 * known + 3, 0, middle + row, middle + column] = 1 / 4
    for colour in range(3):
        for part, sign in enumerate((1, -1)):
            for known in NEIGHBOURS[pixel]:
                hidden[2 * colour + part, 3 * known + colour] = sign
            cast(Tensor, last.weight)[PREDICTION + 2 * colour + part, 2 * colour + part] = 1
            head[colour, PREDICTION + 2 * colour + part] = sign


def _start_upsample(step: Upsample) -> None:
    """A square's pixels become the first pixels of four squares; other channels are repeated."""
    weight, _ = _clear(step.spread)
    squares = weight.view(-1, 4, weight.shape[1])
    for pixel in range(4):
        for colour in range(3):
            squares[colour, pixel, 3 * pixel + colour] = 1
        for channel in range(SQUARE, len(squares)):
            squares[channel, pixel, channel] = 1


def _start_plain_head(head: PlainHead) -> None:
    """The mixture's means from the pixels' latents, at each position of a square."""
    spread = cast(Upsample, head.spread).spread
    for channel, (colour, sign, knot, _) in enumerate(BENDS):
        rows = slice(4 * channel, 4 * channel + 4)
        weight, bias = _clear(spread, rows)
        bias[rows] = -knot
        for pixel in range(4):
            weight[4 * channel + pixel, 3 * pixel + colour] = sign
    head.out.weight.mul_(0.1)
    _start_mixture(head.out, head.mean_scale)


def _start_base(base: Head) -> None:
    """The same of the first phase, whose pixels are the first channels of the features."""
    weight, bias = _clear(base.mix_in, slice(len(BENDS)))
    for channel, (colour, sign, knot, _) in enumerate(BENDS):
        weight[channel, colour, 1, 1] = sign
        bias[channel] = -knot
    _start_mixture(base.out, base.mean_scale)


def _start_mixture(out: nn.Conv2d, mean_scale: float) -> None:
    """Means from the outputs of the ReLUs, and narrow scales."""
    components, middle = (len(out.weight) - 3) // 9, out.kernel_size[0] // 2
    weight, bias = _clear(out, slice(3 * components))
    bias.zero_()
    bias[3 * components : 6 * components] = torch.linspace(*LOG_SCALES, components).repeat(3)
    for channel, (colour, sign, _, bend) in enumerate(BENDS):
        mean = sign * bend / GAINS[colour] * COLOURS[colour] / mean_scale
        weight[: 3 * components, channel, middle, middle] = mean.repeat_interleave(components)


def _find_bends(knots: tuple[float, ...]) -> list[float]:
    """By how much the slope changes at each knot, so that the chords of the soft clamp's inverse result."""
    ends = [*knots, 2 * knots[-1] - knots[-2]]
    slopes = [(5 * math.atanh(b / 5) - 5 * math.atanh(a / 5)) / (b - a) for a, b in pairwise(ends)]
    return [after - before for before, after in pairwise([0.0, *slopes])]


BENDS = [
    (colour, sign, knot, bend)
    for colour, knots in enumerate(KNOTS)
    for sign in (1, -1)
    for knot, bend in zip(knots, _find_bends(knots), strict=True)
]
"""One per ReLU: its decorrelated colour, its sign, where it begins, and by how much it changes the slope."""
