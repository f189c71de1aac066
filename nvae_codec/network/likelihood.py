"""The heads of the network, which give the raw parameters of p(x | z) in one or several phases (docs/likelihood.md)."""

import copy
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.likelihoods.likelihood import Uniform, find_likelihood
from nvae_codec.network.cells import ResidualCell, Upsample, make_activation
from nvae_codec.network.convolution import make_convolution
from nvae_codec.network.normal import widen
from nvae_codec.polyphase import Phase, Plane, list_phases
from nvae_codec.recipes.recipe import CellRecipe, ImageRecipe, LikelihoodRecipe, NetworkRecipe, Recipe

Look = Callable[[Plane], Tensor]
"""A plane of known pixels, (B, 3, h, w) in [-1, 1], colours in coding order."""
Predict = Callable[[int, Tensor], None]
"""Takes (phase, raw parameters (B, R, h, w)), R as the likelihood says."""

HEAD_CELL = CellRecipe("depthwise", 3, 2, "none", "relu", squeeze_excitation=False, residual_scale=1.0)


class Head(nn.Module):
    """Raw parameters of one phase."""

    def __init__(self, channels: int, recipe: LikelihoodRecipe, *, base: bool) -> None:
        super().__init__()
        channels_out = find_likelihood(recipe.kind).raw_channels(3, recipe.components)
        self.mean_scale = recipe.mean_scale
        self.mix_in, self.relu_in = nn.Conv2d(channels, recipe.head_width, 3, padding=1), nn.ReLU()
        self.body = nn.Sequential(*[ResidualCell(recipe.head_width, HEAD_CELL) for _ in range(recipe.head_cells)])
        self.relu_out, self.out = nn.ReLU(), nn.Conv2d(recipe.head_width, channels_out, 1)
        nn.init.normal_(self.out.weight, std=0.02)
        start_bias(self.out, recipe, base=base)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to hidden features for the next phase and the raw parameters."""
        hidden = self.body(self.relu_in(self.mix_in(x)))
        return hidden, self.out(self.relu_out(hidden))


class PhasedHeads(nn.Module):
    """One head per phase; each sees the known planes of its scale, the hierarchy's features and the hidden ones before.

    The heads after the base come in one or several sets, the experts; everything that they read is shared.
    """

    def __init__(self, network: NetworkRecipe, recipe: LikelihoodRecipe) -> None:
        super().__init__()
        self.phases = list_phases(recipe.scales)
        self.base = Head(network.decoder_channels, recipe, base=True)
        self.heads, self.spreads = nn.ModuleList(), nn.ModuleList()
        for level in range(recipe.scales):
            self.spreads.append(Upsample(network.decoder_channels, recipe.head_features, 2**level))
            for known in (1, 2, 3):
                hidden = recipe.head_width if known > 1 else 0
                self.heads.append(Head(3 * known + hidden + recipe.head_features, recipe, base=False))
        self.experts = nn.ModuleList(copy.deepcopy(self.heads) for _ in range(recipe.experts - 1))

    @torch.no_grad()
    def start_experts(self) -> None:
        """Let all experts begin with the weights of the first."""
        for heads in self.experts:
            heads.load_state_dict(self.heads.state_dict())

    def forward(
        self, features: Tensor, look: Look, predict: Predict, count: int | None = None, expert: int = 0
    ) -> None:
        """Give ``predict`` the raw parameters of each phase (or the first ``count``) in the order of decoding."""
        self.predict_all(features, look, lambda phase, _, raw: predict(phase, raw), count, (expert,))

    def predict_all(
        self,
        features: Tensor,
        look: Look,
        predict: Callable[[int, int, Tensor], None],
        count: int | None = None,
        experts: Sequence[int] = (0,),
    ) -> None:
        """The same of several experts: ``predict`` takes (phase, expert, raw parameters); the base is expert 0's."""
        predict(0, 0, self.base(features)[1])
        spread: list[Tensor] = []
        for expert in experts:
            hidden, heads = features, cast(nn.ModuleList, self.experts[expert - 1]) if expert else self.heads
            for index, phase in enumerate(self.phases[1:count]):
                level = index // 3
                if level == len(spread):
                    spread.append(self.spreads[level](features))
                seen = [look(plane) for plane in phase.known] + ([hidden] if index % 3 else []) + [spread[level]]
                hidden, raw = heads[index](torch.cat(seen, 1))
                predict(index + 1, expert, raw)


class PlainHead(nn.Module):
    """All pixels at once, from an activation and a 3x3 convolution, as the official code."""

    def __init__(self, network: NetworkRecipe, recipe: LikelihoodRecipe, image: ImageRecipe) -> None:
        super().__init__()
        width, likelihood = network.decoder_channels, find_likelihood(recipe.kind)
        self.mean_scale = recipe.mean_scale
        self.phases = list_phases(0)
        self.spread = Upsample(width, width, network.patch) if network.patch > 1 else nn.Identity()
        self.activation = make_activation(network.head_activation)
        self.out = make_convolution(
            width, likelihood.raw_channels(image.channels, recipe.components), 3, weight_norm=network.is_official
        )
        start_bias(self.out, recipe, base=True)

    def forward(
        self, features: Tensor, look: Look, predict: Predict, count: int | None = None, expert: int = 0
    ) -> None:
        """Give ``predict`` the raw parameters of the only phase."""
        predict(0, self.out(self.activation(self.spread(features))))


def start_bias(out: nn.Module, recipe: LikelihoodRecipe, *, base: bool) -> None:
    """Set the bias of a last layer to the raw parameters that the likelihood starts with, if it says any."""
    bias = find_likelihood(recipe.kind).first_bias(recipe, base=base)
    if bias is not None:
        out.bias = nn.Parameter(bias)


def pixel_nats(raw: Tensor, phase: Phase, look: Look, recipe: Recipe) -> Tensor:
    """-log p of a phase's pixels in nats: (B, C, h, w), or (B, h, w) where the colours of a pixel are not independent.

    What the image's padding would cost is not in it.
    """
    seen, edge = look(phase.plane), recipe.image.padding
    nats = find_likelihood(recipe.likelihood.kind).nats(widen(raw), neighbour_mean(phase, look, seen), seen, recipe)
    return nats[..., edge : nats.shape[-2] - edge, edge : nats.shape[-1] - edge] if edge else nats


def phase_pixels(raw: Tensor, phase: Phase, look: Look, recipe: Recipe, uniform: Uniform | None) -> Tensor:
    """A phase's pixels in [-1, 1], (B, C, h, w), colours in coding order: drawn, or without ``uniform`` their mean."""
    raw, kind = widen(raw), find_likelihood(recipe.likelihood.kind)
    return kind.pixels(raw, neighbour_mean(phase, look, raw[:, : recipe.image.channels]), recipe, uniform)


def shift(x: Tensor, rows: int, columns: int) -> Tensor:
    """x[r + rows, c + columns] at (r, c), edges repeated; shifts of at most one."""
    h, w = x.shape[2:]
    return F.pad(x, (1, 1, 1, 1), mode="replicate")[:, :, 1 + rows : 1 + rows + h, 1 + columns : 1 + columns + w]


def neighbour_mean(phase: Phase, look: Look, like: Tensor) -> Tensor:
    """The prediction of a phase's pixels from the mean of their neighbours, 0 without any."""
    if not phase.neighbours:
        return torch.zeros_like(like)
    return sum((shift(look(phase.known[i]), r, c) for i, r, c in phase.neighbours), torch.zeros_like(like)) / 4
