"""From one scale to the next: residual cells that halve or double the side, and the Very Deep VAE's plain steps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.cells import ResidualCell, StepDown, StepUp, make_activation
from nvae_codec.network.convolution import FactorizedConv2d, make_convolution
from nvae_codec.recipes.recipe import CellRecipe, NetworkRecipe


class SteppingCell(ResidualCell):
    """skip(x) + residual_scale * body(x), (B, C, H, W) to (B, out, H/2, W/2) or (B, out, 2H, 2W).

    Down, the skip is a swish and a factorised convolution; up, a bilinear interpolation whose corners stay corners and
    a 1x1 convolution (NVAE's code, neural_operations.py).
    """

    def __init__(self, channels: int, out: int, recipe: CellRecipe, step: str, *, weight_norm: bool) -> None:
        """``step`` is down or up."""
        super().__init__(channels, recipe, out=out, step=step, weight_norm=weight_norm)
        if step == "down":
            factorized = FactorizedConv2d(channels, out, weight_norm=weight_norm)
            self.skip = nn.Sequential(make_activation("swish"), factorized)
        else:
            spread = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.skip = nn.Sequential(spread, make_convolution(channels, out, 1, bias=False, weight_norm=weight_norm))

    def forward(self, x: Tensor) -> Tensor:
        """Step, and add the branch."""
        return self.skip(x) + self.body(x)  # type: ignore[no-any-return]


class PoolDown(nn.Module):
    """Half the side by the mean of each square (Very Deep VAE), and a 1x1 convolution where the width changes."""

    def __init__(self, channels: int, out: int, *, weight_norm: bool) -> None:
        super().__init__()
        same = channels == out
        self.project = nn.Identity() if same else make_convolution(channels, out, 1, weight_norm=weight_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H/2, W/2)."""
        return self.project(F.avg_pool2d(x, 2))  # type: ignore[no-any-return]


class RepeatUp(nn.Module):
    """Twice the side by repeating each place (Very Deep VAE), after a 1x1 convolution where the width changes."""

    def __init__(self, channels: int, out: int, *, weight_norm: bool) -> None:
        super().__init__()
        same = channels == out
        self.project = nn.Identity() if same else make_convolution(channels, out, 1, weight_norm=weight_norm)
        self.repeat = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, 2H, 2W)."""
        return self.repeat(self.project(x))  # type: ignore[no-any-return]


def make_step_down(channels: int, out: int, recipe: NetworkRecipe, cell: CellRecipe) -> nn.Module:
    """The step of the encoder to the next coarser scale."""
    weight_norm = recipe.is_official
    if recipe.resampling == "residual":
        return SteppingCell(channels, out, cell, "down", weight_norm=weight_norm)
    if recipe.resampling == "nearest":
        return PoolDown(channels, out, weight_norm=weight_norm)
    return StepDown(channels, out, cell.activation, weight_norm=weight_norm)


def make_step_up(channels: int, out: int, recipe: NetworkRecipe, cell: CellRecipe) -> nn.Module:
    """The step of the decoder to the next finer scale."""
    weight_norm = recipe.is_official
    if recipe.resampling == "residual":
        return SteppingCell(channels, out, cell, "up", weight_norm=weight_norm)
    if recipe.resampling == "nearest":
        return RepeatUp(channels, out, weight_norm=weight_norm)
    return StepUp(channels, out, weight_norm=weight_norm)
