"""Inverse autoregressive flows after a group's posterior (Kingma et al. 2016; NVAE, section 3.2).

Each half of a pair maps z to z - mu(z), where mu at a position reads only positions before it: the volume does not
change, and the decoder inverts it position by position. The second half reads in the other direction.
"""

from typing import cast

from torch import Tensor, nn

from nvae_codec.network.convolution import MaskedConv2d

EXPANSION = 6


class Shift(nn.Module):
    """z - mu(z), (B, L, H, W) to the same: masked 3x3, masked depthwise 5x5, masked 1x1 with ELUs between."""

    def __init__(self, latents: int, *, mirror: bool) -> None:
        super().__init__()
        inner = EXPANSION * latents
        self.mean = nn.Sequential(
            MaskedConv2d(latents, inner, 3, zero_diagonal=True, mirror=mirror),
            nn.ELU(),
            MaskedConv2d(inner, inner, 5, zero_diagonal=False, mirror=mirror, groups=inner),
            nn.ELU(),
            nn.ELU(),
            MaskedConv2d(inner, latents, 1, zero_diagonal=False, mirror=mirror, bias=True),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Shift z."""
        mean: Tensor = self.mean(z)
        return z - mean


class FlowPair(nn.Sequential):
    """Two shifts that read in opposite directions."""

    def __init__(self, latents: int) -> None:
        super().__init__(Shift(latents, mirror=False), Shift(latents, mirror=True))


def list_halves(flows: nn.Sequential) -> list[Shift]:
    """The shifts of a group's pairs in the order in which they are applied."""
    return [cast(Shift, half) for pair in flows for half in cast(FlowPair, pair)]
