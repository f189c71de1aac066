"""p(x | z): a discretised mixture of logistics with linear colour autoregression, in one or several phases.

The mixture is PixelCNN++'s (Salimans et al. 2017, section 2.1), which NVAE uses; docs/likelihood.md describes phases.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.cells import ResidualCell, StepUp, make_activation
from nvae_codec.network.convolution import make_convolution
from nvae_codec.network.normal import widen
from nvae_codec.network.official_likelihoods import official_nats, raw_channels
from nvae_codec.polyphase import Phase, Plane, list_phases
from nvae_codec.recipes.recipe import CellRecipe, ImageRecipe, LikelihoodRecipe, NetworkRecipe, Recipe

Look = Callable[[Plane], Tensor]
"""A plane of known pixels, (B, 3, h, w) in [-1, 1], colours in coding order."""
Predict = Callable[[int, Tensor], None]
"""Takes (phase, raw parameters (B, R, h, w)), R as :func:`raw_channels` says."""

LOG_SCALE_RANGE = (-7.0, 2.5)
HEAD_CELL = CellRecipe("depthwise", 3, 2, "none", "relu", squeeze_excitation=False, residual_scale=1.0)


class Head(nn.Module):
    """Raw parameters of one phase: means, log scales and logits of three colours, then three colour coefficients."""

    def __init__(self, channels: int, recipe: LikelihoodRecipe, *, base: bool) -> None:
        super().__init__()
        k = recipe.components
        self.mean_scale = recipe.mean_scale
        self.mix_in, self.relu_in = nn.Conv2d(channels, recipe.head_width, 3, padding=1), nn.ReLU()
        self.body = nn.Sequential(*[ResidualCell(recipe.head_width, HEAD_CELL) for _ in range(recipe.head_cells)])
        self.relu_out, self.out = nn.ReLU(), nn.Conv2d(recipe.head_width, 9 * k + 3, 1)
        nn.init.normal_(self.out.weight, std=0.02)
        self.out.bias = nn.Parameter(first_guess(recipe, base=base))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to hidden features for the next phase and the raw parameters."""
        hidden = self.body(self.relu_in(self.mix_in(x)))
        return hidden, self.out(self.relu_out(hidden))


def first_guess(recipe: LikelihoodRecipe, *, base: bool) -> Tensor:
    """Initial raw parameters of a colourwise mixture, (9K + 3,); ``base``: of pixels that see no neighbour."""
    k = recipe.components
    raw = torch.zeros(9 * k + 3)
    if base:  # wide scales, means spread over the range
        raw[: 3 * k] = (torch.linspace(-0.6, 0.6, k) / recipe.mean_scale).repeat(3)
        raw[3 * k : 6 * k] = torch.linspace(-2.5, 1.0, k).clamp(-2.5, -1.0).repeat(3)
    else:
        raw[3 * k : 6 * k] = torch.linspace(-5, -1.5, k).repeat(3)
    raw[9 * k :] = torch.tensor([0.8, 0.4, 0.4])  # colours start as residuals of one another
    return raw


class PhasedHeads(nn.Module):
    """A head a phase; each sees the level's planes before it, the hierarchy's features and the hidden ones before.

    The heads after the base come in one or several sets, the experts; everything that they read is shared.
    """

    def __init__(self, network: NetworkRecipe, recipe: LikelihoodRecipe) -> None:
        super().__init__()
        self.phases = list_phases(recipe.scales)
        self.base = Head(network.decoder_channels, recipe, base=True)
        self.heads, self.spreads = nn.ModuleList(), nn.ModuleList()
        for level in range(recipe.scales):
            self.spreads.append(StepUp(network.decoder_channels, recipe.head_features, 2**level))
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
        width = network.decoder_channels
        self.mean_scale = recipe.mean_scale
        self.phases = list_phases(0)
        self.spread = StepUp(width, width, network.patch) if network.patch > 1 else nn.Identity()
        self.activation = make_activation(network.head_activation)
        self.out = make_convolution(width, raw_channels(image, recipe), 3, weight_norm=network.is_official)
        if recipe.kind == "colourwise":  # the official kinds start as the official code does
            self.out.bias = nn.Parameter(first_guess(recipe, base=True))

    def forward(
        self, features: Tensor, look: Look, predict: Predict, count: int | None = None, expert: int = 0
    ) -> None:
        """Give ``predict`` the raw parameters of the only phase."""
        predict(0, self.out(self.activation(self.spread(features))))


def pixel_nats(raw: Tensor, phase: Phase, look: Look, recipe: Recipe) -> Tensor:
    """-log p of a phase's pixels in nats: (B, 3, h, w), or (B, H, W) where colours share a component.

    What the image's padding would cost is not in it.
    """
    seen = look(phase.plane)
    if recipe.likelihood.kind == "colourwise":
        return mixture_nats(raw, neighbour_mean(phase, look, seen), seen, recipe.likelihood)
    nats, edge = official_nats(widen(raw), seen, recipe.image, recipe.likelihood), recipe.image.padding
    return nats[..., edge : nats.shape[-2] - edge, edge : nats.shape[-1] - edge] if edge else nats


def shift(x: Tensor, rows: int, columns: int) -> Tensor:
    """x[r + rows, c + columns] at (r, c), edges repeated; shifts of at most one."""
    h, w = x.shape[2:]
    return F.pad(x, (1, 1, 1, 1), mode="replicate")[:, :, 1 + rows : 1 + rows + h, 1 + columns : 1 + columns + w]


def neighbour_mean(phase: Phase, look: Look, like: Tensor) -> Tensor:
    """The first guess of a phase's pixels: the mean of its neighbours, 0 without any."""
    if not phase.neighbours:
        return torch.zeros_like(like)
    return sum((shift(look(phase.known[i]), r, c) for i, r, c in phase.neighbours), torch.zeros_like(like)) / 4


class ColourMixture(NamedTuple):
    """mean, log_scale, logit (B, 3, K, h, w): a mixture a colour; coefficients (B, 3, h, w), red to green first.

    Means are relative to the guess and to what the colours before add.
    """

    mean: Tensor
    log_scale: Tensor
    logit: Tensor
    coefficients: Tensor


def split_mixture(raw: Tensor, recipe: LikelihoodRecipe) -> ColourMixture:
    """The mixtures of raw parameters (B, 9K + 3, h, w)."""
    raw, k = widen(raw), recipe.components
    b, (h, w) = len(raw), raw.shape[2:]
    mean, log_scale, logit = raw[:, : 9 * k].view(b, 3, 3, k, h, w).unbind(1)
    return ColourMixture(recipe.mean_scale * mean, log_scale.clamp(*LOG_SCALE_RANGE), logit, raw[:, 9 * k :])


def mixture_nats(raw: Tensor, guess: Tensor, x: Tensor, recipe: LikelihoodRecipe) -> Tensor:
    """-log p(x) of a discretised mixture of logistics, nats, (B, 3, h, w).

    raw: (B, 9K + 3, h, w); guess and x: (B, 3, h, w) in [-1, 1]. A colour's mean is its guess plus the scaled raw mean
    plus the coefficients times what the colours before differ from their guesses.
    """
    mean, log_scale, logit, c = split_mixture(raw, recipe)
    r = x - guess
    colour = torch.stack([torch.zeros_like(r[:, 0]), c[:, 0] * r[:, 0], c[:, 1] * r[:, 0] + c[:, 2] * r[:, 1]], 1)
    d = x[:, :, None] - mean - (guess + colour)[:, :, None]
    inverse = torch.exp(-log_scale)
    upper, lower = inverse * (d + 1 / 255), inverse * (d - 1 / 255)
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    first, last = x[:, :, None] < -0.999, x[:, :, None] > 0.999
    # where the difference of sigmoids loses all its digits, the density at the middle times the bin's width
    density = -F.softplus(inverse * d) - F.softplus(-inverse * d) - log_scale - math.log(127.5)
    inner = torch.where(mass > 1e-5, mass.clamp_min(1e-10).log(), density)
    log_p = torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), inner))
    return -torch.logsumexp(log_p + F.log_softmax(logit, 2), 2)
