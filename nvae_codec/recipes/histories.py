"""What happens to training images before the network sees them: the table ``[training.histories]`` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvae_codec.errors import RecipeError
from nvae_codec.recipes.fields import explained, require

if TYPE_CHECKING:
    from nvae_codec.recipes.recipe import Recipe

KINDS = ("clean", "jpeg_420", "jpeg_444", "chroma", "resized")
"""Kinds of history. A step of the optimizer sees crops of one kind."""


@dataclass(frozen=True)
class HistoriesRecipe:
    """How often a training step sees each kind of history, and which expert it trains (docs/training.md)."""

    clean: float = explained(1.0, "share of the steps with images as they are")
    jpeg_420: float = explained(0.0, "share of the steps with images decoded from JPEG with chroma halved (4:2:0)")
    jpeg_444: float = explained(0.0, "share of the steps with images decoded from JPEG with full chroma (4:4:4)")
    chroma: float = explained(0.0, "share of the steps with images whose chroma was halved and enlarged again")
    resized: float = explained(0.0, "share of the steps with resized images, half of them decoded from JPEG before")
    experts: list[int] = explained([0, 0, 0, 0, 0], "the expert that each kind trains, in the order of the five shares")
    quality: list[int] = explained([70, 98], "lowest and highest JPEG quality, 1 to 100")
    aligned: float = explained(
        0.75, "probability that the blocks of a JPEG begin at the upper left corner of a crop, as in whole images"
    )
    tone: float = explained(0.0, "probability of another gamma and white balance, for images of every kind")
    noise: float = explained(0.0, "probability of added noise")
    sharpen: float = explained(0.0, "probability of sharpening")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        for name in KINDS:
            require(0 <= getattr(self, name) <= 1, self, name)
        if abs(sum(self.shares) - 1) > 1e-6:
            raise RecipeError(f"the shares {', '.join(KINDS)} have the sum {sum(self.shares):g}, which must be 1")
        require(len(self.experts) == len(KINDS) and min(self.experts) >= 0, self, "experts")
        low_high = self.quality
        require(len(low_high) == 2 and 1 <= low_high[0] <= low_high[1] <= 100, self, "quality")
        for name in ("aligned", "tone", "noise", "sharpen"):
            require(0 <= getattr(self, name) <= 1, self, name)

    @property
    def shares(self) -> list[float]:
        """The share of each kind, in the order of KINDS."""
        return [getattr(self, name) for name in KINDS]


def check_histories(recipe: Recipe) -> None:
    """Raise RecipeError where histories and experts do not fit the rest of a recipe."""
    experts, histories = recipe.likelihood.experts, recipe.training.histories
    if experts > 1 and not recipe.likelihood.levels:
        raise RecipeError(f"likelihood.experts = {experts} needs likelihood.levels of 1 or more: experts are its heads")
    if histories is not None and recipe.image.channels != 3:
        raise RecipeError("training.histories needs image.channels = 3")
    if histories is not None and max(histories.experts) >= experts:
        raise RecipeError(
            f"training.histories.experts = {histories.experts} needs likelihood.experts = {max(histories.experts) + 1}"
        )
