"""What happens to training images before the network sees them: the table ``[training.histories]`` of a recipe."""

from collections.abc import Iterator
from dataclasses import dataclass

from nvae_codec.recipes.fields import option

KINDS = ("clean", "jpeg_420", "jpeg_444", "chroma", "resized")
"""Kinds of history. A step of the optimizer sees crops of one kind."""


@dataclass(frozen=True)
class HistoriesRecipe:
    """How often a training step sees each kind of history, and which expert it trains (docs/training.md)."""

    clean: float = option(1.0, "share of the steps with images as they are", "[0, 1]")
    jpeg_420: float = option(0.0, "share of the steps with images from JPEG with halved chroma (4:2:0)", "[0, 1]")
    jpeg_444: float = option(0.0, "share of the steps with images from JPEG with full chroma (4:4:4)", "[0, 1]")
    chroma: float = option(0.0, "share of the steps with images whose chroma was halved and enlarged again", "[0, 1]")
    resized: float = option(0.0, "share of the steps with resized images, half of them from JPEG before", "[0, 1]")
    experts: list[int] = option(
        [0] * len(KINDS), "the expert that each kind trains, in the order of the five shares", "[0, 7]", length="[5, 5]"
    )
    quality: list[int] = option([70, 98], "lowest and highest JPEG quality", "[1, 100]", length="[2, 2]")
    aligned: float = option(
        0.75,
        "probability that the blocks of a JPEG begin at the upper left corner of a crop, as in whole images",
        "[0, 1]",
    )
    tone: float = option(0.0, "probability of another gamma and white balance, for images of every kind", "[0, 1]")
    noise: float = option(0.0, "probability of added noise", "[0, 1]")
    sharpen: float = option(0.0, "probability of sharpening", "[0, 1]")

    def faults(self) -> Iterator[str]:
        """What is wrong with the table as a whole."""
        if abs(sum(self.shares) - 1) > 1e-6:
            yield f"the shares {', '.join(KINDS)} have the sum {sum(self.shares):g}, which must be 1"
        if self.quality[0] > self.quality[1]:
            yield f"quality = {self.quality} begins with the higher one"

    @property
    def shares(self) -> list[float]:
        """The share of each kind, in the order of KINDS."""
        return [getattr(self, name) for name in KINDS]

    def drawn_experts(self) -> list[int]:
        """The experts of the kinds that steps see."""
        return [expert for expert, share in zip(self.experts, self.shares, strict=True) if share]
