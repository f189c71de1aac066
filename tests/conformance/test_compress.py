"""Imported checkpoints freeze and compress: images of their size come back, and cost what the float network says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation import float_elbo, integer_elbo
from nvae_codec.export.export import export
from nvae_codec.integrations.nvlabs import import_network, make_recipe, read_official
from tests.conformance.folder import list_cases
from tests.models import make_image, round_trip

Pixels = NDArray[np.uint8]
IMAGES = 4


def make_images(channels: int, side: int, count: int) -> Pixels:
    """From 0 to 255, (N, C, side, side); gray ones are bright on black."""
    images = np.stack([make_image(side, side, seed) for seed in range(count)]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images if channels == 3 else np.where(images[:, :1] > 150, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("case", list_cases())
def test_imported_models_compress(case: Path) -> None:
    official = read_official(case / "checkpoint.pt")
    recipe = make_recipe(official, "imported")
    network = import_network(official, recipe)
    side = recipe.network.top_size * recipe.stride - 2 * recipe.image.padding
    shown = make_images(recipe.image.channels, side, 2 * IMAGES)
    model = export(network, [torch.from_numpy(shown[IMAGES:])]).model
    levels = shown[:IMAGES].transpose(0, 2, 3, 1) >> np.uint8(8 - model.value_bits)
    images = list(levels if model.channels == 3 else levels[..., 0])
    round_trip(ModelCodec(model), *images)
    exact = sum(integer_elbo(image, model, samples=2).bits for image in images)
    real = sum(float_elbo(image, network, samples=2).bits for image in images)
    assert 0.99 < exact / real < 1.01
