"""A tiny exported model whose output layers can be adapted, and an image that it does not expect."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nvae_codec.adaptation.directions import learn_directions
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.model_file import finalize
from tests.models import exported_model, make_image


@cache
def adaptable_model(which: str = "phases of two levels") -> IntegerModel:
    """The tiny model with directions that it learned from two images."""
    return finalize(learn_directions(exported_model(which), [[make_image(64, 48, seed) for seed in range(2)]]))


def odd_image(height: int, width: int) -> NDArray[np.uint8]:
    """An image whose colours differ from what the model has seen."""
    image = make_image(height, width, seed=9).astype(int)
    odd: NDArray[np.uint8] = np.clip(image[:, :, ::-1] // 2 + 40, 0, 255).astype(np.uint8)
    return odd
