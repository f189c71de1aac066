"""Models that are trained today load tomorrow: names, shapes and values of photo's network are pinned."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import read_recipe

ROOT = Path(__file__).parents[2]


class Pinned(NamedTuple):
    """A recipe's number of tensors, the hash of their names and shapes, and the nats of two images by part."""

    recipe: Path
    tensors: int
    names: str
    kl: list[float]
    pixels: list[float]


PINNED = {
    "photo": Pinned(
        ROOT / "models" / "photo" / "recipe.toml",
        345,
        "36b094a22fb495391991cedeb5e55132d2c3602e3038e65d5d9e61bef89358d2",
        [35.2582, 119.9872, 78.6252, 149.5146, 623.1973, 704.2926, 664.8361, 2410.4697, 2937.7635, 2498.7622],
        [2463.833, 2916.446, 2860.078, 2852.268, 11570.432, 11726.443, 11620.511],
    ),
    "photo before its latents began as pixels": Pinned(
        ROOT / "tests" / "golden" / "photo-6b4999ce.toml",
        251,
        "18b42608c1fa4c3056b933094e20b5fe87b16e3bbc28f958ec00696fbd566d7f",
        [173.8619, 345.3958, 351.2869, 693.4388],
        [2273.510, 2919.865, 2862.238, 2850.422, 11576.168, 11735.680, 11667.085],
    ),
}


@pytest.mark.parametrize("which", PINNED)
def test_the_network_of_photo_keeps_its_names_shapes_and_values(which: str) -> None:
    pinned = PINNED[which]
    torch.manual_seed(0)
    network = Nvae(read_recipe(pinned.recipe))
    state = network.state_dict()
    listed = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert len(state) == pinned.tensors
    assert hashlib.sha256(listed.encode()).hexdigest() == pinned.names
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(2)
    with torch.no_grad():
        elbo = network(pixels)
    assert [float(kl.double().sum()) for kl in elbo.kl] == pytest.approx(pinned.kl, rel=1e-4)
    assert [float(nats) for nats in elbo.pixels] == pytest.approx(pinned.pixels, rel=1e-4)
