"""Downsampling and upsampling between scales: NVAE's residual cells, and the plain ones of the Very Deep VAE."""

import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.cells import Downsample, ResidualCell, Upsample, make_activation
from nvae_codec.network.convolution import FactorizedConv2d, make_convolution
from nvae_codec.recipes.recipe import CellRecipe, NetworkRecipe


class ResamplingCell(ResidualCell):
    """skip(x) + residual_scale * body(x), (B, C, H, W) to (B, out, H/2, W/2) or (B, out, 2H, 2W).

    Down, the skip is a swish and a factorized convolution. Up, it is a bilinear interpolation with aligned corners and
    a 1x1 convolution (NVAE's code, neural_operations.py).
    """

    def __init__(self, channels: int, out: int, recipe: CellRecipe, resample: str, *, weight_norm: bool) -> None:
        """``resample`` is down or up."""
        super().__init__(channels, recipe, out=out, resample=resample, weight_norm=weight_norm)
        if resample == "down":
            factorized = FactorizedConv2d(channels, out, weight_norm=weight_norm)
            self.skip = nn.Sequential(make_activation("swish"), factorized)
        else:
            spread = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.skip = nn.Sequential(spread, make_convolution(channels, out, 1, bias=False, weight_norm=weight_norm))

    def forward(self, x: Tensor) -> Tensor:
        """Resample, and add the branch."""
        return self.skip(x) + self.body(x)  # type: ignore[no-any-return]


class AverageDownsample(nn.Module):
    """The mean of each square (Very Deep VAE), and a 1x1 convolution where the width changes."""

    def __init__(self, channels: int, out: int, *, weight_norm: bool) -> None:
        super().__init__()
        same = channels == out
        self.project = nn.Identity() if same else make_convolution(channels, out, 1, weight_norm=weight_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H/2, W/2)."""
        return self.project(F.avg_pool2d(x, 2))  # type: ignore[no-any-return]


class NearestUpsample(nn.Module):
    """Each position repeated (Very Deep VAE), after a 1x1 convolution where the width changes."""

    def __init__(self, channels: int, out: int, *, weight_norm: bool) -> None:
        super().__init__()
        same = channels == out
        self.project = nn.Identity() if same else make_convolution(channels, out, 1, weight_norm=weight_norm)
        self.repeat = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, 2H, 2W)."""
        return self.repeat(self.project(x))  # type: ignore[no-any-return]


def make_downsample(channels: int, out: int, recipe: NetworkRecipe, cell: CellRecipe) -> nn.Module:
    """From a scale of the encoder to the next coarser one."""
    weight_norm = recipe.is_official
    if recipe.resampling == "residual":
        return ResamplingCell(channels, out, cell, "down", weight_norm=weight_norm)
    if recipe.resampling == "nearest":
        return AverageDownsample(channels, out, weight_norm=weight_norm)
    return Downsample(channels, out, cell.activation, weight_norm=weight_norm)


def make_upsample(channels: int, out: int, recipe: NetworkRecipe, cell: CellRecipe) -> nn.Module:
    """From a scale of the decoder to the next finer one."""
    weight_norm = recipe.is_official
    if recipe.resampling == "residual":
        return ResamplingCell(channels, out, cell, "up", weight_norm=weight_norm)
    if recipe.resampling == "nearest":
        return NearestUpsample(channels, out, weight_norm=weight_norm)
    return Upsample(channels, out, weight_norm=weight_norm)
