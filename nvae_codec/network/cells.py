"""Residual cells of the encoder and the decoder (NVAE, section 3.1, figure 3), and plain resampling between scales."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.convolution import make_convolution
from nvae_codec.recipes.recipe import CellRecipe


def make_activation(name: str) -> nn.Module:
    """The activation of that name; the exporter knows them all."""
    kinds: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU, "swish": nn.SiLU, "hard_swish": nn.Hardswish, "elu": nn.ELU, "gelu": nn.GELU,
    }  # fmt: skip
    return kinds[name]()


def make_normalization(name: str, channels: int) -> nn.Module:
    """Batch normalization with the momentum of NVAE (section 3.1.1), or nothing."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.05) if name == "batch" else nn.Identity()


class SqueezeExcitation(nn.Module):
    """A gate per channel from the mean over space: x * sigmoid(W2 relu(W1 mean(x))), (B, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.squeeze, self.relu = nn.Conv2d(channels, hidden, 1), nn.ReLU()
        self.excite, self.gate = nn.Conv2d(hidden, channels, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of x."""
        gate: Tensor = self.gate(self.excite(self.relu(self.squeeze(self.mean(x)))))
        return x * gate


class Scale(nn.Module):
    """Multiplication by a constant, which the exporter folds into the layer before."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.factor


class ResidualCell(nn.Module):
    """x + residual_scale * body(x), (B, C, H, W) to the same.

    Bodies, with the recipe's normalization and activation:

    - *regular*, of NVAE's encoder: norm, act, 3x3, norm, act, 3x3;
    - *separable*, of NVAE's decoder: norm, 1x1, norm, act, depthwise, norm, act, 1x1, norm;
    - *depthwise*, cheap and zero at the start: depthwise, 1x1, act, 1x1;
    - *bottleneck*, of the Very Deep VAE: (norm,) act, 1x1, act, 3x3, act, 3x3, act, 1x1.

    ``weight_norm`` normalizes the weights of regular and bottleneck cells. :class:`ResamplingCell` changes the size.
    """

    def __init__(
        self,
        channels: int,
        recipe: CellRecipe,
        *,
        out: int | None = None,
        resample: str = "",
        weight_norm: bool = False,
    ) -> None:
        """``resample`` is empty, down or up: how a regular or separable body changes the size."""
        super().__init__()
        layers = make_body(channels, out or channels, recipe, resample, weight_norm)
        if recipe.squeeze_excitation:
            layers.append(SqueezeExcitation(out or channels))
        if recipe.residual_scale != 1:
            layers.append(Scale(recipe.residual_scale))
        self.body = nn.Sequential(*[layer for layer in layers if not isinstance(layer, nn.Identity)])

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch."""
        branch: Tensor = self.body(x)
        return x + branch


def make_body(channels: int, out: int, recipe: CellRecipe, resample: str, weight_norm: bool) -> list[nn.Module]:
    """The layers of a cell's branch, without its gate."""
    stride, widen = 2 if resample == "down" else 1, nn.Upsample(scale_factor=2, mode="nearest")
    layers: list[nn.Module] = []

    def norm(width: int) -> nn.Module:
        return make_normalization(recipe.normalization, width)

    def act() -> nn.Module:
        return make_activation(recipe.activation)

    if recipe.kind == "regular":
        for index, dilation in enumerate(recipe.dilations):
            first = index == 0
            layers += [norm(channels if first else out), act(), widen if first and resample == "up" else nn.Identity()]
            read, by = (channels, stride) if first else (out, 1)
            layers.append(make_convolution(read, out, 3, stride=by, dilation=dilation, weight_norm=weight_norm))
        return layers
    inner, bias = channels * recipe.expansion, recipe.normalization == "none"
    if recipe.kind == "separable":
        groups = recipe.kernel_groups or inner
        layers = [widen] if resample == "up" else []
        layers += [norm(channels), nn.Conv2d(channels, inner, 1, bias=bias), norm(inner), act()]
        layers.append(make_convolution(inner, inner, recipe.kernel, stride=stride, groups=groups, bias=bias))
        layers += [norm(inner), act(), nn.Conv2d(inner, out, 1, bias=bias), norm(out)]
        return layers
    if recipe.kind == "depthwise":
        last = nn.Conv2d(inner, out, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        layers = [make_convolution(channels, channels, recipe.kernel, groups=channels)]
        return [*layers, nn.Conv2d(channels, inner, 1), act(), last]
    narrow = max(channels // recipe.expansion, 1)
    layers = [norm(channels), *make_bottleneck(channels, narrow, recipe.activation, weight_norm)]
    return [*layers, make_convolution(narrow, out, 1, weight_norm=weight_norm)]


def make_bottleneck(channels: int, narrow: int, activation: str, weight_norm: bool) -> list[nn.Module]:
    """act, 1x1, act, 3x3, act, 3x3, act: what a bottleneck's last convolution reads, ``narrow`` channels."""
    layers: list[nn.Module] = [make_activation(activation)]
    for before, kernel in ((channels, 1), (narrow, 3), (narrow, 3)):
        layers += [make_convolution(before, narrow, kernel, weight_norm=weight_norm), make_activation(activation)]
    return layers


class Downsample(nn.Sequential):
    """A 3x3 convolution of stride 2, (B, C, H, W) to (B, D, H/2, W/2)."""

    def __init__(self, channels: int, out: int, activation: str, *, weight_norm: bool = False) -> None:
        convolution = make_convolution(channels, out, 3, stride=2, weight_norm=weight_norm)
        super().__init__(convolution, make_activation(activation))


class Upsample(nn.Module):
    """A 1x1 convolution whose channels become squares of ``factor`` x ``factor`` pixels."""

    def __init__(self, channels: int, out: int, factor: int = 2, *, weight_norm: bool = False) -> None:
        super().__init__()
        self.factor = factor
        self.spread = make_convolution(channels, out * factor**2, 1, weight_norm=weight_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, factor * H, factor * W)."""
        return F.pixel_shuffle(self.spread(x), self.factor)


class Constant(nn.Module):
    """A trained value per channel, repeated over space: the start of the top-down network (h in NVAE's figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, blank: Tensor) -> Tensor:
        """blank (B, 1, H, W), whose values do not matter, to (B, C, H, W)."""
        return self.value.expand(blank.shape[0], -1, blank.shape[2], blank.shape[3])


class ConstantMap(nn.Module):
    """A trained map (C, h, w) on which the top-down network starts, for images of one size, as in the official code.

    It is repeated for larger images; smaller ones see its upper left part.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, channels, size, size))

    def forward(self, blank: Tensor) -> Tensor:
        """blank (B, 1, H, W), whose values do not matter, to (B, C, H, W)."""
        return repeat_map(self.value, blank)


def repeat_map(value: Tensor, like: Tensor) -> Tensor:
    """A map (1, C, h, w) cropped or repeated to the batch and the size of ``like``, (B, C, H, W)."""
    b, (h, w), (rows, columns) = like.shape[0], value.shape[2:], like.shape[2:]
    if (rows, columns) != (h, w):
        value = value.repeat(1, 1, -(-rows // h), -(-columns // w))[:, :, :rows, :columns]
    return value.expand(b, -1, -1, -1)
